//! Do the metrics move? Dashboards and alerts stand on numbers that never complain when they stay 0.
//!
//! A member lives through all that it counts; then each sample named here has the number it must have.
//! Where `RETCD_REFERENCE_BIN` is the folder with etcd's `server`, etcd lives through the same: the names and
//! the numbers are its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;

use bytes::Bytes;
use proto::Method;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, AuthStatusRequest, AuthStatusResponse,
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse,
    DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    MemberPromoteRequest, MemberPromoteResponse, PutRequest, PutResponse, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use proto::prost::Message;
use stdx::tool;

use crate::cluster::fleet::Fleet;
use crate::support::client::{Client, Failure, Stream, samples};
use crate::support::process::Home;
use crate::support::{block_on, eventually};

/// Progress of watchers is told that often.
const FLAGS: &[&str] = &["--watch-progress-notify-interval=200ms"];
/// Seconds of the lease that runs out: the fewest there are.
const TTL_MIN: i64 = 2;
const TTL: i64 = 600;
const N_KEYS: i64 = 5;

/// What must have happened at least once.
const MOVED: &[&str] = &[
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_sum",
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds_count",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds_count",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_sum",
    "etcd_disk_backend_commit_duration_seconds_count",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_disk_wal_write_duration_seconds_count",
    "etcd_disk_wal_write_duration_seconds_sum",
    "etcd_mvcc_hash_duration_seconds_sum",
    "etcd_mvcc_hash_rev_duration_seconds_sum",
];

/// What must have happened so often.
const COUNTED: &[(&str, f64)] = &[
    ("etcd_debugging_auth_revision", 1.0),
    ("etcd_debugging_lease_granted_total", 2.0),
    ("etcd_debugging_lease_revoked_total", 2.0),
    ("etcd_debugging_lease_ttl_total_count", 2.0),
    ("etcd_debugging_lease_ttl_total_sum", (TTL + TTL_MIN) as f64),
    ("etcd_debugging_lease_ttl_total_bucket{le=\"1\"}", 0.0),
    ("etcd_debugging_lease_ttl_total_bucket{le=\"2\"}", 1.0),
    ("etcd_debugging_mvcc_db_compaction_keys_total", 1.0),
    ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count", 1.0),
    ("etcd_debugging_mvcc_events_total", 2.0),
    ("etcd_debugging_mvcc_keys_total", (N_KEYS - 1) as f64),
    ("etcd_debugging_mvcc_watch_stream_total", 1.0),
    ("etcd_debugging_mvcc_watcher_total", 1.0),
    ("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"1\"}", 0.0),
    ("etcd_debugging_server_lease_expired_total", 1.0),
    ("etcd_disk_backend_defrag_duration_seconds_count", 1.0),
    ("etcd_mvcc_hash_duration_seconds_count", 1.0),
    ("etcd_mvcc_hash_rev_duration_seconds_count", 1.0),
    ("etcd_server_proposals_failed_total", 0.0),
    ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"AuthStatus\"}", 1.0),
    (
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"ClusterMemberAttrSet\"}",
        1.0,
    ),
    (
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"ClusterVersionSet\"}",
        1.0,
    ),
    ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Compaction\"}", 1.0),
    ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"LeaseGrant\"}", 2.0),
    // One was asked for, one ran out, one was not there.
    ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"LeaseRevoke\"}", 3.0),
    (
        "etcd_server_learner_promote_failures{Reason=\"membership: can only promote a learner member\"}",
        1.0,
    ),
    ("etcd_server_learner_promote_failures{Reason=\"membership: ID not found\"}", 1.0),
    (
        "grpc_server_msg_sent_total{grpc_method=\"MemberPromote\",\
         grpc_service=\"etcdserverpb.Cluster\",grpc_type=\"unary\"}",
        2.0,
    ),
];

/// What counts that which is there must count down again.
const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";

#[test]
fn whatever_happens_moves_its_metric() {
    let home = Home::new("metrics");
    lives(&home, home.command(FLAGS));
}

#[test]
fn whatever_happens_moves_the_same_metric_of_etcd() {
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", "the metrics of etcd") else { return };
    let home = Home::new("metrics-of-etcd");
    let mut command = Command::new(bin.join("server"));
    command.arg("--data-dir").arg(home.data()).args(home.urls()).args(FLAGS);
    lives(&home, command);
}

/// Alerts look at what waits; without a quorum everything does.
#[test]
fn proposals_without_a_quorum_are_pending() {
    block_on(async {
        let mut fleet = Fleet::found("pending", 3).await;
        let (home, client) = (&fleet.seats[0].home, fleet.seats[0].connect().await);
        let (port, client) = (home.client_port, client.expect("a member"));
        for at in [1, 2] {
            fleet.seats[at].kill();
        }
        let mut puts = Vec::new();
        for n in 0..N_KEYS {
            let mut put = client.open(Method::Put).await.expect("a member");
            put.send(&PutRequest { key: key(n), ..PutRequest::default() }, true).expect("a member");
            puts.push(put);
        }
        let pending = async |n: i64| {
            eventually((n, "proposals to be pending"), async || {
                (samples(port)["etcd_server_proposals_pending"] == n as f64).then_some(())
            })
            .await;
        };
        pending(N_KEYS).await;
        for at in [1, 2] {
            fleet.seats[at].start();
        }
        for put in &mut puts {
            drop(put.next::<PutResponse>().await); // Answered or given up: neither waits any more.
        }
        pending(0).await;
    });
}

