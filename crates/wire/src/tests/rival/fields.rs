//! The client's header table, and the many ways in which it lets a field be written.

use std::collections::VecDeque;

use stdx::Generator;

use crate::hpack::tests::put_integer;
use crate::huffman;

/// A name and its value: bytes, for they need not be sound.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// The largest table the server allows.
const TABLE_SIZE_MAX: usize = 4096;
/// What an entry counts for besides its letters (RFC 7541, 4.1).
const OVERHEAD: usize = 32;
/// Where the connection's own entries begin.
const DYNAMIC_AT: usize = 62;
/// Fields of the RFC's list that requests are made of.
const LISTED: [(usize, &[u8], &[u8]); 4] = [
    (2, b":method", b"GET"),
    (3, b":method", b"POST"),
    (6, b":scheme", b"http"),
    (7, b":scheme", b"https"),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Field>,
    size_max: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size_max: TABLE_SIZE_MAX }
    }

    /// A header block, each field written in a way of its own.
    pub(super) fn block(&mut self, g: &mut Generator, fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        if g.chance(8) {
            self.size_max = *g.pick(&[0, 60, 200, TABLE_SIZE_MAX]);
            put_integer(&mut out, 0x20, 5, self.size_max);
            self.evict();
        }
        for field in fields {
            self.field(g, field, &mut out);
        }
        out
    }

    fn field(&mut self, g: &mut Generator, field: &Field, out: &mut Vec<u8>) {
        let listed = LISTED.iter().find(|(_, name, value)| *name == field.0 && *value == field.1);
        let remembered = self.entries.iter().position(|entry| entry == field);
        let known = remembered.map(|at| at + DYNAMIC_AT).or(listed.map(|(index, _, _)| *index));
        if let Some(index) = known.filter(|_| g.chance(70)) {
            return put_integer(out, 0x80, 7, index);
        }
        let (pattern, prefix) = *g.pick(&[(0x40, 6), (0x40, 6), (0, 4), (0x10, 4)]);
        let named = self.entries.iter().position(|(name, _)| *name == field.0);
        match named.filter(|_| g.chance(50)) {
            Some(at) => put_integer(out, pattern, prefix, at + DYNAMIC_AT),
            None => {
                out.push(pattern);
                string(g, out, &field.0);
            }
        }
        string(g, out, &field.1);
        if pattern == 0x40 {
            self.entries.push_front(field.clone());
            self.evict();
        }
    }

    /// Forgets the oldest until the rest fits.
    fn evict(&mut self) {
        let size = |(name, value): &Field| name.len() + value.len() + OVERHEAD;
        while self.entries.iter().map(size).sum::<usize>() > self.size_max {
            self.entries.pop_back();
        }
    }
}

fn string(g: &mut Generator, out: &mut Vec<u8>, text: &[u8]) {
    if g.chance(50) {
        let code = huffman::encode(text);
        put_integer(out, 0x80, 7, code.len());
        out.extend_from_slice(&code);
    } else {
        put_integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}
