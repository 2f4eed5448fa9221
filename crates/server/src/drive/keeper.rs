//! The keeper: what makes the state durable, and the disk free again.
//!
//! A checkpoint makes the store whole up to an entry; only then may the log before it go:
//!
//! ```text
//! mark in the write-ahead log ─► checkpoint committed ─► raft forgets, old segments are removed
//! ```
//!
//! After a compaction it prunes the index in short turns, and rewrites segments that are mostly
//! dead. Neither is in anybody's way: each turn holds the state's lock for moments, what is written is
//! synced in small portions, and after each bit of work the thread rests ([`Pacer`]).

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use member::Event;
use member::inbox::Waited;
use member::message::conf_state_of;
use member::roster;
use proto::prost::Message;
use raft::Index;
use state::HashJob;
use state::state::RELOCATIONS_PER_TURN;
use storage::pace::{self, Pace};
use storage::revlog::DEAD_PERCENT_USUAL;
use storage::wal::SnapshotMark;

use crate::drive::log::LogWork;
use crate::drive::pace::Pacer;
use crate::engine::Engine;

/// How often the keeper looks around by itself.
const TURN: Duration = Duration::from_millis(200);
/// A checkpoint is taken when this much would be lost to a replay.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// Less than this is not worth a new segment.
const ROLL_GAIN_MIN: u64 = 1 << 20;
/// With `Defragment` even segments with little to gain are collected.
const DEAD_PERCENT_EAGER: u64 = 10;

/// What the keeper is told.
#[derive(Debug)]
pub enum Keeping {
    /// Enough entries were applied since the last checkpoint.
    Checkpoint,
    /// Somebody asked for space to be given back.
    Collect,
    /// The process ends: a checkpoint makes the next start quick.
    Stop { done: mpsc::SyncSender<()> },
}

/// `saved` is the entry up to which the store was found: what is applied since needs a mark in the
/// log before the store may rest on it, also if this thread begins late.
pub(crate) fn run(engine: &Arc<Engine>, saved: u64) {
    pace::step_back();
    let mut keeper = Keeper { engine, saved, eager: false, pacer: Pacer::new(engine) };
    let mut work = VecDeque::new();
    while engine.keeper.wait(TURN) != Waited::Closed {
        engine.keeper.take(&mut work);
        keeper.pacer.begin();
        let mut checkpoint = engine.state().unsynced() > UNSYNCED_BYTES_MAX;
        let mut stopped = None;
        for item in work.drain(..) {
            match item {
                Keeping::Checkpoint => checkpoint = true,
                Keeping::Collect => keeper.eager = true,
                Keeping::Stop { done } => stopped = Some(done),
            }
        }
        let asked = keeper.eager.then(Instant::now);
        engine.metrics.defrag_inflight.set_bool(keeper.eager);
        let turn = engine.store_turn.lock().unwrap_or_else(PoisonError::into_inner);
        if checkpoint || stopped.is_some() {
            keeper.checkpoint();
        }
        if let Some(done) = stopped {
            let _ = done.try_send(());
            return;
        }
        keeper.prune();
        keeper.collect();
        drop(turn);
        if let Some(asked) = asked {
            engine.metrics.backend_defrag.observe(asked.elapsed());
            engine.metrics.defrag_inflight.set(0);
        }
    }
}

struct Keeper<'a> {
    engine: &'a Arc<Engine>,
    /// The entry up to which the last checkpoint goes.
    saved: u64,
    /// Whether little gain is gain enough.
    eager: bool,
    pacer: Pacer<'a>,
}