fn lives(home: &Home, command: Command) {
    block_on(async {
        let mut server = home.run(command);
        let client = server.ready().await;
        let mut watch = watched(&client).await;
        write(&client).await;
        for _ in 0..2 {
            let told: WatchResponse = watch.next().await.expect("an event").expect("an event");
            assert_eq!(told.events.len(), 1, "{told:?}");
        }
        lease(&client).await;
        maintain(&client).await;
        let still = RefCell::new(Vec::new());
        eventually(&still, async || {
            *still.borrow_mut() = missing(&samples(home.client_port));
            still.borrow().is_empty().then_some(())
        })
        .await;
        drop(watch);
        eventually("the watcher to be gone", async || {
            (samples(home.client_port)[WATCHERS] == 0.0).then_some(())
        })
        .await;
    });
}

/// A stream with one watcher, of the first key.
async fn watched(client: &Client) -> Stream {
    let mut stream = client.open(Method::Watch).await.expect("a server");
    let create = WatchCreateRequest { key: key(0), ..WatchCreateRequest::default() };
    let request_union = Some(RequestUnion::CreateRequest(create));
    stream.send(&WatchRequest { request_union }, false).expect("a stream");
    let created: WatchResponse = stream.next().await.expect("a stream").expect("a watcher");
    assert!(created.created);
    stream
}

/// Puts each key, the first twice; compacts what is old then; deletes the last.
async fn write(client: &Client) {
    let mut revision = 0;
    for n in (0..N_KEYS).chain([0]) {
        let put = PutRequest { key: key(n), value: "v".into(), ..PutRequest::default() };
        let put: PutResponse = client.call(Method::Put, &put).await.expect("room");
        revision = put.header.expect("a header").revision;
    }
    let compact = CompactionRequest { revision, physical: true };
    let _: CompactionResponse = client.call(Method::Compact, &compact).await.expect("a past");
    let delete = DeleteRangeRequest { key: key(N_KEYS - 1), ..DeleteRangeRequest::default() };
    let _: DeleteRangeResponse = client.call(Method::DeleteRange, &delete).await.expect("a key");
}

/// Grants two leases. One is revoked, which is asked for twice; the other runs out some day.
async fn lease(client: &Client) {
    for (id, ttl) in [(1, TTL), (2, TTL_MIN)] {
        let grant = LeaseGrantRequest { id, ttl };
        let _: LeaseGrantResponse = client.call(Method::LeaseGrant, &grant).await.expect("a lease");
    }
    let revoke = LeaseRevokeRequest { id: 1 };
    let _: LeaseRevokeResponse = client.call(Method::LeaseRevoke, &revoke).await.expect("a lease");
    refused::<LeaseRevokeResponse>(client, Method::LeaseRevoke, &revoke).await;
}

async fn maintain(client: &Client) {
    let _: HashResponse = client.call(Method::Hash, &HashRequest {}).await.expect("a hash");
    let hash = HashKvRequest { revision: 0 };
    let _: HashKvResponse = client.call(Method::HashKV, &hash).await.expect("a hash");
    let defragment = DefragmentRequest {};
    let _: DefragmentResponse = client.call(Method::Defragment, &defragment).await.expect("room");
    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        let (action, alarm) = (action as i32, AlarmType::Nospace as i32);
        let alarm = AlarmRequest { action, member_id: 1, alarm };
        let _: AlarmResponse = client.call(Method::Alarm, &alarm).await.expect("an alarm");
    }
    let status: AuthStatusResponse =
        client.call(Method::AuthStatus, &AuthStatusRequest {}).await.expect("a status");
    let id = status.header.expect("a header").member_id;
    for id in [id, 1] {
        let promote = MemberPromoteRequest { id };
        refused::<MemberPromoteResponse>(client, Method::MemberPromote, &promote).await;
    }
}

async fn refused<M: Message + Default + Debug>(
    client: &Client,
    method: Method,
    request: &impl Message,
) {
    let answer = client.call::<M>(method, request).await;
    assert!(matches!(answer, Err(Failure::Refused { .. })), "{method:?}: {answer:?}");
}

fn key(n: i64) -> Bytes {
    format!("key{n}").into()
}

/// What has not the number it must have, and which it has.
fn missing(samples: &BTreeMap<String, f64>) -> Vec<String> {
    let value = |name: &str| samples.get(name).copied();
    let still = MOVED.iter().filter(|name| value(name).unwrap_or_default() <= 0.0);
    let still = still.map(|name| (*name).to_owned());
    let wrong = COUNTED.iter().filter(|(name, n)| value(name) != Some(*n));
    still.chain(wrong.map(|(name, n)| format!("{name}: {:?}, not {n}", value(name)))).collect()
}
