//! A member without data gets all of it by snapshot, while clients go on writing.
//!
//! `CLUSTER_KEYS=n` sets how many keys there are; a million take some minutes.

use std::env;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::Method;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{PutRequest, PutResponse, RequestOp, TxnRequest, TxnResponse};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::fleet::{Fleet, Program, Seat};
use super::{add_member, remove_member};
use crate::support::client::Client;
use crate::support::process::{Home, memory_of};
use crate::support::{block_on, prompt};

const KEYS_DEFAULT: u64 = 20_000;
const KEYS_PER_TXN: u64 = 100;
const VALUE_SIZE: usize = 256;
/// Puts that fall due in a second, whoever is busy with what.
const PUTS_PER_SECOND: u64 = 2000;
/// Puts under way: those that fall due on a machine too slow for them wait their turn.
const UNDER_WAY_MAX: usize = 1000;
/// Between two looks at how much memory is taken.
const LOOK: Duration = Duration::from_millis(20);
const BEFORE: Duration = Duration::from_secs(3);
/// What serving a snapshot may cost a member that stays.
const GROWTH_MAX: u64 = 64 << 20;
/// Of all puts but one in a hundred, where other tests are busy and nobody else.
const PUT_MAX: Duration = Duration::from_secs(1);
/// Room for all keys, and nobody else leads before the end.
const FLAGS: &[&str] = &["--quota-backend-bytes=8589934592", "--election-timeout=3000"];

fn key(n: u64) -> Vec<u8> {
    format!("far/behind/{n:08}").into()
}

async fn fill(client: &Client, n_keys: u64) {
    let put = |n| PutRequest {
        key: key(n).into(),
        value: vec![b'v'; VALUE_SIZE].into(),
        ..PutRequest::default()
    };
    let op = |n| RequestOp { request: Some(Request::RequestPut(put(n))) };
    for first in (0..n_keys).step_by(KEYS_PER_TXN as usize) {
        let success = (first..first + KEYS_PER_TXN).map(op).collect();
        let txn = TxnRequest { success, ..TxnRequest::default() };
        client.call::<TxnResponse>(Method::Txn, &txn).await.expect("a write");
    }
}

/// Puts at a fixed rate; how long each took from when it was due.
struct Puts {
    task: JoinHandle<Vec<JoinHandle<Duration>>>,
    stop: Arc<AtomicBool>,
}

impl Puts {
    fn begin(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut due = interval(Duration::from_secs(1) / PUTS_PER_SECOND as u32);
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut under_way = Vec::new();
            let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
            while !stopped.load(Ordering::Relaxed) {
                let was_due = due.tick().await;
                let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
                let client = client.clone();
                let n = under_way.len() as u64 % 1000;
                under_way.push(tokio::spawn(async move {
                    let (key, value) = (key(n).into(), vec![b'w'; VALUE_SIZE].into());
                    let request = PutRequest { key, value, ..PutRequest::default() };
                    client.call::<PutResponse>(Method::Put, &request).await.expect("a write");
                    drop(place);
                    was_due.elapsed()
                }));
            }
            under_way
        });
        Self { task, stop }
    }

    /// The time within which all but one in a hundred were answered.
    async fn p99(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for put in self.task.await.expect("no panic") {
            took.push(put.await.expect("an answer"));
        }
        took.sort();
        took[took.len() * 99 / 100]
    }
}

/// How much more memory each of these processes ever takes than it does now.
struct Growth {
    task: JoinHandle<Vec<u64>>,
    stop: Arc<AtomicBool>,
}

impl Growth {
    fn watch(seats: &[Seat]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pids: Vec<u32> =
            seats.iter().filter_map(|seat| Some(seat.server.as_ref()?.pid())).collect();
        let task = tokio::spawn(async move {
            let at_rest: Vec<u64> = pids.iter().map(|pid| memory_of(*pid)).collect();
            let mut most = vec![0; pids.len()];
            while !stopped.load(Ordering::Relaxed) {
                for (n, pid) in pids.iter().enumerate() {
                    most[n] = memory_of(*pid).saturating_sub(at_rest[n]).max(most[n]);
                }
                sleep(LOOK).await;
            }
            most
        });
        Self { task, stop }
    }

    async fn most(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }
}

#[test]
fn a_member_without_data_gets_all_of_it_while_clients_go_on_writing() {
    let n_keys = env::var("CLUSTER_KEYS").map_or(KEYS_DEFAULT, |n| n.parse().expect("a number"));
    block_on(async {
        let mut fleet = Fleet::found_with("far", 3, FLAGS).await;
        let leader = fleet.leader().await;
        let client = fleet.seats[leader].connect().await.expect("the leader");
        fill(&client, n_keys).await;
        let puts = Puts::begin(client.clone());
        sleep(BEFORE).await;
        let before = puts.p99().await;

        let gone = (leader + 1) % 3;
        let id = fleet.id(gone).await;
        fleet.seats[gone].kill();
        drop(fleet.seats.remove(gone));
        remove_member(&client, id).await;
        let home = Home::new("far");
        add_member(&client, &home).await;

        let growth = Growth::watch(&fleet.seats);
        let puts = Puts::begin(client.clone());
        let start = Instant::now();
        fleet.add_seat(home, "new", Program::Retcd).start();
        fleet.all_serve().await;
        let took = start.elapsed();
        let grew = growth.most().await;
        let during = puts.p99().await;
        fleet.agree().await;
        let mib: Vec<u64> = grew.iter().map(|bytes| bytes >> 20).collect();
        let told = format!(
            "{n_keys} keys in {took:.1?}; put p99 {before:.1?} before, {during:.1?} during; MiB more {mib:?}"
        );
        // Said past the harness, for whoever measures.
        let _ = writeln!(std::io::stderr(), "{told}");
        prompt("puts beside a snapshot", during, PUT_MAX);
        assert!(grew.iter().all(|bytes| *bytes <= GROWTH_MAX), "{told}");
    });
}
