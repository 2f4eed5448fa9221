//! The same history, told to a running etcd and to the executable: both must answer alike.
//!
//! ```text
//!              ┌─► etcd 3.7.1 ────────────────► answer ─┐
//!  a request ──┤                                        ├─► equal?      every so often: HashKV and
//!              └─► retcd ─► kill -9, SIGTERM ─► answer ─┘               all keys, at several revisions
//! ```
//!
//! Every answer is compared, whole: revisions, rows, counts, errors with their texts. What must differ
//! (ids of cluster and member, raft's term, the seconds left of a lease) is made equal first.
//! `RETCD_REFERENCE_BIN` is the folder with etcd's `server`; without it nothing is tested.
//! `SEED=n` replays a history, `SEEDS=n` tells several, `EQUALITY_STEPS=n` tells longer ones.

mod invent;
mod request;

use std::env;
use std::path::Path;
use std::process::Command;

use proto::Method;
use proto::etcdserverpb::{HashKvRequest, HashKvResponse, PutRequest, RangeRequest};
use stdx::generate::each_seed_of;
use stdx::{Generator, tool};

use self::invent::Inventor;
use self::request::{Answer, Request};
use super::support::client::Client;
use super::support::process::{Home, Server};
use super::support::{block_on, eventually};

const SEEDS_DEFAULT: u64 = 3;
const STEPS_DEFAULT: usize = 500;
/// Between two looks at everything.
const STEPS_BETWEEN_LOOKS: u64 = 25;
/// Requests told of when answers differ.
const TOLD_MAX: usize = 30;
/// Turns of this process's other tasks between the asking for a put and the kill: with few the request is
/// not even sent, with many it is answered.
const N_TURNS_MAX: usize = 40;
/// A checkpoint every so many entries, so that restarts begin at some.
const OUR_FLAGS: &[&str] = &["--snapshot-count=40"];
/// It is never killed here.
const THEIR_FLAGS: &[&str] = &["--unsafe-no-fsync", "--log-level=error"];

#[test]
fn after_the_same_history_etcd_has_the_same_keys_and_hashes() {
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", "equality with a running etcd") else {
        return;
    };
    let steps = env::var("EQUALITY_STEPS").map_or(STEPS_DEFAULT, |n| n.parse().expect("a number"));
    each_seed_of(SEEDS_DEFAULT, |g| {
        block_on(async {
            let mut pair = Pair::start(&bin).await;
            pair.live(g, steps).await;
        });
    });
}

/// Two servers, and what both were asked.
struct Pair {
    ours: Side,
    theirs: Side,
    asked: Vec<Request>,
}

/// A server with its data, and a connection to it.
struct Side {
    home: Home,
    command: Box<dyn Fn(&Home) -> Command>,
    server: Server,
    client: Client,
}

impl Pair {
    async fn start(bin: &Path) -> Self {
        let etcd = bin.join("server");
        Self {
            ours: Side::start("equal-ours", |home| home.command(OUR_FLAGS)).await,
            theirs: Side::start("equal-theirs", move |home| {
                let mut command = Command::new(&etcd);
                command.arg("--data-dir").arg(home.data()).args(home.urls()).args(THEIR_FLAGS);
                command
            })
            .await,
            asked: Vec::new(),
        }
    }

    async fn live(&mut self, g: &mut Generator, steps: usize) {
        let mut inventor = Inventor::new();
        for _ in 0..steps {
            let request = inventor.invent(g);
            if let Request::Compact(_) = request {
                // The hash of one that comes before the last is done is not remembered.
                self.compaction_is_done(&inventor).await;
            }
            let answer = self.ask(request.clone()).await;
            inventor.learn(&request, &answer);
            if g.chance(2) {
                self.restart(g, &mut inventor).await;
            }
            if g.below(STEPS_BETWEEN_LOOKS) == 0 {
                self.look(g, &mut inventor).await;
            }
        }
        self.look(g, &mut inventor).await;
        // In peace, so that neither has anything to do again: a compaction done again is remembered again.
        self.ours.restart(false).await;
        self.theirs.restart(false).await;
        inventor.note_restart(true);
        self.look(g, &mut inventor).await;
    }

