//! What a message does: first its term, then role × message.

use std::cmp::Ordering;

use crate::message::{AppendReply, Body, Message};
use crate::node::{Node, Role};
use crate::number::{Index, NodeId, Term};
use crate::reads::Read;

impl Node {
    pub(super) fn receive(&mut self, m: Message) {
        if m.from == self.core.id() || m.to != self.core.id() || !m.is_well_formed() {
            return;
        }
        match (m.term.cmp(&self.core.term), &m.body) {
            // A request to whoever leads belongs to no term.
            (_, Body::Propose { .. } | Body::ReadIndex { .. }) | (Ordering::Equal, _) => {}
            (Ordering::Less, _) => return self.on_past(&m),
            (Ordering::Greater, _) => {
                if !self.on_future(&m) {
                    return;
                }
            }
        }
        self.dispatch(m);
    }

    /// A message from a term that is over.
    fn on_past(&mut self, m: &Message) {
        let config = &self.core.config;
        let term = self.core.term;
        match &m.body {
            // Who went ahead alone ignores its leader's term, and the leader its votes: let the
            // leader hear of the newer term, or the two would never meet.
            Body::Append { .. } | Body::Heartbeat { .. }
                if config.check_quorum || config.pre_vote =>
            {
                let reply = AppendReply::Accepted { last: Index(0) };
                self.core.send_when_durable(m.from, term, Body::AppendReply(reply));
            }
            // It could not win, and must learn why.
            Body::Vote { pre: true, .. } => {
                let committed = self.core.committed();
                let reply = Body::VoteReply { pre: true, granted: false, committed };
                self.core.send_when_durable(m.from, term, reply);
            }
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Vote { pre: false, .. }
            | Body::AppendReply(_)
            | Body::VoteReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Propose { .. } => {}
        }
    }

    /// A message from a term we have not been in. Returns whether it is listened to.
    fn on_future(&mut self, m: &Message) -> bool {
        match &m.body {
            Body::Vote { transfer: false, .. } if self.is_loyal() => return false,
            // These are about a term that may never come.
            Body::Vote { pre: true, .. } | Body::VoteReply { pre: true, granted: true, .. } => {}
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_) => {
                self.become_follower(m.term, Some(m.from));
            }
            Body::Vote { pre: false, .. }
            | Body::VoteReply { .. }
            | Body::AppendReply(_)
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Propose { .. } => self.become_follower(m.term, None),
        }
        true
    }

    /// Role × message, and no `_` on the right: a new message doesn't compile until each role has
    /// met it.
    fn dispatch(&mut self, m: Message) {
        let Message { from, to: _, term, body } = m;
        let core = &mut self.core;
        match (&mut self.role, body) {
            (_, Body::Vote { pre, last, transfer: _ }) => self.on_vote(from, term, pre, last),

            // Two leaders in one term is the one thing Raft promises can't happen.
            (Role::Leader(_), Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_)) => {
                panic!("{from} also leads {term}")
            }
            (_, Body::Append { prev, entries, commit }) => {
                self.follow(from);
                self.core.on_append(from, prev, entries, commit);
            }
            (_, Body::Heartbeat { commit, context }) => {
                self.follow(from);
                self.core.on_heartbeat(from, commit, context);
            }
            (_, Body::Snapshot(snapshot)) => {
                self.follow(from);
                self.on_snapshot(from, *snapshot);
            }

            (Role::PreCandidate { .. }, Body::VoteReply { pre: true, granted, committed }) => {
                // A yes to the question before last is none to this one.
                if !granted || term == core.term.next() {
                    self.on_vote_reply(from, granted, committed);
                }
            }
            (Role::Candidate { .. }, Body::VoteReply { pre: false, granted, committed }) => {
                self.on_vote_reply(from, granted, committed);
            }
            // The round these answer is over: won, lost, or left.
            (_, Body::VoteReply { .. }) => {}

            (Role::Leader(leader), Body::AppendReply(reply)) => {
                leader.on_append_reply(core, from, reply);
            }
            (Role::Leader(leader), Body::HeartbeatReply { context }) => {
                leader.on_heartbeat_reply(core, from, &context);
            }
            (_, Body::AppendReply(_) | Body::HeartbeatReply { .. }) => {}

            // The leader trusts us to win. Others are at it already, or done.
            (Role::Follower(_), Body::TimeoutNow) => self.campaign_if_fit(true),
            (_, Body::TimeoutNow) => {}

            (Role::Leader(leader), Body::TransferLeader) => leader.on_transfer(core, from),
            (Role::Leader(leader), Body::Propose { entries }) => {
                // The proposer hears nothing of a refusal: its request times out.
                let _ = leader.on_propose(core, entries, false);
            }
            (Role::Leader(leader), Body::ReadIndex { context }) => {
                leader.on_read(core, Read { from, context });
            }
            (_, body @ (Body::TransferLeader | Body::Propose { .. } | Body::ReadIndex { .. })) => {
                self.pass_on(from, term, body);
            }

            (Role::Follower(follower), Body::ReadIndexReply { context, index }) => {
                follower.on_read_reply(core, context, index);
            }
            (_, Body::ReadIndexReply { .. }) => {}
        }
    }

    /// `leader` leads our term.
    fn follow(&mut self, leader: NodeId) {
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(leader) => self.core.elapsed = 0,
            Role::Follower(_)
            | Role::PreCandidate { .. }
            | Role::Candidate { .. }
            | Role::Leader(_) => self.become_follower(self.core.term, Some(leader)),
        }
    }

    fn on_snapshot(&mut self, from: NodeId, snapshot: crate::entry::Snapshot) {
        self.core.on_snapshot(from, snapshot);
        let conf_index = self.core.conf_index;
        self.unanswered.retain(|&index| index > conf_index);
    }

    /// Sends a request on to the leader, in the name of whoever made it.
    fn pass_on(&mut self, from: NodeId, term: Term, body: Body) {
        if let Some(to) = self.leader().filter(|&leader| leader != from) {
            self.core.out.send.push(Message { from, to, term, body });
        }
    }
}
