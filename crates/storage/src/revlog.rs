//! The revision log: every revision of every key, in the order they were made.
//!
//! A log that is only ever appended to, in segments of bounded size. Where a revision lies is known to the
//! key index, which lives in memory and belongs to someone else; this is what it points into. Compaction
//! marks records as dead and costs nothing more. A collector copies what is alive out of segments that are
//! mostly dead and unlinks them while everything goes on. Nothing is ever rewritten in place, and there is
//! no defragmentation.
//!
//! ```text
//!  append ──► tail ──256 KiB──► segment 9            0000000000000009.rev     the active one
//!                               segments 7 8         …8.rev …7.rev            sealed, each with a footer
//!  victims 3 4 5 ──collect────► segment 10           …a.rev                   sealed, takes their place
//!
//!  checkpoint ──► sync segments ──► ledger           0000000000000002.ledger
//!                 segments · dead records · small tables · mark: one transaction, whole or not at all
//! ```
//!
//! The write-ahead log makes commands durable before they get here. So nothing is synced on the way in: a
//! crash may cost everything since the last committed checkpoint, and the member applies the entries after
//! its mark again.
//!
//! # Invariants
//!
//! - After a crash the store is exactly as it was when the last committed checkpoint was captured: the
//!   records that were there and not dead, the tables, the mark.
//! - Revisions are appended in ascending order, and segments divide them: all revisions of a segment come
//!   before those of the next one. The collector replaces neighbours by one segment in their place.
//! - A record leaves the disk only in or after the commit that makes its death durable, and with it the
//!   compaction it died of: for the ledger lists the dead, and replaces segments, in the same transaction.
//! - A place stays good until its holder has put the new one in its stead, and in a [`Pinned`] as long as that
//!   lives.
//! - After a failed write or sync nothing is retried: the member stops.
//!
//! # Files
//!
//! `segment` (with `record` and `footer`) and `ledger` draw the formats, `recover` opens, `checkpoint` commits,
//! `collect` collects.
//!
//! # Not here
//!
//! The key index, what is alive (the caller says what died), locks: one writer has the log to itself, and
//! those who read through it hold it shared.

mod checkpoint;
mod collect;
mod error;
mod footer;
mod ledger;
mod record;
mod recover;
mod scan;
mod segment;
mod shelf;
mod varint;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::checkpoint::{Checkpoint, Committed};
pub use self::collect::{Collected, DEAD_PERCENT_USUAL, Relocation, Victim};
pub use self::error::{Fatal, OpenError};
pub use self::record::{Meta, Place, Revision};
pub use self::recover::{Entries, Recovered};
use crate::pace::PORTION;
pub use crate::pace::{Hurry, Pace};

use self::checkpoint::Pending;
use self::collect::Moves;
use self::ledger::Ledger;
use self::record::{HEADER_SIZE, SegmentId};
use self::segment::Segment;
use self::shelf::Shelf;
use crate::disk::{Disk, Lock};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A segment that a record would make longer than this takes no more. One record may be longer.
    pub segment_size_max: u64,
    /// A ledger shorter than this is never rewritten.
    pub ledger_size_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_size_max: 128 << 20, ledger_size_min: ledger::REWRITE_SIZE_MIN }
    }
}

/// The longest segment that may be asked for: offsets are 32 bits wide.
const SEGMENT_SIZE_LIMIT: u64 = 1 << 30;

/// Rows of the small tables: what they say is the caller's business.
pub type Tables = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// What a checkpoint says of the state it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The last entry of the cluster's log that is part of it, and its term.
    pub consistent_index: u64,
    pub term: u64,
    /// Reads below this revision are refused; −1 before any compaction.
    pub compacted: i64,
    /// The compaction that was asked for last; it may still be under way.
    pub scheduled: i64,
    /// The newest revision.
    pub head: i64,
}

/// As etcd begins: at revision 1, and nothing compacted.
impl Default for Mark {
    fn default() -> Self {
        Self { consistent_index: 0, term: 0, compacted: -1, scheduled: -1, head: 1 }
    }
}

