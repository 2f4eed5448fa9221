//! What the records of a log add up to.
//!
//! # Invariants
//!
//! - Entries above the mark are kept without a gap; a later one replaces its elder of the same
//!   index and all that followed it.
//! - Entries that a leader's snapshot overruled are not found again, though etcd would (they are in
//!   the log).
//! - Terms don't fall: not from entry to entry, not from hard state to hard state.
//! - A mark that the entries before it don't lead to was a leader's snapshot. What follows it is kept apart,
//!   until the commit index has confirmed it, or an entry that it would have covered has refuted it.

use bytes::Bytes;

use super::message::{self, Malformed};
use super::record::{Kind, Record};
use super::segment::{self, Name};
use super::{Entry, EntryRef, HardState, SnapshotMark};

pub(super) struct Replay {
    after: SnapshotMark,
    pub(super) metadata: Option<Vec<u8>>,
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
    /// The segments so far.
    names: Vec<Name>,
    /// All marks, and how many segments there were when they were met.
    marks: Vec<(SnapshotMark, usize)>,
    /// Whether the mark to start after was met, in its own term.
    pub(super) has_mark: bool,
    /// The term of the newest entry at the mark's index.
    term_at_mark: Option<u64>,
    /// The index the next segment's name goes by.
    pub(super) last_index: u64,
    /// Leader's snapshots above the mark, and what follows each.
    later: Vec<Base>,
}

/// A place in the log that the entries before it don't lead to.
struct Base {
    mark: SnapshotMark,
    entries: Vec<Entry>,
}

/// Why a whole record could not be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    Corrupt(&'static str),
    Gap { expected: u64, found: u64 },
    OtherTerm,
}

impl From<Malformed> for Contradiction {
    fn from(_: Malformed) -> Self {
        Self::Corrupt("message")
    }
}

impl Replay {
    pub(super) fn new(after: SnapshotMark) -> Self {
        Self {
            after,
            metadata: None,
            hard_state: HardState::default(),
            entries: Vec::new(),
            names: Vec::new(),
            marks: Vec::new(),
            has_mark: false,
            term_at_mark: None,
            last_index: 0,
            later: Vec::new(),
        }
    }

    /// The records that follow are those of the next segment.
    pub(super) fn begin(&mut self, name: Name) {
        self.names.push(name);
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<(), Contradiction> {
        match record.kind {
            Kind::Crc => Ok(()),
            Kind::Metadata => self.metadata(record.data),
            Kind::Entry => self.entry(message::decode_entry(record.data)?),
            Kind::HardState => self.hard_state(message::decode_hard_state(record.data)?),
            Kind::Snapshot => self.snapshot(message::decode_snapshot(record.data)?),
        }
    }

    fn metadata(&mut self, data: &[u8]) -> Result<(), Contradiction> {
        match &self.metadata {
            Some(known) if known != data => Err(Contradiction::Corrupt("metadata of another log")),
            Some(_) => Ok(()),
            None => {
                self.metadata = Some(data.to_vec());
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: EntryRef) -> Result<(), Contradiction> {
        self.last_index = entry.index;
        while self.later.last().is_some_and(|base| entry.index <= base.mark.index) {
            self.later.pop(); // Its snapshot came to nothing.
        }
        if let Some(Base { mark, entries }) = self.later.last_mut() {
            return push(entries, *mark, entry);
        }
        if entry.index <= self.after.index {
            if entry.index == self.after.index {
                self.term_at_mark = Some(entry.term);
            }
            self.entries.clear(); // Were there any, they followed another entry than this one.
            return Ok(());
        }
        let term = if self.has_mark { self.after.term } else { 0 };
        push(&mut self.entries, SnapshotMark { term, ..self.after }, entry)
    }

    fn hard_state(&mut self, state: HardState) -> Result<(), Contradiction> {
        if state.term < self.hard_state.term {
            return Err(Contradiction::Corrupt("the hard state's term falls"));
        }
        self.hard_state = state;
        Ok(())
    }

    fn snapshot(&mut self, mark: SnapshotMark) -> Result<(), Contradiction> {
        if mark.index == self.after.index {
            if mark.term != self.after.term {
                return Err(Contradiction::OtherTerm);
            }
            // A leader's snapshot, in place of entries that never were committed. Those behind them
            // are void: kept, they would follow an entry they were never written after.
            if !self.has_mark && self.term_at_mark != Some(mark.term) {
                self.entries.clear();
            }
            self.has_mark = true;
        }
        self.note(mark);
        self.last_index = self.last_index.max(mark.index);
        self.marks.push((mark, self.names.len()));
        Ok(())
    }

    /// Begins a new base at `mark` if the entries there are don't lead to it.
    fn note(&mut self, mark: SnapshotMark) {
        let (base, entries) = match self.later.last() {
            Some(Base { mark, entries }) => (*mark, entries),
            None => (self.after, &self.entries),
        };
        let Some(at) = mark.index.checked_sub(base.index + 1) else { return };
        if entries.get(at as usize).map(|entry| entry.term) != Some(mark.term) {
            self.later.push(Base { mark, entries: Vec::new() });
        }
    }

    /// All has been read. The newest leader's snapshot above the mark that was committed, if there is one:
    /// nobody can start from the mark then.
    pub(super) fn settle(&mut self) -> Option<SnapshotMark> {
        let commit = self.hard_state.commit;
        while self.later.pop_if(|base| base.mark.index > commit).is_some() {
            // Nobody was told of it, so it and all behind it never happened.
            self.last_index = self.end();
        }
        self.later.last().map(|base| base.mark)
    }

    /// The index of the last entry, or the mark's if there is none above it.
    pub(super) fn end(&self) -> u64 {
        self.after.index + self.entries.len() as u64
    }

    /// The marks a member may start from: those of snapshots that were committed, and that are met
    /// by who starts reading for them. (One made by a process that died before it noted the commit
    /// may lie in a segment before the one its index leads to.)
    pub(super) fn valid_marks(&self) -> impl Iterator<Item = SnapshotMark> {
        let is_met = |&&(mark, n_segments): &&(SnapshotMark, usize)| {
            let start = segment::position_for(self.names.iter().copied(), mark.index);
            start.is_some_and(|at| at < n_segments) && mark.index <= self.hard_state.commit
        };
        self.marks.iter().filter(is_met).map(|(mark, _)| *mark)
    }
}

/// Adds an entry to those that follow `base`; it replaces its elder of the same index and all behind it.
fn push(
    entries: &mut Vec<Entry>,
    base: SnapshotMark,
    entry: EntryRef,
) -> Result<(), Contradiction> {
    let EntryRef { kind, term, index, data } = entry;
    let at = index - base.index - 1;
    if at > entries.len() as u64 {
        let expected = base.index + 1 + entries.len() as u64;
        return Err(Contradiction::Gap { expected, found: index });
    }
    entries.truncate(at as usize);
    if term < entries.last().map_or(base.term, |before| before.term) {
        return Err(Contradiction::Corrupt("an entry's term falls"));
    }
    entries.push(Entry { kind, term, index, data: Bytes::copy_from_slice(data) });
    Ok(())
}
