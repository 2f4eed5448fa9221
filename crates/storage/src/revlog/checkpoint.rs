//! A checkpoint: what a restart will find.
//!
//! Capturing one is cheap and happens between two commands, under the writer's lock; committing it writes,
//! syncs and takes its time on another thread, while the log goes on.
//!
//! ```text
//! capture   flush the tail; note position, deaths, rows, segments that are full, added, removed
//! commit    footers of full segments ─► sync them and the active one ─► sync the folder
//!             ─► ledger: one transaction ─► sync ─► unlink removed segments ─► maybe a new ledger
//! free      the room of what was unlinked, for which nobody waits
//! ```
//!
//! # Invariants
//!
//! - Checkpoints are committed in the order they were captured, and each of them.   (asserted by the ledger)
//! - The ledger names nothing that is not durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Context, Fatal};
use super::ledger::item::{Dead, Item, Position};
use super::record::SegmentId;
use super::segment::{Sealed, Segment};
use super::{Mark, Revlog, Shared};
use crate::disk::File;
use crate::pace::{self, Pace};

/// What has happened since the last checkpoint was captured, beside records and deaths.
#[derive(Default)]
pub(super) struct Pending {
    /// Roughly what there is to be made durable.
    pub bytes: u64,
    /// A segment was made whose name is not durable.
    pub files_created: bool,
    /// Segments that take no more records, without footer yet.
    pub full: Vec<Arc<Segment>>,
    /// Segments the collector made.
    pub added: Vec<(SegmentId, Sealed)>,
    /// Segments it emptied.
    pub removed: Vec<Arc<Segment>>,
    pub rows: BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>,
}

/// A captured checkpoint. Each must be committed, in the order they were captured; or the log is to be
/// opened anew.
#[must_use = "a checkpoint that is not committed is none, and no later one can be"]
pub struct Checkpoint {
    shared: Arc<Shared>,
    sequence: u64,
    mark: Mark,
    position: Position,
    active: Arc<Segment>,
    /// Whether the tail reached the file.
    flushed: Result<(), Fatal>,
    dead: Vec<(SegmentId, Dead)>,
    pending: Pending,
}

impl Revlog {
    /// Captures the log as it is, as belonging to `mark`.
    ///
    /// # Panics
    ///
    /// If the mark is behind the last one or behind the newest revision.
    pub fn checkpoint(&mut self, mark: Mark) -> Checkpoint {
        assert!(mark.consistent_index >= self.mark.consistent_index, "{mark:?} < {:?}", self.mark);
        assert!(mark.compacted >= self.mark.compacted, "{mark:?} < {:?}", self.mark);
        assert!(mark.head >= self.last.main, "{mark:?} lacks {:?}", self.last);
        let flushed = self.active.flush();
        self.mark = mark;
        self.sequence += 1;
        Checkpoint {
            shared: Arc::clone(&self.shared),
            sequence: self.sequence,
            mark,
            position: Position {
                segment: Some(self.active.id),
                offset: self.active_end,
                n_records: self.shelf.account(self.active.id).n_records,
            },
            active: Arc::clone(&self.active),
            flushed,
            dead: self.shelf.capture(),
            pending: std::mem::take(&mut self.pending),
        }
    }
}

impl Checkpoint {
    /// Makes the checkpoint durable. On any thread but one at a time.
    pub fn commit(mut self, pace: &mut dyn Pace) -> Result<Committed, Fatal> {
        let shared = Arc::clone(&self.shared);
        let mut ledger = shared.ledger();
        ledger.begin(self.sequence);
        std::mem::replace(&mut self.flushed, Ok(()))?;
        let sealed = self.seal_full(pace)?;
        for (_, dead) in &mut self.dead {
            pace::sort(&mut dead.offsets, pace);
        }
        self.active.sync()?;
        if self.pending.files_created {
            shared.disk.sync_dir(&shared.dir).context(&shared.dir)?;
        }
        ledger.commit(self.items(&sealed), pace)?;
        let removed = std::mem::take(&mut self.pending.removed).into_iter();
        let removed = removed.map(|segment| remove(&shared, segment)).collect::<Result<_, _>>()?;
        ledger.rewrite_if_grown(pace)?;
        shared.overhead.ledger.store(ledger.size(), Ordering::Relaxed);
        Ok(Committed { mark: self.mark, removed })
    }

    fn seal_full(&self, pace: &mut dyn Pace) -> Result<Vec<(SegmentId, Sealed)>, Fatal> {
        let mut all = Vec::with_capacity(self.pending.full.len());
        for segment in &self.pending.full {
            let sealed = segment.seal(pace)?;
            let footer = sealed.footer_end - sealed.records_end;
            self.shared.overhead.footers.fetch_add(footer, Ordering::Relaxed);
            all.push((segment.id, sealed));
        }
        Ok(all)
    }

    fn items<'a>(
        &'a mut self,
        sealed: &'a [(SegmentId, Sealed)],
    ) -> impl Iterator<Item = Item<'a>> {
        let Pending { added, removed, rows, .. } = &self.pending;
        let sealed = sealed.iter().chain(added);
        let sealed = sealed.map(|&(segment, sealed)| Item::Sealed { segment, sealed });
        let removed = removed.iter().map(|segment| Item::Removed { segment: segment.id });
        let dead = self.dead.iter_mut();
        let dead = dead.flat_map(|(id, dead)| Dead::items(*id, &mut dead.offsets, dead.bytes));
        let rows = rows.iter().map(|((table, key), value)| match value {
            Some(value) => Item::Set { table: *table, key, value },
            None => Item::Unset { table: *table, key },
        });
        let mark = Item::Mark { mark: self.mark, position: self.position };
        sealed.chain(removed).chain(dead).chain(rows).chain([mark])
    }
}

/// A checkpoint that is durable, and what it left behind.
pub struct Committed {
    pub mark: Mark,
    removed: Vec<Removed>,
}

/// A segment without a name.
struct Removed {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
}

impl Committed {
    /// Gives back the room of segments that are gone, little by little. Dropping does it too, at once.
    pub fn free(self, pace: &mut dyn Pace) -> Result<(), Fatal> {
        for Removed { segment, file } in self.removed {
            let path = segment.path.clone();
            // Readers that pinned it keep it open and whole; its room is free when they are done.
            if Arc::into_inner(segment).is_some() {
                pace::free(&*file, pace).context(&path)?;
            }
        }
        Ok(())
    }
}

/// Takes the name of a segment no restart will look for.
fn remove(shared: &Shared, segment: Arc<Segment>) -> Result<Removed, Fatal> {
    // Its own handle is mapped, and could not be cut.
    let file = shared.disk.open(&segment.path).context(&segment.path)?;
    shared.disk.remove(&segment.path).context(&segment.path)?;
    Ok(Removed { segment, file })
}
