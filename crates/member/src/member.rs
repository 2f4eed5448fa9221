//! A member as a function from events to duties.
//!
//! [`Member::step`] wraps the raft core: it turns what the threads around it say into raft's inputs,
//! keeps track of whose read asked for which index, and names what came to nothing by the request
//! id its caller waits on. It knows no clock and no thread; the server's drivers and the simulator
//! feed it alike.
//!
//! ```text
//!   ports ──Propose, Read──►┌────────┐──append, hard state──► log thread ──Persisted──┐
//!   ticks ──────Tick───────►│ Member │──commit──────────────► apply thread ─Applied──┐│
//!   peers ─────Receive─────►└────────┘──send────────────────► peers                  ││
//!                              ▲ └──reads, refused──────────► ports                  ││
//!                              └─────────────────────────────────────────────────────┴┘
//! ```
//!
//! # Invariants
//!
//! - A read's context is used once in the life of a cluster: it holds the member, the start and a count.
//! - Nobody is refused for want of a leader; see [`pending`](crate::pending).
//! - What an earlier leader decided is proposed by no later one; see [`Event::Rule`].
//! - `lone` is true only while no other member could lead: then what is applied here is all there is.

use std::mem;

use bytes::Bytes;
use proto::error::Error;
use raft::{
    ConfChange, Context, Dropped, EntryKind, Index, Input, Message, Node, NodeId, PeerStatus,
    PersistId, Reason, RoleKind, Snapshot,
};

use crate::conf_change::MembershipChange;
use crate::pending::{Held, HeldProposals, Patience, Question, Questions};

/// A command on its way into the log.
#[derive(Debug)]
pub struct Proposal {
    /// What its answer will be known by; also inside `data`.
    pub id: u64,
    /// An encoded `InternalRaftRequest`.
    pub data: Bytes,
}

/// Which port asks for a read index, and for which of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTicket {
    pub port: u16,
    pub round: u64,
}

/// Everything that can happen to a member. If it isn't here, it doesn't happen.
#[derive(Debug)]
pub enum Event {
    Tick,
    Propose(Vec<Proposal>),
    /// What is to be proposed by whoever leads `term`, or else by nobody: it rests on what only that
    /// leader knows.
    Rule {
        term: u64,
        proposals: Vec<Proposal>,
    },
    /// A change of membership; its caller waits on its id.
    Change(MembershipChange),
    Read(ReadTicket),
    Receive(Message),
    Persisted(PersistId),
    Applied(Index),
    /// What the conf change at `index` came to when it was applied; `None` if it was refused.
    ConfChangeApplied {
        index: Index,
        change: Option<ConfChange>,
    },
    /// A checkpoint holds all up to here: the log before it is needed only by slow followers.
    Compact(Index),
    TransferLeader(NodeId),
    Unreachable(NodeId),
    SnapshotTaken {
        to: NodeId,
        snapshot: Snapshot,
    },
    SnapshotSent {
        node: NodeId,
        ok: bool,
    },
    Campaign,
}

/// What the caller owes the member after a step.
#[derive(Debug, Default)]
pub struct Effects {
    /// See [`raft::Effects`] for the order of duties. `reads` and `dropped` are spoken for below.
    pub raft: raft::Effects,
    /// Proposals that will never be applied, by request id.
    pub refused: Vec<(u64, Error)>,
    /// Reads that may be served once their index is applied, or never.
    pub reads: Vec<(ReadTicket, Result<Index, Error>)>,
}

impl Effects {
    /// Forgets what has been done, and keeps the room for what comes.
    pub fn clear(&mut self) {
        self.raft.clear();
        self.refused.clear();
        self.reads.clear();
    }
}

/// What others may know of a member without asking it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub term: u64,
    /// 0 when there is none.
    pub leader: u64,
    pub is_leader: bool,
    pub is_learner: bool,
    pub commit: u64,
    pub last: u64,
    /// This member alone decides, and has applied what was decided before its term began: reads
    /// need no round.
    pub lone: bool,
}

/// A cluster member, without its threads.
pub struct Member {
    node: Node,
    patience: Patience,
    /// Ticks since the start.
    now: u64,
    held: HeldProposals,
    questions: Questions,
    next_context: u64,
    /// The term whose beginning this member, leading it, has asked for.
    settling: Option<raft::Term>,
    /// The term, led by this member, in which something has been committed, and where that is.
    settled: Option<(raft::Term, Index)>,
}

/// The context of the read by which a lone leader learns that its term has begun; never a port's.
const SETTLING: ReadTicket = ReadTicket { port: u16::MAX, round: 0 };

