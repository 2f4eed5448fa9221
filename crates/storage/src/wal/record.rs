//! Records: how the log puts them into a segment, and how it reads them back without trusting one
//! byte.
//!
//! ```text
//! 0                    8                                           length
//! ┌─────────────┬──────┬──────────────────────────────────────────────┬───────┐
//! │ length (56) │ 0x80 │ 08 kind   10 crc   1a len  data              │ 0 … 0 │  little-endian; the frame's top
//! │             │ +pad │ └─ walpb.Record ─────────────────────────────┘       │  byte is 0 if nothing is padded
//! └─────────────┴──────┴──────────────────────────────────────────────────────┘  ends on a multiple of 8
//! ```
//!
//! The checksum is CRC32C over the data of all records so far; a `Crc` record has no data, and says
//! where it stands.
//!
//! # Torn or corrupt?
//!
//! A disk writes a sector of 512 bytes whole or not at all, and the log writes over zeros. So of a
//! record that a crash cut short, some sector's part is all zeros; and where a frame is missing, so
//! is all that follows in its sector. Only that, only in the last segment and only behind its head,
//! ends the log in peace. Whatever else does not add up is damage. (A frame's length is said twice,
//! so a flipped bit in it is found out too. What can't be told: damage to a record with a sector of
//! zeros of its own; we take it for torn, as etcd does.)

use crc32c::crc32c_append;

use super::message::{self, Fields, Malformed, Short};
use super::{EntryRef, HardState, SnapshotMark};
use crate::disk::SECTOR_SIZE;

const FRAME_SIZE: usize = 8;
const ALIGN: usize = 8; // Records start on this boundary, so no frame straddles two sectors.
const _: () = assert!(FRAME_SIZE <= ALIGN && SECTOR_SIZE.is_multiple_of(ALIGN));

/// No record is longer: etcd's largest raft message is 512 MiB.
const LENGTH_MAX: u64 = 1 << 30;

/// Bytes of a `walpb.Record` before its data, at most: kind 2, crc 6, length 6.
const HEADER_MAX: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata = 1,
    Entry = 2,
    HardState = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    fn from_number(number: u64) -> Option<Self> {
        let all = [Self::Metadata, Self::Entry, Self::HardState, Self::Crc, Self::Snapshot];
        all.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// Records on their way to the disk.
pub(super) struct Encoder {
    pub(super) buffer: Vec<u8>,
    pub(super) crc: u32,
}

impl Encoder {
    pub(super) fn new(crc: u32) -> Self {
        Self { buffer: Vec::new(), crc }
    }

    /// What each segment starts with. Nobody has voted yet in the first one.
    pub(super) fn head(&mut self, metadata: &[u8], state: HardState) {
        self.put(Kind::Crc, None);
        self.put(Kind::Metadata, Some((metadata, &[])));
        if state != HardState::default() {
            self.hard_state(state);
        }
    }

    pub(super) fn entry(&mut self, entry: EntryRef) {
        self.put(Kind::Entry, Some((message::entry_head(entry).as_slice(), entry.data)));
    }

    pub(super) fn hard_state(&mut self, state: HardState) {
        self.put(Kind::HardState, Some((message::hard_state(state).as_slice(), &[])));
    }

    pub(super) fn snapshot(&mut self, mark: SnapshotMark, conf_state: &[u8]) {
        let head = message::snapshot_head(mark, conf_state);
        self.put(Kind::Snapshot, Some((head.as_slice(), conf_state)));
    }

    /// Frames a record. Its data comes in two parts, so that an entry's is copied once.
    fn put(&mut self, kind: Kind, data: Option<(&[u8], &[u8])>) {
        let (first, second) = data.unwrap_or_default();
        self.crc = crc32c_append(crc32c_append(self.crc, first), second);
        let mut header = Short::new();
        header.number(1, kind as u64);
        header.number(2, self.crc.into());
        if data.is_some() {
            header.bytes_of(3, first.len() + second.len());
        }
        let header = header.as_slice();
        let length = header.len() + first.len() + second.len();
        assert!(length as u64 <= LENGTH_MAX, "a record of {length} bytes could not be read back");
        let padding = length.next_multiple_of(ALIGN) - length;
        self.buffer.reserve(FRAME_SIZE + length + padding);
        self.buffer.extend_from_slice(&frame(length as u64).to_le_bytes());
        self.buffer.extend_from_slice(header);
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.buffer.extend_from_slice(&[0; ALIGN][..padding]);
    }
}

fn frame(length: u64) -> u64 {
    match length % ALIGN as u64 {
        0 => length,
        rest => length | (0x80 | (ALIGN as u64 - rest)) << 56,
    }
}

/// A record that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) data: &'a [u8],
}

/// What stopped the decoder. The offset is where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The segment ends here.
    End,
    /// A crash cut this write short, so nobody was told it happened: zero the rest and go on.
    Torn,
    /// Bytes that were whole once no longer say what we wrote: refuse to start.
    Corrupt(&'static str),
}