/// A record without its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub key: &'a [u8],
    pub meta: Meta,
    pub place: Place,
    /// Of the encoded KeyValue.
    pub len: u32,
}

/// How much room the log takes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub on_disk: u64,
    /// Of it, records that are not dead.
    pub live: u64,
    /// Of it, what tells where records are and which are dead.
    pub overhead: u64,
}

impl Size {
    /// What a collector that collects everything would leave.
    pub fn in_use(self) -> u64 {
        self.live + self.overhead
    }
}

type Segments = BTreeMap<SegmentId, Arc<Segment>>;

/// The revision log, open for writing.
pub struct Revlog {
    shared: Arc<Shared>,
    config: Config,
    /// All that can be read. Replaced, not changed, so that those who pinned it keep theirs.
    segments: Arc<Segments>,
    shelf: Shelf,
    active: Arc<Segment>,
    /// Where the next record goes.
    active_end: u64,
    /// Up to where the active segment was handed to the disk by `write_out`.
    written_out: u64,
    next_segment: SegmentId,
    last: Revision,
    pending: Pending,
    /// Of the last checkpoint captured.
    sequence: u64,
    mark: Mark,
    collection: Collection,
}

/// How far the collector is. There is one collection at a time.
enum Collection {
    None,
    /// A victim was handed out; its segments take no part in the next choice.
    Copying,
    /// Copies can be read, and the caller is replacing places.
    Moving(Arc<Moves>),
}

/// What the threads that commit and collect have in common with the writer.
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    ledger: Mutex<Ledger>,
    /// Bytes on the disk beside the records: footers and the ledger.
    overhead: Overhead,
    /// The folder is ours until the last of them is done.
    _lock: Box<dyn Lock>,
}

