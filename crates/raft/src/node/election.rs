//! Elections: when to stand, whom to vote for, and what winning or losing changes.
//!
//! # Invariants
//!
//! - One vote a term, and it is durable before anyone hears of it.
//! - A candidate asks for votes only when its own vote, its term and the log it boasts of are
//!   durable: an answer that outlives a crash must not elect a shorter log.
//! - Nobody stands with a conf change committed but not applied: it would not know its quorum.

use std::collections::BTreeMap;
use std::mem;

use crate::effects::{Dropped, Reason};
use crate::message::Body;
use crate::node::core::Core;
use crate::node::follower::Follower;
use crate::node::leader::Leader;
use crate::node::{Node, Role, reading};
use crate::number::{EntryId, NodeId, Term};
use crate::persist::Withheld;
use crate::quorum::{Tally, tally};

impl Node {
    /// Stands for election, if there is nothing against it. `transfer`: the leader asked for it.
    pub(super) fn campaign_if_fit(&mut self, transfer: bool) {
        let leads = matches!(self.role, Role::Leader(_));
        let fit = self.core.is_promotable() && !self.core.log.has_unapplied_conf_change();
        if leads || !fit {
            return;
        }
        if self.core.config.pre_vote && !transfer {
            self.become_pre_candidate();
        } else {
            self.become_candidate(transfer);
        }
    }

    /// Asks whether it could win, without disturbing anyone's term.
    fn become_pre_candidate(&mut self) {
        self.leave_role();
        self.core.reset_timer();
        let mut votes = BTreeMap::new();
        votes.insert(self.core.id(), true);
        self.role = Role::PreCandidate { votes };
        let body = Body::Vote { pre: true, last: self.core.log.last(), transfer: false };
        let term = self.core.term.next();
        for voter in other_voters(&self.core) {
            self.core.send_as(voter, term, body.clone());
        }
        self.count_votes();
    }

    fn become_candidate(&mut self, transfer: bool) {
        self.leave_role();
        self.core.enter(self.core.term.next());
        self.core.vote = Some(self.core.id());
        self.role = Role::Candidate { votes: BTreeMap::new() };
        let term = self.core.term;
        let body = Body::Vote { pre: false, last: self.core.log.last(), transfer };
        for voter in other_voters(&self.core) {
            self.core.send_when_durable(voter, term, body.clone());
        }
        self.core.resting.push(Withheld::OwnVote(term));
    }

    /// The vote for ourselves is durable.
    pub(super) fn on_own_vote(&mut self, term: Term) {
        let id = self.core.id();
        match &mut self.role {
            Role::Candidate { votes } if self.core.term == term => {
                votes.insert(id, true);
                self.count_votes();
            }
            Role::Candidate { .. }
            | Role::Follower(_)
            | Role::PreCandidate { .. }
            | Role::Leader(_) => {}
        }
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool, committed: EntryId) {
        // True whoever says it and in whatever term.
        if self.core.log.holds(committed) {
            self.core.log.commit_to(committed.index);
        }
        match &mut self.role {
            Role::PreCandidate { votes } | Role::Candidate { votes } => {
                votes.entry(from).or_insert(granted);
                self.count_votes();
            }
            Role::Follower(_) | Role::Leader(_) => {}
        }
    }

    fn count_votes(&mut self) {
        let (votes, pre) = match &self.role {
            Role::PreCandidate { votes } => (votes, true),
            Role::Candidate { votes } => (votes, false),
            Role::Follower(_) | Role::Leader(_) => return,
        };
        match (tally(&self.core.conf, votes), pre) {
            (Tally::Won, true) => self.become_candidate(false),
            (Tally::Won, false) => self.become_leader(),
            (Tally::Lost, true | false) => self.become_follower(self.core.term, None),
            (Tally::Pending, true | false) => {}
        }
    }

    fn become_leader(&mut self) {
        self.leave_role();
        self.core.enter(self.core.term);
        let mut leader = Leader::new(&self.core);
        leader.open_term(&mut self.core);
        self.role = Role::Leader(leader);
    }

    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        self.leave_role();
        self.core.enter(term);
        self.role = Role::Follower(Follower { leader, ..Follower::default() });
    }

    /// What was asked of the leader there was will not be answered any more.
    fn leave_role(&mut self) {
        let left = mem::replace(&mut self.role, Role::Follower(Follower::default()));
        let core = &mut self.core;
        match left {
            Role::Follower(follower) => {
                core.out.dropped.extend(
                    follower
                        .reads
                        .into_iter()
                        .map(|context| Dropped::Read { context, reason: Reason::LeaderChanged }),
                );
            }
            Role::Leader(leader) => leader
                .reads
                .into_unanswered()
                .for_each(|read| reading::drop_read(core, read, Reason::LeaderChanged)),
            Role::PreCandidate { .. } | Role::Candidate { .. } => {}
        }
    }

    /// Somebody stands for election in `term`, with a log that ends in `last`.
    pub(super) fn on_vote(&mut self, from: NodeId, term: Term, pre: bool, last: EntryId) {
        let leader = self.leader();
        let core = &mut self.core;
        let committed = core.committed();
        let free = core.vote == Some(from)
            || (core.vote.is_none() && leader.is_none())
            || (pre && term > core.term);
        if free && last >= core.log.last() {
            if !pre {
                core.elapsed = 0;
                core.vote = Some(from);
            }
            // In the term it was asked for: a pre-candidate is ahead of its own.
            core.send_when_durable(from, term, Body::VoteReply { pre, granted: true, committed });
        } else {
            core.send_when_durable(
                from,
                core.term,
                Body::VoteReply { pre, granted: false, committed },
            );
        }
    }

    /// Whether a leader was heard of so recently that nobody else should be listened to.
    pub(super) fn is_loyal(&self) -> bool {
        let core = &self.core;
        core.config.check_quorum
            && self.leader().is_some()
            && core.elapsed < core.config.election_ticks
    }
}

fn other_voters(core: &Core) -> Vec<NodeId> {
    let mut members = core.conf.members();
    members.retain(|&node| node != core.id() && core.conf.is_voter(node));
    members
}
