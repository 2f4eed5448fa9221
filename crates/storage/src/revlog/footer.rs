//! The footer of a sealed segment: all its records without their values, so that a restart reads keys alone.
//!
//! ```text
//! footer   block block … block                       from the last record to where the ledger says
//! block    ┌────────┬─────┬───────┬───────────────┐  crc: CRC-32C of count and entries
//!          │ length │ crc │ count │ entries       │  length: of the entries; three u32 in
//!          └────────┴─────┴───────┴───────────────┘  little-endian
//! entry    flags (1 byte) · main − the main before it in the block (0 at first) · sub · length of the record
//!          [main − create_revision · version]   unless the record is a tombstone or created its key
//!          [lease]                              if there is one
//!          length of the key · key
//!          all varints, wrapping at 64 bits; records lie back to back, so offsets are sums of lengths
//! ```
//!
//! # Invariants
//!
//! - The entries are those of the records, all of them, in their order: the offsets end where the records
//!   do.   (checked by `Reader`)

use std::ops::Range;
use std::sync::Arc;

use crc32c::crc32c;

use super::error::Trouble;
use super::record::{HEADER_SIZE, Meta, Place, Revision, SegmentId, u32_at};
use super::window::Window;
use super::{Entry, segment, varint};
use crate::disk::File;

const BLOCK_HEADER_SIZE: usize = 12;

/// A block is closed once its entries take this much.
const BLOCK_SIZE: usize = 64 << 10;

const TOMBSTONE: u8 = 1;
/// The key was created by this very revision: `create_revision` is `main`, `version` is 1.
const CREATED: u8 = 2;
const LEASED: u8 = 4;

/// Writes a footer, block by block.
pub(super) struct Writer {
    file: Arc<dyn File>,
    at: u64,
    block: Vec<u8>,
    n_entries: u32,
    main: i64,
}

impl Writer {
    pub(super) fn new(file: Arc<dyn File>, at: u64) -> Self {
        Self { file, at, block: vec![0; BLOCK_HEADER_SIZE], n_entries: 0, main: 0 }
    }

    /// Up to where the file has been written.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), Trouble> {
        encode(entry, self.main, &mut self.block);
        self.main = entry.meta.revision.main;
        self.n_entries += 1;
        if self.block.len() >= BLOCK_SIZE {
            self.close_block()?;
        }
        Ok(())
    }

    /// The answer is where the footer ends.
    pub(super) fn finish(mut self) -> Result<u64, Trouble> {
        if self.n_entries > 0 {
            self.close_block()?;
        }
        Ok(self.at)
    }

    fn close_block(&mut self) -> Result<(), Trouble> {
        let length = (self.block.len() - BLOCK_HEADER_SIZE) as u32;
        self.block[8..12].copy_from_slice(&self.n_entries.to_le_bytes());
        let crc = crc32c(&self.block[8..]);
        self.block[..4].copy_from_slice(&length.to_le_bytes());
        self.block[4..8].copy_from_slice(&crc.to_le_bytes());
        self.file.write_at(self.at, &self.block)?;
        self.at += self.block.len() as u64;
        self.block.truncate(BLOCK_HEADER_SIZE);
        (self.n_entries, self.main) = (0, 0);
        Ok(())
    }
}

/// A walk over a footer's entries.
pub(super) struct Reader {
    segment: SegmentId,
    window: Window,
    records_end: u64,
    /// Of the block at the window's start: its whole size, how far it is decoded, entries left in it.
    block_size: usize,
    decoded: usize,
    n_left: u32,
    main: i64,
    /// Where the next record starts.
    offset: u64,
    current: Option<Current>,
}

struct Current {
    place: Place,
    len: u32,
    meta: Meta,
    key: Range<usize>,
}

impl Reader {
    pub(super) fn new(
        segment: SegmentId,
        file: Arc<dyn File>,
        records_end: u64,
        footer_end: u64,
    ) -> Self {
        Self {
            segment,
            window: Window::new(file, records_end, footer_end),
            records_end,
            block_size: 0,
            decoded: 0,
            n_left: 0,
            main: 0,
            offset: segment::FIRST_OFFSET,
            current: None,
        }
    }

