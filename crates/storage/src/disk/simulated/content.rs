//! What one simulated file holds: what readers see, and what the platter may hold instead.
//!
//! # Invariants
//!
//! - A sector that is neither in `dirty` nor in `lost` is on the platter as readers see it.
//! - Bytes beyond `len` are zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Luck, Random};
use crate::disk::SECTOR_SIZE;

/// A sector, or a hole that reads as zeros and takes no space.
type Sector = Option<Arc<[u8; SECTOR_SIZE]>>;

/// Versions of one sector that a crash may choose from, beside the newest.
const VERSIONS_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Content {
    len: u64,
    sectors: Vec<Sector>,
    /// What sectors written since the last sync held before, oldest (and durable) first.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since the last sync, likewise.
    dirty_lens: Vec<u64>,
    /// What the platter holds where a sync failed: readers and later syncs know nothing of it.
    lost: BTreeMap<usize, Sector>,
    lost_len: Option<u64>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(into.len() as u64) as usize;
        for (sector, at, part) in pieces(offset, n) {
            let target = &mut into[part.clone()];
            match self.sectors.get(sector) {
                Some(Some(bytes)) => target.copy_from_slice(&bytes[at..at + part.len()]),
                Some(None) | None => target.fill(0),
            }
        }
        n
    }

    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        for (sector, at, part) in pieces(offset, bytes.len()) {
            let mut whole = self.sectors.get(sector).cloned().flatten().map_or([0; 512], |s| *s);
            whole[at..at + part.len()].copy_from_slice(&bytes[part]);
            self.put(sector, Some(Arc::new(whole)));
        }
        if !bytes.is_empty() {
            self.grow(self.len.max(offset + bytes.len() as u64));
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let first = len.div_ceil(SECTOR_SIZE as u64) as usize;
        for sector in first..self.sectors.len() {
            if self.sectors[sector].is_some() {
                self.put(sector, None);
            }
        }
        let rest = (len % SECTOR_SIZE as u64) as usize;
        if rest > 0 && len < self.len {
            let last = (len / SECTOR_SIZE as u64) as usize;
            if let Some(mut whole) = self.sectors.get(last).cloned().flatten().map(|s| *s) {
                whole[rest..].fill(0);
                self.put(last, Some(Arc::new(whole)));
            }
        }
        self.grow(len);
        self.sectors.truncate(first);
    }

    fn grow(&mut self, len: u64) {
        if len != self.len {
            if self.dirty_lens.is_empty() {
                self.dirty_lens.push(self.lost_len.take().unwrap_or(self.len));
            }
            self.dirty_lens.push(self.len);
            self.dirty_lens.truncate(VERSIONS_MAX);
            self.len = len;
        }
    }

    /// Replaces a sector, remembering what it held.
    fn put(&mut self, sector: usize, new: Sector) {
        if self.sectors.len() <= sector {
            self.sectors.resize(sector + 1, None);
        }
        let old = std::mem::replace(&mut self.sectors[sector], new);
        let lost = self.lost.remove(&sector);
        let versions = self.dirty.entry(sector).or_default();
        if let Some(durable) = lost {
            versions.push(durable);
        }
        if versions.len() < VERSIONS_MAX {
            versions.push(old);
        }
    }

    /// How many bytes of space a write would take.
    pub(super) fn unallocated(&self, offset: u64, len: usize) -> u64 {
        let missing = pieces(offset, len).filter(|(s, ..)| !self.is_allocated(*s)).count();
        (missing * SECTOR_SIZE) as u64
    }

    fn is_allocated(&self, sector: usize) -> bool {
        self.sectors.get(sector).is_some_and(Option::is_some)
    }

    /// How many of the bytes can be written before `space` is used up.
    pub(super) fn fitting(&self, offset: u64, len: usize, space: u64) -> usize {
        let mut left = space / SECTOR_SIZE as u64;
        let mut fits = 0;
        for (sector, _, part) in pieces(offset, len) {
            if !self.is_allocated(sector) {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            fits = part.end;
        }
        fits
    }

    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        self.dirty_lens.clear();
    }

    /// A sync that failed: of what it should have written some is there, and nobody will try again.
    pub(super) fn lose(&mut self, random: &mut Random) {
        for (sector, mut versions) in std::mem::take(&mut self.dirty) {
            versions.push(self.sectors.get(sector).cloned().flatten());
            self.lost.insert(sector, random.pick(&versions).clone());
        }
        if !self.dirty_lens.is_empty() {
            self.dirty_lens.push(self.len);
            self.lost_len = Some(*random.pick(&self.dirty_lens));
            self.dirty_lens.clear();
        }
    }

    /// What is found after a crash.
    pub(super) fn survive(&self, luck: &mut Luck<'_>) -> Self {
        let mut lens = self.dirty_lens.clone();
        lens.push(if lens.is_empty() { self.lost_len.unwrap_or(self.len) } else { self.len });
        let mut found = Self { sectors: self.sectors.clone(), ..Self::default() };
        for (&sector, versions) in &self.dirty {
            let newest = self.sectors.get(sector).cloned().flatten();
            let choices = [versions.as_slice(), &[newest]].concat();
            found.put(sector, luck.pick(&choices).clone());
        }
        for (&sector, platter) in &self.lost {
            found.put(sector, platter.clone());
        }
        found.len = (found.sectors.len() * SECTOR_SIZE) as u64;
        found.set_len(*luck.pick(&lens));
        found.sync();
        found
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        assert!(offset < self.len && bit < 8, "no such bit");
        let sector = (offset / SECTOR_SIZE as u64) as usize;
        if self.sectors.len() <= sector {
            self.sectors.resize(sector + 1, None);
        }
        let whole = self.sectors[sector].get_or_insert_with(|| Arc::new([0; SECTOR_SIZE]));
        Arc::make_mut(whole)[(offset % SECTOR_SIZE as u64) as usize] ^= 1 << bit;
    }
}

/// Cuts `len` bytes from `offset` on at the sector boundaries: (sector, offset in it, range of the
/// bytes).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % SECTOR_SIZE as u64) as usize;
        let n = (SECTOR_SIZE - within).min(len - done);
        done += n;
        Some(((at / SECTOR_SIZE as u64) as usize, within, done - n..done))
    })
}
