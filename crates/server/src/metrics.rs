//! What the member counts: etcd's metrics, by etcd's names, so that dashboards and alerts go on
//! working.
//!
//! Threads that do the work count as they go, with one relaxed addition each; what can be read off
//! the state is set only when somebody asks:
//!
//! ```text
//!   shards, member, log, apply ──add──► Metrics ◄──set── refresh (at each scrape)
//!                                          │
//!                                          └─ render ─► GET /metrics
//! ```
//!
//! # Invariants
//!
//! - Counting never waits, whatever is being scraped.
//! - Labels come from tables or are bounded in number.   (`labelled`, `peers`)
//! - Names, types, labels and buckets are those of etcd 3.7.1.   (`testdata/metrics.txt`, recorded
//!   from it)
//!
//! # Not here
//!
//! The `go_*` families, which tell of a runtime we don't have.

mod grpc;
mod labelled;
mod number;
mod peers;
mod process;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

pub use grpc::{Counted, Grpc};
pub use labelled::{
    Alarms, Batch, ByOperation, BySuccess, CallType, Check, CheckRuns, ClientRequests,
    ClientVersion, Feature, Features, Info, LastChecks, Operation, PromoteFailures, StreamFailures,
};
pub use number::{Counter, Gauge, Histogram, Scale};
pub use peers::{Peer, Peers, Snapshots};
pub use process::{fd_limit, resident_bytes};
use text::{Family, Kind, Samples};

/// The usual: 1 ms to 8 s.
const MILLIS: Scale = Scale::seconds(Duration::from_millis(1), 14);
const HASH: Scale = Scale::seconds(Duration::from_millis(10), 15);
const APPLY: Scale = Scale::seconds(Duration::from_micros(100), 20);
const DEFRAG: Scale = Scale::seconds(Duration::from_millis(100), 13);
const SNAPSHOT: Scale = Scale::seconds(Duration::from_millis(10), 17);
const SNAPSHOT_SAVE: Scale = Scale::seconds(Duration::from_millis(100), 10);
const INDEX_PAUSE: Scale = Scale::milliseconds(Duration::from_micros(500), 14);
const COMPACTION_PAUSE: Scale = Scale::milliseconds(Duration::from_millis(1), 13);
const COMPACTION: Scale = Scale::milliseconds(Duration::from_millis(100), 14);
const TTL: Scale = Scale::numbers(1, 24);

/// One line a family: its field, its type and how it begins, its name, and what it tells.
macro_rules! metrics {
    ($($field:ident: $type:ty = $new:expr, $name:literal $help:literal;)*) => {
        /// See the module. The fields are in the order of etcd's names.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $type,)*
            /// `grpc_server_*`
            pub grpc: Grpc,
            /// `etcd_network_*{From, To, Local, Remote}`
            pub peers: Peers,
        }

        impl Metrics {
            /// `extensive` is `--metrics extensive`: the time each call takes is kept as well.
            pub fn new(extensive: bool) -> Self {
                Self {
                    $($field: $new,)*
                    grpc: Grpc::new(extensive),
                    peers: Peers::default(),
                }
            }

            fn render_families(&self, text: &mut String) {
                $(
                    let kind = <$type as Family>::KIND;
                    self.$field.samples(&mut Samples::new(text, $name, kind, $help));
                )*
            }
        }
    };
}

