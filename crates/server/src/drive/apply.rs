//! The apply thread: the one writer of the state.
//!
//! It applies committed entries in batches under the write lock, encodes each answer once, and
//! hands finished work to the ports in one push each. After each batch it lets the readers in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use member::Event;
use member::conf_change::MembershipChange;
use member::inbox::Waited;
use proto::raft_request;
use raft::{Entry, EntryKind, Index};
use state::watch::{Delivery, ShardId};
use state::{Outcome, State};

use super::membership;
use crate::api::port::PortWork;
use crate::drive::chores::Chore;
use crate::drive::keeper::Keeping;
use crate::engine::Engine;
use crate::log;
use crate::metrics::{Batch, Operation};

/// Entries applied under one lock: readers wait no longer than these take.
const ENTRIES_PER_LOCK_MAX: usize = 256;
/// Deliveries a port may have waiting before its watchers are sent back to the history.
const DELIVERIES_MAX: usize = 16_384;
/// How long the thread sleeps when there is nothing to apply.
const IDLE: Duration = Duration::from_secs(1);

/// What the apply thread is given.
#[derive(Debug)]
pub enum ApplyWork {
    Committed(Vec<Entry>),
    /// This member has begun or ceased to lead.
    Leadership {
        is_leader: bool,
    },
}

pub(crate) fn run(engine: &Arc<Engine>) {
    let mut applier = Applier::new(engine);
    let mut work = VecDeque::new();
    loop {
        if engine.apply.wait(IDLE) == Waited::Closed {
            return;
        }
        engine.apply.take(&mut work);
        for item in work.drain(..) {
            match item {
                ApplyWork::Committed(entries) => applier.apply(&entries),
                ApplyWork::Leadership { is_leader } => applier.leadership(is_leader),
            }
        }
    }
}

struct Applier<'a> {
    engine: &'a Arc<Engine>,
    /// Answers of this batch, by port.
    answers: Vec<Vec<PortWork>>,
    /// Where answers are encoded; each takes its part of it along.
    buffer: BytesMut,
    scratch: Vec<u8>,
    /// Entries up to here were in the log before this process: nobody waits for them.
    replayed: u64,
    unsaved_entries: u64,
    /// What this batch held.
    batch: Batch,
}

