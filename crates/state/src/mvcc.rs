//! Every key at every revision since the last compaction.
//!
//! Values live in the store's log of revisions, the map to them in the [`index`]. A write makes the next
//! revision; it is visible once [`Mvcc::finish`] has moved the head.
//!
//! ```text
//!           compacted        head         in the making
//!    ───────────┼──────────────┼ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//!    refused    │   readable   │  changes, by sub 0 1 2
//! ```
//!
//! # Invariants
//!
//! - A revision is made as a whole or not at all: nothing can fail between its first change and `finish`
//!   but the disk, and that ends the member.
//! - Each record in the store that the index doesn't know is reported dead, so that its space comes back.
//! - The stored bytes of a record are those every other member stores: hashes agree.
//!
//! # Not here
//!
//! Leases (a key only remembers that it has one), and who may read what.

pub mod check;
pub(crate) mod compaction;
pub(crate) mod hash;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod long;
mod picks;
pub(crate) mod range;
pub(crate) mod recent;
pub(crate) mod stream;

use bytes::Bytes;
use proto::error::Error;
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use storage::revlog::{Meta, Place, Revision, Revlog};

use self::compaction::Pruning;
use self::hash::Hashes;
use self::history::Happening;
use self::index::{Index, Point, Span};
use self::recent::Recent;
use crate::encode::{KeyValueParts, key_value_fields};
use crate::fault::Fatal;
use crate::tally::Tally;

/// The revision of a store nobody has written to.
const HEAD_FIRST: i64 = 1;

/// Lists with room for more changes than this are given back to the system.
const CHANGES_KEPT: usize = 1024;

/// One change of the revision in the making.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    pub(crate) point: Point,
}

pub(crate) struct Mvcc {
    pub(crate) index: Index,
    pub(crate) log: Revlog,
    pub(crate) recent: Recent,
    pub(crate) hashes: Hashes,
    pub(crate) pruning: Option<Pruning>,
    /// How often records have moved: places remembered from before may be wrong.
    pub(crate) moves: u64,
    /// Records that compactions have given up.
    pub(crate) n_dropped: u64,
    head: i64,
    /// Keys that are there, the revision in the making included.
    n_live: usize,
    compacted: i64,
    /// The compaction the index has been pruned for.
    finished: i64,
    changes: Vec<Change>,
    scratch: Vec<u8>,
    pub(crate) tally: Tally,
}

