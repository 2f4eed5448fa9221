//! A record: one revision of one key, as it lies in a segment.
//!
//! ```text
//! 0         4          8             16        20        24
//! ┌─────────┬──────────┬─────────────┬─────────┬─────────┬──────────────────────┐
//! │ crc     │ length   │ main        │ sub     │ flags   │ mvccpb.KeyValue      │  little-endian
//! └─────────┴──────────┴─────────────┴─────────┴─────────┴──────────────────────┘
//!   crc     CRC-32C of all that follows it
//!   length  of the whole record, header included
//!   flags   1: a tombstone (the KeyValue then holds the key alone)
//! ```
//!
//! The KeyValue is in the very bytes that clients receive and hashes cover; reading is copying. A record
//! says nothing of where it lies, so the collector moves it as it is.
//!
//! # Invariants
//!
//! - Only the length is followed before the checksum has vouched for it, and never past the end that
//!   the caller knows.

use std::num::NonZeroU64;

use crc32c::{crc32c, crc32c_append};

use super::error::Trouble;
use super::varint;

pub(super) const HEADER_SIZE: usize = 24;

/// The longest record. Offsets are 32 bits wide, and a segment ends soon after its size limit.
pub(super) const RECORD_LENGTH_MAX: usize = 1 << 30;

const TOMBSTONE: u32 = 1;

/// A point in the store's time: the transaction, and the change within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// Where a record lies. Good until the collector moves it; see [`super::Relocation`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place(NonZeroU64);

impl Place {
    pub(super) fn new(segment: SegmentId, offset: u32) -> Self {
        let bits = u64::from(segment.0) << 32 | u64::from(offset);
        Self(NonZeroU64::new(bits).expect("no segment has the number 0"))
    }

    pub(super) fn segment(self) -> SegmentId {
        SegmentId((self.0.get() >> 32) as u32)
    }

    pub(super) fn offset(self) -> u32 {
        self.0.get() as u32
    }
}

/// The number of a segment, never used twice; they start at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SegmentId(pub(super) u32);

/// What the key index keeps of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    pub revision: Revision,
    /// The key ends here. Its three numbers below are 0.
    pub tombstone: bool,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// A record's header, its checksum left aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Of the whole record.
    pub length: u32,
    pub revision: Revision,
    pub tombstone: bool,
}

/// Appends a record to `out`; the answer is its length.
pub(super) fn encode(meta: &Meta, key_value: &[u8], out: &mut Vec<u8>) -> u32 {
    let length = HEADER_SIZE + key_value.len();
    assert!(length <= RECORD_LENGTH_MAX, "a record of {length} bytes");
    let sub = u32::try_from(meta.revision.sub).expect("fewer changes than 2^32 in a transaction");
    let flags = if meta.tombstone { TOMBSTONE } else { 0 };
    let mut header = [0; HEADER_SIZE];
    header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    header[8..16].copy_from_slice(&meta.revision.main.to_le_bytes());
    header[16..20].copy_from_slice(&sub.to_le_bytes());
    header[20..24].copy_from_slice(&flags.to_le_bytes());
    let crc = crc32c_append(crc32c(&header[4..]), key_value);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(key_value);
    length as u32
}

/// The length a header claims; `room` is what lies between its start and the end of the records.
pub(super) fn length(header: &[u8; HEADER_SIZE], room: u64) -> Result<u32, &'static str> {
    let length = u32_at(header, 4);
    if (length as usize) < HEADER_SIZE || u64::from(length) > room {
        return Err("the length of a record");
    }
    Ok(length)
}

/// Checks a whole record and reads its header.
pub(super) fn check(header: &[u8; HEADER_SIZE], body: &[u8]) -> Result<Header, &'static str> {
    if crc32c_append(crc32c(&header[4..]), body) != u32_at(header, 0) {
        return Err("the checksum of a record");
    }
    let flags = u32_at(header, 20);
    let main = i64::from_le_bytes(header[8..16].try_into().expect("8 bytes"));
    if flags & !TOMBSTONE != 0 || main < 0 {
        return Err("a record from a newer version");
    }
    let revision = Revision { main, sub: i64::from(u32_at(header, 16)) };
    Ok(Header { length: u32_at(header, 4), revision, tombstone: flags & TOMBSTONE != 0 })
}

/// Splits a record off the front of `bytes`, checking it; `offset` is for the error alone.
pub(super) fn split(bytes: &[u8], offset: u64) -> Result<(Header, &[u8]), Trouble> {
    let corrupt = |what| Trouble::Corrupt { offset, what };
    let (header, rest) = bytes.split_first_chunk().ok_or(corrupt("a record is cut short"))?;
    let length = length(header, bytes.len() as u64).map_err(corrupt)?;
    let body = &rest[..length as usize - HEADER_SIZE];
    Ok((check(header, body).map_err(corrupt)?, body))
}

/// The key of an encoded KeyValue, and what a [`Meta`] says of it; `None` if the bytes are no KeyValue, or
/// not the one of `header`.
pub(super) fn describe<'a>(header: &Header, key_value: &'a [u8]) -> Option<(&'a [u8], Meta)> {
    let mut input = key_value;
    let mut key: &[u8] = &[];
    let [mut create_revision, mut mod_revision, mut version, mut lease] = [0_i64; 4];
    while !input.is_empty() {
        match varint::take(&mut input)? {
            KEY => key = varint::take_bytes(&mut input)?,
            CREATE_REVISION => create_revision = varint::take(&mut input)? as i64,
            MOD_REVISION => mod_revision = varint::take(&mut input)? as i64,
            VERSION => version = varint::take(&mut input)? as i64,
            VALUE => drop(varint::take_bytes(&mut input)?),
            LEASE => lease = varint::take(&mut input)? as i64,
            _ => return None,
        }
    }
    let Header { revision, tombstone, .. } = *header;
    if mod_revision != if tombstone { 0 } else { revision.main } {
        return None;
    }
    Some((key, Meta { revision, tombstone, create_revision, version, lease }))
}

/// Tags of mvccpb.KeyValue: field number · 8 + wire type.
const KEY: u64 = 1 << 3 | 2;
const CREATE_REVISION: u64 = 2 << 3;
const MOD_REVISION: u64 = 3 << 3;
const VERSION: u64 = 4 << 3;
const VALUE: u64 = 5 << 3 | 2;
const LEASE: u64 = 6 << 3;

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revlog::tests::model;
    use stdx::each_seed;

    #[test]
    fn a_record_comes_back_and_one_with_a_flipped_bit_does_not() {
        each_seed(|g| {
            let revision =
                Revision { main: 1 + g.below(1 << 40) as i64, sub: g.below(1000) as i64 };
            let record = model::record(g, revision, 100);
            let mut bytes = Vec::new();
            let length = encode(&record.meta, &record.key_value, &mut bytes);
            assert_eq!(length as usize, bytes.len());
            let (header, body) = split(&bytes, 0).expect("as it was written");
            assert_eq!(body, record.key_value);
            assert_eq!(describe(&header, body), Some((record.key.as_slice(), record.meta)));

            let at = g.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << g.below(8);
            assert!(split(&bytes, 0).is_err(), "byte {at}");
        });
    }

    #[test]
    fn any_bytes_can_be_decoded() {
        each_seed(|g| {
            let bytes = g.bytes(0..100);
            assert!(split(&bytes, 0).is_err());
            let revision = Revision { main: g.below(3) as i64, sub: 0 };
            let header = Header { length: 0, revision, tombstone: g.chance(50) };
            let _ = describe(&header, &bytes);
        });
    }
}