impl<'a> Applier<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        Self {
            engine,
            answers: engine.ports.iter().map(|_| Vec::new()).collect(),
            buffer: BytesMut::new(),
            scratch: Vec::new(),
            replayed: engine.replayed,
            unsaved_entries: 0,
            batch: Batch::default(),
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        for batch in entries.chunks(ENTRIES_PER_LOCK_MAX) {
            let start = Instant::now();
            let deliveries = self.apply_batch(batch);
            let took = start.elapsed();
            self.count(batch.len(), took);
            if took > self.engine.limits.slow_apply {
                self.slow(batch.len(), took);
            }
            let last = batch.last().expect("chunks are not empty").index;
            self.engine.shown.show_applied(last.0);
            self.deliver(deliveries);
            self.engine.tell_member(Event::Applied(last));
            self.unsaved_entries += batch.len() as u64;
        }
        if !self.engine.is_ready() {
            self.engine.tell_chores(Chore::Introduce);
        }
        if self.unsaved_entries >= self.engine.limits.snapshot_count {
            self.unsaved_entries = 0;
            self.engine.tell_keeper(Keeping::Checkpoint);
        }
    }

    fn apply_batch(&mut self, batch: &[Entry]) -> Vec<(ShardId, Delivery)> {
        let engine = self.engine;
        let mut state = engine.state_mut();
        state.tell(engine.now_ms());
        state.set_raft_term(engine.shown.term());
        for entry in batch {
            match entry.kind {
                EntryKind::Normal => self.apply_command(&mut state, entry),
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                    self.apply_conf_change(&mut state, entry);
                }
            }
        }
        let tally = state.take_tally();
        let metrics = &engine.metrics;
        metrics.puts.add(tally.puts);
        metrics.put_size.add(i64::try_from(tally.put_bytes).unwrap_or(i64::MAX));
        metrics.deletes.add(tally.deletes);
        metrics.ranges.add(tally.ranges);
        metrics.txns.add(tally.txns);
        state.hub.take_deliveries()
    }

    /// Counts a batch at once: its entries share its time.
    fn count(&mut self, n_entries: usize, took: Duration) {
        let metrics = &self.engine.metrics;
        metrics.lease_granted.add(self.batch.get(Operation::LeaseGrant, true));
        metrics.lease_revoked.add(self.batch.get(Operation::LeaseRevoke, true));
        let each = took / u32::try_from(n_entries).unwrap_or(u32::MAX);
        metrics.apply.observe_batch(&mut self.batch, each);
    }

    fn apply_command(&mut self, state: &mut State, entry: &Entry) {
        let Index(index) = entry.index;
        let port = self.port_of(entry);
        self.scratch.clear();
        let outcome =
            state.apply(index, entry.term.0, &entry.data, port.is_some(), &mut self.scratch);
        let Some(outcome) = self.engine.or_die("apply", outcome) else { return };
        self.batch.note(outcome.kind.into(), outcome.result.is_ok());
        if outcome.over_quota {
            self.engine.tell_chores(Chore::OverQuota);
        }
        if let Some(port) = port {
            self.answer(port, outcome);
        }
    }

    fn answer(&mut self, port: usize, outcome: Outcome) {
        let result = outcome.result.map(|()| {
            self.buffer.extend_from_slice(&self.scratch);
            self.buffer.split().freeze()
        });
        if result.is_err() {
            self.engine.metrics.proposals_failed.inc();
        }
        self.answers[port].push(PortWork::Done { id: outcome.request_id, result });
    }

    /// The port of this process that waits for the entry's answer.
    fn port_of(&self, entry: &Entry) -> Option<usize> {
        if entry.index.0 <= self.replayed || entry.data.is_empty() {
            return None;
        }
        let id = raft_request::request_id(&entry.data)?;
        self.engine.origin.port_of(id).filter(|&port| port < self.answers.len())
    }

    fn apply_conf_change(&mut self, state: &mut State, entry: &Entry) {
        let decoded = MembershipChange::decode(entry.data.clone());
        let change = decoded.ok().filter(|change| change.node_id != 0);
        let meant = change.as_ref().and_then(membership::meaning);
        let accepted = meant.filter(|meant| state.membership().check(meant).is_ok());
        let told = change.filter(|_| accepted.is_some()).and_then(|change| change.for_raft());
        state.conf_change(entry.index.0, entry.term.0, accepted);
        self.engine.tell_member(Event::ConfChangeApplied { index: entry.index, change: told });
    }

    /// Hands finished work over: one push a port.
    fn deliver(&mut self, deliveries: Vec<(ShardId, Delivery)>) {
        for (ShardId(port), delivery) in deliveries {
            let inbox = &self.engine.ports[usize::from(port)];
            if inbox.len() < DELIVERIES_MAX {
                self.answers[usize::from(port)].push(PortWork::Watch(delivery));
                continue;
            }
            self.engine.state_mut().hub.drop_shard(ShardId(port));
            let revision = delivery.first_revision();
            let sequence = delivery.sequence;
            self.answers[usize::from(port)].push(PortWork::WatchLost { sequence, revision });
        }
        for (inbox, answers) in self.engine.ports.iter().zip(&mut self.answers) {
            inbox.push_admitted(answers.drain(..));
        }
    }

    fn leadership(&self, is_leader: bool) {
        let mut state = self.engine.state_mut();
        if is_leader {
            state.promote(self.engine.now_ms(), self.engine.limits.lease_extend_ms);
            self.engine.tell_chores(Chore::Introduce);
        } else {
            state.demote();
        }
    }

    fn slow(&self, n_entries: usize, took: Duration) {
        self.engine.metrics.slow_apply.inc();
        log::warn!(
            self.engine.logger,
            "apply request took too long",
            "took" = took,
            "entries" = n_entries as u64,
            "expected-duration" = self.engine.limits.slow_apply
        );
    }
}
