//! `kill -9`, over and over: nothing acknowledged is lost, nothing is there that nobody asked for.
//!
//! ```text
//!   ┌─► start ─► a watch from the compaction on ─► settle: is all of it what the model says? ─┐
//!   │                                                                                         ▼
//!   └── SIGKILL at some moment ◄── writers: puts, txns, deletes, leases, compactions, reads ◄─┘
//! ```
//!
//! Each round ends in its own [`End`]: amid writes, at rest, while starting, while stopping. What the
//! writers were answered, and what the watch showed before the kill, is held against what the next
//! start shows. `CRASH_ROUNDS=n` sets how many rounds a server lives; `SEED=n` replays a life's choices
//! (though not the machine's moods), `SEEDS=n` lives several.

mod history;
mod lease;
mod operation;
mod watcher;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;
use std::{env, fs};

use proto::Method;
use proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use stdx::Generator;
use stdx::generate::each_seed_of;
use tokio::time::timeout;

use self::history::History;
use self::lease::Leases;
use self::watcher::Watcher;
use self::writer::{Load, Writers};
use super::support::client::Client;
use super::support::process::{Home, Server};
use super::support::{PATIENCE, block_on, eventually};

const ROUNDS_DEFAULT: usize = 15;
/// A checkpoint every so many entries.
const FLAGS: &[&str] = &["--snapshot-count=50", "--quota-backend-bytes=-1"];
/// The longest a server is left alone before it is killed while it starts or stops.
const MOMENT_MICROS_MAX: u64 = 60_000;

/// How a round ends. But for the last, with SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    AmidWrites,
    /// When every write has been answered.
    AtRest,
    /// Amid writes; then the next start is killed on its way, and perhaps the one after that.
    WhileStarting,
    /// Somewhere between SIGTERM and the end.
    WhileStopping,
    InPeace,
}

const ENDS: &[End] = &[
    End::AmidWrites,
    End::AmidWrites,
    End::AmidWrites,
    End::AtRest,
    End::WhileStarting,
    End::WhileStopping,
    End::InPeace,
];

#[test]
fn a_kill_at_any_moment_loses_nothing_acknowledged_and_invents_nothing() {
    let rounds = env::var("CRASH_ROUNDS").ok().map_or(ROUNDS_DEFAULT, |n| {
        n.parse().unwrap_or_else(|_| panic!("CRASH_ROUNDS={n} is not a number"))
    });
    each_seed_of(1, |g| block_on(Life::new(g.clone()).live(rounds)));
}

/// One data directory, and all that is known of what should be in it.
struct Life {
    g: Generator,
    home: Home,
    history: History,
    watcher: Watcher,
    writers: Writers,
    leases: Leases,
    /// Hashes by revision and compaction.
    hashes: BTreeMap<(i64, i64), u32>,
}

impl Life {
    fn new(g: Generator) -> Self {
        Self {
            g,
            home: Home::new("crash"),
            history: History::default(),
            watcher: Watcher::default(),
            writers: Writers::default(),
            leases: Leases::default(),
            hashes: BTreeMap::new(),
        }
    }

    async fn live(mut self, rounds: usize) {
        self.kill_while_starting().await; // The very first start, too.
        for round in 0..rounds {
            let server = self.home.start(FLAGS);
            let end = *self.g.pick(ENDS);
            self.round(round, server, end).await;
        }
        let mut server = self.home.start(FLAGS);
        let client = server.ready().await;
        self.outlive_short_leases(&client).await;
        self.settle(&client).await;
        self.report(rounds);
    }

    #[expect(clippy::print_stderr, reason = "says what the many seconds were spent on")]
    fn report(&self, rounds: usize) {
        let logs = fs::read_dir(self.home.data().join("member/wal")).expect("a log");
        let names = logs.map(|entry| entry.expect("a file").file_name());
        let newest = names.max().expect("a file");
        eprintln!(
            "{rounds} rounds: revision {}, {} acknowledged, {} in the dark came true, the log has come to {}",
            self.history.head(),
            self.history.n_acknowledged,
            self.history.n_came_true,
            newest.display(),
        );
    }

    async fn round(&mut self, round: usize, mut server: Server, end: End) {
        let client = server.ready().await;
        self.settle(&client).await;
        let load = Load::pick(&mut self.g);
        let until = 1 << self.g.below(load.acknowledged_bits());
        let acknowledged = self.g.int(until..=2 * until);
        let seed = self.g.number() ^ round as u64;
        let leases = self.leases.alive();
        let shown = self.watcher.current();
        self.writers.begin(self.home.client_port, seed, load, leases, shown).await;
        let answered = timeout(PATIENCE, self.writers.acknowledged(acknowledged)).await;
        assert!(answered.is_ok(), "nobody is answered any more:\n{}", server.log());
        match end {
            End::AmidWrites => server.kill(),
            End::AtRest => {
                self.writers.rest().await;
                self.settle(&client).await;
                server.kill();
            }
            End::WhileStarting => {
                server.kill();
                self.kill_while_starting().await;
            }
            End::WhileStopping => {
                server.signal(libc::SIGTERM);
                self.a_moment().await;
                server.kill();
            }
            End::InPeace => {
                server.signal(libc::SIGTERM);
                server.ended().await;
            }
        }
        self.writers.rest().await;
        self.watcher.rest().await;
    }

    async fn kill_while_starting(&mut self) {
        for _ in 0..self.g.int(1..=3) {
            let server = self.home.start(FLAGS);
            self.a_moment().await;
            server.kill();
        }
    }

    /// Any moment is the right one, so this is not a wait for anything.
    async fn a_moment(&mut self) {
        tokio::time::sleep(Duration::from_micros(self.g.below(MOMENT_MICROS_MAX))).await;
    }

    /// Holds what the server shows against what is known, and takes it in.
    async fn settle(&mut self, client: &Client) {
        let head = history::head(client).await;
        let done = self.writers.take();
        self.history.note_compactions(&done);
        self.watcher.follow(self.home.client_port, self.history.compaction_asked() + 1).await;
        assert!(self.watcher.shown_before() <= head, "shown by a watch, and lost");
        let watcher = &self.watcher;
        eventually(("the watch to show", head), async || (watcher.head() >= head).then_some(()))
            .await;
        self.history.settle(head, &self.watcher, done, &mut self.leases);
        self.history.check_keys(client, &mut self.g).await;
        self.leases.check(client, &self.history, &mut self.g).await;
        self.check_hash(client).await;
    }

    async fn check_hash(&mut self, client: &Client) {
        let request = HashKvRequest { revision: self.history.head() };
        let answered = client.call::<HashKvResponse>(Method::HashKV, &request).await;
        let answer = answered.expect("a hash");
        assert_eq!(answer.hash_revision, self.history.head());
        let of = (answer.hash_revision, answer.compact_revision);
        let known = *self.hashes.entry(of).or_insert(answer.hash);
        assert_eq!(known, answer.hash, "another hash at (revision, compaction) {of:?}");
    }

    /// Leases that were granted for seconds end, with their keys, however often the server died.
    async fn outlive_short_leases(&mut self, client: &Client) {
        self.settle(client).await;
        eventually("the end of short leases", async || {
            self.leases.only_long_ones(client).await.then_some(())
        })
        .await;
    }
}
