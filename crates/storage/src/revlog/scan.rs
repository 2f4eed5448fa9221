//! Reading a segment's records one after the other: the way of the unsealed tail, and of sealing.

use std::ops::Range;
use std::sync::Arc;

use super::error::Trouble;
use super::record::{self, HEADER_SIZE, Meta, Place, SegmentId};
use super::{Entry, segment};
use crate::disk::File;

use super::window::Window;

/// A walk over the records between the segment's header and `end`.
pub(super) struct Scan {
    segment: SegmentId,
    window: Window,
    current: Option<Current>,
}

struct Current {
    offset: u32,
    length: u32,
    meta: Meta,
    key: Range<usize>,
}

impl Scan {
    pub(super) fn new(segment: SegmentId, file: Arc<dyn File>, end: u64) -> Self {
        let window = Window::new(file, segment::FIRST_OFFSET, end);
        Self { segment, window, current: None }
    }

    /// Goes to the next record; false if there is none.
    pub(super) fn advance(&mut self) -> Result<bool, Trouble> {
        if let Some(Current { length, .. }) = self.current.take() {
            self.window.consume(length as usize);
        }
        let (at, room) = (self.window.at(), self.window.remaining());
        if room == 0 {
            return Ok(false);
        }
        let corrupt = |what| Trouble::Corrupt { offset: at, what };
        let header = self.window.peek(HEADER_SIZE)?.first_chunk().expect("a whole header");
        let length = record::length(header, room).map_err(corrupt)?;
        let (header, body) = record::split(self.window.peek(length as usize)?, at)?;
        let found = record::describe(&header, body);
        let (key, meta) = found.ok_or(corrupt("a record holds no KeyValue of its revision"))?;
        let key_at = HEADER_SIZE + (key.as_ptr() as usize - body.as_ptr() as usize);
        let offset = u32::try_from(at).map_err(|_| corrupt("a segment is longer than can be"))?;
        self.current = Some(Current { offset, length, meta, key: key_at..key_at + key.len() });
        Ok(true)
    }

    /// The record the walk is at.
    pub(super) fn entry(&self) -> Entry<'_> {
        let current = self.current.as_ref().expect("`advance` found a record");
        Entry {
            key: self.window.peeked(current.key.start, current.key.end),
            meta: current.meta,
            place: Place::new(self.segment, current.offset),
            len: current.length - HEADER_SIZE as u32,
        }
    }
}