metrics! {
    cluster_version: Info = Info::new("cluster_version"), "etcd_cluster_version" "The version the whole cluster speaks.";
    auth_revision: Gauge = Gauge::default(), "etcd_debugging_auth_revision" "How often users and roles have changed.";
    lease_granted: Counter = Counter::default(), "etcd_debugging_lease_granted_total" "Leases granted.";
    lease_renewed: Counter = Counter::default(), "etcd_debugging_lease_renewed_total" "Leases renewed by the leader.";
    lease_revoked: Counter = Counter::default(), "etcd_debugging_lease_revoked_total" "Leases revoked.";
    lease_ttl: Histogram = Histogram::new(TTL), "etcd_debugging_lease_ttl_total" "The times leases were granted for, in seconds.";
    compact_revision: Gauge = Gauge::default(), "etcd_debugging_mvcc_compact_revision" "The revision of the last compaction.";
    current_revision: Gauge = Gauge::default(), "etcd_debugging_mvcc_current_revision" "The revision of the store.";
    compaction_keys: Counter = Counter::default(), "etcd_debugging_mvcc_db_compaction_keys_total" "Revisions that compactions have dropped.";
    compaction_last: Gauge = Gauge::default(), "etcd_debugging_mvcc_db_compaction_last" "When the last compaction ended, in seconds since 1970.";
    compaction_pause: Histogram = Histogram::new(COMPACTION_PAUSE), "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds" "How long compactions kept the store waiting at a time.";
    compaction_total: Histogram = Histogram::new(COMPACTION), "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds" "How long compactions took.";
    events: Counter = Counter::default(), "etcd_debugging_mvcc_events_total" "Events told to watchers.";
    index_compaction_pause: Histogram = Histogram::new(INDEX_PAUSE), "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds" "How long compactions kept the index waiting at a time.";
    keys: Gauge = Gauge::default(), "etcd_debugging_mvcc_keys_total" "Keys that exist.";
    pending_events: Gauge = Gauge::default(), "etcd_debugging_mvcc_pending_events_total" "Events on their way to watchers.";
    slow_watchers: Gauge = Gauge::default(), "etcd_debugging_mvcc_slow_watcher_total" "Watchers that lag behind the store.";
    put_size: Gauge = Gauge::default(), "etcd_debugging_mvcc_total_put_size_in_bytes" "Bytes put by this member.";
    watch_streams: Gauge = Gauge::default(), "etcd_debugging_mvcc_watch_stream_total" "Streams that carry watchers.";
    watchers: Gauge = Gauge::default(), "etcd_debugging_mvcc_watcher_total" "Watchers.";
    alarms: Alarms = Alarms::default(), "etcd_debugging_server_alarms" "Alarms, 1 while they are raised.";
    lease_expired: Counter = Counter::default(), "etcd_debugging_server_lease_expired_total" "Leases that ran out.";
    watch_control: Histogram = Histogram::new(MILLIS), "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds" "How long it took to answer a watch request.";
    watch_progress: Histogram = Histogram::new(MILLIS), "etcd_debugging_server_watch_send_loop_progress_duration_seconds" "How long it took to tell watchers of progress.";
    watch_event: Histogram = Histogram::new(MILLIS), "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds" "How long it took to send events, by event.";
    watch_events: Histogram = Histogram::new(MILLIS), "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds" "How long it took to send events.";
    snap_marshal: Histogram = Histogram::new(MILLIS), "etcd_debugging_snap_save_marshalling_duration_seconds" "How long it took to encode snapshots.";
    snap_save: Histogram = Histogram::new(MILLIS), "etcd_debugging_snap_save_total_duration_seconds" "How long it took to save snapshots.";
    backend_commit: Histogram = Histogram::new(MILLIS), "etcd_disk_backend_commit_duration_seconds" "How long the store took to become durable.";
    backend_defrag: Histogram = Histogram::new(DEFRAG), "etcd_disk_backend_defrag_duration_seconds" "How long Defragment took.";
    backend_snapshot: Histogram = Histogram::new(SNAPSHOT), "etcd_disk_backend_snapshot_duration_seconds" "How long the store took to be copied out.";
    defrag_inflight: Gauge = Gauge::default(), "etcd_disk_defrag_inflight" "1 while Defragment runs.";
    wal_fsync: Histogram = Histogram::new(MILLIS), "etcd_disk_wal_fsync_duration_seconds" "How long the log took to become durable.";
    wal_write_bytes: Gauge = Gauge::default(), "etcd_disk_wal_write_bytes_total" "Bytes written to the log.";
    wal_write: Histogram = Histogram::new(MILLIS), "etcd_disk_wal_write_duration_seconds" "How long the log took to be written.";
    open_reads: Gauge = Gauge::default(), "etcd_mvcc_db_open_read_transactions" "Reads under way.";
    db_size: Gauge = Gauge::default(), "etcd_mvcc_db_total_size_in_bytes" "Bytes of the store on disk.";
    db_size_in_use: Gauge = Gauge::default(), "etcd_mvcc_db_total_size_in_use_in_bytes" "Bytes of the store on disk that are still needed.";
    deletes: Counter = Counter::default(), "etcd_mvcc_delete_total" "Deletes by this member.";
    hash: Histogram = Histogram::new(HASH), "etcd_mvcc_hash_duration_seconds" "How long hashing the store took.";
    hash_kv: Histogram = Histogram::new(HASH), "etcd_mvcc_hash_rev_duration_seconds" "How long hashing the store up to a revision took.";
    puts: Counter = Counter::default(), "etcd_mvcc_put_total" "Puts by this member.";
    ranges: Counter = Counter::default(), "etcd_mvcc_range_total" "Ranges read by this member.";
    txns: Counter = Counter::default(), "etcd_mvcc_txn_total" "Transactions by this member.";
    grpc_received_bytes: Counter = Counter::default(), "etcd_network_client_grpc_received_bytes_total" "Bytes from gRPC clients.";
    grpc_sent_bytes: Counter = Counter::default(), "etcd_network_client_grpc_sent_bytes_total" "Bytes to gRPC clients.";
    stream_failures: StreamFailures = StreamFailures::default(), "etcd_network_server_stream_failures_total" "Streams that broke.";
    apply: ByOperation = ByOperation::new("op", true, APPLY), "etcd_server_apply_duration_seconds" "How long commands took to apply.";
    client_requests: ClientRequests = ClientRequests::new(), "etcd_server_client_requests_total" "Requests by what clients say their version is.";
    features: Features = Features::default(), "etcd_server_feature_enabled" "Feature gates, 1 where they are open.";
    go_version: Info = Info::new("server_go_version"), "etcd_server_go_version" "What the server was built with.";
    has_leader: Gauge = Gauge::default(), "etcd_server_has_leader" "1 while this member knows a leader.";
    health_failures: Counter = Counter::default(), "etcd_server_health_failures" "Times /health said no.";
    health_success: Counter = Counter::default(), "etcd_server_health_success" "Times /health said yes.";
    last_checks: LastChecks = LastChecks::default(), "etcd_server_healthcheck" "What each check said last.";
    check_runs: CheckRuns = CheckRuns::default(), "etcd_server_healthchecks_total" "What each check has said.";
    heartbeat_send_failures: Counter = Counter::default(), "etcd_server_heartbeat_send_failures_total" "Heartbeats that left late.";
    server_id: Info = Info::new("server_id"), "etcd_server_id" "The id of this member.";
    is_leader: Gauge = Gauge::default(), "etcd_server_is_leader" "1 while this member leads.";
    is_learner: Gauge = Gauge::default(), "etcd_server_is_learner" "1 while this member has no vote.";
    leader_changes_seen: Counter = Counter::default(), "etcd_server_leader_changes_seen_total" "Changes of the leader that were noticed.";
    promote_failures: PromoteFailures = PromoteFailures::default(), "etcd_server_learner_promote_failures" "Learners that were not promoted.";
    promote_successes: Counter = Counter::default(), "etcd_server_learner_promote_successes" "Learners that were promoted.";
    proposals_applied: Gauge = Gauge::default(), "etcd_server_proposals_applied_total" "The index up to which entries are applied.";
    proposals_committed: Gauge = Gauge::default(), "etcd_server_proposals_committed_total" "The index up to which entries are committed.";
    proposals_failed: Counter = Counter::default(), "etcd_server_proposals_failed_total" "Proposals that came to nothing.";
    proposals_pending: Gauge = Gauge::default(), "etcd_server_proposals_pending" "Proposals that wait to be applied.";
    quota: Gauge = Gauge::default(), "etcd_server_quota_backend_bytes" "Bytes the store may have.";
    range: BySuccess = BySuccess::new(APPLY), "etcd_server_range_duration_seconds" "How long ranges took to read.";
    read_indexes_failed: Counter = Counter::default(), "etcd_server_read_indexes_failed_total" "Read rounds that failed.";
    request: ByOperation = ByOperation::new("type", false, MILLIS), "etcd_server_request_duration_seconds" "How long requests took, consensus included.";
    slow_apply: Counter = Counter::default(), "etcd_server_slow_apply_total" "Commands that were slow to apply.";
    slow_read_indexes: Counter = Counter::default(), "etcd_server_slow_read_indexes_total" "Read rounds that were slow.";
    snapshot_apply: Gauge = Gauge::default(), "etcd_server_snapshot_apply_in_progress_total" "1 while a snapshot is taken over.";
    server_version: Info = Info::new("server_version"), "etcd_server_version" "The version of this server.";
    snap_db_fsync: Histogram = Histogram::new(MILLIS), "etcd_snap_db_fsync_duration_seconds" "How long a received store took to become durable.";
    snap_db_save: Histogram = Histogram::new(SNAPSHOT_SAVE), "etcd_snap_db_save_total_duration_seconds" "How long it took to save a received store.";
    snap_fsync: Histogram = Histogram::new(MILLIS), "etcd_snap_fsync_duration_seconds" "How long snapshots took to become durable.";
    scrapes_in_flight: Gauge = Gauge::default(), "promhttp_metric_handler_requests_in_flight" "Scrapes under way.";
    scrapes: Scrapes = Scrapes::default(), "promhttp_metric_handler_requests_total" "Scrapes by how they ended.";
}

