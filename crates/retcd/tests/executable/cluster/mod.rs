//! Several members as one store: they are killed, paused, wiped and replaced while clients work.
//!
//! | file | holds |
//! |---|---|
//! | `corruption` | a member that holds something else |
//! | `etcdctl` | etcdctl at clusters of both kinds, side by side |
//! | `far_behind` | a member without data, and what its snapshot costs the others |
//! | `fleet` | the processes |
//! | `local` | the command that starts a cluster for trying things out |
//! | `load` | clients that remember what they asked for and were told |
//! | `mixed` | clusters of retcd's members and etcd's |
//! | `partition` | members whose cables are pulled |
//! | `verdict` | whether all of that can be true |
//!
//! `CLUSTER_ROUNDS=n` sets how often a member is killed; `SEED=n` replays the choices, though not the
//! machine's moods.

mod corruption;
mod etcdctl;
mod far_behind;
pub(crate) mod fleet;
mod load;
mod local;
mod mixed;
mod partition;
mod verdict;

use std::env;
use std::time::Duration;

use proto::Method;
use proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberRemoveRequest, MemberRemoveResponse,
    MoveLeaderRequest, MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use stdx::generate::each_seed_of;

use self::fleet::{ELECTION_TIMEOUT, Fleet, Program, STEADY};
use self::load::{Done, Load};
use super::support::client::{Client, Failure};
use super::support::process::Home;
use super::support::{block_on, eventually, prompt};

const CLIENTS: u64 = 8;
const ROUNDS_DEFAULT: usize = 6;
/// Requests answered between two faults.
const ANSWERED_PER_ROUND: u64 = 300;

fn rounds() -> usize {
    env::var("CLUSTER_ROUNDS").ok().map_or(ROUNDS_DEFAULT, |n| {
        n.parse().unwrap_or_else(|_| panic!("CLUSTER_ROUNDS={n} is not a number"))
    })
}

/// Waits until the clients have been answered `n` more times. There is no saying how long so many take on
/// this machine and its disk, but one of them must come at a time.
async fn answered(load: &Load, n: u64) {
    let before = load.n_told();
    let mut seen = before;
    while seen < before + n {
        seen = eventually("an answer", async || Some(load.n_told()).filter(|n| *n > seen)).await;
    }
}

/// Ends the load and finds that all of it was true, at every member.
async fn settle(fleet: &Fleet, load: Load) -> usize {
    judged(fleet, &load.end().await).await
}

/// Finds that all members tell the same, and that what clients were told is true of it.
async fn judged(fleet: &Fleet, done: &[Done]) -> usize {
    fleet.agree().await;
    let mut n = 0;
    for seat in fleet.seats.iter().filter(|seat| seat.server.is_some()) {
        let client = seat.connect().await.expect("a running member");
        let head = head(&client).await;
        n = verdict::judge(&verdict::history(&client, head).await, done);
    }
    n
}

async fn head(client: &Client) -> i64 {
    let request = RangeRequest { key: "\0".into(), ..RangeRequest::default() };
    let answer: RangeResponse = client.call(Method::Range, &request).await.expect("an answer");
    answer.header.expect("a header").revision
}

