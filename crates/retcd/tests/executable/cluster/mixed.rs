//! Members of etcd 3.7.1 and of retcd in one cluster: neither can tell the other from its own kind.
//!
//! ```text
//! m0 etcd ── m1 etcd        puts, leases, compactions through each; leadership here and there;
//!     └── m2 retcd ──┘      kill -9 for each in turn; snapshots both ways
//! ```
//!
//! `RETCD_REFERENCE_BIN` is the folder with etcd's `server`; without it nothing is tested.

use proto::Method;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, RequestOp, TxnRequest,
    TxnResponse,
};
use stdx::tool;

use super::fleet::{Fleet, Program, STEADY};
use super::load::Load;
use super::{add_member, answered, head, put, remove_member, settle};
use crate::support::block_on;
use crate::support::client::Client;
use crate::support::process::Home;

const CLIENTS: u64 = 4;
/// Longer than any of these tests takes.
const TTL: i64 = 300;
/// More than the log keeps for those who are behind.
const TOO_MANY: u64 = 1500;
const RETCD: usize = 2;

/// etcd twice and retcd once; `None`, and a word about it, without etcd.
fn programs(test: &str) -> Option<Vec<Program>> {
    let etcd = tool::named("RETCD_REFERENCE_BIN", test)?.join("server");
    Some(vec![Program::Etcd(etcd.clone()), Program::Etcd(etcd), Program::Retcd])
}

async fn clients(fleet: &Fleet) -> Vec<Client> {
    let mut clients = Vec::new();
    for seat in &fleet.seats {
        clients.push(seat.connect().await.expect("a running member"));
    }
    clients
}

#[test]
fn etcd_and_retcd_answer_for_each_other() {
    let Some(programs) = programs("a cluster of etcd and retcd") else { return };
    block_on(async {
        let fleet = Fleet::of("mixed", programs, STEADY).await;
        let clients = clients(&fleet).await;
        for leader in [RETCD, 0] {
            fleet.lead(leader).await;
            for (at, client) in clients.iter().enumerate() {
                put(client, at as u64, leader as u64).await.expect("a write");
                count_up(client, at).await;
                lease_through_all(&clients, at).await;
                compact(client).await;
            }
            fleet.agree().await;
        }
    });
}

/// A lease granted at one member is kept alive, shown and ended through each.
async fn lease_through_all(clients: &[Client], at: usize) {
    let grant = LeaseGrantRequest { ttl: TTL, id: 0 };
    let granted: LeaseGrantResponse =
        clients[at].call(Method::LeaseGrant, &grant).await.expect("a lease");
    let id = granted.id;
    let attach = PutRequest { key: "leased".into(), lease: id, ..PutRequest::default() };
    clients[at].call::<()>(Method::Put, &attach).await.expect("a write");
    for client in clients {
        let mut stream = client.open(Method::LeaseKeepAlive).await.expect("a stream");
        stream.send(&LeaseKeepAliveRequest { id }, false).expect("a stream");
        let kept: LeaseKeepAliveResponse = stream.next().await.expect("a stream").expect("more");
        assert_eq!((kept.id, kept.ttl), (id, TTL));
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let left: LeaseTimeToLiveResponse =
            client.call(Method::LeaseTimeToLive, &request).await.expect("a lease");
        assert_eq!((left.id, left.granted_ttl), (id, TTL));
        assert!(left.ttl > TTL / 2, "{left:?}");
        assert_eq!(left.keys, ["leased"], "{left:?}");
    }
    let other = &clients[(at + 1) % clients.len()];
    let revoke = LeaseRevokeRequest { id };
    other.call::<LeaseRevokeResponse>(Method::LeaseRevoke, &revoke).await.expect("an end");
}

/// Two transactions that follow from each other.
async fn count_up(client: &Client, at: usize) {
    let key = format!("counted at {at}");
    for _ in 0..2 {
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Version.into(),
            key: key.clone().into(),
            target_union: Some(TargetUnion::Version(0)),
            ..Compare::default()
        };
        let put = |value: &str| {
            let (key, value) = (key.clone().into(), value.to_owned().into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            vec![RequestOp { request: Some(Request::RequestPut(put)) }]
        };
        let txn =
            TxnRequest { compare: vec![compare], success: put("again"), failure: put("first") };
        let answer: TxnResponse = client.call(Method::Txn, &txn).await.expect("an answer");
        assert_eq!(answer.responses.len(), 1, "{answer:?}");
    }
}

async fn compact(client: &Client) {
    let revision = head(client).await - 1;
    let request = CompactionRequest { revision, physical: true };
    client.call::<CompactionResponse>(Method::Compact, &request).await.expect("a compaction");
}

#[test]
fn each_of_etcd_and_retcd_is_killed_and_nothing_is_lost_or_stale() {
    let Some(programs) = programs("a cluster of etcd and retcd, its members killed") else {
        return;
    };
    block_on(async {
        let mut fleet = Fleet::of("mixed-killed", programs, &[]).await;
        let load = Load::begin(CLIENTS, 1, &fleet.ports());
        for leader in [RETCD, 0] {
            for at in 0..fleet.seats.len() {
                fleet.lead(leader).await;
                answered(&load, 50).await;
                fleet.seats[at].kill();
                answered(&load, 50).await;
                fleet.seats[at].start();
                fleet.all_serve().await;
            }
        }
        assert!(settle(&fleet, load).await > 0);
    });
}

#[test]
fn etcd_starts_from_a_snapshot_of_retcd() {
    let Some(programs) = programs("a snapshot of retcd, read by etcd") else { return };
    block_on(replaced(programs, 0, RETCD));
}

#[test]
fn retcd_starts_from_a_snapshot_of_etcd() {
    let Some(programs) = programs("a snapshot of etcd, read by retcd") else { return };
    block_on(replaced(programs, RETCD, 0));
}

/// Replaces the member at `old` with an empty one, which must learn everything from the one that leads.
async fn replaced(programs: Vec<Program>, old: usize, leader: usize) {
    let mut fleet = Fleet::of("mixed-snapshot", programs, &[]).await;
    fleet.lead(leader).await;
    let load = Load::begin(CLIENTS, 2, &fleet.ports());
    answered(&load, TOO_MANY).await;
    let id = fleet.id(old).await;
    let client = fleet.seats[leader].connect().await.expect("a member");
    fleet.seats[old].kill();
    remove_member(&client, id).await;
    let program = fleet.seats.remove(old).program;
    let home = Home::new("mixed-snapshot");
    add_member(&client, &home).await;
    fleet.add_seat(home, "new", program).start();
    fleet.all_serve().await;
    let log = fleet.seats.last().and_then(|seat| seat.server.as_ref()).expect("the new one").log();
    assert!(log.contains("applied snapshot"), "it had another source:\n{log}");
    answered(&load, 100).await;
    assert!(settle(&fleet, load).await > 0);
}
