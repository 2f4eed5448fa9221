//! The leader: it takes proposals in, feeds every follower at its own pace, and counts.
//!
//! # Invariants
//!
//! - Only an entry of the leader's own term is committed by counting; older ones are committed by
//!   what follows them (the paper's figure 8).   (`advance_commit`)
//! - One change of membership at a time: none is taken in before the last has been applied.
//! - While leadership is being handed over nothing is taken in, so that the heir can catch up.
//! - A leader that is no voter any more counts others only, takes nothing in, and hands over. It
//!   must not just step down: those who have not heard of its removal may need its vote, and get
//!   none while its log is the longest.
//!
//! # Not here
//!
//! Reads: `node/reading.rs`. Ceasing to lead: the table in `node/receive.rs` decides that.

use crate::effects::{Dropped, Reason};
use crate::entry::{EntryKind, Snapshot};
use crate::message::{AppendReply, Body, Proposal};
use crate::node::core::Core;
use crate::number::{Index, NodeId};
use crate::progress::{Flow, Progress};
use crate::quorum::{Tally, reached_by_quorum, tally};
use crate::reads::Reads;

#[derive(Debug)]
pub(crate) struct Leader {
    /// Everyone else, in order.
    pub(crate) peers: Vec<Progress>,
    /// Who is to lead next.
    pub(crate) heir: Option<NodeId>,
    /// No change of membership is under way beyond this index.
    pub(crate) last_conf_change: Index,
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: Reads,
    /// Ticks since the last heartbeat.
    since_heartbeat: u32,
}

impl Leader {
    pub(crate) fn new(core: &Core) -> Self {
        let mut leader = Self {
            peers: Vec::new(),
            heir: None,
            // Somewhere in the tail there may be a change; it is safe to suppose one at its end.
            last_conf_change: core.log.last().index,
            uncommitted_bytes: 0,
            reads: Reads::default(),
            since_heartbeat: 0,
        };
        leader.follow_conf(core);
        for peer in &mut leader.peers {
            peer.active = false;
            peer.next = core.log.last().index.next();
        }
        leader
    }

    /// Makes the peers those of the configuration. New ones count as active: they have not had
    /// their chance to be heard yet.
    pub(crate) fn follow_conf(&mut self, core: &Core) {
        let mut known = std::mem::take(&mut self.peers).into_iter().peekable();
        let config = &core.config;
        for node in core.conf.members() {
            if node == core.id() {
                continue;
            }
            while known.next_if(|peer| peer.node < node).is_some() {}
            let peer = known.next_if(|peer| peer.node == node).unwrap_or_else(|| {
                let next = core.log.last().index;
                let (n_max, bytes_max) = (config.in_flight_max, config.in_flight_bytes_max);
                let mut peer = Progress::new(node, next, n_max, bytes_max);
                peer.active = true;
                peer
            });
            self.peers.push(peer);
        }
    }