impl Keeper<'_> {
    fn checkpoint(&mut self) {
        let engine = self.engine;
        self.pacer.rest();
        let start = Instant::now();
        let (checkpoint, index, term, conf_state) = {
            let mut state = engine.state_mut();
            let (index, term) = state.applied();
            (state.checkpoint(), index, term, conf_state(&state))
        };
        // The log must know the mark before the store rests on it: a restart starts reading there.
        if index > self.saved {
            let (done, marked) = mpsc::sync_channel(1);
            let mark = SnapshotMark { index, term };
            engine.log.push_admitted([LogWork::Mark { mark, conf_state, done }]);
            if marked.recv().is_err() {
                return; // The log thread has ended, and the process with it.
            }
        }
        let committed = engine.or_die("store", checkpoint.commit(&mut self.pacer));
        engine.metrics.backend_commit.observe(start.elapsed());
        if index > self.saved {
            self.saved = index;
            if !engine.outgoing.holds_log() {
                let keep_from = index.saturating_sub(engine.limits.snapshot_catchup_entries);
                engine.tell_member(Event::Compact(Index(keep_from)));
            }
            self.release(index);
        }
        engine.or_die("store", committed.free(&mut self.pacer));
    }

    /// Gives back the room of the log's segments below `index`.
    fn release(&mut self, index: u64) {
        let engine = self.engine;
        let (released, files) = mpsc::sync_channel(1);
        engine.log.push_admitted([LogWork::Release { index, released }]);
        // Without an answer the log thread has ended, and the process with it.
        for file in files.recv().unwrap_or_default() {
            engine.or_die("wal", pace::free(&*file, &mut self.pacer));
        }
    }

    fn prune(&mut self) {
        let engine = self.engine;
        let (metrics, start) = (&engine.metrics, Instant::now());
        let mut pruned = false;
        while !engine.state().is_pruned() {
            let job = self.prune_turn();
            if let Some(job) = job {
                let hash = engine.or_die("store", job.run(&mut self.pacer));
                engine.state_mut().remember_hash(hash);
            }
            pruned = true;
            self.pacer.rest();
        }
        if pruned {
            metrics.compaction_total.observe(start.elapsed());
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            metrics.compaction_last.set_unsigned(since_1970.as_secs());
        }
        if pruned || self.eager {
            self.roll();
            // Records may be discarded only below a compaction that a checkpoint remembers.
            self.checkpoint();
            engine.compaction_finished();
        }
    }

    /// Index and store are kept waiting together.
    fn prune_turn(&self) -> Option<HashJob> {
        let metrics = &self.engine.metrics;
        let mut state = self.engine.state_mut();
        let (start, before) = (Instant::now(), state.n_dropped());
        let job = state.prune_turn();
        let took = start.elapsed();
        metrics.compaction_keys.add(state.n_dropped() - before);
        metrics.compaction_pause.observe(took);
        metrics.index_compaction_pause.observe(took);
        job
    }

    /// If much is dead, some of it lies in the segment being written, which only then can be collected.
    fn roll(&self) {
        let engine = self.engine;
        let size = engine.state().size();
        if size.on_disk > 2 * size.live + ROLL_GAIN_MIN {
            let rolled = engine.state_mut().roll();
            engine.or_die("store", rolled);
        }
    }

    fn collect(&mut self) {
        let percent = if self.eager { DEAD_PERCENT_EAGER } else { DEAD_PERCENT_USUAL };
        let mut garbage = self.garbage();
        self.pacer.adapt(false);
        loop {
            let Some(victim) = self.engine.state_mut().victim(percent) else { break };
            self.collect_one(victim);
            let now = self.garbage();
            self.pacer.adapt(now > garbage);
            garbage = now;
        }
        self.eager = false;
    }

    fn garbage(&self) -> u64 {
        let size = self.engine.state().size();
        size.on_disk.saturating_sub(size.in_use())
    }

    fn collect_one(&mut self, victim: storage::revlog::Victim) {
        let engine = self.engine;
        let mut collected = engine.or_die("store", victim.run(&mut self.pacer));
        engine.state_mut().adopt(&collected);
        loop {
            let moved = engine.or_die("store", collected.next(RELOCATIONS_PER_TURN));
            if moved.is_empty() {
                break;
            }
            engine.state_mut().relocate(&moved);
            self.pacer.rest();
        }
        engine.state_mut().release(collected);
        self.checkpoint();
    }
}

/// Raft's view of the members, as the log's mark records it.
fn conf_state(state: &state::State) -> Vec<u8> {
    encode_conf_state(&roster::conf_state(state))
}

pub(crate) fn encode_conf_state(conf_state: &raft::ConfState) -> Vec<u8> {
    conf_state_of(conf_state).encode_to_vec()
}
