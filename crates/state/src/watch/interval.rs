//! Ranges of keys, to be asked which of them contain one.
//!
//! A treap (a search tree by start whose shape is that of a random one) in which every node knows how far
//! the ranges below it reach at most. Its randomness is a fixed sequence: the shape is the same each time.

use std::cmp::Ordering;

/// From a key (included) to another (excluded), or without end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    /// `None`: no end.
    pub(super) end: Option<Vec<u8>>,
}

impl Range {
    fn key(&self) -> (&[u8], bool, &[u8]) {
        (&self.start, self.end.is_none(), self.end.as_deref().unwrap_or_default())
    }
}

impl PartialOrd for Range {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Range {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// No end is later than any.
fn ends_later(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
        (None | Some(_), None) => false,
    }
}

type Link<T> = Option<Box<Node<T>>>;

struct Node<T> {
    range: Range,
    value: T,
    priority: u64,
    /// The latest end of this node and all below it.
    reach: Option<Vec<u8>>,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Node<T> {
    fn update(&mut self) {
        let mut reach = self.range.end.as_deref();
        for child in [&self.left, &self.right].into_iter().flatten() {
            if ends_later(child.reach.as_deref(), reach) {
                reach = child.reach.as_deref();
            }
        }
        if reach != self.reach.as_deref() {
            self.reach = reach.map(<[u8]>::to_vec);
        }
    }
}

/// A value for each of many ranges.
pub(super) struct Intervals<T> {
    root: Link<T>,
    seed: u64,
    len: usize,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { root: None, seed: 1, len: 0 }
    }
}

impl<T> Intervals<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value of exactly this range.
    pub(super) fn get_mut(&mut self, range: &Range) -> Option<&mut T> {
        let mut at = self.root.as_deref_mut();
        while let Some(node) = at {
            at = match range.cmp(&node.range) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => node.left.as_deref_mut(),
                Ordering::Greater => node.right.as_deref_mut(),
            };
        }
        None
    }

    /// Adds a range that isn't there.
    pub(super) fn insert(&mut self, range: Range, value: T) {
        // xorshift: any sequence will do that nobody can aim at with keys.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let (left, right) = split(self.root.take(), &range);
        let reach = range.end.clone();
        let priority = self.seed;
        let node = Node { range, value, priority, reach, left: None, right: None };
        self.root = merge(merge(left, Some(Box::new(node))), right);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, range: &Range) -> Option<T> {
        let removed = remove(&mut self.root, range);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Calls `visit` for each range that contains `key`, in order.
    pub(super) fn stab(&mut self, key: &[u8], visit: &mut impl FnMut(&mut T)) {
        stab(&mut self.root, key, visit);
    }

    /// Calls `visit` for every range's value, in order.
    pub(super) fn for_each(&mut self, visit: &mut impl FnMut(&Range, &mut T)) {
        fn walk<T>(link: &mut Link<T>, visit: &mut impl FnMut(&Range, &mut T)) {
            if let Some(node) = link {
                walk(&mut node.left, visit);
                visit(&node.range, &mut node.value);
                walk(&mut node.right, visit);
            }
        }
        walk(&mut self.root, visit);
    }
}

/// Everything before `range`, and everything from it on.
fn split<T>(link: Link<T>, range: &Range) -> (Link<T>, Link<T>) {
    let Some(mut node) = link else { return (None, None) };
    if node.range < *range {
        let (left, right) = split(node.right.take(), range);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), range);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

/// All of `left` lies before all of `right`.
fn merge<T>(left: Link<T>, right: Link<T>) -> Link<T> {
    match (left, right) {
        (None, link) | (link, None) => link,
        (Some(mut l), Some(mut r)) => {
            if l.priority >= r.priority {
                l.right = merge(l.right.take(), Some(r));
                l.update();
                Some(l)
            } else {
                r.left = merge(Some(l), r.left.take());
                r.update();
                Some(r)
            }
        }
    }
}

fn remove<T>(link: &mut Link<T>, range: &Range) -> Option<T> {
    let node = link.as_mut()?;
    let removed = match range.cmp(&node.range) {
        Ordering::Less => remove(&mut node.left, range),
        Ordering::Greater => remove(&mut node.right, range),
        Ordering::Equal => {
            let node = link.take()?;
            *link = merge(node.left, node.right);
            return Some(node.value);
        }
    };
    node.update();
    removed
}

fn stab<T>(link: &mut Link<T>, key: &[u8], visit: &mut impl FnMut(&mut T)) {
    let Some(node) = link else { return };
    let over = |end: &Option<Vec<u8>>| end.as_ref().is_some_and(|end| end.as_slice() <= key);
    if over(&node.reach) {
        return; // All that begins below here has ended.
    }
    stab(&mut node.left, key, visit);
    if node.range.start.as_slice() <= key {
        if !over(&node.range.end) {
            visit(&mut node.value);
        }
        stab(&mut node.right, key, visit);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stdx::each_seed;

    use super::*;

    #[test]
    fn a_key_stabs_the_ranges_that_contain_it_and_no_others() {
        each_seed(|g| {
            let mut intervals = Intervals::default();
            let mut model = BTreeMap::new();
            for n in 0..100 {
                let start = g.bytes(0..3);
                let end = g.chance(80).then(|| g.bytes(0..3));
                let range = Range { start, end };
                if g.chance(30) {
                    assert_eq!(intervals.remove(&range), model.remove(&range));
                } else if let Some(value) = intervals.get_mut(&range) {
                    assert_eq!(model.get(&range), Some(&*value));
                } else {
                    model.insert(range.clone(), n);
                    intervals.insert(range, n);
                }
                assert_eq!(intervals.len(), model.len());
                let key = g.bytes(0..3);
                let mut found = Vec::new();
                intervals.stab(&key, &mut |n| found.push(*n));
                let contains =
                    |r: &Range| r.start <= key && r.end.as_ref().is_none_or(|end| key < *end);
                let expected: Vec<_> =
                    model.iter().filter(|(r, _)| contains(r)).map(|(_, n)| *n).collect();
                assert_eq!(found, expected);
            }
        });
    }
}