/// Reads the records of one segment.
pub(super) struct Decoder<'a> {
    segment: &'a [u8],
    offset: usize,
    /// Unknown until the first record of the first segment says it.
    crc: Option<u32>,
    n_records: u64,
    is_last: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(segment: &'a [u8], crc: Option<u32>, is_last: bool) -> Self {
        Self { segment, offset: 0, crc, n_records: 0, is_last }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset as u64
    }

    pub(super) fn crc(&self) -> Option<u32> {
        self.crc
    }

    /// Decodes the next record, and moves past it only if it is whole.
    pub(super) fn next(&mut self) -> Result<Record<'a>, Stop> {
        let (offset, segment) = (self.offset, self.segment);
        let rest = &segment[offset..];
        let Some(frame_bytes) = rest.first_chunk::<FRAME_SIZE>() else {
            return Err(if rest.is_empty() { self.end() } else { self.torn("frame") });
        };
        let word = u64::from_le_bytes(*frame_bytes);
        if word == 0 {
            return Err(self.end());
        }
        let length = word & ((1 << 56) - 1);
        if length == 0 || length > LENGTH_MAX || word != frame(length) {
            return Err(Stop::Corrupt("length"));
        }
        let body = &rest[FRAME_SIZE..];
        let (length, padded) = (length as usize, (length as usize).next_multiple_of(ALIGN));
        let present = &body[..padded.min(body.len())];
        let header = self.header(present, length)?;
        let Some(body) = body.get(..padded) else { return Err(self.torn("length")) };
        let data = &body[header.data_at..length];
        let crc = self.check(&header, data, body)?;
        if body[length..].iter().any(|b| *b != 0) {
            return Err(Stop::Corrupt("padding"));
        }
        self.crc = Some(crc);
        self.offset += FRAME_SIZE + padded;
        self.n_records += 1;
        Ok(Record { offset: offset as u64, kind: header.kind, data })
    }

    /// Reads a record's header, and holds the length it implies against the frame's.
    fn header(&self, present: &[u8], length: usize) -> Result<Header, Stop> {
        let part = &present[..length.min(present.len())];
        match Header::decode(part) {
            Ok(header) if header.data_at as u64 + header.data_len == length as u64 => Ok(header),
            Ok(_) | Err(Malformed) => {
                let is_cut = part.len() < length.min(HEADER_MAX);
                let torn = is_cut || self.lacks_a_sector(&part[..part.len().min(HEADER_MAX)]);
                Err(if torn { self.torn("header") } else { Stop::Corrupt("header") })
            }
        }
    }

    /// Checks what a record claims; the answer is where the checksum stands after it.
    fn check(&self, header: &Header, data: &[u8], body: &[u8]) -> Result<u32, Stop> {
        // The first two records of a segment say where it takes up; they are nowhere else.
        match (self.n_records, header.kind) {
            (0, Kind::Crc) if data.is_empty() => {
                let agrees = self.crc.is_none_or(|crc| crc == header.crc);
                return if agrees {
                    Ok(header.crc)
                } else {
                    Err(Stop::Corrupt("chain of segments"))
                };
            }
            (1, Kind::Metadata) => {}
            (2.., Kind::Entry | Kind::HardState | Kind::Snapshot) => {}
            (_, Kind::Crc | Kind::Metadata | Kind::Entry | Kind::HardState | Kind::Snapshot) => {
                return Err(Stop::Corrupt("order of records"));
            }
        }
        let crc = crc32c_append(self.crc.expect("the first record was a crc"), data);
        if crc == header.crc {
            Ok(crc)
        } else if self.lacks_a_sector(body) {
            Err(self.torn("checksum"))
        } else {
            Err(Stop::Corrupt("checksum"))
        }
    }

    /// No frame: the end, if the sector says nothing more; a sector is written whole.
    fn end(&self) -> Stop {
        let sector_end = (self.offset + 1).next_multiple_of(SECTOR_SIZE).min(self.segment.len());
        let rest = &self.segment[self.offset..sector_end];
        if self.n_records < 2 {
            Stop::Corrupt("head of the segment")
        } else if rest.iter().any(|b| *b != 0) {
            Stop::Corrupt("frame")
        } else {
            Stop::End
        }
    }

    /// Torn, where a write may have been cut short; else what is wrong.
    fn torn(&self, what: &'static str) -> Stop {
        let may_be_torn = self.is_last && self.n_records >= 2;
        if may_be_torn { Stop::Torn } else { Stop::Corrupt(what) }
    }

    /// Whether some sector's part of `body`, which follows the frame, is all zeros.
    fn lacks_a_sector(&self, mut body: &[u8]) -> bool {
        let mut at = self.offset + FRAME_SIZE;
        while !body.is_empty() {
            let (part, rest) = body.split_at(body.len().min(SECTOR_SIZE - at % SECTOR_SIZE));
            if part.iter().all(|b| *b == 0) {
                return true;
            }
            at += part.len();
            body = rest;
        }
        false
    }
}

/// A `walpb.Record` up to its data.
struct Header {
    kind: Kind,
    crc: u32,
    data_at: usize,
    data_len: u64,
}

impl Header {
    fn decode(record: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::of(record);
        let kind = fields.number(1)?.and_then(Kind::from_number).ok_or(Malformed)?;
        let crc = u32::try_from(fields.number(2)?.ok_or(Malformed)?).map_err(|_| Malformed)?;
        let data_len = fields.bytes_len(3)?.unwrap_or(0);
        if data_len > LENGTH_MAX {
            return Err(Malformed);
        }
        Ok(Self { kind, crc, data_at: record.len() - fields.rest().len(), data_len })
    }
}
