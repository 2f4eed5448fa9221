//! HPACK, the reading half (RFC 7541): header blocks in, fields out.
//!
//! ```text
//!  index  1 … 61   the RFC's own list         1xxxxxxx  a field of the tables
//!        62 …      this connection's, newest  01xxxxxx  a new one, to be remembered
//!                  first                      001xxxxx  the table shall be no larger than this
//!                                             0000xxxx  a new one, to be forgotten (0001: secret)
//! ```
//!
//! # Invariants
//!
//! - The dynamic table never holds more than the limit we announced.   (asserted in `insert`)
//! - A block is decoded to its end even if the request is refused: the table must stay in step.
//! - No decoded byte is copied unless the field is new; a new one is copied once.
//!
//! # Not here
//!
//! The writing half, which is a handful of constants: `response`.

mod table;

use crate::field::{Router, Tag, classify};
use crate::huffman;
use table::{Entry, Table};

/// The peer's table and ours are no longer the same: the connection is lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A decoded field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) tag: Tag,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Whoever wants the fields of a block.
pub(crate) trait Sink {
    /// Takes a field of the tables by its meaning and size alone; false if it has to be spelled.
    fn known(&mut self, tag: Tag, size: usize) -> bool {
        let _ = (tag, size);
        false
    }

    fn field(&mut self, field: Field<'_>);
}

pub(crate) struct Decoder {
    table: Table,
    router: Router,
    /// Name and value of the literal being read.
    literal: Vec<u8>,
}

/// Literals up to here leave their buffer for the next one.
const LITERAL_KEPT_MAX: usize = 512;

impl Decoder {
    /// `size_max` is the table size we announced.
    pub(crate) fn new(size_max: usize, router: Router) -> Self {
        Self { table: Table::new(size_max), router, literal: Vec::new() }
    }

    pub(crate) fn release(&mut self) {
        self.table.release();
        self.literal = Vec::new();
    }

    pub(crate) fn memory(&self) -> usize {
        self.table.memory() + self.literal.capacity()
    }

    /// Changes whenever the table does.
    pub(crate) fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// Decodes one whole header block.
    pub(crate) fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), Broken> {
        let mut rest = Reader { bytes: block };
        let mut fields_seen = false;
        while let Some(&first) = rest.bytes.first() {
            if first & 0x80 != 0 {
                let index = rest.integer(7)?;
                let (tag, size) = self.table.meaning(index).ok_or(Broken)?;
                if !sink.known(tag, size) {
                    sink.field(self.table.get(index).ok_or(Broken)?);
                }
            } else if first & 0xe0 == 0x20 {
                // Sizes stand before the first field (RFC 7541, 4.2).
                if fields_seen || !self.table.resize(rest.integer(5)?) {
                    return Err(Broken);
                }
                continue;
            } else if first & 0xc0 == 0x40 {
                let field =
                    Self::literal(&mut self.literal, &self.table, self.router, &mut rest, 6)?;
                sink.field(field);
                let Field { tag, name, value } = field;
                self.table.insert(name, value, tag);
            } else {
                let field =
                    Self::literal(&mut self.literal, &self.table, self.router, &mut rest, 4)?;
                sink.field(field);
            }
            fields_seen = true;
        }
        if self.literal.capacity() > LITERAL_KEPT_MAX {
            self.literal = Vec::new();
        }
        Ok(())
    }

    fn literal<'a>(
        text: &'a mut Vec<u8>,
        table: &Table,
        router: Router,
        rest: &mut Reader<'_>,
        prefix: u32,
    ) -> Result<Field<'a>, Broken> {
        text.clear();
        match rest.integer(prefix)? {
            0 => rest.string(text)?,
            index => text.extend_from_slice(table.get(index).ok_or(Broken)?.name),
        }
        let name_len = text.len();
        rest.string(text)?;
        let (name, value) = text.split_at(name_len);
        Ok(Field { tag: classify(name, value, router), name, value })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// An integer that starts in the low `prefix` bits of the next byte (RFC 7541, 5.1).
    #[inline]
    fn integer(&mut self, prefix: u32) -> Result<usize, Broken> {
        let (&first, rest) = self.bytes.split_first().ok_or(Broken)?;
        self.bytes = rest;
        let mask = (1usize << prefix) - 1;
        let value = usize::from(first) & mask;
        if value < mask { Ok(value) } else { self.long_integer(value) }
    }

    /// The rest of an integer that does not fit its first byte.
    fn long_integer(&mut self, mut value: usize) -> Result<usize, Broken> {
        // Four more bytes reach 2^28: far more than any index, size or length we accept.
        for shift in [0, 7, 14, 21] {
            let (&byte, rest) = self.bytes.split_first().ok_or(Broken)?;
            self.bytes = rest;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// Appends a string to `text`.
    fn string(&mut self, text: &mut Vec<u8>) -> Result<(), Broken> {
        let coded = self.bytes.first().ok_or(Broken)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (string, rest) = self.bytes.split_at_checked(length).ok_or(Broken)?;
        self.bytes = rest;
        if coded {
            return huffman::decode(string, text).map_err(|huffman::Malformed| Broken);
        }
        text.extend_from_slice(string);
        Ok(())
    }
}

impl Entry {
    /// What an entry counts for, in the table and in the size of a header list.
    fn size(name: usize, value: usize) -> usize {
        name + value + Self::OVERHEAD
    }
}

impl Field<'_> {
    /// What the field counts for in the size of a header list.
    pub(crate) fn size(&self) -> usize {
        Entry::size(self.name.len(), self.value.len())
    }
}

#[cfg(test)]
pub(crate) mod tests;
