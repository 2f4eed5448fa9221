//! What members say to each other: raftpb's vocabulary, each message with a body of its own.
//!
//! One fat message whose fields change meaning with its type is how it travels; here a field
//! exists where it means something. The transport translates, one to one:
//!
//! ```text
//! Append          MsgApp            index, logTerm, entries, commit
//! AppendReply     MsgAppResp        index | reject, index, rejectHint, logTerm
//! Vote            MsgVote, MsgPreVote            index, logTerm, context "CampaignTransfer"
//! VoteReply       MsgVoteResp, MsgPreVoteResp    reject (ours also: commit, logTerm)
//! Heartbeat       MsgHeartbeat      commit, context
//! HeartbeatReply  MsgHeartbeatResp  context
//! Snapshot        MsgSnap           snapshot
//! TimeoutNow      MsgTimeoutNow
//! TransferLeader  MsgTransferLeader from = who shall lead
//! ReadIndex       MsgReadIndex      entries[0].data = context, big-endian; term 0
//! ReadIndexReply  MsgReadIndexResp  entries[0].data, index
//! Propose         MsgProp           entries; term 0
//! ```
//!
//! # Not here
//!
//! Bytes. And the inputs that never travel: ticks, acknowledgements of the disk, failed sends.

use bytes::Bytes;

use crate::entry::{Entry, EntryKind, Snapshot};
use crate::number::{Context, EntryId, Index, NodeId, Term};

/// What a proposer hands in: the leader gives it its place.
pub type Proposal = (EntryKind, Bytes);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: NodeId,
    pub to: NodeId,
    /// The sender's term; for a pre-vote the term it would campaign in; 0 for `Propose` and
    /// `ReadIndex`, which are requests to whoever leads.
    pub term: Term,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Entries to follow `prev`, and how far the leader has committed.
    Append {
        prev: EntryId,
        entries: Vec<Entry>,
        commit: Index,
    },
    AppendReply(AppendReply),
    /// Asks for a vote (or, `pre`, whether there would be one) on the strength of the last entry.
    Vote {
        pre: bool,
        last: EntryId,
        /// The leader itself asked for this election: its lease does not stand in the way.
        transfer: bool,
    },
    VoteReply {
        pre: bool,
        granted: bool,
        /// What the voter knows to be committed; 0@0 from etcd's members, who do not say. A
        /// candidate that lacks only this knowledge gets it here: it may be that those who had
        /// it were removed by what they know, and no leader is left to tell.
        committed: EntryId,
    },
    /// The leader is alive. `commit` never exceeds what the receiver is known to hold.
    Heartbeat {
        commit: Index,
        context: Bytes,
    },
    /// Returns the heartbeat's context as it came.
    HeartbeatReply {
        context: Bytes,
    },
    Snapshot(Box<Snapshot>),
    /// Campaign at once.
    TimeoutNow,
    /// `from` names the member that shall lead, as on etcd's wire.
    TransferLeader,
    ReadIndex {
        context: Context,
    },
    ReadIndexReply {
        context: Context,
        index: Index,
    },
    Propose {
        entries: Vec<Proposal>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// The logs agree up to here, and it is durable.
    Accepted { last: Index },
    /// Nothing of the sender's `prev` at `at`; `hint` is the last place where they may agree.
    Rejected { at: Index, hint: EntryId },
}

impl Message {
    /// Whether the parts fit together. What does not is dropped: it says nothing.
    pub(crate) fn is_well_formed(&self) -> bool {
        match &self.body {
            Body::Append { prev, entries, commit: _ } => {
                let mut last = *prev;
                entries.iter().all(|entry| {
                    let follows = entry.index == last.index.next() && entry.term >= last.term;
                    last = entry.id();
                    follows
                }) && last.term <= self.term
            }
            Body::Snapshot(snapshot) => {
                snapshot.index > Index(0)
                    && snapshot.term <= self.term
                    && snapshot.conf_state.is_well_formed()
            }
            Body::Propose { entries } => !entries.is_empty(),
            Body::AppendReply(_)
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => true,
        }
    }
}
