//! Streams: the calls a connection has open.
//!
//! A stream is here from the headers that open it until both sides are done, or one has reset it.
//! In between the client may still be sending (`remote_closed` is false) and we may still be
//! answering (`outbox`, `trailers`): HTTP/2's half-closed states.
//!
//! # Invariants
//!
//! - Stream numbers only grow, so (number / 2) spreads them evenly: the table needs no hash.
//! - The table is at most half full, and a stream is found by walking at most one run of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::field::Method;
use crate::frame::StreamId;
use crate::head::{Encoding, Metadata};
use crate::message::{Assembler, PREFIX_SIZE};
use crate::status::{Code, Status};

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) method: Method,
    pub(crate) streaming: bool,
    pub(crate) encoding: Encoding,
    /// The client has sent all it will.
    pub(crate) remote_closed: bool,
    /// The caller knows of it, and will be told if it goes.
    pub(crate) announced: bool,
    /// Its window is not refilled until the caller says so.
    pub(crate) held: bool,
    pub(crate) headers_sent: bool,
    /// It stands in the queue of those that may send.
    pub(crate) ready: bool,
    /// When its time is up.
    pub(crate) deadline_ms: u64,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) send_window: i64,
    pub(crate) receive_window: i64,
    /// How much of the announced content-length has not come yet.
    pub(crate) content_left: Option<u64>,
    pub(crate) assembler: Assembler,
    /// A unary call's message, until the client is done.
    pub(crate) body: Option<Bytes>,
    pub(crate) outbox: Option<Box<Outbox>>,
}

impl Stream {
    /// Bytes kept for the client's unfinished business.
    pub(crate) fn buffered(&self) -> usize {
        self.assembler.buffered() + self.body.as_ref().map_or(0, Bytes::len)
    }

    /// Nothing more can be sent after what is queued.
    pub(crate) fn is_finished(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.trailers.is_some())
    }
}

/// What waits for a window or for the socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) pieces: VecDeque<Piece>,
    /// Sum of what is left of the pieces.
    pub(crate) queued: usize,
    pub(crate) trailers: Option<Trailers>,
}

/// What is left to send of a message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) prefix: [u8; PREFIX_SIZE],
    /// How much of the prefix is sent.
    pub(crate) prefix_sent: usize,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub(crate) enum Trailers {
    Ok,
    Error { code: Code, message: String, details: Option<Vec<u8>> },
}

impl Trailers {
    pub(crate) fn new(status: &Status<'_>) -> Self {
        if *status == Status::OK {
            return Self::Ok;
        }
        Self::Error {
            code: status.code,
            message: status.message.to_owned(),
            details: status.details.map(<[u8]>::to_vec),
        }
    }

    pub(crate) fn status(&self) -> Status<'_> {
        match self {
            Self::Ok => Status::OK,
            Self::Error { code, message, details } => {
                Status { code: *code, message, details: details.as_deref() }
            }
        }
    }
}

/// The open streams, by number.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Stream>>,
    len: usize,
}

