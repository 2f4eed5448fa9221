//! The node: one function from inputs to effects, one table of role × message.
//!
//! ```text
//!                 timeout           a quorum would           a quorum did
//!   ┌─► Follower ─────────► PreCandidate ─────────► Candidate ─────────► Leader
//!   │       ▲  without pre-vote, or when asked to: ─────► │                │
//!   │       └──────────── lost, or somebody leads ────────┘                │
//!   └───────────── a newer term, no quorum any more, removed ──────────────┘
//! ```
//!
//! What a role knows lives in the role and ends with it. What all of them need is the [`Core`].
//!
//! # Invariants
//!
//! - The term, the vote in it and the commit index never go back.   (`assert_invariants`)
//! - What is sent rests on nothing that is not durable.   (`settle`)
//!
//! # Not here
//!
//! Clocks, disks, sockets, threads. The seed is the only source of chance: the same inputs yield
//! the same effects, for ever. Scripts: `testdata/`.

mod confchange;
mod core;
mod election;
mod follower;
mod leader;
mod reading;
mod receive;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::config::{Config, Inconsistent, Recovered};
use crate::effects::{Dropped, Effects, Input, Reason, RoleChange, RoleKind};
use crate::entry::HardState;
use crate::log::Log;
use crate::membership::ConfState;
use crate::message::{Body, Message, Proposal};
use crate::number::{Context, Index, NodeId, PersistId, Term};
use crate::persist::Withheld;
use crate::reads::{READS_MAX, Read};

use self::core::Core;
use self::follower::Follower;
use self::leader::Leader;
pub use self::status::{Brief, PeerStatus, Status};

#[derive(Debug)]
pub struct Node {
    core: Core,
    role: Role,
    /// Conf changes given to the state machine that it has not answered yet.
    unanswered: VecDeque<Index>,
    /// What the caller has last been told to write, and of whom.
    told: HardState,
    told_role: RoleChange,
}

#[derive(Debug)]
enum Role {
    Follower(Follower),
    PreCandidate { votes: BTreeMap<NodeId, bool> },
    Candidate { votes: BTreeMap<NodeId, bool> },
    Leader(Leader),
}

impl Node {
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, Inconsistent> {
        config.check();
        recovered.check()?;
        let commit = recovered.commit();
        let (term, vote) = recovered.term_and_vote();
        let Recovered { hard_state, conf_state, snapshot, entries, applied } = recovered;
        let log = Log::new(snapshot, entries, commit, applied);
        let mut core = Core::new(config, log, conf_state.sorted(), term);
        core.vote = vote;
        let told_role = RoleChange { role: RoleKind::Follower, leader: None, term };
        let told = HardState { commit, ..hard_state };
        let role = Role::Follower(Follower::default());
        Ok(Self { core, role, unanswered: VecDeque::new(), told, told_role })
    }

    /// Feeds the node one input, and adds to `effects` all that must be done about it.
    pub fn step(&mut self, input: Input, effects: &mut Effects) {
        let (term, commit) = (self.core.term, self.core.log.commit());
        mem::swap(&mut self.core.out, effects);
        match input {
            Input::Tick => self.tick(),
            Input::Propose { entries } => self.propose(entries),
            Input::ReadIndex { context } => self.read_index(context),
            Input::Receive(message) => self.receive(message),
            Input::Persisted { stable } => self.persisted(stable),
            Input::Applied { index } => self.applied(index),
            Input::ConfChangeApplied { index, change } => self.conf_change_applied(index, change),
            Input::TransferLeader { to } => self.transfer_leader(to),
            Input::Unreachable { node } => self.as_leader(|leader, _| leader.on_unreachable(node)),
            Input::SnapshotTaken { to, snapshot } => {
                self.as_leader(|leader, core| leader.on_snapshot_taken(core, to, snapshot));
            }
            Input::SnapshotSent { node, ok } => {
                self.as_leader(|leader, _| leader.on_snapshot_sent(node, ok));
            }
            Input::Campaign => self.campaign_if_fit(false),
        }
        self.settle();
        assert!(self.core.term >= term && self.core.log.commit() >= commit, "back in time");
        self.assert_invariants();
        mem::swap(&mut self.core.out, effects);
    }

    /// Forgets the log up to `upto`, which must have been applied. A follower that would have
    /// needed it gets a snapshot.
    pub fn compact(&mut self, upto: Index) {
        self.core.log.compact(upto);
    }

    /// The members, as of the last conf change that was applied.
    pub fn conf_state(&self) -> &ConfState {
        &self.core.conf
    }

