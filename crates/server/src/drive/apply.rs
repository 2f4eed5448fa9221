//! The apply thread: the one writer of the state.
//!
//! It applies committed entries in batches under the write lock, encodes each answer once, and
//! hands finished work to the ports in one push each. After each batch it lets the readers in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use member::Event;
use member::conf_change::MembershipChange;
use member::inbox::Waited;
use member::roster;
use proto::error::Error;
use proto::raft_request;
use raft::{Entry, EntryKind, Index, Snapshot};
use state::membership::MemberChange;
use state::watch::{Delivery, ShardId};
use state::{Outcome, State};

use crate::api::cluster;
use crate::api::port::PortWork;
use crate::drive::chores::Chore;
use crate::drive::keeper::Keeping;
use crate::drive::own;
use crate::engine::Engine;
use crate::log;
use crate::metrics::{Batch, Operation};

/// Entries applied under one lock: readers wait no longer than these take.
const ENTRIES_PER_LOCK_MAX: usize = 256;
/// Deliveries a port may have waiting before its watchers are sent back to the history.
const DELIVERIES_MAX: usize = 16_384;
/// The bytes of answers that share an allocation.
const ANSWERS: usize = 16 * 1024;
/// How long the thread sleeps when there is nothing to apply.
const IDLE: Duration = Duration::from_secs(1);

