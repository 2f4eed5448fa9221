//! What is *meant*: from what was said to a checked [`Config`].
//!
//! # Invariants
//!
//! - Every check runs, whatever the others found, so all mistakes come at once.
//! - The words of a mistake are etcd's where etcd has words for it.

mod log;
mod refusal;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw::RawConfig;
use super::url::{Place, Url, join};
use super::value::{Parsed, parse_span};
use super::{
    Auth, AutoCompaction, Bootstrap, ClientPort, ClusterState, Config, Gate, Keepalive, Limits,
    Mistakes, Monitoring, Notice, PeerPort, Quota, Raft, SocketOptions, Storage, Tracing, Upkeep,
};
use crate::log::Level;

const DEFAULT_NAME: &str = "default";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
/// What `--initial-cluster` would be if typed out; some do, and then rename the member.
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";

const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
const QUOTA_DEFAULT: u64 = 2 << 30;
const REQUEST_SIZE_RECOMMENDED_MAX: u64 = 10 << 20;
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;
const SNAPSHOT_CATCHUP_ENTRIES_DEFAULT: u64 = 5_000;
const COMPACTION_BATCH_LIMIT_DEFAULT: usize = 1_000;
const COMPACTION_SLEEP_INTERVAL_DEFAULT: Duration = Duration::from_millis(10);
const WATCH_PROGRESS_NOTIFY_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);
const DOWNGRADE_CHECK_TIME_DEFAULT: Duration = Duration::from_secs(5);
const WARNING_UNARY_REQUEST_DURATION_DEFAULT: Duration = Duration::from_millis(300);
const BCRYPT_COST_DEFAULT: u32 = 10;

/// Who said it: a file is taken at its word where flags need to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flags,
    File,
}

/// Concludes what is meant; `mistakes` are those already found.
pub(super) fn of(
    raw: &RawConfig,
    source: Source,
    default_host: &dyn Fn() -> Option<IpAddr>,
    notices: &mut Vec<Notice>,
    mistakes: Vec<String>,
) -> Result<Config, Mistakes> {
    let mut check = Check { raw, notices, mistakes };
    let log = check.log();
    check.addresses(source);
    check.bootstrap_options();
    check.gates();
    check.unsupported();
    let raft = check.raft();
    let auto_compaction = check.auto_compaction();
    let tracing = check.tracing();
    check.tls_versions();
    let auth = check.auth();
    let (advertise_peer, advertise_client) = check.advertised(default_host);
    let storage = check.storage();
    let limits = check.limits();
    let socket = SocketOptions {
        reuse_port: raw.socket_reuse_port,
        reuse_address: raw.socket_reuse_address,
    };
    let config = Config {
        name: raw.name.clone(),
        bootstrap: check.bootstrap(&advertise_peer),
        storage,
        raft,
        limits,
        client_port: client_port(raw, advertise_client, socket),
        peer_port: check.peer_port(advertise_peer, socket),
        auth,
        upkeep: check.upkeep(auto_compaction),
        monitoring: monitoring(raw, tracing),
        log,
        gates: raw.feature_gates.clone(),
    };
    if check.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(check.mistakes)) }
}

