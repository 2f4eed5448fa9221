//! The three protobuf messages a log consists of, and their fields: varints and bytes.
//!
//! ```text
//! raftpb.Entry      1 type   2 term   3 index   4 data        type 0 and empty data are left out
//! raftpb.HardState  1 term   2 vote   3 commit                all written, zero or not
//! walpb.Snapshot    1 index  2 term   3 conf_state            conf_state unless the index is 0
//! ```
//!
//! # Invariants
//!
//! - Encoding gives the bytes etcd 3.7 gives.
//! - Decoding is total, and strict: known fields in ascending order, varints as short as can be.
//!   The kind of a record is not covered by its checksum, so a message must not pass for another
//!   one lightly.

use super::{EntryRef, HardState, SnapshotMark};

/// Room for all that precedes the data of an entry.
const SHORT_MAX: usize = 48;

/// A few encoded fields, on the stack.
pub(super) struct Short {
    bytes: [u8; SHORT_MAX],
    len: usize,
}

impl Short {
    pub(super) fn new() -> Self {
        Self { bytes: [0; SHORT_MAX], len: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Field `number` with a varint.
    pub(super) fn number(&mut self, number: u8, value: u64) {
        self.byte(number << 3);
        self.varint(value);
    }

    /// The beginning of field `number` with `len` bytes, which the caller puts after it.
    pub(super) fn bytes_of(&mut self, number: u8, len: usize) {
        self.byte(number << 3 | 2);
        self.varint(len as u64);
    }
}

/// All of an entry but its data, which follows as it is.
pub(super) fn entry_head(entry: EntryRef) -> Short {
    let mut short = Short::new();
    if entry.kind != 0 {
        short.number(1, entry.kind.into());
    }
    short.number(2, entry.term);
    short.number(3, entry.index);
    if !entry.data.is_empty() {
        short.bytes_of(4, entry.data.len());
    }
    short
}

pub(super) fn hard_state(state: HardState) -> Short {
    let mut short = Short::new();
    short.number(1, state.term);
    short.number(2, state.vote);
    short.number(3, state.commit);
    short
}

/// All of a snapshot's mark but the conf state, which follows as it is.
pub(super) fn snapshot_head(mark: SnapshotMark, conf_state: &[u8]) -> Short {
    let mut short = Short::new();
    short.number(1, mark.index);
    short.number(2, mark.term);
    if mark.index > 0 || !conf_state.is_empty() {
        short.bytes_of(3, conf_state.len());
    }
    short
}

/// Fields of a message, read one after the other; absent ones are 0 or empty.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The message is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The varint of field `number`, if it comes next.
    pub(super) fn number(&mut self, number: u8) -> Result<Option<u64>, Malformed> {
        if !self.takes(number << 3) {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    /// The bytes of field `number`, if it comes next.
    pub(super) fn bytes(&mut self, number: u8) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(len) = self.bytes_len(number)? else { return Ok(None) };
        let (bytes, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(Malformed)?;
        self.rest = rest;
        Ok(Some(bytes))
    }

    /// The length of field `number`, if it comes next; its bytes are then what follows.
    pub(super) fn bytes_len(&mut self, number: u8) -> Result<Option<u64>, Malformed> {
        if !self.takes(number << 3 | 2) {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn takes(&mut self, tag: u8) -> bool {
        let found = self.rest.first() == Some(&tag);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for i in 0..10 {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if (byte == 0 && i > 0) || (i == 9 && bits > 1) {
                return Err(Malformed); // Longer than it need be, or than 64 bits.
            }
            value |= bits << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

pub(super) fn decode_entry(message: &[u8]) -> Result<EntryRef<'_>, Malformed> {
    let mut fields = Fields::of(message);
    let kind = fields.number(1)?.unwrap_or(0);
    let entry = EntryRef {
        kind: u8::try_from(kind).map_err(|_| Malformed)?,
        term: fields.number(2)?.unwrap_or(0),
        index: fields.number(3)?.unwrap_or(0),
        data: fields.bytes(4)?.unwrap_or_default(),
    };
    fields.end()?;
    let valid = entry.kind <= 2 && entry.term > 0 && entry.index > 0;
    if valid { Ok(entry) } else { Err(Malformed) }
}

pub(super) fn decode_hard_state(message: &[u8]) -> Result<HardState, Malformed> {
    let mut fields = Fields::of(message);
    let state = HardState {
        term: fields.number(1)?.unwrap_or(0),
        vote: fields.number(2)?.unwrap_or(0),
        commit: fields.number(3)?.unwrap_or(0),
    };
    fields.end()?;
    // An empty state is never written; without a term, this is an entry under a wrong name.
    if state.term > 0 { Ok(state) } else { Err(Malformed) }
}

pub(super) fn decode_snapshot(message: &[u8]) -> Result<SnapshotMark, Malformed> {
    let mut fields = Fields::of(message);
    let index = fields.number(1)?.unwrap_or(0);
    let term = fields.number(2)?.unwrap_or(0);
    let _conf_state = fields.bytes(3)?;
    fields.end()?;
    Ok(SnapshotMark { index, term })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    /// A number of any magnitude.
    fn number(g: &mut stdx::Generator) -> u64 {
        g.number() >> g.int(0..=63)
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        each_seed(|g| {
            let data = g.bytes(0..300);
            let (term, index) = (number(g).max(1), number(g).max(1));
            let entry = EntryRef { kind: g.int(0..=2) as u8, term, index, data: &data };
            let message = [entry_head(entry).as_slice(), &data].concat();
            let found = decode_entry(&message).expect("an entry");
            assert_eq!((found.kind, found.term, found.index), (entry.kind, term, index));
            assert_eq!(found.data, data);

            let state = HardState { term, vote: number(g), commit: number(g) };
            assert_eq!(decode_hard_state(hard_state(state).as_slice()), Ok(state));

            let mark = SnapshotMark { index, term };
            let message = [snapshot_head(mark, &data).as_slice(), &data].concat();
            assert_eq!(decode_snapshot(&message), Ok(mark));
        });
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        each_seed(|g| {
            let mut message = g.bytes(0..40);
            if let Some(first) = message.first_mut() {
                *first = 8;
            }
            drop(decode_entry(&message).map(|e| e.data.len()));
            drop(decode_hard_state(&message));
            drop(decode_snapshot(&message));
        });
    }

    #[test]
    fn an_entry_without_data_is_no_hard_state_nor_the_reverse() {
        let entry = EntryRef { kind: 0, term: 3, index: 9, data: &[] };
        assert_eq!(decode_hard_state(entry_head(entry).as_slice()), Err(Malformed));
        let state = HardState { term: 5, vote: 1, commit: 2 };
        assert!(decode_entry(hard_state(state).as_slice()).is_err());
    }
}
