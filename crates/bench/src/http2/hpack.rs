//! HPACK (RFC 7541): the header blocks we send, which are always the same, and those we are sent.
//!
//! The first request of a connection teaches the server's table all that requests have in common;
//! each later one of the same method refers to it and is seven bytes long.
//!
//! ```text
//! first    :method :scheme  :path=… :authority=… content-type=… te=… user-agent=…   enter the table
//! repeat    83      86       c2      c1           c0             bf   be            refer to it
//! ```
//!
//! # Invariants
//!
//! - The table never holds more than the size agreed on, counted as HPACK counts.   (asserted)

use std::borrow::Cow;
use std::collections::VecDeque;

use super::huffman;

/// What tables may hold before anyone says otherwise; we never ask for another size.
pub(super) const TABLE_SIZE: usize = 4096;

/// What an entry counts for beside its name and value.
const ENTRY_OVERHEAD: usize = 32;

const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const INDEXED: u8 = 0x80;
const WITH_INDEXING: u8 = 0x40;
const TABLE_UPDATE: u8 = 0x20;
const HUFFMAN: u8 = 0x80;

/// Names in the order of HPACK's static table, whose first index is 1.
const STATIC: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// The header block that leaves all its fields in the server's table.
pub(super) fn first_block(path: &str, authority: &str) -> Vec<u8> {
    block(path, authority, WITH_INDEXING)
}

/// The header block that says what `first_block` said.
pub(super) const REPEAT_BLOCK: [u8; 7] = [
    METHOD_POST,
    SCHEME_HTTP,
    INDEXED | 66,
    INDEXED | 65,
    INDEXED | 64,
    INDEXED | 63,
    INDEXED | 62,
];

/// The header block that leaves no trace.
pub(super) fn lone_block(path: &str, authority: &str) -> Vec<u8> {
    block(path, authority, 0)
}

fn block(path: &str, authority: &str, form: u8) -> Vec<u8> {
    let mut out = vec![METHOD_POST, SCHEME_HTTP];
    let fields = [
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "retcd-bench"),
    ];
    for (name, value) in fields {
        out.push(form); // … with index 0: the name is written out.
        for text in [name, value] {
            assert!(text.len() < 127, "one byte says how long it is");
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A name and a value, where they lie if they can be read there.
type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

struct Entry {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

/// Reads the server's header blocks, all of which it must be shown.
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

/// The block can't be read, and so can't any that follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Decoder {
    pub(super) fn new() -> Self {
        Self { table: VecDeque::new(), size: 0, size_max: TABLE_SIZE }
    }

    /// Shows each field of the block: its name and its value.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut on_field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let block = &mut block;
        while let Some(first) = block.first() {
            if first & INDEXED != 0 {
                let (name, value) = self.entry(integer(block, 7)?)?;
                on_field(name, value);
            } else if first & WITH_INDEXING != 0 {
                let (name, value) = self.literal(block, 6)?;
                let (name, value) = (name.into_owned(), value.into_owned());
                on_field(&name, &value);
                self.insert(Entry { name, value });
            } else if first & TABLE_UPDATE != 0 {
                let size_max = integer(block, 5)?;
                if size_max > TABLE_SIZE {
                    return Err(Malformed);
                }
                self.size_max = size_max;
                self.evict();
            } else {
                let (name, value) = self.literal(block, 4)?;
                on_field(&name, &value);
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let name = STATIC.get(index.wrapping_sub(1));
        if let Some(name) = name {
            // Of the values, we look at no other.
            let value: &[u8] = if index == 8 { b"200" } else { b"" };
            return Ok((name.as_bytes(), value));
        }
        let at = index.checked_sub(STATIC.len() + 1).ok_or(Malformed)?;
        self.table.get(at).map(|e| (&e.name[..], &e.value[..])).ok_or(Malformed)
    }

    fn literal<'s, 'b: 's>(
        &'s self,
        block: &mut &'b [u8],
        prefix: u32,
    ) -> Result<Field<'s>, Malformed> {
        let name = match integer(block, prefix)? {
            0 => text(block)?,
            index => Cow::Borrowed(self.entry(index)?.0),
        };
        Ok((name, text(block)?))
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size();
        self.table.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max {
            let oldest = self.table.pop_back();
            self.size -= oldest.map_or(self.size, |e| e.size());
        }
        assert!(self.size <= self.size_max && (self.size > 0) != self.table.is_empty());
    }
}

fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let mask = (1usize << prefix) - 1;
    let mut number = usize::from(byte(block)?) & mask;
    if number < mask {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let next = byte(block)?;
        number += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn text<'a>(block: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
    let coded = block.first().is_some_and(|b| b & HUFFMAN != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    Ok(if coded { Cow::Owned(huffman::decode(text)) } else { Cow::Borrowed(text) })
}

fn byte(block: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = block.split_first().ok_or(Malformed)?;
    *block = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests;
