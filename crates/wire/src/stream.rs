//! Streams: the calls a connection has open.
//!
//! A stream is here from the headers that open it until both sides are done, or one has reset it.
//! In between the client may still be sending (`remote_closed` is false) and we may still be
//! answering (`outbox`, `trailers`): HTTP/2's half-closed states.
//!
//! # Invariants
//!
//! - The index is at most half full, and a stream is found by walking at most one run of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::connection::Event;
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
    /// Until the event takes it along.
    pub(crate) metadata: Option<Arc<Metadata>>,
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

    /// The one message of a unary call, if `data` is all of it and plain: nearly always.
    #[inline]
    pub(crate) fn whole_call(&self, data: &[u8], max: usize) -> Option<Bytes> {
        let ([0, a, b, c, d], body) = data.split_first_chunk()? else { return None };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let first = !self.streaming && self.body.is_none() && self.assembler.buffered() == 0;
        (first && length == body.len() && length <= max).then(|| Bytes::copy_from_slice(body))
    }

    /// A unary call is complete: the event that says so.
    pub(crate) fn announce(&mut self, body: Bytes) -> Event {
        self.remote_closed = true;
        self.announced = true;
        let metadata = self.metadata.take().unwrap_or_default();
        Event::Unary { stream: self.id, method: self.method, metadata, body }
    }

    /// Nothing more can be sent after what is queued.
    pub(crate) fn is_finished(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.trailers.is_some())
    }
}

/// What has to be known of a stream after it is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) method: Method,
    pub(crate) announced: bool,
    pub(crate) remote_closed: bool,
    pub(crate) ready: bool,
    pub(crate) buffered: usize,
}

impl Gone {
    fn new(stream: &Stream) -> Self {
        Self {
            method: stream.method,
            announced: stream.announced,
            remote_closed: stream.remote_closed,
            ready: stream.ready,
            buffered: stream.buffered(),
        }
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

/// The open streams: where each is, by number; and the streams themselves, in places used again
/// and again.
///
/// ```text
/// index   ·  9→0  ·  ·  13→2  ·  15→1  ·        where the number hashes to, or soon after
/// places  [ 9 | 15 | 13 | free ]
/// ```
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Number and place; number 0 is nobody's.
    index: Vec<(u32, u32)>,
    places: Vec<Option<Stream>>,
    free: Vec<u32>,
}

const INDEX_MIN: usize = 16;

/// Where a stream is, while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a stream would best stand. The factor spreads numbers that follow each other.
    fn home(&self, id: u32) -> usize {
        const SPREAD: u32 = 0x9e37_79b1;
        (id.wrapping_mul(SPREAD) >> 8) as usize & (self.index.len() - 1)
    }

    /// How far from there it stands.
    fn astray(&self, at: usize) -> usize {
        at.wrapping_sub(self.home(self.index[at].0)) & (self.index.len() - 1)
    }

    /// Where in the index a stream stands.
    #[inline]
    fn entry(&self, id: StreamId) -> Option<(usize, u32)> {
        if self.index.is_empty() {
            return None;
        }
        let mut at = self.home(id.0);
        loop {
            match self.index[at] {
                (0, _) => return None,
                (found, place) if found == id.0 => return Some((at, place)),
                _ => at = (at + 1) & (self.index.len() - 1),
            }
        }
    }

    #[inline]
    pub(crate) fn find(&self, id: StreamId) -> Option<Place> {
        self.entry(id).map(|(_, place)| Place(place))
    }

    /// The stream at a place `find` gave, none having gone since.
    #[inline]
    pub(crate) fn at(&mut self, place: Place) -> &mut Stream {
        self.places[place.0 as usize]
            .as_mut()
            .expect("a place stays taken while its stream is open")
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        let place = self.find(id)?;
        self.places[place.0 as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let place = self.find(id)?;
        self.places[place.0 as usize].as_mut()
    }

    /// Adds a stream whose number is new.
    pub(crate) fn insert(&mut self, stream: Stream) {
        if (self.len() + 1) * 2 > self.index.len() {
            self.grow();
        }
        let id = stream.id.0;
        let place = if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(stream);
            place
        } else {
            self.places.push(Some(stream));
            self.places.len() as u32 - 1
        };
        self.enter(id, place);
    }

    fn enter(&mut self, id: u32, place: u32) {
        assert!(id != 0, "stream 0 is the connection");
        let mut entry = (id, place);
        let mut astray = 0;
        let mut at = self.home(id);
        while self.index[at].0 != 0 {
            assert_ne!(self.index[at].0, id, "a stream is opened once");
            // Who is farther from home stays: so every run is ordered by home.
            let other = self.astray(at);
            if other < astray {
                std::mem::swap(&mut entry, &mut self.index[at]);
                astray = other;
            }
            astray += 1;
            at = (at + 1) & (self.index.len() - 1);
        }
        self.index[at] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.index.len() * 2).max(INDEX_MIN);
        let old = std::mem::replace(&mut self.index, vec![(0, 0); size]);
        for (id, place) in old.into_iter().filter(|entry| entry.0 != 0) {
            self.enter(id, place);
        }
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Gone> {
        let (mut hole, place) = self.entry(id)?;
        let stream = &mut self.places[place as usize];
        let gone = stream.as_ref().map(Gone::new);
        *stream = None;
        self.free.push(place);
        // Those after the hole move up, as far as they are astray.
        let mut at = (hole + 1) & (self.index.len() - 1);
        while self.index[at].0 != 0 && self.astray(at) > 0 {
            self.index[hole] = self.index[at];
            hole = at;
            at = (at + 1) & (self.index.len() - 1);
        }
        self.index[hole] = (0, 0);
        gone
    }

    /// In no particular order: nothing a peer sees may follow from it.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().flatten()
    }

    /// Those the caller knows of, with what they call, in order.
    pub(crate) fn announced(&self) -> Vec<(StreamId, Method)> {
        let known = self.places.iter().flatten().filter(|stream| stream.announced);
        let mut known: Vec<_> = known.map(|stream| (stream.id, stream.method)).collect();
        known.sort_unstable_by_key(|(id, _)| *id);
        known
    }

    /// The numbers of those that `wanted` picks, in order.
    pub(crate) fn ids(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        let picked = self.places.iter().flatten().filter(|stream| wanted(stream));
        let mut ids: Vec<_> = picked.map(|stream| stream.id).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn memory(&self) -> usize {
        self.index.capacity() * size_of::<(u32, u32)>()
            + self.places.capacity() * size_of::<Option<Stream>>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Gives back all memory, if no stream is open.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
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
        // The newest first: a stream that was over may have been reset since, for what came late.
        let (newer, older) = self.ring.split_at(self.next);
        let mut entries = newer.iter().rev().chain(older.iter().rev());
        let entry = entries.find(|&&entry| entry & !Self::WE_RESET == id.0)?;
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
            metadata: None,
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
                    streams.remove(StreamId(id));
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
        recent.note(StreamId(3), Ending::WeReset);
        assert_eq!(recent.find(StreamId(3)), Some(Ending::WeReset));
        for id in (101..).step_by(2).take(Recent::KEPT - 1) {
            recent.note(StreamId(id), Ending::Over);
        }
        assert_eq!(recent.find(StreamId(3)), Some(Ending::WeReset));
        recent.note(StreamId(99), Ending::Over);
        assert_eq!(recent.find(StreamId(3)), None);
    }
}