impl Mvcc {
    /// `index` is pruned for `compacted` already.
    pub(crate) fn new(log: Revlog, index: Index, head: i64, compacted: i64) -> Self {
        assert!(HEAD_FIRST <= head && compacted <= head, "head {head}, compacted {compacted}");
        let n_live = index.scan(&Span::From(Vec::new()), i64::MAX).count();
        Self {
            index,
            log,
            recent: Recent::new(head),
            hashes: Hashes::default(),
            pruning: None,
            moves: 0,
            n_dropped: 0,
            head,
            n_live,
            compacted,
            finished: compacted,
            changes: Vec::new(),
            scratch: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The newest revision that is whole.
    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// How many keys are there now.
    pub(crate) fn n_live(&self) -> usize {
        self.n_live
    }

    /// Reads below this revision are refused.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// What a read sees now: the head, or the revision in the making if it holds anything.
    pub(crate) fn now(&self) -> i64 {
        self.head + i64::from(!self.changes.is_empty())
    }

    /// The revision a request for `revision` means, if it can be read. Any number below 1 means now.
    pub(crate) fn readable(&self, revision: i64) -> Result<i64, Error> {
        let now = self.now();
        if revision > now {
            return Err(Error::FutureRev);
        }
        let revision = if revision <= 0 { now } else { revision };
        if revision < self.compacted { Err(Error::Compacted) } else { Ok(revision) }
    }

    /// Writes `key`. True if it had a lease before.
    pub(crate) fn put(&mut self, key: &Bytes, value: &[u8], lease: i64) -> Result<bool, Fatal> {
        self.tally.puts += 1;
        self.tally.put_bytes += (key.len() + value.len()) as u64;
        let (main, sub) = (self.head + 1, self.next_sub());
        let (log, scratch) = (&mut self.log, &mut self.scratch);
        let (before, point) = self.index.extend(key, |newest| {
            let before = newest.filter(|point| !point.tombstone);
            let create_revision = before.map_or(main, |point| point.create_revision);
            let version = before.map_or(0, |point| point.version) + 1;
            scratch.clear();
            let parts =
                KeyValueParts { key, create_revision, mod_revision: main, version, value, lease };
            key_value_fields(scratch, parts);
            let revision = Revision { main, sub: i64::from(sub) };
            let meta = Meta { revision, tombstone: false, create_revision, version, lease };
            let place = log.append(&meta, key, scratch)?;
            let leased = lease != 0;
            Ok::<_, Fatal>(Point {
                main,
                sub,
                tombstone: false,
                leased,
                place,
                create_revision,
                version,
            })
        })?;
        self.n_live += usize::from(before.is_none_or(|point| point.tombstone));
        self.changes.push(Change { key: key.clone(), point });
        Ok(before.is_some_and(|point| point.leased))
    }

    /// Deletes a key that is there. True if it had a lease.
    ///
    /// # Panics
    ///
    /// If it isn't there.
    pub(crate) fn delete(&mut self, key: &Bytes) -> Result<bool, Fatal> {
        let (main, sub) = (self.head + 1, self.next_sub());
        let (log, scratch) = (&mut self.log, &mut self.scratch);
        let (before, point) = self.index.extend(key, |newest| {
            assert!(newest.is_some_and(|p| !p.tombstone), "only a key that is there is deleted");
            scratch.clear();
            crate::encode::bytes(scratch, 1, key);
            let revision = Revision { main, sub: i64::from(sub) };
            let (create_revision, version, lease) = (0, 0, 0);
            let meta = Meta { revision, tombstone: true, create_revision, version, lease };
            let place = log.append(&meta, key, scratch)?;
            let (tombstone, leased) = (true, false);
            Ok::<_, Fatal>(Point { main, sub, tombstone, leased, place, create_revision, version })
        })?;
        self.n_live -= 1;
        self.changes.push(Change { key: key.clone(), point });
        Ok(before.is_some_and(|point| point.leased))
    }

    fn next_sub(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("a request has far fewer changes")
    }

    /// The keys of `span` that are there now.
    pub(crate) fn live(&self, span: &Span) -> Vec<(Bytes, Point)> {
        let rows = self.index.scan(span, self.now());
        rows.map(|(key, point)| (Bytes::copy_from_slice(key), point)).collect()
    }

    /// Makes the revision visible, if anything was changed. Returns the changes, which the caller owes
    /// the watchers, and then [`Mvcc::published`].
    pub(crate) fn finish(&mut self) -> Vec<Change> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        self.head += 1;
        for change in &self.changes {
            self.recent.push(&change.key, change.point);
        }
        std::mem::take(&mut self.changes)
    }

    /// Takes the list of changes back, to be filled again.
    pub(crate) fn published(&mut self, mut changes: Vec<Change>) {
        assert!(self.changes.is_empty(), "one revision is published before the next is made");
        if changes.capacity() <= CHANGES_KEPT {
            changes.clear();
            self.changes = changes;
        }
    }

    /// Whether a revision is in the making.
    pub(crate) fn is_changing(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Appends the stored bytes of a point to `out`: its encoded `KeyValue`.
    pub(crate) fn read(&self, point: &Point, out: &mut Vec<u8>) -> Result<(), Fatal> {
        Ok(self.log.read(point.place, out)?)
    }

    pub(crate) fn len_of(&self, place: Place) -> Result<usize, Fatal> {
        Ok(self.log.len_of(place)? as usize)
    }

    pub(crate) fn record(&self, point: &Point) -> Result<Bytes, Fatal> {
        let mut record = Vec::new();
        self.read(point, &mut record)?;
        Ok(record.into())
    }

    pub(crate) fn key_value(&self, point: &Point) -> Result<KeyValue, Fatal> {
        decode(self.record(point)?)
    }

    /// The key a happening is about, from its record.
    pub(crate) fn key_of(&self, happening: &Happening) -> Result<Bytes, Fatal> {
        let mut record = Vec::new();
        self.log.read(happening.place, &mut record)?;
        Ok(decode(record.into())?.key)
    }

    /// Leaves watchers that are behind nothing but the walk over the keys.
    #[cfg(test)]
    pub(crate) fn forget_recent(&mut self) {
        self.recent = Recent::new(self.head);
    }

    /// Appends a point as a `KeyValue` in `field`.
    pub(crate) fn copy(&self, field: u32, point: &Point, out: &mut Vec<u8>) -> Result<(), Fatal> {
        crate::encode::prefix(out, field, self.len_of(point.place)?);
        self.read(point, out)
    }
}

/// A stored record, understood.
pub(crate) fn decode(record: Bytes) -> Result<KeyValue, Fatal> {
    KeyValue::decode(record).map_err(|_| Fatal::Record { what: "a record that is no KeyValue" })
}
