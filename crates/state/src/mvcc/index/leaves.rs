//! A sorted map from keys to chains, made for a million long keys.
//!
//! ```text
//! bounds   ""            "f"           "q"         a tree, small enough to stay in the cache
//!          │             │             │
//! leaves   a b c d e     f g h … p     q r s       up to LEAF_MAX rows each
//! ```
//!
//! What a look-up costs is looking at keys, which lie all over the memory. A tree of small nodes looks at
//! several in each node it passes; this one mostly at one, see [`leaf`](super::leaf).
//!
//! # Invariants
//!
//! - A key lies in the leaf with the greatest bound at or below it; the first bound is the empty key.
//! - Only the first leaf may be empty, and none has more than [`LEAF_MAX`] rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Span;
use super::chain::Chain;
use super::leaf::{Leaf, Row};

/// Rows in a leaf. Few in tests, so that leaves are split and joined there.
const LEAF_MAX: usize = if cfg!(test) { 4 } else { 128 };

/// Rows in a leaf of an index built at once: some room is left.
const LEAF_FILL: usize = LEAF_MAX * 3 / 4;

pub(super) struct Leaves {
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    len: usize,
}

impl Default for Leaves {
    fn default() -> Self {
        Self { leaves: BTreeMap::from([(Box::default(), Leaf::default())]), len: 0 }
    }
}

impl Leaves {
    /// From rows in the order of their keys, none twice.
    pub(super) fn build(rows: Vec<Row>) -> Self {
        let mut all = Self { len: rows.len(), ..Self::default() };
        let mut rows = rows.into_iter().peekable();
        while let Some((first, _)) = rows.peek() {
            let bound = if all.leaves.len() == 1 && all.leaves[&[][..]].rows().is_empty() {
                Box::default()
            } else {
                first.clone()
            };
            let mut filled = Vec::with_capacity(LEAF_FILL);
            filled.extend(rows.by_ref().take(LEAF_FILL));
            all.leaves.insert(bound, Leaf::build(filled));
        }
        all
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn leaf_of(&self, key: &[u8]) -> (&[u8], &Leaf) {
        let below = (Bound::Unbounded, Bound::Included(key));
        let leaf = self.leaves.range::<[u8], _>(below).next_back();
        leaf.map(|(bound, leaf)| (bound.as_ref(), leaf)).expect("the first bound is below any key")
    }

    fn leaf_of_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let below = (Bound::Unbounded, Bound::Included(key));
        let leaf = self.leaves.range_mut::<[u8], _>(below).next_back();
        leaf.map(|(_, leaf)| leaf).expect("the first bound is below any key")
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<(&[u8], &Chain)> {
        let (_, leaf) = self.leaf_of(key);
        let (key, chain) = &leaf.rows()[leaf.search(key).ok()?];
        Some((key, chain))
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Chain> {
        let leaf = self.leaf_of_mut(key);
        let at = leaf.search(key).ok()?;
        Some(leaf.chain_mut(at))
    }

    /// Changes the chain of `key`, or puts in the one that is made for it.
    pub(super) fn upsert<T, E>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&mut Chain>) -> Result<(T, Option<Chain>), E>,
    ) -> Result<T, E> {
        let leaf = self.leaf_of_mut(key);
        let at = match leaf.search(key) {
            Ok(at) => return Ok(change(Some(leaf.chain_mut(at)))?.0),
            Err(at) => at,
        };
        let (result, made) = change(None)?;
        let Some(chain) = made else { return Ok(result) };
        leaf.insert(at, (key.into(), chain));
        if leaf.len() > LEAF_MAX {
            // Keys that come in their order leave full leaves behind.
            let half = if at + 1 == leaf.len() { at } else { leaf.len() / 2 };
            let right = leaf.split_off(half);
            self.leaves.insert(right.rows()[0].0.clone(), right);
        }
        self.len += 1;
        Ok(result)
    }