    pub(crate) fn peer(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// Ticks. Returns whether this leader still has its quorum.
    pub(crate) fn tick(&mut self, core: &mut Core) -> bool {
        core.elapsed += 1;
        if core.elapsed >= core.config.election_ticks {
            core.elapsed = 0;
            if core.config.check_quorum && !self.check_quorum(core) {
                return false;
            }
            // The heir had its time.
            self.heir = None;
            self.retire(core);
        }
        self.since_heartbeat += 1;
        if self.since_heartbeat >= core.config.heartbeat_ticks {
            self.since_heartbeat = 0;
            self.broadcast_heartbeat(core);
        }
        true
    }

    fn check_quorum(&mut self, core: &Core) -> bool {
        let mut heard: std::collections::BTreeMap<NodeId, bool> =
            self.peers.iter().map(|peer| (peer.node, peer.active)).collect();
        heard.insert(core.id(), true);
        for peer in &mut self.peers {
            peer.active = false;
        }
        tally(&core.conf, &heard) == Tally::Won
    }

    /// Tells everyone that this leader lives, and which reads it would like to answer.
    pub(crate) fn broadcast_heartbeat(&mut self, core: &mut Core) {
        let context = self.heartbeat_context();
        for peer in &mut self.peers {
            let commit = peer.matched.min(core.log.commit());
            core.send(peer.node, Body::Heartbeat { commit, context: context.clone() });
            peer.on_heartbeat_sent(commit);
        }
    }

    /// The leader's first entry: nothing older is committed before it is.
    pub(crate) fn open_term(&mut self, core: &mut Core) {
        core.log.propose(core.term, vec![(EntryKind::Normal, bytes::Bytes::new())]);
        self.broadcast_append(core);
    }

    /// Takes proposals in, or says why not.
    pub(crate) fn on_propose(
        &mut self,
        core: &mut Core,
        mut entries: Vec<Proposal>,
        own: bool,
    ) -> Result<(), Reason> {
        if !core.conf.is_voter(core.id()) {
            return Err(Reason::Removed);
        }
        if self.heir.is_some() {
            return Err(Reason::Transferring);
        }
        let bytes = entries.iter().map(|(_, data)| data.len() as u64).sum::<u64>();
        // The first of any size is let in, and empty ones always: what opens a term or leaves a
        // joint configuration must not fail.
        let limit = core.config.uncommitted_bytes_max;
        if bytes > 0 && self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes > limit {
            return Err(Reason::Overloaded);
        }
        let mut index = core.log.last().index;
        for (position, entry) in entries.iter_mut().enumerate() {
            index = index.next();
            if !entry.0.changes_membership() {
                continue;
            }
            match self.admits_conf_change(core, entry) {
                Ok(()) => self.last_conf_change = index,
                Err(reason) => {
                    *entry = (EntryKind::Normal, bytes::Bytes::new());
                    if own {
                        core.out.dropped.push(Dropped::ConfChange { position, reason });
                    }
                }
            }
        }
        self.uncommitted_bytes += bytes;
        core.log.propose(core.term, entries);
        self.broadcast_append(core);
        Ok(())
    }

    fn admits_conf_change(&self, core: &Core, entry: &Proposal) -> Result<(), Reason> {
        let leaves_joint = entry.0 == EntryKind::ConfChangeV2 && entry.1.is_empty();
        if self.last_conf_change > core.log.applied() {
            Err(Reason::ConfChangePending)
        } else if core.conf.is_joint() != leaves_joint {
            Err(Reason::WrongConfiguration)
        } else {
            Ok(())
        }
    }

    /// Leaves a joint configuration that is to be left by itself, once it has been applied.
    pub(crate) fn maybe_leave_joint(&mut self, core: &mut Core) {
        if core.conf.auto_leave && core.log.applied() >= self.last_conf_change {
            // Refused while leadership is handed over: then the next `Applied`, or the next
            // leader, tries again.
            let leave = vec![(EntryKind::ConfChangeV2, bytes::Bytes::new())];
            let _ = self.on_propose(core, leave, false);
        }
    }

    /// Counts anew how far a quorum has come. Returns whether the commit index moved.
    pub(crate) fn advance_commit(&mut self, core: &mut Core) -> bool {
        let own = core.log.stable().0;
        let reached = |node| {
            if node == core.config.id {
                return own;
            }
            self.peers.iter().find(|peer| peer.node == node).map_or(0, |peer| peer.matched.0)
        };
        let index = Index(reached_by_quorum(&core.conf, reached));
        let before = core.log.commit();
        if index <= before || core.log.term_at(index) != Some(core.term) {
            return false;
        }
        core.log.commit_to(index);
        let bytes = core.log.bytes_between(before, index);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(bytes);
        true
    }

    /// Our own disk, or a change of membership, may have made the difference.
    pub(crate) fn on_quorum_moved(&mut self, core: &mut Core) {
        if self.advance_commit(core) {
            self.ask_postponed(core);
            self.broadcast_append(core);
        }
    }

    pub(crate) fn broadcast_append(&mut self, core: &mut Core) {
        for peer in &mut self.peers {
            send_append(core, peer, true);
        }
    }

    /// New members are probed at once, without waiting for a heartbeat.
    pub(crate) fn feed(&mut self, core: &mut Core) {
        for peer in &mut self.peers {
            send_append(core, peer, false);
        }
    }

    pub(crate) fn on_append_reply(&mut self, core: &mut Core, from: NodeId, reply: AppendReply) {
        let Some(peer) = self.peer(from) else { return };
        peer.active = true;
        match reply {
            AppendReply::Rejected { at, hint } => {
                // It holds nothing of a term above the hint's from there on; nor may we agree
                // where ours is above it.
                let hint = if hint.term.0 > 0 {
                    core.log.last_not_after(hint.index, hint.term)
                } else {
                    hint
                };
                if peer.on_rejected(at, hint.index) {
                    send_append(core, peer, true);
                }
            }
            AppendReply::Accepted { last } => self.on_accepted(core, from, last),
        }
    }

    fn on_accepted(&mut self, core: &mut Core, from: NodeId, last: Index) {
        if last > core.log.last().index {
            return; // No follower of ours can hold more than we do.
        }
        let first = core.log.first();
        let Some(peer) = self.peer(from) else { return };
        let found = peer.matched == last && peer.flow == Flow::Probe;
        if !peer.on_accepted(last) && !found {
            return;
        }
        match peer.flow {
            Flow::Probe => peer.become_replicate(),
            // Whatever brought it within reach of our log will do.
            Flow::Snapshot { .. } if peer.matched.next() >= first => {
                peer.become_probe();
                peer.become_replicate();
            }
            Flow::Snapshot { .. } => {}
            Flow::Replicate => peer.free_window(last),
        }
        if self.advance_commit(core) {
            self.ask_postponed(core);
            self.broadcast_append(core);
        } else if let Some(peer) = self.peer(from)
            && peer.would_learn(core.log.commit())
        {
            send_append(core, peer, true);
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == from) else { return };
        while send_append(core, peer, false) {}
        if self.heir == Some(from) && peer.matched == core.log.last().index {
            core.send(from, Body::TimeoutNow);
        }
    }

    pub(crate) fn on_heartbeat_reply(&mut self, core: &mut Core, from: NodeId, context: &[u8]) {
        let Some(peer) = self.peer(from) else { return };
        peer.active = true;
        peer.paused = false;
        if peer.matched < core.log.last().index || peer.flow == Flow::Probe {
            send_append(core, peer, true);
        }
        self.on_round_confirmed(core, from, context);
    }

    pub(crate) fn on_unreachable(&mut self, node: NodeId) {
        if let Some(peer) = self.peer(node)
            && peer.flow == Flow::Replicate
        {
            peer.become_probe();
        }
    }

    /// Sends the snapshot a follower was found to need, if it still does.
    pub(crate) fn on_snapshot_taken(&mut self, core: &mut Core, to: NodeId, snapshot: Snapshot) {
        assert!(snapshot.index <= core.log.applied(), "a snapshot of what is not applied");
        let Some(peer) = self.peer(to) else { return };
        match peer.flow {
            Flow::Probe | Flow::Replicate => {}
            Flow::Snapshot { .. } => {
                peer.become_snapshot(snapshot.index);
                core.send(to, Body::Snapshot(Box::new(snapshot)));
            }
        }
    }

    pub(crate) fn on_snapshot_sent(&mut self, node: NodeId, ok: bool) {
        let Some(peer) = self.peer(node) else { return };
        match peer.flow {
            Flow::Probe | Flow::Replicate => return,
            Flow::Snapshot { .. } if ok => peer.become_probe(),
            Flow::Snapshot { .. } => peer.give_up_snapshot(),
        }
        // Its reply, or else the next heartbeat, gets things going.
        peer.paused = true;
    }

    pub(crate) fn on_transfer(&mut self, core: &mut Core, to: NodeId) {
        if !core.conf.is_voter(to) || self.heir == Some(to) {
            return;
        }
        self.heir = None;
        let last = core.log.last().index;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == to) else { return };
        // From now on it has one election timeout.
        core.elapsed = 0;
        self.heir = Some(to);
        if peer.matched == last {
            core.send(to, Body::TimeoutNow);
        } else {
            send_append(core, peer, true);
        }
    }

