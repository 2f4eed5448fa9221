//! What raft wants to be durable, as the write-ahead log takes it.

use std::io;

use raft::{Entry, HardState, NodeId};
use storage::wal::{self, EntryRef, Wal};

/// Appends to `wal`, which has it after its next flush.
pub fn append(wal: &mut Wal, entries: &[Entry], hard_state: Option<HardState>) -> io::Result<()> {
    let entries = entries.iter().map(|entry| EntryRef {
        kind: entry.kind as u8,
        term: entry.term.0,
        index: entry.index.0,
        data: &entry.data,
    });
    let hard_state = hard_state.map(|state| wal::HardState {
        term: state.term.0,
        vote: state.vote.map_or(0, NodeId::get),
        commit: state.commit.0,
    });
    wal.append(entries, hard_state)
}
