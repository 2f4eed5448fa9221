//! The member thread: raft's loop.
//!
//! It takes its whole inbox, steps once per event, and then does once what all those steps owe:
//! entries go to the log thread, to the other members and (once committed) to the apply thread, in
//! parallel; reads and refusals go back to the ports that asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use member::inbox::Waited;
use member::{Effects, Event, Member, Proposal, ReadTicket, View};
use raft::{Body, Snapshot};
use storage::wal::SnapshotMark;

use super::outgoing;
use crate::api::port::PortWork;
use crate::drive::apply::ApplyWork;
use crate::drive::chores::{self, Chore};
use crate::drive::log::LogWork;
use crate::engine::Engine;
use crate::log;

/// Ticks made up for after this thread was held up. More would depose a leader for our own pause.
const TICKS_LATE_MAX: u32 = 2;

pub(crate) fn run(engine: &Arc<Engine>, member: Member, tick: Duration) {
    let next_tick = Instant::now() + tick;
    let mut driver = Driver {
        engine,
        member,
        effects: Effects::default(),
        shown: View::default(),
        tick,
        next_tick,
    };
    let mut events = VecDeque::new();
    loop {
        let until_tick = driver.next_tick.saturating_duration_since(Instant::now());
        if engine.member.wait(until_tick) == Waited::Closed {
            return;
        }
        engine.member.take(&mut events);
        driver.turn(&mut events);
    }
}

struct Driver<'a> {
    engine: &'a Arc<Engine>,
    member: Member,
    effects: Effects,
    shown: View,
    tick: Duration,
    next_tick: Instant,
}

impl Driver<'_> {
    fn turn(&mut self, events: &mut VecDeque<Event>) {
        let mut proposals: Vec<Proposal> = Vec::new();
        for event in events.drain(..) {
            if let Event::Propose(batch) = event {
                proposals.extend(batch);
            } else {
                self.member.step(event, &mut self.effects);
            }
        }
        if !proposals.is_empty() {
            self.member.step(Event::Propose(proposals), &mut self.effects);
        }
        self.tick();
        self.show();
        self.perform();
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for _ in 0..TICKS_LATE_MAX {
            if now < self.next_tick {
                return;
            }
            self.member.step(Event::Tick, &mut self.effects);
            self.engine.show_progress(self.member.peers());
            self.engine.shown.show_tick(self.engine.ms_at(now));
            self.next_tick += self.tick;
        }
        self.next_tick = self.next_tick.max(now);
    }

    /// Publishes the view before anything is sent: nobody may act on more than we admit to know.
    fn show(&mut self) {
        let view = self.member.view();
        if view == self.shown {
            return;
        }
        self.engine.shown.show(&view);
        if !self.engine.is_ready() {
            self.engine.tell_chores(Chore::Introduce);
        }
        let of = |view: &View| (view.leader, view.is_leader.then_some(view.term));
        if of(&view) != of(&self.shown) {
            self.leadership_changed(&view);
        }
        self.shown = view;
    }

    fn leadership_changed(&self, view: &View) {
        log::info!(
            self.engine.logger,
            "raft.node: leader changed",
            "leader" = log::Value::Id(view.leader),
            "term" = view.term
        );
        if view.leader != 0 {
            self.engine.metrics.leader_changes_seen.inc();
            self.engine.shown.show_leader_since(self.engine.now_ms());
        }
        let term = view.is_leader.then_some(view.term);
        self.engine.apply.push_admitted([ApplyWork::Leadership { term }]);
    }

    /// The order of duties is [`raft::Effects`]'s.
    fn perform(&mut self) {
        let mark = self.effects.raft.snapshot.take().map(|snapshot| self.install(snapshot));
        let raft = &mut self.effects.raft;
        let writes = !raft.append.is_empty() || raft.hard_state.is_some() || raft.persist.is_some();
        if writes || mark.is_some() {
            let append = LogWork::Append {
                entries: std::mem::take(&mut raft.append),
                hard_state: raft.hard_state.take(),
                persist: raft.persist.take(),
            };
            // One push, one write: a mark is of no use without the hard state that vouches for it.
            self.engine.log.push_admitted(mark.into_iter().chain([append]));
        }
        self.send();
        let effects = &mut self.effects;
        if !effects.raft.commit.is_empty() {
            let entries = std::mem::take(&mut effects.raft.commit);
            self.engine.apply.push_admitted([ApplyWork::Committed(entries)]);
        }
        for node in effects.raft.snapshots_wanted.drain(..) {
            outgoing::make(self.engine, node);
        }
        for (ticket, result) in effects.reads.drain(..) {
            let result = result.map(|index| index.0);
            if ticket == chores::CAUGHT_UP {
                self.engine.tell_chores(Chore::Applied { upto: result.ok() });
                continue;
            }
            let ReadTicket { port, round } = ticket;
            let work = PortWork::ReadIndex { round, result };
            self.engine.ports[usize::from(port)].push_admitted([work]);
        }
        for (id, error) in effects.refused.drain(..) {
            self.engine.refuse(id, error);
        }
        effects.clear();
    }

    /// Messages leave together; a snapshot's follows its file.
    fn send(&mut self) {
        let messages = &mut self.effects.raft.send;
        if messages.iter().any(|message| matches!(message.body, Body::Snapshot(_))) {
            let is_snapshot = |m: &mut raft::Message| matches!(m.body, Body::Snapshot(_));
            for message in messages.extract_if(.., is_snapshot) {
                outgoing::ship(self.engine, message);
            }
        }
        if !messages.is_empty() {
            self.engine.peers().send(messages);
        }
    }

    /// The log hears of the snapshot before the store is replaced by it: what a crash in between
    /// leaves behind can be put in place at the next start. Returns what the log is to hear.
    fn install(&self, snapshot: Snapshot) -> LogWork {
        let mark = SnapshotMark { index: snapshot.index.0, term: snapshot.term.0 };
        let conf_state = super::keeper::encode_conf_state(&snapshot.conf_state);
        let (done, marked) = std::sync::mpsc::sync_channel(1);
        self.engine.apply.push_admitted([ApplyWork::Install { snapshot, marked }]);
        LogWork::Mark { mark, conf_state, done }
    }
}
