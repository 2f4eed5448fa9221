//! The latest changes, in the order of their revisions.
//!
//! A watcher that starts where a list ended, or fell behind for a moment, wants the last few revisions
//! of some keys. The index would have to be walked for them; this ring just has them.
//!
//! # Invariants
//!
//! - All changes with a revision above `floor` are here, in (main, sub) order; none below is.
//! - Bounded by [`CHANGES_MAX`] and [`KEY_BYTES_MAX`]; the oldest revision leaves first, as a whole.

use std::collections::VecDeque;

use storage::revlog::Place;

use super::index::Point;

const CHANGES_MAX: usize = 1 << 16;
const KEY_BYTES_MAX: usize = 8 << 20;

pub(crate) struct Recent {
    changes: VecDeque<(Box<[u8]>, Point)>,
    key_bytes: usize,
    floor: i64,
}

impl Recent {
    /// Knows nothing of what happened up to `head`.
    pub(crate) fn new(head: i64) -> Self {
        Self { changes: VecDeque::new(), key_bytes: 0, floor: head }
    }

    pub(crate) fn push(&mut self, key: &[u8], point: Point) {
        self.key_bytes += key.len();
        self.changes.push_back((key.into(), point));
        while self.changes.len() > CHANGES_MAX || self.key_bytes > KEY_BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, oldest)) = self.changes.front() else { return };
        self.floor = oldest.main;
        while let Some((key, _)) = self.changes.pop_front_if(|(_, p)| p.main <= self.floor) {
            self.key_bytes -= key.len();
        }
    }

    /// Whether all changes from `from` on are here.
    pub(crate) fn reaches(&self, from: i64) -> bool {
        from > self.floor
    }

    /// The changes from revision `from` on.
    pub(crate) fn since(&self, from: i64) -> impl Iterator<Item = (&[u8], &Point)> {
        let start = self.changes.partition_point(|(_, point)| point.main < from);
        self.changes.range(start..).map(|(key, point)| (key.as_ref(), point))
    }

    /// A record has moved.
    pub(crate) fn relocate(&mut self, order: (i64, u32), new: Place) {
        if let Ok(i) = self.changes.binary_search_by_key(&order, |(_, point)| point.order()) {
            self.changes[i].1.place = new;
        }
    }
}
