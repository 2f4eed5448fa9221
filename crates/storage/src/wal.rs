//! The write-ahead log: what a member has promised, in etcd's own format.
//!
//! A folder of segments, each a chain of records. A segment starts by repeating what a reader needs
//! who starts there: where the checksum stands, whose log it is, and the newest hard state.
//!
//! ```text
//! 0000000000000000-0000000000000000.wal       0000000000000001-00000000000186a1.wal      0.tmp
//! ┌─────┬──────────┬──────────┬───────┬─┐     ┌─────┬──────────┬────────────┬───────┬────┐ ┌────┐
//! │ crc │ metadata │ snapshot │ entry…│ │ cut │ crc │ metadata │ hard state │ entry…│ 0… │ │ 0… │
//! └─────┴──────────┴──────────┴───────┴─┘ ──► └─────┴──────────┴────────────┴───────┴────┘ └────┘
//!   0 ───────── rolling CRC32C ────────►            ───────────────────────►        the next, in zeros
//! ```
//!
//! [`Wal::append`] and [`Wal::mark_snapshot`] encode into one buffer; [`Wal::flush`] is one write
//! and one `fdatasync` for all of it. A segment is written over zeros that were put there
//! beforehand: a sync then changes no metadata of the file system, and the disk can't run full in
//! the middle of a segment.
//!
//! # Invariants
//!
//! - What `flush` has covered is found by the next `open`; what is found was appended, in that
//!   order.
//! - A crash is never taken for corruption: sectors that did not arrive end the log. Damage to what
//!   was whole is never taken for a crash, as far as the bytes can tell (see `record`).
//! - A segment gets its name after its head is durable, so every named segment has a head.
//! - After a failed write or sync the log refuses all further work.   (asserted by `Wal::ready`)
//! - A segment needed to read on from the last released mark is never removed.
//!
//! # Not here
//!
//! What an entry says; which snapshot to start from ([`Wal::marks`] lists them); when to release.
//! Snapshot files. Scripts: `testdata/wal/`.

mod log;
mod message;
mod open;
mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

pub use log::Wal;

/// After how many bytes etcd begins a new segment.
pub const SEGMENT_SIZE: u64 = 64_000_000;

/// What may differ between logs that are otherwise alike.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A segment that has reached this size is followed by a new one.
    pub segment_size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_size: SEGMENT_SIZE }
    }
}

/// What raft must not forget: `raftpb.HardState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// The place a snapshot stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotMark {
    pub index: u64,
    pub term: u64,
}

/// An entry as it was found: `raftpb.Entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `raftpb.EntryType`: 0 a command, 1 and 2 conf changes.
    pub kind: u8,
    pub term: u64,
    pub index: u64,
    pub data: Bytes,
}

/// An entry to be appended.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    pub kind: u8,
    pub term: u64,
    pub index: u64,
    pub data: &'a [u8],
}

/// What a log held when it was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub metadata: Vec<u8>,
    pub hard_state: HardState,
    /// All entries above the mark, without a gap; those above `hard_state.commit` may yet be
    /// replaced.
    pub entries: Vec<Entry>,
    /// The newest mark at or below the commit index.
    pub last_snapshot: SnapshotMark,
    /// Where the last write had been cut short by a crash, if it was.
    pub torn: Option<Position>,
}

/// A place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: PathBuf,
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at {}", self.file.display(), self.offset)
    }
}

/// Why a log could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The disk refused.
    Io { file: PathBuf, error: io::Error },
    /// The folder holds no segment: nothing was ever written here.
    Missing { dir: PathBuf },
    /// Another process has it.
    Locked { file: PathBuf },
    /// The segment the mark lies in is gone, or one after it.
    SegmentMissing { dir: PathBuf, after: SnapshotMark },
    /// The log was never told of the snapshot, or of one with another term.
    MarkMissing { dir: PathBuf, after: SnapshotMark },
    /// A leader's snapshot at this mark was taken in, and the entries before don't lead to it: install it,
    /// then open the log after it.
    SnapshotNeeded { dir: PathBuf, mark: SnapshotMark },
    /// Bytes that were whole once no longer say what was written.
    Corrupt { at: Position, what: &'static str },
    /// Well-formed, but something between this mark and the newest entries is not there.
    Gap { at: Position, expected: u64, found: u64 },
    /// The log ends before what it says was committed.
    Lost { dir: PathBuf, last: u64, commit: u64 },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "wal: {}: {error}", file.display()),
            Self::Missing { dir } => write!(f, "wal: no segment in {}", dir.display()),
            Self::Locked { file } => {
                write!(f, "wal: {} is in use by another process", file.display())
            }
            Self::SegmentMissing { dir, after } => {
                let index = after.index;
                write!(
                    f,
                    "wal: {}: the segments from entry {index} on are not all there",
                    dir.display()
                )
            }
            Self::MarkMissing { dir, after: SnapshotMark { index, term } } => {
                let dir = dir.display();
                write!(f, "wal: {dir}: no record of a snapshot at index {index} in term {term}")
            }
            Self::SnapshotNeeded { dir, mark: SnapshotMark { index, term } } => {
                let dir = dir.display();
                write!(f, "wal: {dir}: only the snapshot at index {index} in term {term} leads on")
            }
            Self::Corrupt { at, what } => write!(f, "wal: {at}: corrupt: {what}"),
            Self::Gap { at, expected, found } => {
                write!(
                    f,
                    "wal: {at}: entry {found} where {expected} or an earlier one should follow"
                )
            }
            Self::Lost { dir, last, commit } => {
                let dir = dir.display();
                write!(f, "wal: {dir}: the log ends at entry {last}, but {commit} was committed")
            }
        }
    }
}

impl std::error::Error for OpenError {}