    /// The term of the entry at `index`, if the log still knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.core.log.term_at(index)
    }

    fn tick(&mut self) {
        let core = &mut self.core;
        match &mut self.role {
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                core.elapsed = core.elapsed.saturating_add(1);
                if core.elapsed >= core.timeout && core.is_promotable() {
                    core.elapsed = 0;
                    self.campaign_if_fit(false);
                }
            }
            Role::Leader(leader) => {
                if !leader.tick(core) {
                    self.become_follower(self.core.term, None);
                }
            }
        }
    }

    fn propose(&mut self, entries: Vec<Proposal>) {
        assert!(!entries.is_empty(), "a proposal of nothing");
        let refused = match &mut self.role {
            Role::Leader(leader) => leader.on_propose(&mut self.core, entries, true),
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                self.core.send_as(*leader, Term(0), Body::Propose { entries });
                Ok(())
            }
            Role::Follower(Follower { leader: None, .. })
            | Role::PreCandidate { .. }
            | Role::Candidate { .. } => Err(Reason::NoLeader),
        };
        if let Err(reason) = refused {
            self.core.out.dropped.push(Dropped::Proposal { reason });
        }
    }

    fn read_index(&mut self, context: Context) {
        let read = Read { from: self.core.id(), context };
        if self.core.last_read >= Some(context) {
            return reading::drop_read(&mut self.core, read, Reason::ContextReused);
        }
        self.core.last_read = Some(context);
        match &mut self.role {
            Role::Leader(leader) => leader.on_read(&mut self.core, read),
            Role::Follower(Follower { leader: Some(leader), reads }) => {
                if reads.len() >= READS_MAX {
                    return reading::drop_read(&mut self.core, read, Reason::Overloaded);
                }
                reads.push_back(context);
                self.core.send_as(*leader, Term(0), Body::ReadIndex { context });
            }
            Role::Follower(Follower { leader: None, .. })
            | Role::PreCandidate { .. }
            | Role::Candidate { .. } => {
                reading::drop_read(&mut self.core, read, Reason::NoLeader);
            }
        }
    }

    fn persisted(&mut self, stable: PersistId) {
        if let Some(attested) = self.core.persist.on_persisted(stable) {
            self.core.log.stable_to(attested);
            self.as_leader(Leader::on_quorum_moved);
        }
    }

    fn applied(&mut self, index: Index) {
        let unanswered = self.unanswered.front();
        assert!(unanswered.is_none_or(|&at| at > index), "the conf change at {unanswered:?} first");
        self.core.log.applied_to(index);
        if self.core.installing.is_some_and(|snapshot| snapshot <= index) {
            self.core.installing = None;
        }
        self.as_leader(Leader::maybe_leave_joint);
    }

    fn transfer_leader(&mut self, to: NodeId) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_transfer(&mut self.core, to),
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                let (leader, term, body) = (*leader, self.core.term, Body::TransferLeader);
                self.core.out.send.push(Message { from: to, to: leader, term, body });
            }
            Role::Follower(Follower { leader: None, .. })
            | Role::PreCandidate { .. }
            | Role::Candidate { .. } => {}
        }
    }

    fn as_leader(&mut self, act: impl FnOnce(&mut Leader, &mut Core)) {
        match &mut self.role {
            Role::Leader(leader) => act(leader, &mut self.core),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }

    /// Turns what the step has changed into effects, until nothing more follows from it.
    fn settle(&mut self) {
        loop {
            self.hand_out();
            let mut resting = mem::take(&mut self.core.resting);
            resting.drain(..).for_each(|what| self.core.persist.withhold(what));
            self.core.resting = resting;
            match self.core.persist.release() {
                Some(Withheld::Send(message)) => self.core.out.send.push(message),
                Some(Withheld::OwnVote(term)) => self.on_own_vote(term),
                None => break,
            }
        }
        let core = &mut self.core;
        let known = core.out.commit.len();
        core.log.hand_to_state(core.config.applying_bytes_max, &mut core.out.commit);
        let handed = core.out.commit[known..].iter();
        self.unanswered.extend(handed.filter(|e| e.kind.changes_membership()).map(|e| e.index));
        let now = self.role_now();
        if now != self.told_role {
            self.told_role = now;
            self.core.out.role = Some(now);
        }
    }

    /// Gives the disk what has changed.
    fn hand_out(&mut self) {
        let core = &mut self.core;
        let (term, vote, commit) = (core.term, core.vote, core.log.commit());
        let now = HardState { term, vote, commit };
        let mut matters = mem::take(&mut core.restored);
        matters |= core.log.hand_to_disk(&mut core.out.append);
        matters |= (now.term, now.vote) != (self.told.term, self.told.vote);
        if now != self.told {
            self.told = now;
            core.out.hard_state = Some(now);
        }
        if matters {
            let open = core.out.persist;
            core.out.persist = Some(core.persist.hand_out(open, core.log.last().index));
        }
    }

    fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate { .. } | Role::Candidate { .. } => None,
            Role::Leader(_) => Some(self.core.id()),
        }
    }

    fn role_now(&self) -> RoleChange {
        let role = match &self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate { .. } => RoleKind::PreCandidate,
            Role::Candidate { .. } => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        };
        RoleChange { role, leader: self.leader(), term: self.core.term }
    }

    /// Cheap. On in production.
    fn assert_invariants(&self) {
        self.core.log.assert_invariants();
        assert!(self.core.log.last().term <= self.core.term, "an entry from the future");
        assert!(self.core.resting.is_empty());
        match &self.role {
            Role::Leader(leader) => leader.peers.iter().for_each(|peer| {
                peer.assert_invariants();
                assert!(peer.matched <= self.core.log.last().index);
            }),
            Role::Candidate { .. } => assert_eq!(self.core.vote, Some(self.core.id())),
            Role::Follower(follower) => assert_ne!(follower.leader, Some(self.core.id())),
            Role::PreCandidate { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