    /// Goes to the next entry; false if there is none.
    pub(super) fn advance(&mut self) -> Result<bool, Trouble> {
        self.current = None;
        if self.n_left == 0 && !self.next_block()? {
            return Ok(false);
        }
        let at = self.window.at() + self.decoded as u64;
        let corrupt = |what| Trouble::Corrupt { offset: at, what };
        let block = self.window.peeked(self.decoded, self.block_size);
        let mut input = block;
        let found = decode(&mut input, self.main).ok_or(corrupt("an entry of a footer"))?;
        let key_end = self.decoded + (block.len() - input.len());
        let end = self.offset + u64::from(found.length);
        if end > self.records_end || self.offset > u64::from(u32::MAX) {
            return Err(corrupt("a footer reaches past the records"));
        }
        self.current = Some(Current {
            place: Place::new(self.segment, self.offset as u32),
            len: found.length - HEADER_SIZE as u32,
            meta: found.meta,
            key: key_end - found.key_length..key_end,
        });
        (self.offset, self.main) = (end, found.meta.revision.main);
        (self.decoded, self.n_left) = (key_end, self.n_left - 1);
        if self.n_left == 0 && self.decoded != self.block_size {
            return Err(corrupt("a footer's block is too long"));
        }
        Ok(true)
    }

    /// The entry the walk is at.
    pub(super) fn entry(&self) -> Entry<'_> {
        let Current { place, len, meta, ref key } =
            *self.current.as_ref().expect("`advance` found an entry");
        Entry { key: self.window.peeked(key.start, key.end), meta, place, len }
    }

    fn next_block(&mut self) -> Result<bool, Trouble> {
        self.window.consume(self.block_size);
        self.block_size = 0;
        let at = self.window.at();
        let corrupt = |what| Trouble::Corrupt { offset: at, what };
        if self.window.remaining() == 0 {
            let whole = self.offset == self.records_end;
            return if whole { Ok(false) } else { Err(corrupt("a footer lacks records")) };
        }
        let header = self.window.peek(BLOCK_HEADER_SIZE)?;
        let (length, crc, n) = (u32_at(header, 0), u32_at(header, 4), u32_at(header, 8));
        let size = BLOCK_HEADER_SIZE + length as usize;
        let block = self.window.peek(size)?;
        if n == 0 || crc32c(&block[8..]) != crc {
            return Err(corrupt("the checksum of a footer's block"));
        }
        (self.block_size, self.decoded, self.n_left, self.main) = (size, BLOCK_HEADER_SIZE, n, 0);
        Ok(true)
    }
}

fn encode(entry: &Entry, main_before: i64, out: &mut Vec<u8>) {
    let Meta { revision, tombstone, create_revision, version, lease } = entry.meta;
    let created = !tombstone && create_revision == revision.main && version == 1;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(flag(tombstone, TOMBSTONE) | flag(created, CREATED) | flag(lease != 0, LEASED));
    varint::put(out, revision.main.wrapping_sub(main_before) as u64);
    varint::put(out, revision.sub as u64);
    varint::put(out, u64::from(entry.len) + HEADER_SIZE as u64);
    if !tombstone && !created {
        varint::put(out, revision.main.wrapping_sub(create_revision) as u64);
        varint::put(out, version as u64);
    }
    if lease != 0 {
        varint::put(out, lease as u64);
    }
    varint::put_bytes(out, entry.key);
}

struct Decoded {
    meta: Meta,
    /// Of the record.
    length: u32,
    /// The key is what was decoded last.
    key_length: usize,
}

fn decode(input: &mut &[u8], main_before: i64) -> Option<Decoded> {
    let flags = *varint::take_exactly(input, 1)?.first()?;
    let main = main_before.wrapping_add(varint::take(input)? as i64);
    let sub = i64::from(u32::try_from(varint::take(input)?).ok()?);
    let length = u32::try_from(varint::take(input)?).ok()?;
    let tombstone = flags & TOMBSTONE != 0;
    let (create_revision, version) = if tombstone {
        (0, 0)
    } else if flags & CREATED != 0 {
        (main, 1)
    } else {
        let age = varint::take(input)? as i64;
        (main.wrapping_sub(age), varint::take(input)? as i64)
    };
    let lease = if flags & LEASED != 0 { varint::take(input)? as i64 } else { 0 };
    let key_length = varint::take_bytes(input)?.len();
    if (length as usize) < HEADER_SIZE || flags & !(TOMBSTONE | CREATED | LEASED) != 0 {
        return None;
    }
    let revision = Revision { main, sub };
    let meta = Meta { revision, tombstone, create_revision, version, lease };
    Some(Decoded { meta, length, key_length })
}

#[cfg(test)]
mod tests;
