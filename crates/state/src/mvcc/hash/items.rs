//! What a hash covers: gathered key by key, read by revision.
//!
//! There may be millions, and whoever gathers them holds the state's lock: so they are put into runs of a
//! fixed length, which never move again, are sorted one by one, with rests in between, and merged while
//! they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec;

use storage::revlog::{Pace, Place};

use super::super::index::Point;

/// Items of a run: sorting so many is no long work.
const RUN: usize = if cfg!(test) { 3 } else { 1024 };

/// A record to hash.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(super) main: i64,
    pub(super) sub: u32,
    pub(super) tombstone: bool,
    pub(super) kept: bool,
    pub(super) place: Place,
}

impl Item {
    pub(crate) fn new(point: &Point, kept: bool) -> Self {
        let Point { main, sub, tombstone, place, .. } = *point;
        Self { main, sub, tombstone, kept, place }
    }

    fn order(&self) -> (i64, u32) {
        (self.main, self.sub)
    }
}

/// Items in no order.
#[derive(Default)]
pub(crate) struct Items {
    full: Vec<Vec<Item>>,
    filling: Vec<Item>,
    keeps_any: bool,
}

impl Items {
    pub(crate) fn push(&mut self, item: Item) {
        self.keeps_any |= item.kept;
        self.filling.push(item);
        if self.filling.len() == RUN {
            self.full.push(std::mem::take(&mut self.filling));
        }
    }

    /// Whether a compaction would keep any of them.
    pub(super) fn keeps_any(&self) -> bool {
        self.keeps_any
    }

    /// Those that `is_covered` says true of, by revision.
    pub(super) fn by_revision(
        self,
        is_covered: impl Fn(&Item) -> bool,
        pace: &mut dyn Pace,
    ) -> ByRevision {
        let mut merged = ByRevision { runs: Vec::new(), first: BinaryHeap::new() };
        for mut run in self.full.into_iter().chain([self.filling]) {
            run.retain(&is_covered);
            run.sort_unstable_by_key(Item::order);
            merged.add(run);
            pace.rest();
        }
        merged
    }
}

/// Sorted runs, being merged.
pub(super) struct ByRevision {
    runs: Vec<vec::IntoIter<Item>>,
    /// Of each run that is not at its end, the first item's order.
    first: BinaryHeap<Reverse<((i64, u32), usize)>>,
}

impl ByRevision {
    fn add(&mut self, run: Vec<Item>) {
        self.runs.push(run.into_iter());
        self.note(self.runs.len() - 1);
    }

    fn note(&mut self, run: usize) {
        if let Some(item) = self.runs[run].as_slice().first() {
            self.first.push(Reverse((item.order(), run)));
        }
    }
}

impl Iterator for ByRevision {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let Reverse((_, run)) = self.first.pop()?;
        let item = self.runs[run].next();
        self.note(run);
        item
    }
}
