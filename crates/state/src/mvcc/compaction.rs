//! Compaction: logical at once, and then, in turns, the index forgets.
//!
//! From the entry that says so, reads below the revision are refused. What the index then gives up, a
//! thousand points a turn, is reported dead to the store, whose collector frees the space some day.
//!
//! ```text
//! apply: compact 90 ─► refused below 90 ─┬─ turn ─ turn ─ turn ─► finished = 90 ─► hash job
//!                                        └ puts go on in between
//! ```
//!
//! # Invariants
//!
//! - One compaction is pruned at a time; of those that come meanwhile only the latest matters.
//! - Pruning and collecting exclude each other, so the places a hash job remembers stay good.

use proto::error::Error;
use storage::revlog::Place;

use super::Mvcc;
use super::hash::{HashJob, Item, Items};
use super::index::Fate;

/// Points looked at under one lock, to the end of a key: a few tenths of a millisecond.
const POINTS_PER_TURN: usize = 1_000;

/// A compaction the index is still being pruned for.
pub(crate) struct Pruning {
    at: i64,
    /// The key to go on with.
    next: Vec<u8>,
    /// What the compaction's hash will cover; `None` if it can't be told any more.
    hash: Option<Items>,
    previous: i64,
}

impl Mvcc {
    /// Refuses reads below `revision` from now on.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.head {
            return Err(Error::FutureRev);
        }
        let previous = std::mem::replace(&mut self.compacted, revision);
        if self.pruning.is_none() {
            // Behind an unfinished one etcd keeps no hash either.
            let hash = (self.finished == previous).then(Items::default);
            self.pruning = Some(Pruning { at: revision, next: Vec::new(), hash, previous });
        }
        Ok(())
    }

    /// Whether the index holds nothing any more that the latest compaction gave up.
    pub(crate) fn is_pruned(&self) -> bool {
        self.pruning.is_none()
    }

    /// The compaction the index has been pruned for.
    pub(crate) fn finished(&self) -> i64 {
        self.finished
    }

    /// Prunes some keys. At the end of a compaction, returns what computes its hash.
    pub(crate) fn prune_turn(&mut self) -> Option<HashJob> {
        let mut pruning = self.pruning.take()?;
        let mut dropped = Vec::new();
        let hash = &mut pruning.hash;
        let next = self.index.prune(&pruning.next, POINTS_PER_TURN, pruning.at, |fate, point| {
            if fate == Fate::Dropped {
                dropped.push(point.place);
            }
            if let Some(items) = hash {
                items.push(Item::new(&point, fate == Fate::Kept));
            }
        });
        self.bury(&dropped);
        self.n_dropped += dropped.len() as u64;
        if let Some(next) = next {
            self.pruning = Some(Pruning { next, ..pruning });
            return None;
        }
        self.finished = pruning.at;
        if self.compacted > self.finished {
            self.pruning = Some(Pruning {
                at: self.compacted,
                next: Vec::new(),
                hash: None,
                previous: self.finished,
            });
        }
        let (previous, at) = (pruning.previous, pruning.at);
        pruning.hash.map(|items| HashJob::new(items, previous, at, self.log.pin()))
    }

    /// Reports records dead that the index has dropped.
    pub(crate) fn bury(&mut self, dropped: &[Place]) {
        for &place in dropped {
            self.log.dead_unmeasured(place);
        }
    }
}
