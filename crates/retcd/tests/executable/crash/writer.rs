//! Writers: many requests under way at once, each remembered with its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use stdx::Generator;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::lease::{LEASE_LONG, LEASE_SHORT};
use super::operation::{Answer, N_KEYS, Operation, Tag, What};
use crate::support::client::Client;

const CONNECTIONS: usize = 4;
/// Requests under way on each.
const DEPTH: usize = 8;

/// How big values are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    Small,
    /// Segments of the log and of the store fill.
    Big,
}

impl Load {
    pub(super) fn pick(g: &mut Generator) -> Self {
        if g.chance(20) { Self::Big } else { Self::Small }
    }

    /// How many bits the number of operations has after which a round is over.
    pub(super) fn acknowledged_bits(self) -> u64 {
        match self {
            Self::Small => 12,
            Self::Big => 9,
        }
    }

    fn value_size_max(self) -> usize {
        match self {
            Self::Small => 300,
            Self::Big => 400_000,
        }
    }
}

/// What was asked, and what was answered.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) operation: Operation,
    pub(super) answer: Answer,
}

#[derive(Default)]
struct Shared {
    done: Mutex<Vec<Done>>,
    n_acknowledged: AtomicUsize,
    progress: Notify,
    enough: AtomicBool,
    leases: Mutex<Vec<i64>>,
    /// The newest revision a watch has shown: what is compacted was seen before.
    watched: Arc<AtomicI64>,
}

#[derive(Default)]
pub(super) struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    /// Names no lease and no value had before.
    fresh: u64,
}

/// Names one writer may use up in a round.
const FRESH_PER_WRITER: u64 = 1 << 24;

impl Writers {
    /// Starts the writers of a round.
    pub(super) async fn begin(
        &mut self,
        port: u16,
        seed: u64,
        load: Load,
        leases: Vec<i64>,
        watched: Arc<AtomicI64>,
    ) {
        assert!(self.tasks.is_empty(), "the writers of the last round have come to rest");
        let leases = Mutex::new(leases);
        self.shared = Arc::new(Shared { leases, watched, ..Shared::default() });
        for connection in 0..CONNECTIONS {
            let Ok(client) = Client::connect(port).await else { panic!("the server has gone") };
            for depth in 0..DEPTH {
                self.fresh += FRESH_PER_WRITER;
                let seed = seed.wrapping_add((connection * DEPTH + depth) as u64);
                let writer = Writer {
                    g: Generator::new(seed),
                    load,
                    fresh: self.fresh,
                    versions: HashMap::new(),
                    shared: Arc::clone(&self.shared),
                };
                self.tasks.push(tokio::spawn(writer.run(client.clone())));
            }
        }
    }

    /// Waits until `n` operations of this round have been answered.
    pub(super) async fn acknowledged(&self, n: usize) {
        while self.shared.n_acknowledged.load(Ordering::Relaxed) < n {
            self.shared.progress.notified().await;
        }
    }

    /// Lets the writers finish what they have begun, or see that nobody answers.
    pub(super) async fn rest(&mut self) {
        self.shared.enough.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.expect("a writer that does not panic");
        }
    }

    /// What came of it all.
    pub(super) fn take(&mut self) -> Vec<Done> {
        std::mem::take(&mut *self.shared.done.lock().expect("no panic"))
    }
}

struct Writer {
    g: Generator,
    load: Load,
    fresh: u64,
    /// Of keys, as they were read last.
    versions: HashMap<u16, i64>,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(mut self, client: Client) {
        while !self.shared.enough.load(Ordering::Relaxed) {
            let operation = self.operation();
            let at = {
                let mut done = self.shared.done.lock().expect("no panic");
                done.push(Done { operation: operation.clone(), answer: Answer::None });
                done.len() - 1
            };
            let answer = operation.ask(&client).await;
            if matches!(answer, Answer::None) {
                return;
            }
            self.learn(&operation, &answer);
            self.shared.done.lock().expect("no panic")[at].answer = answer;
            self.shared.n_acknowledged.fetch_add(1, Ordering::Relaxed);
            self.shared.progress.notify_one();
        }
    }

    fn learn(&mut self, operation: &Operation, answer: &Answer) {
        let Answer::At { what, .. } = answer else { return };
        match operation {
            Operation::Read { key } | Operation::PutIf { key, .. } => match what {
                What::Read(found) => {
                    self.versions.insert(*key, found.as_ref().map_or(0, |kv| kv.version));
                }
                What::Done | What::Deleted(_) | What::Held => {
                    self.versions.remove(key);
                }
            },
            Operation::Grant { id, .. } => self.shared.leases.lock().expect("no panic").push(*id),
            Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::Revoke { .. }
            | Operation::Compact { .. } => {}
        }
    }

    fn operation(&mut self) -> Operation {
        let key = self.key();
        match self.g.below(100) {
            0..50 => Operation::Put { key, tag: self.tag(), lease: self.lease() },
            50..60 => {
                let to = N_KEYS.min(key + 1 + self.g.below(4) as u16);
                Operation::Delete { from: key, to }
            }
            60..75 => {
                let mut puts: Vec<u16> = (0..1 + self.g.below(4)).map(|_| self.key()).collect();
                puts.sort_unstable();
                puts.dedup();
                let puts = puts.into_iter().map(|key| (key, self.tag())).collect();
                let version = self.versions.get(&key).copied().unwrap_or(0);
                Operation::PutIf { key, version, puts }
            }
            75..92 => Operation::Read { key },
            92..96 => {
                let ttl = if self.g.chance(50) { LEASE_SHORT } else { LEASE_LONG };
                Operation::Grant { id: self.fresh() as i64, ttl }
            }
            96..98 => match self.lease() {
                0 => Operation::Read { key },
                id => Operation::Revoke { id },
            },
            _ => {
                let watched = self.shared.watched.load(Ordering::Acquire);
                let back = self.g.below(400) as i64;
                Operation::Compact { revision: (watched - back).max(1) }
            }
        }
    }

    fn key(&mut self) -> u16 {
        self.g.below(u64::from(N_KEYS)) as u16
    }

    fn tag(&mut self) -> Tag {
        let length = self.g.below(self.load.value_size_max() as u64) as u32;
        Tag { number: self.fresh(), length }
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    /// A lease that was granted, or none.
    fn lease(&mut self) -> i64 {
        let leases = self.shared.leases.lock().expect("no panic");
        if leases.is_empty() || self.g.chance(70) { 0 } else { *self.g.pick(&leases) }
    }
}
