//! What is replicated, and what each member keeps of it on its disk.

use bytes::Bytes;

use crate::membership::ConfState;
use crate::number::{EntryId, Index, NodeId, Term};

/// What an entry's data means. The numbers are raftpb's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command for the state machine; empty for a leader's first entry.
    Normal = 0,
    /// A single change of membership.
    ConfChange = 1,
    /// Several changes at once, or (empty) the way out of a joint configuration.
    ConfChangeV2 = 2,
}

/// One entry of the log. The data is opaque and never re-encoded; a clone counts a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub index: Index,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// What must survive a crash besides the log.
///
/// A lost commit is harmless (it is learnt anew); a lost term or vote elects two leaders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub commit: Index,
}

/// Stands for all entries up to `index`. The state itself may travel apart from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub index: Index,
    pub term: Term,
    pub conf_state: ConfState,
    pub data: Bytes,
}

/// What an entry costs in a message besides its data: tags, numbers and lengths, at most.
const ENTRY_OVERHEAD: u64 = 24;

impl EntryKind {
    /// The kind raftpb gives this number to.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            3.. => None,
        }
    }

    pub const fn number(self) -> u64 {
        self as u64
    }

    pub(crate) const fn changes_membership(self) -> bool {
        match self {
            Self::Normal => false,
            Self::ConfChange | Self::ConfChangeV2 => true,
        }
    }
}

impl Entry {
    pub fn id(&self) -> EntryId {
        EntryId::new(self.index, self.term)
    }

    /// Its share of a message's size limit.
    pub(crate) fn size(&self) -> u64 {
        self.data.len() as u64 + ENTRY_OVERHEAD
    }
}

impl Snapshot {
    pub fn id(&self) -> EntryId {
        EntryId::new(self.index, self.term)
    }
}