/// What the apply thread is given.
#[derive(Debug)]
pub enum ApplyWork {
    Committed(Vec<Entry>),
    /// This member has begun to lead in `term`, or ceased to.
    Leadership {
        term: Option<u64>,
    },
    /// A snapshot replaces the state; its file is whole. The log knows of it once `marked` says so.
    Install {
        snapshot: Snapshot,
        marked: Receiver<()>,
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
                ApplyWork::Leadership { term } => applier.leadership(term),
                ApplyWork::Install { snapshot, marked } => applier.install(&snapshot, &marked),
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
    /// The term this member leads in. It counts leases from the first entry of that term on.
    leads_in: Option<u64>,
    /// Whether this batch has changed who belongs to the cluster.
    members_changed: bool,
    /// What this batch held.
    batch: Batch,
}

impl<'a> Applier<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        Self {
            engine,
            answers: engine.ports.iter().map(|_| Vec::new()).collect(),
            buffer: BytesMut::with_capacity(ANSWERS),
            scratch: Vec::new(),
            replayed: engine.replayed,
            unsaved_entries: 0,
            leads_in: None,
            members_changed: false,
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
            if std::mem::take(&mut self.members_changed) {
                self.follow_members();
            }
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
        if self.batch.get(Operation::Alarm, true) > 0 {
            engine.show_alarms(&state);
        }
        let tally = state.take_tally();
        let metrics = &engine.metrics;
        metrics.puts.add(tally.puts);
        metrics.put_size.add(i64::try_from(tally.put_bytes).unwrap_or(i64::MAX));
        metrics.deletes.add(tally.deletes);
        metrics.ranges.add(tally.ranges);
        metrics.txns.add(tally.txns);
        for &ttl in &tally.granted_ttls {
            metrics.lease_ttl.observe_number(u64::try_from(ttl).unwrap_or(0));
        }
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
        if entry.data.is_empty() && self.leads_in == Some(entry.term.0) {
            // All that was decided in earlier terms is applied: no lease is renewed that is revoked.
            let extend_ms = self.engine.limits.lease_extend_ms;
            state.promote(entry.term.0, self.engine.now_ms(), extend_ms);
        }
        let id = raft_request::request_id(&entry.data);
        let origin = id.and_then(|id| self.origin_of(entry, id));
        let port = self.waiting_port(origin);
        self.scratch.clear();
        let outcome =
            state.apply(index, entry.term.0, &entry.data, port.is_some(), &mut self.scratch);
        let Some(outcome) = self.engine.or_die("apply", outcome) else { return };
        self.batch.note(outcome.kind.into(), outcome.result.is_ok());
        if outcome.over_quota {
            self.engine.tell_chores(Chore::OverQuota);
        }
        match port {
            Some(port) => self.answer(port, outcome),
            None if origin == Some(own::PORT) => {
                self.engine.own.end(outcome.request_id, true, &self.engine.metrics.request);
            }
            None => {}
        }
    }

    fn answer(&mut self, port: usize, outcome: Outcome) {
        let result = outcome.result.map(|()| {
            self.buffer.extend_from_slice(&self.scratch);
            self.buffer.split().freeze()
        });
        self.answers[port].push(PortWork::Done { id: outcome.request_id, result });
    }

    /// The port that waits for the answer, if it was one that proposed.
    fn waiting_port(&self, origin: Option<usize>) -> Option<usize> {
        origin.filter(|&port| port < self.answers.len())
    }

    /// Who has proposed the entry, if it was somebody of this process.
    fn origin_of(&self, entry: &Entry, id: u64) -> Option<usize> {
        if entry.index.0 <= self.replayed { None } else { self.engine.origin.port_of(id) }
    }

    fn apply_conf_change(&mut self, state: &mut State, entry: &Entry) {
        let change = MembershipChange::decode(entry.data.clone()).ok();
        let named = change.as_ref().filter(|change| change.node_id != 0);
        let meant = named.and_then(roster::meaning);
        let verdict = meant.map(|meant| state.membership().check(&meant).map(|()| meant));
        let (accepted, refusal) = match verdict {
            Some(Ok(meant)) => (Some(meant), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let told = named.filter(|_| accepted.is_some()).and_then(MembershipChange::for_raft);
        self.members_changed |= accepted.is_some();
        state.conf_change(entry.index.0, entry.term.0, accepted.clone());
        self.engine.tell_member(Event::ConfChangeApplied { index: entry.index, change: told });
        let Some(change) = change else { return };
        if let Some(port) = self.waiting_port(self.origin_of(entry, change.id)) {
            let result = match (accepted, refusal) {
                (Some(accepted), _) => {
                    let promoted = matches!(accepted, MemberChange::Promote { .. });
                    self.engine.metrics.promote_successes.add(u64::from(promoted));
                    Ok(cluster::changed(state, &accepted))
                }
                (None, Some(error)) => Err(error.into()),
                (None, None) => Err(Error::Unhealthy.into()),
            };
            self.answers[port].push(PortWork::Done { id: change.id, result });
        }
    }

    /// The transport hears of who belongs to the cluster now; this member may not.
    fn follow_members(&self) {
        let id = self.engine.identity.member_id;
        let removed = self.engine.state().membership().is_removed(id);
        self.engine.follow_members();
        if removed {
            log::warn!(
                self.engine.logger,
                "server error",
                "error" = "the member has been permanently removed from the cluster"
            );
            self.engine.show_removed();
        }
    }

    /// Replaces the state by a snapshot that came from another member.
    fn install(&mut self, snapshot: &Snapshot, marked: &Receiver<()>) {
        let engine = self.engine;
        if marked.recv().is_err() {
            return; // The log thread has ended, and the process with it.
        }
        let Index(index) = snapshot.index;
        if engine.state().applied().0 < index {
            let started = Instant::now();
            engine.or_die("snapshot", super::incoming::install(engine, index));
            log::info!(
                engine.logger,
                "applied snapshot",
                "snapshot-index" = index,
                "snapshot-term" = snapshot.term.0,
                "took" = started.elapsed()
            );
            engine.shown.show_applied(index);
            self.follow_members();
            self.deliver(engine.state_mut().hub.take_deliveries());
        }
        engine.tell_member(Event::Applied(snapshot.index));
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

    fn leadership(&mut self, term: Option<u64>) {
        self.leads_in = term;
        self.engine.state_mut().demote();
        self.engine.tell_chores(Chore::Introduce);
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