    /// Hands over to whoever is furthest, once this leader is no voter any more.
    pub(crate) fn retire(&mut self, core: &mut Core) {
        if core.conf.is_voter(core.id()) || self.heir.is_some() {
            return;
        }
        let voters = self.peers.iter().rev().filter(|peer| core.conf.is_voter(peer.node));
        if let Some(to) = voters.max_by_key(|peer| peer.matched).map(|peer| peer.node) {
            self.on_transfer(core, to);
        }
    }
}

/// Sends what `peer` should get next. Returns whether anything was sent; an append without entries
/// only if `even_empty`.
fn send_append(core: &mut Core, peer: &mut Progress, even_empty: bool) -> bool {
    if !peer.may_send() {
        return false;
    }
    let prev = peer.next.before();
    let Some(term) = core.log.term_at(prev) else {
        return want_snapshot(core, peer);
    };
    let entries = if peer.may_send_entries() {
        core.log.slice(peer.next, core.config.message_bytes_max)
    } else {
        Vec::new()
    };
    if entries.is_empty() && !even_empty {
        return false;
    }
    let n = entries.len() as u64;
    let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
    let commit = core.log.commit();
    let prev = crate::number::EntryId::new(prev, term);
    core.send(peer.node, Body::Append { prev, entries, commit });
    peer.on_sent(n, bytes, commit);
    true
}

/// What `peer` needs next is compacted away. One that is silent gets no snapshot: it is dear.
fn want_snapshot(core: &mut Core, peer: &mut Progress) -> bool {
    if peer.active {
        peer.become_snapshot(core.log.applied());
        core.out.snapshots_wanted.push(peer.node);
    }
    false
}
