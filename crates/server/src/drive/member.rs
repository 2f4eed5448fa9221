//! The member thread: raft's loop.
//!
//! It takes its whole inbox, steps once per event, and then does once what all those steps owe:
//! entries go to the log thread, and (once committed) to the apply thread, in parallel; reads and
//! refusals go back to the ports that asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use member::inbox::Waited;
use member::{Effects, Event, Member, Proposal, View};

use crate::api::port::PortWork;
use crate::drive::apply::ApplyWork;
use crate::drive::chores::Chore;
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
        if (view.leader, view.is_leader) != (self.shown.leader, self.shown.is_leader) {
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
        self.engine.metrics.leader_changes_seen.inc();
        self.engine.apply.push_admitted([ApplyWork::Leadership { is_leader: view.is_leader }]);
    }

    fn perform(&mut self) {
        let effects = &mut self.effects;
        let raft = &mut effects.raft;
        if !raft.append.is_empty() || raft.hard_state.is_some() || raft.persist.is_some() {
            self.engine.log.push_admitted([LogWork::Append {
                entries: std::mem::take(&mut raft.append),
                hard_state: raft.hard_state.take(),
                persist: raft.persist.take(),
            }]);
        }
        if !raft.commit.is_empty() {
            let entries = std::mem::take(&mut raft.commit);
            self.engine.apply.push_admitted([ApplyWork::Committed(entries)]);
        }
        for (ticket, result) in effects.reads.drain(..) {
            let work = PortWork::ReadIndex { round: ticket.round, result: result.map(|i| i.0) };
            self.engine.ports[usize::from(ticket.port)].push_admitted([work]);
        }
        for (id, error) in effects.refused.drain(..) {
            self.engine.refuse(id, error);
        }
        effects.clear();
    }
}
