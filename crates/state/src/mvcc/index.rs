//! The key index: where each key's revisions are.
//!
//! A value is found by (key, point in time); the store is ordered by time alone. This is the map between
//! the two. It lives in memory, and is rebuilt from the store on start.
//!
//! ```text
//! put a · put a · delete a · put a          key "a"
//!   4       7        9†        12            4 v1 ─ 7 v2 ─ 9† ─ 12 v1       † tombstone
//! ```
//!
//! # Invariants
//!
//! - The revisions of a key strictly increase.   (asserted in `push`)
//! - `prune` at `r` keeps, of each key, the newest point at or below `r`; a tombstone only at `r` itself
//!   (etcd#19179), so that a watch from `r` on sees it.
//! - Iteration is in key order, so two members walk alike.
//!
//! # Not here
//!
//! Values, leases, watchers. Nor locking: the caller has the index to itself, or shares it for reading.

mod chain;
mod leaf;
mod leaves;

use storage::revlog::Place;

pub(crate) use self::chain::{Chain, Point};
use self::leaves::Leaves;

/// Which keys a request means: etcd's `key` and `range_end` understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Span {
    One(Vec<u8>),
    /// From a key (included) to another (excluded).
    Between(Vec<u8>, Vec<u8>),
    /// From a key on.
    From(Vec<u8>),
}

impl Span {
    /// Empty `range_end`: one key. A single zero byte: no end.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        match range_end {
            [] => Self::One(key.to_vec()),
            [0] => Self::From(key.to_vec()),
            end => Self::Between(key.to_vec(), end.to_vec()),
        }
    }

    pub(crate) fn start(&self) -> &[u8] {
        match self {
            Self::One(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(start, end) => start.as_slice() <= key && key < end.as_slice(),
            Self::From(start) => start.as_slice() <= key,
        }
    }

    /// The same keys, without those before `from`.
    pub(crate) fn resume(&self, from: &[u8]) -> Self {
        match self {
            Self::One(key) => Self::One(key.clone()),
            Self::Between(_, end) => Self::Between(from.to_vec(), end.clone()),
            Self::From(_) => Self::From(from.to_vec()),
        }
    }
}

#[derive(Default)]
pub(crate) struct Index {
    keys: Leaves,
}

impl Index {
    /// Builds an index from all points there are, in any order. Of what is doubled (a record and its
    /// copy, when a crash came between) the later given stays.
    pub(crate) fn build(points: Vec<(Box<[u8]>, Point)>) -> Self {
        let mut points = points;
        // Stable: of doubles the later given comes later.
        points.sort_by(|(ak, a), (bk, b)| ak.cmp(bk).then_with(|| a.order().cmp(&b.order())));
        let mut keys: Vec<(Box<[u8]>, Chain)> = Vec::with_capacity(points.len());
        for (key, point) in points {
            match keys.last_mut() {
                Some((last, chain)) if *last == key => {
                    if chain.newest().order() == point.order() {
                        chain.replace_newest(point);
                    } else {
                        chain.push(point);
                    }
                }
                _ => keys.push((key, Chain::new(point))),
            }
        }
        Self { keys: Leaves::build(keys) }
    }

    /// How many keys the index holds, deleted ones that are not yet pruned among them.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// What `key` was at revision `main`; `None` if it was not.
    pub(crate) fn at(&self, key: &[u8], main: i64) -> Option<Point> {
        self.keys.get(key)?.1.at(main)
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, key: &[u8], point: Point) {
        let pushed = self.extend(key, |_| Ok::<_, ()>(point));
        assert!(pushed.is_ok());
    }

    /// Adds the point that `make` makes of the newest one there is, if it makes any. Returns both.
    pub(crate) fn extend<E>(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<Point>) -> Result<Point, E>,
    ) -> Result<(Option<Point>, Point), E> {
        self.keys.upsert(key, |chain| match chain {
            Some(chain) => {
                let newest = chain.newest();
                let point = make(Some(newest))?;
                chain.push(point);
                Ok(((Some(newest), point), None))
            }
            None => {
                let point = make(None)?;
                Ok(((None, point), Some(Chain::new(point))))
            }
        })
    }

    /// The keys of `span` that are there at revision `main`, in order.
    pub(crate) fn scan<'a>(
        &'a self,
        span: &Span,
        main: i64,
    ) -> impl Iterator<Item = (&'a [u8], Point)> + use<'a> {
        self.chains(span).filter_map(move |(key, chain)| Some((key, chain.at(main)?)))
    }

    /// The keys of `span` with all that is known of them, deleted ones too.
    pub(crate) fn chains<'a>(
        &'a self,
        span: &Span,
    ) -> impl Iterator<Item = (&'a [u8], &'a Chain)> + use<'a> {
        self.keys.rows(span)
    }

    /// Forgets, of keys from `from` on until they had `points_max` points, what a compaction at `main` gives
    /// up; tells `visit` the fate of each point at or below it, a key's oldest first. Returns the key to go on with,
    /// or `None` at the end.
    pub(crate) fn prune(
        &mut self,
        from: &[u8],
        points_max: usize,
        main: i64,
        mut visit: impl FnMut(Fate, Point),
    ) -> Option<Vec<u8>> {
        self.keys.retain(from, points_max, |chain| chain.prune(main, &mut visit))
    }

    /// The record of `key` at (`main`, `sub`) has moved. False if the index knows of none there.
    pub(crate) fn relocate(
        &mut self,
        key: &[u8],
        order: (i64, u32),
        old: Place,
        new: Place,
    ) -> bool {
        self.keys.get_mut(key).is_some_and(|chain| chain.relocate(order, old, new))
    }
}

/// What becomes of a point at or below a compaction's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Dropped,
}

#[cfg(test)]
mod tests;