impl Member {
    /// `contexts_from` starts the names of this member's reads; no earlier start may have used it
    /// or one above it.
    pub fn new(node: Node, contexts_from: u64, patience: Patience) -> Self {
        Self {
            node,
            patience,
            now: 0,
            held: HeldProposals::default(),
            questions: Questions::default(),
            next_context: contexts_from,
            settling: None,
            settled: None,
        }
    }

    /// Feeds the member one event. Its duties are added to `effects`.
    pub fn step(&mut self, event: Event, effects: &mut Effects) {
        match event {
            Event::Propose(proposals) => return self.propose(proposals, effects),
            Event::Rule { term, proposals } => return self.rule(term, proposals, effects),
            Event::Change(change) => return self.change(&change, effects),
            Event::Read(ticket) => return self.read(ticket, effects),
            Event::Compact(index) => return self.node.compact(index),
            Event::Tick => self.tick(effects),
            Event::Receive(message) => self.node.step(Input::Receive(message), &mut effects.raft),
            Event::Persisted(stable) => {
                self.node.step(Input::Persisted { stable }, &mut effects.raft);
            }
            Event::Applied(index) => {
                self.node.step(Input::Applied { index }, &mut effects.raft);
                self.lead_if_alone(effects);
            }
            Event::ConfChangeApplied { index, change } => {
                self.node.step(Input::ConfChangeApplied { index, change }, &mut effects.raft);
            }
            Event::TransferLeader(to) => {
                self.node.step(Input::TransferLeader { to }, &mut effects.raft);
            }
            Event::Unreachable(node) => {
                self.node.step(Input::Unreachable { node }, &mut effects.raft);
            }
            Event::SnapshotTaken { to, snapshot } => {
                self.node.step(Input::SnapshotTaken { to, snapshot }, &mut effects.raft);
            }
            Event::SnapshotSent { node, ok } => {
                self.node.step(Input::SnapshotSent { node, ok }, &mut effects.raft);
            }
            Event::Campaign => self.node.step(Input::Campaign, &mut effects.raft),
        }
        self.after_step(effects);
    }

    /// What ports and status pages are shown.
    pub fn view(&self) -> View {
        let status = self.node.brief();
        let conf = self.node.conf_state();
        let is_leader = status.role == RoleKind::Leader;
        let is_settled = self
            .settled
            .is_some_and(|(term, index)| term == status.term && index <= status.applied);
        View {
            term: status.term.0,
            leader: status.leader.map_or(0, NodeId::get),
            is_leader,
            is_learner: conf.is_learner(status.id),
            commit: status.commit.0,
            last: status.last.0,
            lone: is_leader && is_settled && conf.has_one_voter() && conf.is_voter(status.id),
        }
    }