async fn put(client: &Client, key: u64, value: u64) -> Result<PutResponse, Failure> {
    let request = PutRequest {
        key: key.to_be_bytes().to_vec().into(),
        value: value.to_be_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    client.call(Method::Put, &request).await
}

/// Removes a member: refused until the others have noticed that it is gone.
async fn remove_member(client: &Client, id: u64) {
    let request = MemberRemoveRequest { id };
    eventually("the removal", async || {
        let answer = client.call::<MemberRemoveResponse>(Method::MemberRemove, &request).await;
        is_done(&answer, "etcdserver: member not found").then_some(())
    })
    .await;
}

/// Makes a seat for the member of `home`: refused while those who are there have not known each other for
/// long enough.
async fn add_member(client: &Client, home: &Home) {
    let request = MemberAddRequest { peer_urls: vec![home.peer_url()], is_learner: false };
    eventually("the new member's seat", async || {
        let answer = client.call::<MemberAddResponse>(Method::MemberAdd, &request).await;
        is_done(&answer, "etcdserver: Peer URLs already exists").then_some(())
    })
    .await;
}

/// Whether a change is made; an earlier attempt that was not answered in time may have made it.
fn is_done<T>(answer: &Result<T, Failure>, already: &str) -> bool {
    match answer {
        Ok(_) => true,
        Err(Failure::Refused { message, .. }) => message == already,
        Err(Failure::Lost) => false,
    }
}

#[test]
fn any_member_takes_writes_and_every_member_shows_them() {
    block_on(async {
        let fleet = Fleet::found_with("three", 3, STEADY).await;
        for at in 0..3 {
            let client = fleet.seats[at].connect().await.expect("a member");
            put(&client, at as u64, 7).await.expect("a write");
            for other in &fleet.seats {
                let client = other.connect().await.expect("a member");
                assert_eq!(head(&client).await, 2 + at as i64, "written at {at}");
            }
        }
        let members = fleet.members(1).await.members;
        assert!(members.iter().all(|member| member.client_urls.len() == 1), "{members:?}");
        fleet.agree().await;
    });
}

#[test]
fn a_minority_killed_over_and_over_loses_nothing_and_serves_nothing_stale() {
    each_seed_of(1, |g| {
        block_on(async {
            let n_members = if g.chance(50) { 3 } else { 5 };
            let mut fleet = Fleet::found("minority", n_members).await;
            let load = Load::begin(CLIENTS, g.number(), &fleet.ports());
            for _ in 0..rounds() {
                answered(&load, g.below(ANSWERED_PER_ROUND)).await;
                let n_killed = 1 + g.below(n_members as u64 / 2) as usize;
                let first = g.below(n_members as u64) as usize;
                let killed: Vec<usize> = (0..n_killed).map(|n| (first + n) % n_members).collect();
                for &at in &killed {
                    fleet.seats[at].kill();
                }
                answered(&load, g.below(ANSWERED_PER_ROUND)).await;
                for &at in &killed {
                    fleet.seats[at].start();
                }
                fleet.all_serve().await;
            }
            answered(&load, ANSWERED_PER_ROUND).await;
            assert!(settle(&fleet, load).await > 0);
        });
    });
}

#[test]
fn a_leader_that_was_paused_acknowledges_and_shows_nothing_of_its_own() {
    block_on(async {
        let mut fleet = Fleet::found("paused", 3).await;
        let load = Load::begin(CLIENTS, 1, &fleet.ports());
        for _ in 0..2 {
            answered(&load, 100).await;
            let at = fleet.leader().await;
            let id = fleet.id(at).await;
            fleet.seats[at].pause();
            fleet.failover(id).await;
            fleet.seats[at].resume();
            fleet.all_serve().await;
        }
        answered(&load, 100).await;
        settle(&fleet, load).await;
    });
}

#[test]
fn a_rolling_restart_is_hardly_noticed() {
    block_on(async {
        let mut fleet = Fleet::found("rolling", 3).await;
        let load = Load::begin(CLIENTS, 2, &fleet.ports());
        for at in 0..3 {
            answered(&load, 100).await;
            fleet.seats[at].stop().await;
            answered(&load, 100).await;
            fleet.seats[at].start();
            fleet.all_serve().await;
        }
        settle(&fleet, load).await;
    });
}

#[test]
fn a_wiped_member_is_replaced_and_catches_up_from_a_snapshot() {
    block_on(async {
        let mut fleet = Fleet::found("wiped", 3).await;
        let load = Load::begin(CLIENTS, 3, &fleet.ports());
        // More than the log keeps for those who are behind.
        answered(&load, 3000).await;
        let id = fleet.id(0).await;
        fleet.seats[0].kill();
        fleet.seats[0].lose_data();
        let client = fleet.seats[1].connect().await.expect("a member");
        remove_member(&client, id).await;
        drop(fleet.seats.remove(0));
        assert_eq!(fleet.members(0).await.members.len(), 2);
        let home = Home::new("wiped");
        add_member(&client, &home).await;
        assert_eq!(fleet.members(0).await.members.len(), 3);
        fleet.add_seat(home, "new", Program::Retcd).start();
        fleet.all_serve().await;
        answered(&load, 100).await;
        settle(&fleet, load).await;
    });
}

#[test]
fn a_removed_member_ends_by_itself() {
    block_on(async {
        let mut fleet = Fleet::found("removed", 3).await;
        let client = fleet.seats[1].connect().await.expect("a member");
        let id = fleet.id(0).await;
        remove_member(&client, id).await;
        let mut removed = fleet.seats.remove(0);
        let status = removed.server.as_mut().expect("it ran").ended().await;
        assert!(status.success(), "{status}");
        fleet.agree().await;
    });
}

#[test]
fn leadership_moves_when_it_is_asked_to() {
    block_on(async {
        let fleet = Fleet::found_with("moved", 3, STEADY).await;
        let at = fleet.leader().await;
        let target_id = fleet.id((at + 1) % 3).await;
        let client = fleet.seats[at].connect().await.expect("a member");
        let request = MoveLeaderRequest { target_id };
        client.call::<MoveLeaderResponse>(Method::MoveLeader, &request).await.expect("a move");
        assert_eq!(fleet.leader().await, (at + 1) % 3);
    });
}

/// Half of all failovers are over before twice the election timeout, where nobody else is busy.
#[test]
fn a_killed_leader_is_soon_replaced() {
    block_on(async {
        let mut fleet = Fleet::found("failover", 3).await;
        let mut took = Vec::new();
        for _ in 0..5 {
            let at = fleet.leader().await;
            let id = fleet.id(at).await;
            fleet.seats[at].kill();
            took.push(fleet.failover(id).await);
            fleet.seats[at].start();
            fleet.all_serve().await;
        }
        took.sort();
        prompt("half of five failovers", took[2], 2 * ELECTION_TIMEOUT);
    });
}

/// What the table in docs/operations.md says.
#[test]
fn an_even_cluster_needs_more_than_half_and_recovers_when_it_has_it() {
    for n_members in [2, 4] {
        block_on(async {
            let mut fleet = Fleet::found("even", n_members).await;
            let half = n_members / 2;
            for seat in &mut fleet.seats[..half] {
                seat.kill();
            }
            let left = fleet.seats[half].connect().await.expect("a member");
            let write = tokio::time::timeout(Duration::from_secs(2), put(&left, 1, 1)).await;
            assert!(!matches!(write, Ok(Ok(_))), "half of {n_members} wrote: {write:?}");
            fleet.seats[0].start();
            fleet.all_serve().await;
            put(&left, 2, 2).await.expect("a quorum again");
        });
    }
}
