//! The follower: it takes what the leader of its term says as it comes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::effects::ReadReady;
use crate::entry::{Entry, Snapshot};
use crate::message::{AppendReply, Body};
use crate::node::core::Core;
use crate::number::{Context, EntryId, Index, NodeId};

#[derive(Debug, Default)]
pub(crate) struct Follower {
    pub(crate) leader: Option<NodeId>,
    /// Reads of our own that the leader was asked about, in growing order.
    pub(crate) reads: VecDeque<Context>,
}

impl Follower {
    /// The leader has answered. What it says of this read is true of all that were asked before
    /// it, too; so a lost answer is made good by the next.
    pub(crate) fn on_read_reply(&mut self, core: &mut Core, answered: Context, index: Index) {
        while let Some(&context) = self.reads.front()
            && context <= answered
        {
            self.reads.pop_front();
            core.out.reads.push(ReadReady { context, index });
        }
    }
}

impl Core {
    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        prev: EntryId,
        entries: Vec<Entry>,
        commit: Index,
    ) {
        let reply = self.append(prev, entries, commit);
        self.send_when_durable(from, self.term, Body::AppendReply(reply));
    }

    fn append(&mut self, prev: EntryId, entries: Vec<Entry>, commit: Index) -> AppendReply {
        if prev.index < self.log.commit() {
            // Old news: what is committed here is what the leader has.
            return AppendReply::Accepted { last: self.log.commit() };
        }
        if !self.log.holds(prev) {
            let from = prev.index.min(self.log.last().index);
            let hint = self.log.last_not_after(from, prev.term);
            return AppendReply::Rejected { at: prev.index, hint };
        }
        let last = entries.last().map_or(prev.index, |entry| entry.index);
        if let Some(cut) = self.log.splice(entries) {
            self.persist.cut(cut);
        }
        // Beyond `last` our log may be another than the leader's.
        self.log.commit_to(commit.min(last));
        AppendReply::Accepted { last }
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, commit: Index, context: Bytes) {
        self.log.commit_to(commit);
        self.send(from, Body::HeartbeatReply { context });
    }

    pub(crate) fn on_snapshot(&mut self, from: NodeId, snapshot: Snapshot) {
        if snapshot.index > self.log.commit() && snapshot.conf_state.contains(self.id()) {
            if self.log.holds(snapshot.id()) {
                self.log.commit_to(snapshot.index);
            } else {
                self.restore(snapshot);
            }
        }
        let reply = AppendReply::Accepted { last: self.log.commit() };
        self.send_when_durable(from, self.term, Body::AppendReply(reply));
    }
}
