//! Header blocks seen before: the same bytes against the same table are the same call.
//!
//! A client's requests differ in their messages, hardly ever in their headers; once its table is
//! warm the block is a dozen bytes, and equal ones come by the million. Only blocks that left the
//! table alone are remembered, and a change of the table makes all of them worthless.
//!
//! # Invariants
//!
//! - A remembered call is what decoding the block again would give.   (property in `tests`)

use crate::head::Call;

/// Blocks remembered: a client uses a few methods at a time.
const ENTRIES_MAX: usize = 4;

/// Longer blocks aren't worth the comparison.
const BLOCK_SIZE_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    generation: u64,
    block: Box<[u8]>,
    call: Call,
}

#[derive(Debug, Default)]
pub(crate) struct Memo {
    entries: Vec<Entry>,
    next: usize,
}

impl Memo {
    /// The call `block` stands for while the table is as it was at `generation`.
    #[inline]
    pub(crate) fn find(&self, generation: u64, block: &[u8]) -> Option<Call> {
        let same = |entry: &&Entry| entry.generation == generation && *entry.block == *block;
        self.entries.iter().find(same).map(|entry| entry.call.clone())
    }

    pub(crate) fn memory(&self) -> usize {
        let blocks: usize = self.entries.iter().map(|entry| entry.block.len()).sum();
        self.entries.capacity() * size_of::<Entry>() + blocks
    }

    pub(crate) fn note(&mut self, generation: u64, block: &[u8], call: &Call) {
        if block.len() > BLOCK_SIZE_MAX {
            return;
        }
        let entry = Entry { generation, block: block.into(), call: call.clone() };
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        } else {
            self.entries[self.next] = entry;
            self.next = (self.next + 1) % ENTRIES_MAX;
        }
    }
}
