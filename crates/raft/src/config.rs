//! How a node is set up, and what it remembers from before.

use crate::entry::{Entry, HardState};
use crate::membership::ConfState;
use crate::number::{EntryId, Index, NodeId, Term};

/// Entries in one append, in bytes.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Appends under way to one follower.
pub const IN_FLIGHT_MAX: usize = 512;
/// Bytes under way to one follower.
pub const IN_FLIGHT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes a leader takes in before they are committed.
pub const UNCOMMITTED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes given to the state machine before it says that they are applied.
pub const APPLYING_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Config {
    pub id: NodeId,
    /// A follower waits for one to two times this long before it campaigns.
    pub election_ticks: u32,
    pub heartbeat_ticks: u32,
    /// Ask whether an election could be won before disturbing anyone with it.
    pub pre_vote: bool,
    /// A leader that a majority does not answer steps down, and whoever hears of a leader
    /// votes for no other.
    pub check_quorum: bool,
    pub message_bytes_max: u64,
    pub in_flight_max: usize,
    pub in_flight_bytes_max: u64,
    pub uncommitted_bytes_max: u64,
    pub applying_bytes_max: u64,
    /// Of the election timeouts; members should differ in it.
    pub seed: u64,
}

impl Config {
    /// etcd's settings.
    pub fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            message_bytes_max: MESSAGE_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            applying_bytes_max: APPLYING_BYTES_MAX,
            seed,
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.heartbeat_ticks > 0, "a heartbeat takes time");
        assert!(self.election_ticks > self.heartbeat_ticks, "elections are slower than heartbeats");
        assert!(self.in_flight_max > 0, "something must be under way");
    }
}

/// What the disk remembers.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The members as of `applied`.
    pub conf_state: ConfState,
    /// The entry before the first in `entries`: 0@0, or a snapshot's.
    pub snapshot: EntryId,
    pub entries: Vec<Entry>,
    /// How far the state machine has come. It may be ahead of the commit index on disk.
    pub applied: Index,
}

/// What the disk remembers makes no sense: no node can start from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconsistent {
    /// The entry does not follow the one before it.
    Gap { at: EntryId },
    /// Committed or applied beyond the end of the log.
    LogTooShort { last: Index, needed: Index },
    /// The state machine is behind the log's beginning.
    StateTooOld { applied: Index, first: Index },
    /// The configuration contradicts itself.
    Membership,
}

impl Recovered {
    pub(crate) fn check(&self) -> Result<(), Inconsistent> {
        let mut last = self.snapshot;
        for entry in &self.entries {
            if entry.index != last.index.next() || entry.term < last.term {
                return Err(Inconsistent::Gap { at: entry.id() });
            }
            last = entry.id();
        }
        let needed = self.commit();
        if needed > last.index {
            return Err(Inconsistent::LogTooShort { last: last.index, needed });
        }
        if self.applied < self.snapshot.index {
            let first = self.snapshot.index.next();
            return Err(Inconsistent::StateTooOld { applied: self.applied, first });
        }
        let nobody = self.conf_state == ConfState::default();
        if !nobody && !self.conf_state.is_well_formed() {
            return Err(Inconsistent::Membership);
        }
        Ok(())
    }

    /// The term to go on in. A crash may have spared entries and torn off the hard state written with them:
    /// of their term nothing else is remembered, so no vote in it was ever told to anybody.
    pub(crate) fn term_and_vote(&self) -> (Term, Option<NodeId>) {
        let HardState { term, vote, .. } = self.hard_state;
        let last = self.entries.last().map_or(self.snapshot.term, |entry| entry.term);
        if last > term { (last, None) } else { (term, vote) }
    }

    /// What is applied was committed, even if the disk has not heard of it.
    pub(crate) fn commit(&self) -> Index {
        self.hard_state.commit.max(self.applied).max(self.snapshot.index)
    }
}
