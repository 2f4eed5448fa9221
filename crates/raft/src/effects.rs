//! What goes into a node, and what has to be done about it.

use crate::entry::{Entry, HardState, Snapshot};
use crate::membership::{ConfChange, ConfChangeError};
use crate::message::{Message, Proposal};
use crate::number::{Context, Index, NodeId, PersistId, Term};

/// Everything that can happen to a node. If it isn't here, it doesn't happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes: one tick.
    Tick,
    /// To be replicated, all or nothing, in this order.
    Propose {
        entries: Vec<Proposal>,
    },
    /// Up to where must one have applied, to read everything committed before now?
    ReadIndex {
        context: Context,
    },
    Receive(Message),
    /// Everything handed out up to this id is durable.
    Persisted {
        stable: PersistId,
    },
    /// The state machine has come this far, be it by entries or by a snapshot.
    Applied {
        index: Index,
    },
    /// What the conf change at `index` amounts to; `None` if it was refused. Comes in the order of
    /// the entries, and before `Applied` passes the index.
    ConfChangeApplied {
        index: Index,
        change: Option<ConfChange>,
    },
    /// Hand leadership over; ask the leader to, if it is another.
    TransferLeader {
        to: NodeId,
    },
    /// An append to this member was probably lost.
    Unreachable {
        node: NodeId,
    },
    /// The snapshot that `Effects::snapshots_wanted` asked for.
    SnapshotTaken {
        to: NodeId,
        snapshot: Snapshot,
    },
    /// It (and what travels apart from it) got there, or did not.
    SnapshotSent {
        node: NodeId,
        ok: bool,
    },
    /// Start an election as if the leader had been silent for too long.
    Campaign,
}

/// What the caller owes the node. The order of the fields is the order of the duties.
///
/// [`step`](crate::Node::step) adds to it: act after each step, or after several at once, and
/// [`clear`](Self::clear) it for the next ones.
#[derive(Debug, Default)]
pub struct Effects {
    /// Install it in place of the state, and drop the log before it. Comes before `append` and
    /// `commit`, and voids what was handed out earlier. The log is told of it (durably) before
    /// the state is saved with it: a state ahead of its log cannot be started from.
    pub snapshot: Option<Snapshot>,
    /// Write these; an index that was written before replaces it and all that followed.
    pub append: Vec<Entry>,
    /// Write it. Without `persist` (the commit index alone has moved) it may be lost.
    pub hard_state: Option<HardState>,
    /// Sync the three above, then answer [`Input::Persisted`].
    pub persist: Option<PersistId>,
    /// Send these, at once: nothing in them rests on what is not durable.
    pub send: Vec<Message>,
    /// Apply these in order, then answer [`Input::Applied`]. They are durable here.
    pub commit: Vec<Entry>,
    /// Reads that may be served as soon as their index is applied.
    pub reads: Vec<ReadReady>,
    /// What nobody will hear of again.
    pub dropped: Vec<Dropped>,
    /// Followers that need entries we no longer have: take a snapshot of what is applied, and
    /// answer [`Input::SnapshotTaken`]; or [`Input::SnapshotSent`] without success.
    pub snapshots_wanted: Vec<NodeId>,
    /// Who leads now, if that has changed.
    pub role: Option<RoleChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    pub context: Context,
    pub index: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    pub role: RoleKind,
    pub leader: Option<NodeId>,
    pub term: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// Something of this member's own that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The batch that was proposed in this step.
    Proposal {
        reason: Reason,
    },
    /// The conf change at this place in the batch: an empty entry went in its stead.
    ConfChange {
        position: usize,
        reason: Reason,
    },
    Read {
        context: Context,
        reason: Reason,
    },
    /// A committed conf change that cannot follow the configuration: nothing changed.
    Unfit {
        index: Index,
        reason: ConfChangeError,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoLeader,
    /// Leadership is being handed over.
    Transferring,
    /// This leader is no voter any more, and looks for another.
    Removed,
    /// Too much waits already.
    Overloaded,
    /// The leader that was asked leads no more.
    LeaderChanged,
    /// Another change of membership has not been applied yet.
    ConfChangePending,
    /// There is no joint configuration to leave, or one that must be left first.
    WrongConfiguration,
    /// This member uses a read's name a second time.
    ContextReused,
}

impl Effects {
    /// Forgets what has been done, and keeps the room for what comes.
    pub fn clear(&mut self) {
        self.snapshot = None;
        self.append.clear();
        self.hard_state = None;
        self.persist = None;
        self.send.clear();
        self.commit.clear();
        self.reads.clear();
        self.dropped.clear();
        self.snapshots_wanted.clear();
        self.role = None;
    }

    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none()
            && self.append.is_empty()
            && self.hard_state.is_none()
            && self.persist.is_none()
            && self.send.is_empty()
            && self.commit.is_empty()
            && self.reads.is_empty()
            && self.dropped.is_empty()
            && self.snapshots_wanted.is_empty()
            && self.role.is_none()
    }
}