    /// How far the others are; known to a leader alone.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.node.peers()
    }

    /// The only voter has nobody to wait for: as soon as it knows that it is one, it leads.
    fn lead_if_alone(&mut self, effects: &mut Effects) {
        if self.settling.is_none() && self.node.conf_state().has_one_voter() {
            self.node.step(Input::Campaign, &mut effects.raft);
        }
    }

    fn tick(&mut self, effects: &mut Effects) {
        self.now += 1;
        self.held.give_up(self.now);
        self.node.step(Input::Tick, &mut effects.raft);
        for question in self.questions.due(self.now, self.patience.retry_ticks) {
            self.ask(question, effects);
        }
    }

    fn propose(&mut self, proposals: Vec<Proposal>, effects: &mut Effects) {
        let proposals = proposals.into_iter();
        self.offer(proposals.map(|Proposal { id, data }| (id, EntryKind::Normal, data)), effects);
        self.after_step(effects);
    }

    /// Neither handed on to another leader nor held for one.
    fn rule(&mut self, term: u64, proposals: Vec<Proposal>, effects: &mut Effects) {
        let now = self.node.brief();
        let rules = now.role == RoleKind::Leader && now.term.0 == term;
        if rules && self.node.takes_nothing().is_none() {
            let entry = |Proposal { id, data }| (id, EntryKind::Normal, data);
            self.hand_over(proposals.into_iter().map(entry), effects);
        } else {
            let refused = proposals.into_iter().map(|proposal| proposal.id);
            effects.refused.extend(refused.map(|id| (id, Error::LeaderChanged)));
        }
        self.after_step(effects);
    }

    fn change(&mut self, change: &MembershipChange, effects: &mut Effects) {
        self.offer([(change.id, EntryKind::ConfChange, change.encode())], effects);
        self.after_step(effects);
    }

    /// Hands proposals to whoever takes them in, or holds them until somebody does.
    fn offer(
        &mut self,
        proposals: impl IntoIterator<Item = (u64, EntryKind, Bytes)>,
        effects: &mut Effects,
    ) {
        if self.node.takes_nothing().is_none() && self.held.is_empty() {
            return self.hand_over(proposals, effects);
        }
        let until = self.now + self.patience.give_up_ticks;
        for (id, kind, data) in proposals {
            if !self.held.hold(id, kind, data, until) {
                effects.refused.push((id, Error::RequestTooManyRequests));
            }
        }
    }

    fn hand_over(
        &mut self,
        proposals: impl IntoIterator<Item = (u64, EntryKind, Bytes)>,
        effects: &mut Effects,
    ) {
        let (ids, entries): (Vec<u64>, Vec<_>) =
            proposals.into_iter().map(|(id, kind, data)| (id, (kind, data))).unzip();
        self.node.step(Input::Propose { entries }, &mut effects.raft);
        for dropped in mem::take(&mut effects.raft.dropped) {
            match dropped {
                Dropped::Proposal { reason } => {
                    let error = error_of(reason);
                    effects.refused.extend(ids.iter().map(|&id| (id, error)));
                }
                Dropped::ConfChange { position, reason } => {
                    effects.refused.push((ids[position], error_of(reason)));
                }
                Dropped::Read { .. } | Dropped::Unfit { .. } => effects.raft.dropped.push(dropped),
            }
        }
    }

    fn read(&mut self, ticket: ReadTicket, effects: &mut Effects) {
        let until = self.now + self.patience.give_up_ticks;
        self.ask(Question { ticket, until }, effects);
        self.after_step(effects);
    }

    fn ask(&mut self, question: Question, effects: &mut Effects) {
        let context = self.next_context;
        self.next_context += 1;
        self.questions.ask(context, question, self.now);
        self.node.step(Input::ReadIndex { context: Context(context) }, &mut effects.raft);
    }

    /// Gives raft's answers about reads back to those who asked, and whoever leads what was held.
    fn after_step(&mut self, effects: &mut Effects) {
        for ready in mem::take(&mut effects.raft.reads) {
            if let Some(question) = self.questions.take(ready.context.0) {
                self.granted(question.ticket, ready.index, effects);
            }
        }
        for dropped in mem::take(&mut effects.raft.dropped) {
            if let Dropped::Read { context, reason } = dropped
                && let Some(question) = self.questions.take(context.0)
                && question.ticket != SETTLING
            {
                self.not_answered(question, reason, effects);
            }
        }
        if !self.held.is_empty() && self.node.takes_nothing().is_none() {
            let held = self.held.take_all().into_iter();
            self.hand_over(held.map(|Held { id, kind, data, .. }| (id, kind, data)), effects);
        }
        if let Some(role) = effects.raft.role
            && role.role == RoleKind::Leader
            && self.settling != Some(role.term)
        {
            self.settling = Some(role.term);
            // Answered at once or when the term's first entry is committed; either way only then
            // does this member know all that its predecessors have acknowledged.
            self.read(SETTLING, effects);
        }
    }

    fn not_answered(&mut self, question: Question, reason: Reason, effects: &mut Effects) {
        match reason {
            Reason::NoLeader
            | Reason::LeaderChanged
            | Reason::Transferring
            | Reason::Removed
            | Reason::ConfChangePending
            | Reason::WrongConfiguration => self.questions.put_off(question),
            Reason::Overloaded => effects.reads.push((question.ticket, Err(error_of(reason)))),
            Reason::ContextReused => unreachable!("contexts are counted"),
        }
    }

    fn granted(&mut self, ticket: ReadTicket, index: Index, effects: &mut Effects) {
        if ticket == SETTLING {
            self.settled = Some((self.node.brief().term, index));
        } else {
            effects.reads.push((ticket, Ok(index)));
        }
    }
}

/// What a caller is told when raft lets go of what it asked for.
fn error_of(reason: Reason) -> Error {
    match reason {
        Reason::NoLeader => Error::NoLeader,
        Reason::Removed => Error::Stopped,
        Reason::LeaderChanged | Reason::Transferring => Error::LeaderChanged,
        Reason::Overloaded => Error::RequestTooManyRequests,
        Reason::ConfChangePending | Reason::WrongConfiguration => Error::Unhealthy,
        Reason::ContextReused => unreachable!("contexts are counted"),
    }
}

#[cfg(test)]
mod tests;