const SLOTS_MIN: usize = 8;

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn home(&self, id: StreamId) -> usize {
        (id.0 >> 1) as usize & (self.slots.len() - 1)
    }

    fn find(&self, id: StreamId) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(id);
        while let Some(stream) = &self.slots[at] {
            if stream.id == id {
                return Some(at);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots[self.find(id)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let at = self.find(id)?;
        self.slots[at].as_mut()
    }

    /// Adds a stream whose number is new.
    pub(crate) fn insert(&mut self, stream: Stream) {
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.place(stream);
        self.len += 1;
    }

    fn place(&mut self, stream: Stream) {
        let mut at = self.home(stream.id);
        while let Some(other) = &self.slots[at] {
            assert_ne!(other.id, stream.id, "a stream is opened once");
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = Some(stream);
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(size, || None);
        old.into_iter().flatten().for_each(|stream| self.place(stream));
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let mut hole = self.find(id)?;
        let stream = self.slots[hole].take();
        self.len -= 1;
        // Those after the hole move up if a search for them would end in it.
        let mask = self.slots.len() - 1;
        let mut at = (hole + 1) & mask;
        while let Some(next) = &self.slots[at] {
            let distance = at.wrapping_sub(self.home(next.id)) & mask;
            if distance >= (at.wrapping_sub(hole) & mask) {
                self.slots.swap(hole, at);
                hole = at;
            }
            at = (at + 1) & mask;
        }
        stream
    }

    /// In no particular order: nothing a peer sees may follow from it.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    /// The numbers of those that `wanted` picks, in order.
    pub(crate) fn ids(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        let picked = self.slots.iter().flatten().filter(|stream| wanted(stream));
        let mut ids: Vec<_> = picked.map(|stream| stream.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Gives back all memory, if no stream is open.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.slots = Vec::new();
        }
    }
}

/// Why a stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides were done, or the client reset it: nothing may follow.
    Over,
    /// We reset it: the client may not know yet, what it sends is dropped.
    WeReset,
}

/// The last streams that ended: enough to tell a late frame from a wrong one.
#[derive(Debug)]
pub(crate) struct Recent {
    /// The stream's number; the top bit is set if we reset it.
    ring: [u32; Self::KEPT],
    next: usize,
}

impl Recent {
    const KEPT: usize = 32;
    const WE_RESET: u32 = 1 << 31;

    pub(crate) fn new() -> Self {
        Self { ring: [0; Self::KEPT], next: 0 }
    }

    pub(crate) fn note(&mut self, id: StreamId, ending: Ending) {
        let mark = match ending {
            Ending::Over => 0,
            Ending::WeReset => Self::WE_RESET,
        };
        self.ring[self.next] = id.0 | mark;
        self.next = (self.next + 1) % Self::KEPT;
    }

    pub(crate) fn find(&self, id: StreamId) -> Option<Ending> {
        let entry = self.ring.iter().find(|&&entry| entry & !Self::WE_RESET == id.0)?;
        Some(if entry & Self::WE_RESET == 0 { Ending::Over } else { Ending::WeReset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use stdx::each_seed;

    fn stream(id: u32) -> Stream {
        Stream {
            id: StreamId(id),
            method: Method(0),
            streaming: false,
            encoding: Encoding::Identity,
            remote_closed: false,
            announced: false,
            held: false,
            headers_sent: false,
            ready: false,
            deadline_ms: u64::MAX,
            metadata: Arc::default(),
            send_window: 0,
            receive_window: 0,
            content_left: None,
            assembler: Assembler::default(),
            body: None,
            outbox: None,
        }
    }

    #[test]
    fn the_table_holds_what_a_set_holds() {
        each_seed(|g| {
            let (mut streams, mut model, mut last) = (Streams::default(), BTreeSet::new(), 1);
            for _ in 0..g.int(1..=200) {
                if g.chance(55) {
                    last += 2 * g.int(1..=40) as u32;
                    streams.insert(stream(last));
                    model.insert(last);
                } else if let Some(&id) = model.iter().nth(g.int(0..=10)) {
                    model.remove(&id);
                    assert_eq!(streams.remove(StreamId(id)).unwrap().id.0, id);
                }
                assert_eq!(streams.len(), model.len());
            }
            for id in (1..last + 50).step_by(2) {
                let found = streams.get(StreamId(id)).map(|stream| stream.id.0);
                assert_eq!(found, model.get(&id).copied());
            }
            let ids: Vec<_> = model.into_iter().map(StreamId).collect();
            assert_eq!(streams.ids(|_| true), ids);
        });
    }

    #[test]
    fn a_stream_that_ended_lately_is_remembered_with_its_ending() {
        let mut recent = Recent::new();
        recent.note(StreamId(1), Ending::WeReset);
        recent.note(StreamId(3), Ending::Over);
        assert_eq!(recent.find(StreamId(1)), Some(Ending::WeReset));
        assert_eq!(recent.find(StreamId(3)), Some(Ending::Over));
        assert_eq!(recent.find(StreamId(5)), None);
    }
}
