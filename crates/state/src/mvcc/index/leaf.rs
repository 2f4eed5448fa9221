//! Some rows in the order of their keys, found with few looks at keys.
//!
//! ```text
//! keys     /registry/pods/a   /registry/pods/b   /registry/pods/ba…
//!          └─── shared ───┘└ head ┘
//! heads    [ a ]  [ b ]  [ ba… ]        side by side: halving them stays within a few cache lines
//! rows     [key, chain]  …              looked at where the heads agree
//! ```
//!
//! A key lies anywhere in the memory, and looking at it costs more than all else. What all keys of a leaf
//! begin with tells nothing; the eight bytes behind that mostly tell all.
//!
//! # Invariants
//!
//! - All keys begin with the same `shared` bytes. They may have more in common.
//! - There is a head for each row, in the same order; heads never decrease.

use super::chain::Chain;

pub(super) type Row = (Box<[u8]>, Chain);

/// How many rows a leaf makes room for at a time.
const GROWTH: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct Leaf {
    shared: usize,
    heads: Vec<u64>,
    rows: Vec<Row>,
}

/// The first eight bytes, as a number of the same order. A shorter tail is filled with zeros: it comes
/// no later than those it begins.
fn head(tail: &[u8]) -> u64 {
    let mut head = [0; 8];
    let n = tail.len().min(head.len());
    head[..n].copy_from_slice(&tail[..n]);
    u64::from_be_bytes(head)
}

fn in_common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Leaf {
    /// From rows in the order of their keys.
    pub(super) fn build(rows: Vec<Row>) -> Self {
        let mut leaf = Self { shared: 0, heads: Vec::with_capacity(rows.capacity()), rows };
        leaf.look_again();
        leaf
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn chain_mut(&mut self, at: usize) -> &mut Chain {
        &mut self.rows[at].1
    }

    /// Finds out what the keys have in common, and takes the heads behind that.
    fn look_again(&mut self) {
        let ends = self.rows.first().zip(self.rows.last());
        self.shared = ends.map_or(0, |((first, _), (last, _))| in_common(first, last));
        self.heads.clear();
        self.heads.extend(self.rows.iter().map(|(key, _)| head(&key[self.shared..])));
    }

    /// Where `key` is, or would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(tail) = key.get(self.shared..) else { return Err(self.apart(key)) };
        let head = head(tail);
        let start = self.heads.partition_point(|&other| other < head);
        let n = self.heads[start..].partition_point(|&other| other == head);
        let alike = &self.rows[start..start + n];
        match alike.binary_search_by(|(of, _)| of.as_ref().cmp(key)) {
            Ok(at) => Ok(start + at),
            Err(at) if self.shares(key) => Err(start + at),
            Err(_) => Err(self.apart(key)),
        }
    }

    fn shares(&self, key: &[u8]) -> bool {
        self.rows.first().is_none_or(|(first, _)| key.starts_with(&first[..self.shared]))
    }

    /// Where a key would be that does not begin as all the others do: before or after all of them.
    fn apart(&self, key: &[u8]) -> usize {
        let is_before = self.rows.first().is_none_or(|(first, _)| key < first.as_ref());
        if is_before { 0 } else { self.rows.len() }
    }

    /// Puts a row in where [`Leaf::search`] says that its key would be.
    pub(super) fn insert(&mut self, at: usize, row: Row) {
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact(GROWTH);
            self.heads.reserve_exact(self.rows.capacity() - self.heads.len());
        }
        if self.rows.is_empty() || !self.shares(&row.0) {
            self.rows.insert(at, row);
            return self.look_again();
        }
        self.heads.insert(at, head(&row.0[self.shared..]));
        self.rows.insert(at, row);
    }

    /// Leaves the rows before `at` here, and returns the others.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = Self::build(self.rows.split_off(at));
        self.look_again();
        right
    }

    /// Forgets rows that `keep` says false of.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Row) -> bool) {
        let before = self.rows.len();
        self.rows.retain_mut(|row| keep(row));
        if self.rows.len() < before {
            self.look_again();
        }
    }

    /// Asserts the invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.heads.len(), self.rows.len());
        for ((key, _), &of) in self.rows.iter().zip(&self.heads) {
            assert!(self.shares(key));
            assert_eq!(of, head(&key[self.shared..]));
        }
        assert!(self.rows.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(self.heads.is_sorted());
    }
}