    /// The rows of `span`, in order.
    pub(super) fn rows<'a>(
        &'a self,
        span: &Span,
    ) -> impl Iterator<Item = (&'a [u8], &'a Chain)> + use<'a> {
        let (one, range) = match span {
            Span::One(key) => (self.get(key), None),
            Span::From(start) => (None, Some((start.as_slice(), None))),
            // An end at or before its start is no error to etcd: nothing lies between.
            Span::Between(start, end) if start < end => {
                (None, Some((start.as_slice(), Some(end.as_slice()))))
            }
            Span::Between(..) => (None, None),
        };
        let end = range.and_then(|(_, end)| end).map(<[u8]>::to_vec);
        let leaves = range.map(|(start, end)| {
            let (bound, leaf) = self.leaf_of(start);
            let (Ok(before) | Err(before)) = leaf.search(start);
            let until = end.map_or(Bound::Unbounded, Bound::Excluded);
            let walk = self.leaves.range::<[u8], _>((Bound::Included(bound), until));
            walk.enumerate()
                .map(move |(i, (_, leaf))| &leaf.rows()[if i == 0 { before } else { 0 }..])
        });
        let within = move |leaf: &'a [Row]| {
            let Some(end) = &end else { return leaf };
            let is_inside = |(key, _): &Row| key.as_ref() < end.as_slice();
            // Most leaves lie inside as a whole: one key of them tells.
            if leaf.last().is_none_or(is_inside) {
                return leaf;
            }
            &leaf[..leaf.partition_point(is_inside)]
        };
        let rows = leaves.into_iter().flatten().flat_map(within);
        one.into_iter().chain(rows.map(|(key, chain)| (key.as_ref(), chain)))
    }

    /// Calls `visit` for rows from `from` on, until it has seen `points_max` points, and forgets those it
    /// says false of. Returns the key to go on with.
    pub(super) fn retain(
        &mut self,
        from: &[u8],
        points_max: usize,
        mut visit: impl FnMut(&mut Chain) -> bool,
    ) -> Option<Vec<u8>> {
        let bound: Box<[u8]> = self.leaf_of(from).0.into();
        let (mut seen, mut next, mut empty) = (0, None, Vec::new());
        for (bound, leaf) in self.leaves.range_mut(bound..) {
            let before = leaf.len();
            leaf.retain(|(key, chain)| {
                if key.as_ref() < from || next.is_some() {
                    return true;
                }
                if seen >= points_max {
                    next = Some(key.to_vec());
                    return true;
                }
                seen += chain.len();
                visit(chain)
            });
            self.len -= before - leaf.len();
            if leaf.rows().is_empty() && !bound.is_empty() {
                empty.push(bound.clone());
            }
            if next.is_some() {
                break;
            }
        }
        for bound in empty {
            self.leaves.remove(&bound);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use stdx::{Generator, each_seed};

    use super::super::tests::places;
    use super::*;
    use crate::mvcc::index::Point;

    fn chain(main: i64, place: storage::revlog::Place) -> Chain {
        let (tombstone, leased) = (false, false);
        let (create_revision, version) = (main, 1);
        Chain::new(Point { main, sub: 0, tombstone, leased, place, create_revision, version })
    }

    /// Keys that are the same but for a few bytes, before, in or behind their heads.
    fn key(g: &mut Generator) -> Vec<u8> {
        let mut key = vec![b'a'; g.int(0..=12)];
        key.extend(g.vec(0..4, |g| *g.pick(&[0, b'a', u8::MAX])));
        key
    }

    fn stays(key: &[u8]) -> bool {
        key.len() % 3 == 1
    }

    #[test]
    fn leaves_are_a_sorted_map() {
        let place = places(1)[0];
        each_seed(|g| {
            let mut model: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            let mut leaves = Leaves::default();
            for n in 0..150 {
                let key = key(g);
                if g.chance(10) {
                    let rows = model.iter();
                    let rows = rows.map(|(k, main)| (k.as_slice().into(), chain(*main, place)));
                    leaves = Leaves::build(rows.collect());
                }
                if g.chance(15) {
                    let max = g.int(1..=8);
                    let mut keys: Vec<_> =
                        model.range(key.clone()..).map(|(k, _)| k.clone()).collect();
                    let rest = keys.split_off(max.min(keys.len()));
                    for key in keys.iter().filter(|key| !stays(key)) {
                        model.remove(key);
                    }
                    let mut of = keys.iter();
                    let next = leaves.retain(&key, max, |_| stays(of.next().expect("a key")));
                    assert_eq!(next.as_ref(), rest.first());
                } else {
                    let put = leaves.upsert(&key, |old| {
                        Ok::<_, ()>(match old {
                            Some(old) => (old.newest().main, None),
                            None => (n, Some(chain(n, place))),
                        })
                    });
                    assert_eq!(put.as_ref(), Ok(&*model.entry(key.clone()).or_insert(n)));
                }
                assert_eq!(leaves.len(), model.len());
                leaves.leaves.values().for_each(Leaf::check);
                let span = Span::new(&key, &self::key(g));
                let found: Vec<_> =
                    leaves.rows(&span).map(|(k, c)| (k.to_vec(), c.newest().main)).collect();
                let expected: Vec<_> =
                    model.clone().into_iter().filter(|(k, _)| span.contains(k)).collect();
                assert_eq!(found, expected);
                assert_eq!(leaves.get_mut(&key).is_some(), model.contains_key(&key));
            }
        });
    }
}