    /// Asks both; what they agree on.
    async fn ask(&mut self, request: Request) -> Answer {
        let (ours, theirs) =
            tokio::join!(request.ask(&self.ours.client), request.ask(&self.theirs.client));
        self.asked.push(request);
        assert!(ours == theirs, "retcd: {ours:#?}\n etcd: {theirs:#?}\n after {}", self.tail());
        ours
    }

    fn tail(&self) -> String {
        let from = self.asked.len().saturating_sub(TOLD_MAX);
        format!("{from} others, and {:#?}", &self.asked[from..])
    }

    /// Hashes and keys at the newest revision, at the oldest, and between them.
    async fn look(&mut self, g: &mut Generator, inventor: &mut Inventor) {
        self.compaction_is_done(inventor).await;
        let mut revisions = vec![0, inventor.head(), inventor.oldest(), inventor.oldest() - 1];
        revisions.extend((0..3).map(|_| inventor.some_revision(g)));
        for revision in revisions {
            if !inventor.may_hashes_differ(revision) {
                self.ask(Request::Hash(HashKvRequest { revision })).await;
            }
            self.ask(Request::Range(everything(revision))).await;
        }
        for id in invent::LEASES {
            self.ask(Request::lease_keys(id)).await;
        }
        self.ask(Request::Leases).await;
    }

    /// Waits until both have forgotten what the last compaction gave up, and remember its hash instead.
    /// Until then etcd hashes that, too.
    async fn compaction_is_done(&self, inventor: &Inventor) {
        let revision = inventor.oldest();
        if revision < 0 || !inventor.is_hash_remembered() {
            return;
        }
        for side in [&self.ours, &self.theirs] {
            eventually(("a compaction's hash in", &side.home), async || {
                side.remembers_the_hash_of(revision).await.then_some(())
            })
            .await;
        }
    }

    async fn restart(&mut self, g: &mut Generator, inventor: &mut Inventor) {
        if g.chance(40) {
            self.kill_amid_a_put(g, inventor).await;
        } else {
            self.ours.restart(g.chance(70)).await;
        }
        inventor.note_restart(false);
    }

    /// Kills ours while it is about to put: it may come true or not, and etcd follows.
    async fn kill_amid_a_put(&mut self, g: &mut Generator, inventor: &mut Inventor) {
        let put = inventor.put_like_no_other();
        let (key, value) = (put.key.clone(), put.value.clone());
        let client = self.ours.client.clone();
        let request = Request::Put(put.clone());
        let asked = tokio::spawn(async move { request.ask(&client).await });
        for _ in 0..g.int(1..=N_TURNS_MAX) {
            tokio::task::yield_now().await;
        }
        self.ours.restart(true).await;
        let acknowledged = asked.await.expect("a task that ends");
        let got = Request::Range(RangeRequest { key, ..RangeRequest::default() });
        let came_true = got.ask(&self.ours.client).await.text.contains(&format!("{value:?}"));
        assert!(came_true || acknowledged.revision == 0, "a put that was acknowledged is lost");
        if came_true {
            self.follow(put, inventor).await;
        }
    }

    async fn follow(&mut self, put: PutRequest, inventor: &mut Inventor) {
        let request = Request::Put(put);
        inventor.learn(&request, &request.ask(&self.theirs.client).await);
        self.asked.push(request);
    }
}

impl Side {
    async fn start(name: &str, command: impl Fn(&Home) -> Command + 'static) -> Self {
        let home = Home::new(name);
        let mut server = home.run(command(&home));
        let client = server.ready().await;
        Self { home, command: Box::new(command), server, client }
    }

    /// One that is remembered follows from the compaction before, one that isn't from this one.
    async fn remembers_the_hash_of(&self, revision: i64) -> bool {
        let request = HashKvRequest { revision };
        let hash = self.client.call::<HashKvResponse>(Method::HashKV, &request).await;
        hash.expect("a hash").compact_revision < revision
    }

    /// Ends the server, with SIGKILL if `at_once`, and starts it on what it left.
    async fn restart(&mut self, at_once: bool) {
        self.server.signal(if at_once { libc::SIGKILL } else { libc::SIGTERM });
        self.server.ended().await;
        self.server = self.home.run((self.command)(&self.home));
        self.client = self.server.ready().await;
    }
}

fn everything(revision: i64) -> RangeRequest {
    let (key, range_end) = ("\0".into(), "\0".into());
    RangeRequest { key, range_end, revision, ..RangeRequest::default() }
}
