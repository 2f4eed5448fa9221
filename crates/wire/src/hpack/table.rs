//! The two tables a header block refers to.
//!
//! The dynamic one is a run of bytes with the names and values of its entries in the order they
//! came, oldest first, and a queue of where each lies. Forgetting the oldest moves a mark; the
//! bytes before the mark are dropped when they outweigh the rest.
//!
//! ```text
//! bytes  ░░░░░░ :path/etcdserverpb.KV/Put user-agentgrpc-go/1.82
//!        dead   ▲ base + live start        newest: entries[0] ▲
//! ```

use std::collections::VecDeque;

use super::Field;
use crate::field::{Route, Tag};

/// An entry of the dynamic table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where its name starts, counted from the beginning of the connection; wraps around.
    at: u32,
    name: u16,
    value: u16,
    tag: Tag,
}

impl Entry {
    /// What an entry costs beside its text, says RFC 7541.
    pub(super) const OVERHEAD: usize = 32;
}

pub(super) struct Table {
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// How many bytes of the connection's entries were dropped before `bytes[0]`.
    dropped: u32,
    /// Sum of the entries' sizes.
    size: usize,
    /// What the peer wants it to be at most …
    size_now: usize,
    /// … which is at most what we allow.
    size_max: usize,
    generation: u64,
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        assert!(size_max <= usize::from(u16::MAX), "the lengths of an entry fit sixteen bits");
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            dropped: 0,
            size: 0,
            size_now: size_max,
            size_max,
            generation: 0,
        }
    }

    /// The field at `index`, counted from one through both tables.
    pub(super) fn get(&self, index: usize) -> Option<Field<'_>> {
        if index <= STATIC.len() {
            return STATIC.get(index.checked_sub(1)?).copied();
        }
        let entry = self.entries.get(index - STATIC.len() - 1)?;
        let at = entry.at.wrapping_sub(self.dropped) as usize;
        let (name, value) = (usize::from(entry.name), usize::from(entry.value));
        let (name, value) = self.bytes[at..at + name + value].split_at(name);
        Some(Field { tag: entry.tag, name, value })
    }

    /// What the field at `index` means, and its size.
    #[inline]
    pub(super) fn meaning(&self, index: usize) -> Option<(Tag, usize)> {
        if index <= STATIC.len() {
            let field = STATIC.get(index.checked_sub(1)?)?;
            return Some((field.tag, field.size()));
        }
        let entry = self.entries.get(index - STATIC.len() - 1)?;
        Some((entry.tag, Entry::size(entry.name.into(), entry.value.into())))
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// How often the table has changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The peer announces a new size; false if it is more than we allow.
    pub(super) fn resize(&mut self, size: usize) -> bool {
        if size > self.size_max {
            return false;
        }
        self.size_now = size;
        self.generation += 1;
        self.evict(0);
        true
    }

    /// Remembers a field. One larger than the table leaves it empty.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], tag: Tag) {
        let size = Entry::size(name.len(), value.len());
        self.generation += 1;
        self.evict(size);
        if size > self.size_now {
            return;
        }
        let entry = Entry {
            at: self.dropped.wrapping_add(self.bytes.len() as u32),
            name: name.len() as u16,
            value: value.len() as u16,
            tag,
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_front(entry);
        self.size += size;
        assert!(self.size <= self.size_max, "the table keeps to its bound");
    }

    /// Forgets the oldest entries until `room` bytes fit.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.size_now {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= Entry::size(oldest.name.into(), oldest.value.into());
        }
        let dead = self.dead();
        if dead > self.bytes.len() / 2 {
            self.drop_front(dead);
        }
    }

    /// How many bytes stand before the oldest entry.
    fn dead(&self) -> usize {
        let oldest = self.entries.back();
        oldest.map_or(self.bytes.len(), |oldest| oldest.at.wrapping_sub(self.dropped) as usize)
    }

    fn drop_front(&mut self, dead: usize) {
        self.bytes.drain(..dead);
        self.dropped = self.dropped.wrapping_add(dead as u32);
    }

    /// Gives back what memory it can while nothing happens.
    pub(super) fn release(&mut self) {
        self.drop_front(self.dead());
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

const fn field(name: &'static str, value: &'static str, tag: Tag) -> Field<'static> {
    Field { tag, name: name.as_bytes(), value: value.as_bytes() }
}

const fn dull(name: &'static str) -> Field<'static> {
    field(name, "", Tag::Ignored)
}

/// The RFC's list of common fields (RFC 7541, appendix A).
static STATIC: [Field<'static>; 61] = [
    field(":authority", "", Tag::Authority),
    field(":method", "GET", Tag::MethodOther),
    field(":method", "POST", Tag::MethodPost),
    field(":path", "/", NOWHERE),
    field(":path", "/index.html", NOWHERE),
    field(":scheme", "http", Tag::Scheme),
    field(":scheme", "https", Tag::Scheme),
    field(":status", "200", RESPONSE),
    field(":status", "204", RESPONSE),
    field(":status", "206", RESPONSE),
    field(":status", "304", RESPONSE),
    field(":status", "400", RESPONSE),
    field(":status", "404", RESPONSE),
    field(":status", "500", RESPONSE),
    dull("accept-charset"),
    field("accept-encoding", "gzip, deflate", Tag::Ignored),
    dull("accept-language"),
    dull("accept-ranges"),
    dull("accept"),
    dull("access-control-allow-origin"),
    dull("age"),
    dull("allow"),
    field("authorization", "", Tag::Authorization),
    dull("cache-control"),
    dull("content-disposition"),
    dull("content-encoding"),
    dull("content-language"),
    field("content-length", "", Tag::ContentLength),
    dull("content-location"),
    dull("content-range"),
    field("content-type", "", Tag::ContentTypeOther),
    dull("cookie"),
    dull("date"),
    dull("etag"),
    dull("expect"),
    dull("expires"),
    dull("from"),
    field("host", "", Tag::Host),
    dull("if-match"),
    dull("if-modified-since"),
    dull("if-none-match"),
    dull("if-range"),
    dull("if-unmodified-since"),
    dull("last-modified"),
    dull("link"),
    dull("location"),
    dull("max-forwards"),
    dull("proxy-authenticate"),
    dull("proxy-authorization"),
    dull("range"),
    dull("referer"),
    dull("refresh"),
    dull("retry-after"),
    dull("server"),
    dull("set-cookie"),
    dull("strict-transport-security"),
    field("transfer-encoding", "", CONNECTION),
    dull("user-agent"),
    dull("vary"),
    dull("via"),
    dull("www-authenticate"),
];

/// No method has such a path.
const NOWHERE: Tag = Tag::Path(Route::UnknownService);
/// Responses have a status, requests don't.
const RESPONSE: Tag = Tag::Malformed;
/// Nor do they say anything of the connection.
const CONNECTION: Tag = Tag::Malformed;