#[derive(Default)]
struct Overhead {
    footers: AtomicU64,
    ledger: AtomicU64,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revlog {
    /// Appends a revision of `key`; `key_value` is its canonical encoding.
    ///
    /// # Panics
    ///
    /// If the revision is not past the last one, or a tombstone has properties of a value.
    pub fn append(&mut self, meta: &Meta, key: &[u8], key_value: &[u8]) -> Result<Place, Fatal> {
        assert!(meta.revision > self.last, "{:?} after {:?}", meta.revision, self.last);
        let bare = meta.create_revision == 0 && meta.version == 0 && meta.lease == 0;
        assert!(!meta.tombstone || bare, "a tombstone has a key and nothing else");
        debug_assert!(agrees(meta, key, key_value), "the KeyValue says something else");
        let length = (HEADER_SIZE + key_value.len()) as u64;
        let is_empty = self.active_end == segment::FIRST_OFFSET;
        if self.active_end + length > self.config.segment_size_max && !is_empty {
            self.roll()?;
        }
        let appended = self.active.append(meta, key_value)?;
        self.active_end = appended.end;
        self.last = meta.revision;
        self.shelf.grow(self.active.id, length);
        self.pending.bytes += length;
        Ok(Place::new(self.active.id, appended.offset))
    }

    /// Ends the active segment and starts the next. From the next checkpoint on the collector may take it.
    /// Does nothing while it is empty.
    pub fn roll(&mut self) -> Result<(), Fatal> {
        if self.active_end == segment::FIRST_OFFSET {
            return Ok(());
        }
        self.active.flush()?;
        let next = self.take_segment_id();
        let next = Arc::new(Segment::create(&*self.shared.disk, &self.shared.dir, next)?);
        self.pending.files_created = true;
        let full = std::mem::replace(&mut self.active, next);
        self.pending.full.push(full);
        self.shelf.push(self.active.id);
        self.active_end = segment::FIRST_OFFSET;
        self.written_out = segment::FIRST_OFFSET;
        let active = Arc::clone(&self.active);
        Arc::make_mut(&mut self.segments).insert(active.id, active);
        Ok(())
    }

    /// Has the disk begin with what was appended, so that the next checkpoint finds little left. For who
    /// appends much at a time, and now and then has a rest.
    pub fn write_out(&mut self, pace: &mut dyn Pace) -> Result<(), Fatal> {
        if self.active_end - self.written_out >= PORTION {
            self.active.write_out(self.written_out)?;
            self.written_out = self.active_end;
        }
        pace.rest();
        Ok(())
    }

    fn take_segment_id(&mut self) -> SegmentId {
        let id = self.next_segment;
        self.next_segment = SegmentId(id.0.checked_add(1).expect("fewer than 2^32 segments"));
        id
    }

    /// Appends the KeyValue at `place` to `out`. Any number of threads may read at a time.
    pub fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Fatal> {
        segment_of(&self.segments, place).read(place.offset(), out)
    }

    /// The length of the KeyValue at `place`.
    pub fn len_of(&self, place: Place) -> Result<u32, Fatal> {
        segment_of(&self.segments, place).len_of(place.offset())
    }

    /// Keeps all places that are good now readable, even when their segments are collected.
    pub fn pin(&self) -> Pinned {
        Pinned { segments: Arc::clone(&self.segments) }
    }

    /// Sets a row of a small table, or removes it. Durable with the next checkpoint.
    pub fn table_set(&mut self, table: u8, key: &[u8], value: Option<&[u8]>) {
        self.pending.bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
        self.pending.rows.insert((table, key.to_vec()), value.map(<[u8]>::to_vec));
    }

    /// Says that the record at `place`, of a KeyValue of `len` bytes, will never be asked for again: the
    /// mark's compaction removed it. To be said once of each record; and of one key's records oldest first,
    /// unless no checkpoint comes between, for a restart must not find an older one without the newer.
    pub fn dead(&mut self, place: Place, len: u32) {
        self.bury(place, Some(u64::from(len) + HEADER_SIZE as u64));
    }

    /// As `dead`, of a record whose length only the disk knows: it is not asked, so that nobody waits for it.
    /// [`Size::live`] is then an estimate, until the record is collected.
    pub fn dead_unmeasured(&mut self, place: Place) {
        self.bury(place, None);
    }

    fn bury(&mut self, place: Place, bytes: Option<u64>) {
        let place = match &self.collection {
            Collection::Moving(moves) => moves.original_of(place),
            Collection::None | Collection::Copying => place,
        };
        self.shelf.dead(place, bytes);
        self.pending.bytes += size_of::<u32>() as u64;
    }

    pub fn size(&self) -> Size {
        let Overhead { footers, ledger } = &self.shared.overhead;
        let overhead = footers.load(Ordering::Relaxed) + ledger.load(Ordering::Relaxed);
        Size { on_disk: self.shelf.bytes() + overhead, live: self.shelf.live_bytes(), overhead }
    }

    /// Whether no checkpoint was ever captured, now or in an earlier life.
    pub fn is_new(&self) -> bool {
        self.sequence == 0
    }

    /// Roughly how many bytes the next checkpoint has to make durable.
    pub fn unsynced(&self) -> u64 {
        self.pending.bytes
    }
}

/// The log's segments as they were at some moment, readable without the log.
#[derive(Clone)]
pub struct Pinned {
    segments: Arc<Segments>,
}

impl Pinned {
    /// As [`Revlog::read`], of places that were good when this was pinned.
    pub fn read(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Fatal> {
        segment_of(&self.segments, place).read(place.offset(), out)
    }

    /// As [`Revlog::len_of`].
    pub fn len_of(&self, place: Place) -> Result<u32, Fatal> {
        segment_of(&self.segments, place).len_of(place.offset())
    }
}

fn segment_of(segments: &Segments, place: Place) -> &Segment {
    segments.get(&place.segment()).expect("the segment of a good place")
}

/// Whether a restart would read from `key_value` what the caller says of it.
fn agrees(meta: &Meta, key: &[u8], key_value: &[u8]) -> bool {
    let header = record::Header { length: 0, revision: meta.revision, tombstone: meta.tombstone };
    record::describe(&header, key_value) == Some((key, *meta))
}