impl Metrics {
    /// Everything, as Prometheus reads it. `refresh` first sets what is read off the state.
    pub fn render(&self, refresh: impl FnOnce(&Metrics)) -> String {
        refresh(self);
        let mut text = String::with_capacity(RENDERED_LEN);
        self.render_families(&mut text);
        render_absent(&mut text);
        self.grpc.render(&mut text);
        self.peers.render(&mut text);
        process::render(&mut text);
        text
    }
}

/// About as long as a scrape is.
const RENDERED_LEN: usize = 192 * 1024;

/// Scrapes that ended; here they all end well.
#[derive(Debug, Default)]
pub struct Scrapes(Counter);

impl Scrapes {
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl Family for Scrapes {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        for (code, n) in [("200", self.0.get()), ("500", 0), ("503", 0)] {
            samples.number(&[("code", code)], n as f64);
        }
    }
}

/// Families of parts that etcd has and we have not: they stay 0, so that nobody misses them.
const ABSENT: [(&str, Kind, &str); 11] = [
    (
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        Kind::Histogram,
        "Trees that were balanced: there are none.",
    ),
    (
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        Kind::Histogram,
        "Pages that were split: there are none.",
    ),
    (
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        Kind::Histogram,
        "Pages that were written: there are none.",
    ),
    ("etcd_debugging_store_expires_total", Kind::Counter, "Keys of the v2 store that ran out."),
    ("etcd_debugging_store_watch_requests_total", Kind::Counter, "Watches of the v2 store."),
    ("etcd_debugging_store_watchers", Kind::Gauge, "Watchers of the v2 store."),
    ("etcd_grpc_proxy_cache_hits_total", Kind::Gauge, "The proxy's: 0 in a server."),
    ("etcd_grpc_proxy_cache_keys_total", Kind::Gauge, "The proxy's: 0 in a server."),
    ("etcd_grpc_proxy_cache_misses_total", Kind::Gauge, "The proxy's: 0 in a server."),
    ("etcd_grpc_proxy_events_coalescing_total", Kind::Counter, "The proxy's: 0 in a server."),
    ("etcd_grpc_proxy_watchers_coalescing_total", Kind::Gauge, "The proxy's: 0 in a server."),
];

fn render_absent(text: &mut String) {
    for (name, kind, help) in ABSENT {
        let mut samples = Samples::new(text, name, kind, help);
        match kind {
            Kind::Histogram => samples.histogram(&[], &Histogram::new(MILLIS)),
            Kind::Counter | Kind::Gauge => samples.number(&[], 0.0),
        }
    }
}