/// Collects what is wrong, and what is worth a note.
struct Check<'a> {
    raw: &'a RawConfig,
    notices: &'a mut Vec<Notice>,
    mistakes: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, mistake: impl Into<String>) {
        self.mistakes.push(mistake.into());
    }

    /// The value, or the mistake and what stands in for a value nobody will see.
    fn need<T>(&mut self, parsed: Parsed<T>, stand_in: T) -> T {
        parsed.unwrap_or_else(|mistake| {
            self.mistakes.push(mistake);
            stand_in
        })
    }

    fn note<const N: usize>(
        &mut self,
        level: Level,
        message: &'static str,
        fields: [(&'static str, String); N],
    ) {
        self.notices.push(Notice::new(level, message, fields));
    }

    fn addresses(&mut self, source: Source) {
        let raw = self.raw;
        let listen = [
            &raw.listen_peer_urls,
            &raw.listen_client_urls,
            &raw.listen_client_http_urls,
            &raw.listen_metrics_urls,
        ];
        for url in listen.into_iter().flatten() {
            self.mistakes.extend(url.check_bind().err());
        }
        for e in raw.initial_advertise_peer_urls.iter().filter_map(|url| url.check_host().err()) {
            let shown = join(&raw.initial_advertise_peer_urls);
            self.wrong(format!(
                "--initial-advertise-peer-urls {shown:?} must be \"host:port\" ({e})"
            ));
        }
        for e in raw.advertise_client_urls.iter().filter_map(|url| url.check_host().err()) {
            let shown = join(&raw.advertise_client_urls);
            self.wrong(format!(
                "--advertise-client-urls {shown:?} must be in the format \"host:port\", \
                 \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({e})"
            ));
        }
        let unadvertised =
            raw.has_said("listen-client-urls") && !raw.has_said("advertise-client-urls");
        if source == Source::Flags && unadvertised {
            self.wrong(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            );
        }
    }

    fn bootstrap_options(&mut self) {
        let discovery = &self.raw.discovery;
        let ways = [
            !self.raw.initial_cluster.is_empty() && self.raw.initial_cluster != DEFAULT_CLUSTER,
            !discovery.srv.is_empty(),
            !discovery.endpoints.is_empty(),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            self.wrong(
                "multiple discovery or bootstrap flags are set. Choose one of \
                 \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
            );
        }
        if discovery.token.is_empty() != discovery.endpoints.is_empty() {
            self.wrong("both --discovery-token and --discovery-endpoints must be set");
        }
        if discovery.endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
            self.wrong("--discovery-endpoints must not contain empty endpoints");
        }
        if discovery.fallback == "proxy" {
            self.wrong(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
            );
        }
        if self.raw.name == DEFAULT_NAME {
            self.note(
                Level::Warn,
                "member has the default name; members with equal names can't tell their \
                 addresses apart, so please set --name",
                [("name", self.raw.name.clone())],
            );
        }
    }

    fn gates(&mut self) {
        let gates = &self.raw.feature_gates;
        let checkpoint = gates.is_open(Gate::LeaseCheckpoint);
        match (checkpoint, gates.is_open(Gate::LeaseCheckpointPersist)) {
            (false, true) => self.wrong(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                 LeaseCheckpoint",
            ),
            (true, false) => self.note(
                Level::Warn,
                "leases are checkpointed but not persistently; consider LeaseCheckpointPersist",
                [],
            ),
            (true, true) | (false, false) => {}
        }
    }

    fn raft(&mut self) -> Raft {
        let raw = self.raw;
        let (heartbeat, election) = (raw.heartbeat_interval_ms, raw.election_timeout_ms);
        if heartbeat == 0 {
            self.wrong("--heartbeat-interval must be >0 (set to 0ms)");
        }
        if election == 0 {
            self.wrong("--election-timeout must be >0 (set to 0ms)");
        } else if HEARTBEATS_PER_ELECTION_MIN.saturating_mul(heartbeat) > election {
            self.wrong(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > ELECTION_TIMEOUT_MS_MAX {
            self.wrong(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than \
                 {ELECTION_TIMEOUT_MS_MAX}ms"
            ));
        }
        let learners_max = usize::try_from(raw.max_learners).unwrap_or_else(|_| {
            // Less than none: even a cluster without any has too many.
            self.wrong("membership: too many learner members in cluster");
            0
        });
        Raft {
            heartbeat_interval_ms: heartbeat,
            election_timeout_ms: election,
            election_ticks: election / heartbeat.max(1),
            initial_election_tick_advance: raw.initial_election_tick_advance,
            pre_vote: raw.pre_vote,
            strict_reconfig_check: raw.strict_reconfig_check,
            learners_max,
            snapshot_count: non_zero_or(raw.snapshot_count, SNAPSHOT_COUNT_DEFAULT),
            snapshot_catchup_entries: non_zero_or(
                raw.snapshot_catchup_entries,
                SNAPSHOT_CATCHUP_ENTRIES_DEFAULT,
            ),
        }
    }

    fn auto_compaction(&mut self) -> AutoCompaction {
        let retention = match self.raw.auto_compaction_retention.as_str() {
            "" => "0",
            said => said,
        };
        let parsed = match self.raw.auto_compaction_mode.as_str() {
            "periodic" => retention_time(retention).map(AutoCompaction::Periodic),
            "revision" => retention_count(retention).map(AutoCompaction::Revision),
            "" => Err("undefined auto-compaction-mode".into()),
            unknown => Err(format!("unknown auto-compaction-mode {unknown:?}")),
        };
        match self.need(parsed, AutoCompaction::Off) {
            AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revision(0) => {
                AutoCompaction::Off
            }
            some @ (AutoCompaction::Off
            | AutoCompaction::Periodic(_)
            | AutoCompaction::Revision(_)) => some,
        }
    }

    fn tracing(&mut self) -> Tracing {
        let raw = &self.raw.tracing;
        if raw.enabled {
            let range = match raw.sampling_rate {
                ..0 => Some("must be positive"),
                0..=1_000_000 => None,
                1_000_001.. => Some("must be less than 1000000"),
            };
            if let Some(range) = range {
                self.wrong(format!(
                    "distributed tracing configuration is not valid: (tracing sampling rate {range})"
                ));
            }
            self.note(
                Level::Warn,
                "distributed tracing is not supported yet; no traces are sent",
                [],
            );
        }
        Tracing {
            enabled: raw.enabled,
            address: raw.address.clone(),
            service_name: raw.service_name.clone(),
            instance_id: raw.instance_id.clone(),
            samples_per_million: u32::try_from(raw.sampling_rate).unwrap_or(0),
        }
    }

    fn auth(&mut self) -> Auth {
        let raw = self.raw;
        let kind = raw.auth_token.split(',').next().unwrap_or_default();
        match kind {
            "" | "simple" => {}
            "jwt" => self.wrong("--auth-token: retcd does not support 'jwt' yet, only 'simple'"),
            unknown => self.wrong(format!(
                "--auth-token: auth: invalid auth options (unknown token type {unknown:?})"
            )),
        }
        let bcrypt_cost = match u32::try_from(raw.bcrypt_cost) {
            Ok(cost @ 4..=31) => cost,
            Ok(_) | Err(_) => {
                self.note(
                    Level::Warn,
                    "use default bcrypt cost instead of the invalid given cost",
                    [("given-cost", raw.bcrypt_cost.to_string())],
                );
                BCRYPT_COST_DEFAULT
            }
        };
        Auth { bcrypt_cost, token_ttl: Duration::from_secs(raw.auth_token_ttl) }
    }

    /// The peers' and the clients' addresses to make known.
    ///
    /// Who listens everywhere but advertises `localhost` by default would be found by nobody: then
    /// the machine's own address takes its place.
    fn advertised(&mut self, default_host: &dyn Fn() -> Option<IpAddr>) -> (Vec<Url>, Vec<Url>) {
        let raw = self.raw;
        let mut peer = raw.initial_advertise_peer_urls.clone();
        let mut client = raw.advertise_client_urls.clone();
        let peer_port = everywhere(&raw.listen_peer_urls).filter(|_| is(&peer, DEFAULT_PEER_URL));
        let client_port =
            everywhere(&raw.listen_client_urls).filter(|_| is(&client, DEFAULT_CLIENT_URL));
        if peer_port.is_none() && client_port.is_none() {
            return (peer, client);
        }
        let Some(host) = default_host() else {
            self.note(Level::Info, "failed to detect default host", []);
            return (peer, client);
        };
        for (urls, port) in [(&mut peer, peer_port), (&mut client, client_port)] {
            if let Some(port) = port {
                urls[0] = urls[0].at(host, port);
            }
        }
        let fields = [("host", host.to_string())];
        self.note(Level::Info, "detected default host for advertise", fields);
        (peer, client)
    }

    fn bootstrap(&self, advertise_peer: &[Url]) -> Bootstrap {
        let raw = self.raw;
        let said = &raw.initial_cluster;
        let stale = said == DEFAULT_CLUSTER && raw.name != DEFAULT_NAME;
        let unsaid = said.is_empty() && !raw.has_said("initial-cluster");
        let initial_cluster = if unsaid || stale {
            let name = if raw.name.is_empty() { DEFAULT_NAME } else { &raw.name };
            let pairs = advertise_peer.iter().map(|url| format!("{name}={url}"));
            pairs.collect::<Vec<_>>().join(",")
        } else {
            said.clone()
        };
        let existing = raw.initial_cluster_state == "existing";
        Bootstrap {
            name: raw.name.clone(),
            state: if existing { ClusterState::Existing } else { ClusterState::New },
            token: raw.initial_cluster_token.clone(),
            initial_cluster,
            advertise_peer_urls: advertise_peer.to_vec(),
            force_new_cluster: raw.force_new_cluster,
        }
    }

    fn storage(&mut self) -> Storage {
        let raw = self.raw;
        let data_dir = if raw.data_dir.is_empty() {
            let data_dir = format!("{}.etcd", raw.name);
            let fields = [("data-dir", data_dir.clone())];
            self.note(Level::Warn, "'data-dir' was empty; using default", fields);
            PathBuf::from(data_dir)
        } else {
            PathBuf::from(&raw.data_dir)
        };
        let wal_dir = match raw.wal_dir.as_str() {
            "" => data_dir.join("member").join("wal"),
            said => Path::new(said).to_path_buf(),
        };
        let quota = match raw.quota_backend_bytes {
            0 => Quota::Bytes(QUOTA_DEFAULT),
            bytes => u64::try_from(bytes).map_or(Quota::Unlimited, Quota::Bytes),
        };
        Storage {
            data_dir,
            wal_dir,
            quota,
            wals_max: raw.max_wals,
            snapshots_max: raw.max_snapshots,
            unsafe_no_fsync: raw.unsafe_no_fsync,
            memory_mlock: raw.memory_mlock,
            bootstrap_defrag_threshold_mb: raw.bootstrap_defrag_threshold_megabytes,
        }
    }

    fn limits(&mut self) -> Limits {
        let raw = self.raw;
        if raw.max_request_bytes > REQUEST_SIZE_RECOMMENDED_MAX {
            self.note(
                Level::Warn,
                "exceeded recommended request limit",
                [
                    ("max-request-bytes", raw.max_request_bytes.to_string()),
                    ("recommended-request-bytes", REQUEST_SIZE_RECOMMENDED_MAX.to_string()),
                ],
            );
        }
        Limits {
            txn_ops_max: usize::try_from(raw.max_txn_ops).unwrap_or(usize::MAX),
            request_size_max: usize::try_from(raw.max_request_bytes).unwrap_or(usize::MAX),
            concurrent_streams_max: raw.max_concurrent_streams,
        }
    }

    fn peer_port(&mut self, advertise_urls: Vec<Url>, socket: SocketOptions) -> PeerPort {
        let raw = self.raw;
        for (name, timeout) in [
            ("raft-read-timeout", raw.raft_read_timeout),
            ("raft-write-timeout", raw.raft_write_timeout),
        ] {
            if timeout.length() < PEER_TIMEOUT_MIN {
                let fields = [("flag-name", name.to_owned())];
                self.note(Level::Info, "timeout increased to minimum value of 5s", fields);
            }
        }
        let local_address = if raw.feature_gates.is_open(Gate::SetMemberLocalAddr) {
            advertise_urls.iter().find_map(own_address)
        } else {
            None
        };
        PeerPort {
            listen_urls: raw.listen_peer_urls.clone(),
            advertise_urls,
            read_timeout: raw.raft_read_timeout.length().max(PEER_TIMEOUT_MIN),
            write_timeout: raw.raft_write_timeout.length().max(PEER_TIMEOUT_MIN),
            local_address,
            socket,
            tls: raw.peer.clone(),
        }
    }

    fn upkeep(&mut self, auto_compaction: AutoCompaction) -> Upkeep {
        let raw = self.raw;
        let compact_hash_check_time = raw.compact_hash_check_time.length();
        if compact_hash_check_time.is_zero() {
            self.wrong(format!(
                "--compact-hash-check-time must be >0 (set to {})",
                raw.compact_hash_check_time
            ));
        }
        let batch_limit = usize::try_from(raw.compaction_batch_limit).unwrap_or(0);
        Upkeep {
            auto_compaction,
            compaction_batch_limit: match batch_limit {
                0 => COMPACTION_BATCH_LIMIT_DEFAULT,
                said => said,
            },
            compaction_sleep_interval: raw
                .compaction_sleep_interval
                .length_or(COMPACTION_SLEEP_INTERVAL_DEFAULT),
            corrupt_check_time: Some(raw.corrupt_check_time.length()).filter(|t| !t.is_zero()),
            compact_hash_check_time,
            watch_progress_notify_interval: raw
                .watch_progress_notify_interval
                .length_or(WATCH_PROGRESS_NOTIFY_INTERVAL_DEFAULT),
            downgrade_check_time: raw.downgrade_check_time.length_or(DOWNGRADE_CHECK_TIME_DEFAULT),
        }
    }
}

fn client_port(raw: &RawConfig, advertise_urls: Vec<Url>, socket: SocketOptions) -> ClientPort {
    let interval = raw.grpc_keepalive_interval.length();
    let timeout = raw.grpc_keepalive_timeout.length();
    let keepalive = Keepalive { interval, timeout };
    ClientPort {
        listen_urls: raw.listen_client_urls.clone(),
        listen_http_urls: raw.listen_client_http_urls.clone(),
        advertise_urls,
        keepalive_min_time: raw.grpc_keepalive_min_time.length(),
        keepalive: Some(keepalive).filter(|_| !interval.is_zero() && !timeout.is_zero()),
        grpc_gateway: raw.enable_grpc_gateway,
        cors: raw.cors.clone(),
        host_whitelist: raw.host_whitelist.clone(),
        socket,
        tls: raw.client.clone(),
    }
}

fn monitoring(raw: &RawConfig, tracing: Tracing) -> Monitoring {
    Monitoring {
        listen_metrics_urls: raw.listen_metrics_urls.clone(),
        extensive_metrics: raw.metrics == "extensive",
        pprof: raw.enable_pprof,
        warning_apply_duration: raw.warning_apply_duration.length(),
        warning_unary_request_duration: raw
            .warning_unary_request_duration
            .length_or(WARNING_UNARY_REQUEST_DURATION_DEFAULT),
        tracing,
    }
}

fn non_zero_or(said: u64, default: u64) -> u64 {
    if said == 0 { default } else { said }
}

/// A time: hours if it has no unit.
fn retention_time(text: &str) -> Parsed<Duration> {
    if let Ok(hours) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(hours) * 3600));
    }
    let span = parse_span(text).filter(|span| span.0 >= 0);
    span.map(super::value::Span::length).ok_or_else(|| bad_retention(text))
}

/// As in etcd, a time will do: its nanoseconds are the count.
fn retention_count(text: &str) -> Parsed<u64> {
    text.parse().or_else(|_| Ok(retention_time(text)?.as_nanos() as u64))
}

fn bad_retention(text: &str) -> String {
    format!("error parsing CompactionRetention: time: invalid duration {text:?}")
}

/// The port of the first address, if that is every address of the machine.
fn everywhere(listen: &[Url]) -> Option<u16> {
    match listen.first().map(|url| &url.place) {
        Some(Place::Tcp { host, port }) if host == "0.0.0.0" => Some(*port),
        Some(Place::Tcp { .. } | Place::Unix { .. }) | None => None,
    }
}

fn is(urls: &[Url], text: &str) -> bool {
    matches!(urls, [url] if url.as_str() == text)
}

/// The address of a URL that has one others can reach.
fn own_address(url: &Url) -> Option<IpAddr> {
    match &url.place {
        Place::Tcp { host, .. } => {
            let address: Option<IpAddr> = host.parse().ok();
            address.filter(|address| !address.is_loopback() && !address.is_unspecified())
        }
        Place::Unix { .. } => None,
    }
}
