//! A connection: its state, the bytes that come in, the events that come out.
//!
//! ```text
//! receive ── preface ── frames ─┬─ control     settings, pings, windows, resets
//!                               ├─ call        headers and data: requests and their messages
//!                               └─ (fault) ──► RST_STREAM, or GOAWAY and the end
//! reply, send_message, finish ─── send         headers, messages, trailers; windows; fairness
//! tick ────────────────────────── clock        deadlines, keepalive, budgets, memory of the idle
//! ```
//!
//! # Invariants
//!
//! - A frame is looked at once it is whole, and then completely: state never depends on the cut.
//! - After a connection fault nothing more is read, and every stream the caller knows is cancelled.

mod call;
mod clock;
mod control;
mod send;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Budget, Expense};
use crate::field::{Method, Router};
use crate::frame::{self, ErrorCode, HEADER_SIZE, Header, Kind, PREFACE, StreamId};
use crate::head::Metadata;
use crate::hpack::Decoder;
use crate::limits::Limits;
use crate::memo::Memo;
use crate::output::Output;
use crate::response::Blocks;
use crate::stream::{Ending, Gone, Recent, Streams};
use clock::Clock;

/// What a connection tells its owner.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call with its one message. Answer with `reply`, `send_unary`, or `send_message` … `finish`.
    Unary {
        stream: StreamId,
        method: Method,
        metadata: Arc<Metadata>,
        body: Bytes,
    },
    /// A call whose messages follow.
    Opened {
        stream: StreamId,
        method: Method,
        metadata: Arc<Metadata>,
    },
    Message {
        stream: StreamId,
        body: Bytes,
    },
    /// The client has sent its last message.
    HalfClosed {
        stream: StreamId,
    },
    /// All that was queued for the stream is on its way: a producer may go on.
    Drained {
        stream: StreamId,
    },
    /// The time the client gave is up; the stream stays until it is finished.
    DeadlineExceeded {
        stream: StreamId,
    },
    /// The stream is gone; what is sent to it is dropped.
    Cancelled {
        stream: StreamId,
        method: Method,
    },
}

/// The server's end of an HTTP/2 connection that speaks gRPC.
pub struct Connection {
    limits: Arc<Limits>,
    phase: Phase,
    /// The beginning of a frame that is not whole yet.
    partial: Vec<u8>,
    /// A header block that is not whole yet.
    block: Option<Block>,
    decoder: Decoder,
    memo: Memo,
    blocks: Blocks,
    streams: Streams,
    recent: Recent,
    /// The highest stream the client opened.
    last_stream: StreamId,
    /// The metadata of the last request.
    metadata: Arc<Metadata>,
    events: VecDeque<Event>,
    output: Output,
    /// Streams that have something to send and a window for it.
    ready: VecDeque<StreamId>,
    peer: Peer,
    receive_window: i64,
    /// Bytes of incomplete messages, over all streams.
    buffered: usize,
    budget: Budget,
    clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many bytes of the preface have come.
    Preface {
        seen: usize,
    },
    /// Settings must be the first frame.
    Settings,
    Open,
    /// GOAWAY was sent for no stream in particular; new ones are still taken.
    Draining,
    /// GOAWAY named the last stream; the connection ends with the last of its calls.
    Drained,
    Closed,
}

/// What the peer told us about itself.
#[derive(Debug)]
struct Peer {
    /// What may still be sent on the connection.
    window: i64,
    /// What may be sent on a new stream.
    stream_window: i64,
    frame_size: usize,
}

/// A header block of which CONTINUATION frames are still to come.
#[derive(Debug)]
struct Block {
    stream: StreamId,
    end_stream: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

/// What a frame did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Connection(ErrorCode, &'static str),
    Stream(StreamId, ErrorCode),
}

type Checked = Result<(), Fault>;

fn protocol_error(why: &'static str) -> Fault {
    Fault::Connection(ErrorCode::Protocol, why)
}

fn frame_size_error() -> Fault {
    Fault::Connection(ErrorCode::FrameSize, "a frame of the wrong size")
}

/// A buffer for partial frames up to this size stays for the next.
const PARTIAL_KEPT_MAX: usize = 1024;

impl Connection {
    /// A connection just accepted. Our settings wait in the output.
    pub fn new(limits: Arc<Limits>, router: Router, now_ms: u64) -> Self {
        limits.check();
        let mut connection = Self {
            phase: Phase::Preface { seen: 0 },
            partial: Vec::new(),
            block: None,
            decoder: Decoder::new(limits.table_size_max, router),
            memo: Memo::default(),
            blocks: Blocks::new(),
            streams: Streams::default(),
            recent: Recent::new(),
            last_stream: StreamId(0),
            metadata: Arc::default(),
            events: VecDeque::new(),
            output: Output::default(),
            ready: VecDeque::new(),
            peer: Peer {
                window: i64::from(frame::WINDOW_DEFAULT),
                stream_window: i64::from(frame::WINDOW_DEFAULT),
                frame_size: frame::FRAME_SIZE_DEFAULT as usize,
            },
            receive_window: i64::from(limits.connection_window.max(frame::WINDOW_DEFAULT)),
            buffered: 0,
            budget: Budget::default(),
            clock: Clock::new(now_ms),
            limits,
        };
        connection.greet();
        connection
    }

    /// Takes what the socket gave. Whatever it is, `poll` and `output` say what came of it.
    pub fn receive(&mut self, input: &[u8]) {
        self.clock.heard();
        let mut rest = self.preface(input);
        while !rest.is_empty() && self.phase != Phase::Closed {
            rest = if self.partial.is_empty() { self.frames(rest) } else { self.complete(rest) };
        }
        if self.output.len() > self.limits.output_bytes_max {
            self.end(ErrorCode::EnhanceYourCalm, "output_unread");
        }
    }

    /// The next event. To be asked until there is none, after each `receive`, `consumed` and `tick`.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be written, in order; says how many slices it filled.
    pub fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.fill(slices)
    }

    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Bytes waiting for the socket.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// The socket took `n` bytes of the output.
    pub fn consumed(&mut self, n: usize) {
        self.output.consumed(n);
        self.pump();
    }

    /// False while the peer should first read what it asked for.
    pub fn wants_read(&self) -> bool {
        self.phase != Phase::Closed && self.output.len() < self.limits.output_high_water
    }

    /// True when nothing will be read any more: write what is left and drop it.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// True while a client that was asked to go elsewhere hasn't said that it read so.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Calls that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What an open stream calls.
    pub fn method(&self, id: StreamId) -> Option<Method> {
        self.streams.get(id).map(|stream| stream.method)
    }

    /// The socket is gone: every open call is cancelled.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        self.partial = Vec::new();
        self.block = None;
        self.ready.clear();
        self.buffered = 0;
        let streams = mem::take(&mut self.streams);
        let cancelled = streams.announced().into_iter();
        self.events.extend(cancelled.map(|(stream, method)| Event::Cancelled { stream, method }));
    }

    /// Takes the preface off the front of the input.
    fn preface<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let Phase::Preface { seen } = self.phase else { return input };
        let expected = &PREFACE[seen..];
        let (preface, rest) = input.split_at(input.len().min(expected.len()));
        if !expected.starts_with(preface) {
            // Whoever this is doesn't speak HTTP/2 and would make nothing of a GOAWAY.
            self.close();
            return &[];
        }
        self.phase = match seen + preface.len() {
            seen if seen == PREFACE.len() => Phase::Settings,
            seen => Phase::Preface { seen },
        };
        rest
    }

    /// Looks at the whole frames in `input`, and keeps the beginning of the next.
    fn frames<'a>(&mut self, mut input: &'a [u8]) -> &'a [u8] {
        while self.phase != Phase::Closed {
            let Some((head, rest)) = input.split_first_chunk::<HEADER_SIZE>() else {
                self.partial.extend_from_slice(input);
                return &[];
            };
            let header = Header::from_wire(head);
            let Some((payload, rest)) = rest.split_at_checked(header.length) else { break };
            self.on_frame(header, payload);
            input = rest;
            if input.is_empty() {
                return &[];
            }
        }
        if self.phase == Phase::Closed { &[] } else { self.complete(input) }
    }

    /// Adds to the partial frame what it lacks; looks at it when it is whole.
    fn complete<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let input = self.take(input, HEADER_SIZE);
        let Some(head) = self.partial.first_chunk::<HEADER_SIZE>() else { return input };
        let header = Header::from_wire(head);
        if header.length > self.limits.frame_size_max as usize {
            self.on_fault(frame_size_error());
            return &[];
        }
        let whole = HEADER_SIZE + header.length;
        self.partial.reserve_exact(whole - self.partial.len());
        let input = self.take(input, whole);
        if self.partial.len() == whole {
            let mut frame = mem::take(&mut self.partial);
            self.on_frame(header, &frame[HEADER_SIZE..]);
            if frame.capacity() <= PARTIAL_KEPT_MAX && self.phase != Phase::Closed {
                frame.clear();
                self.partial = frame;
            }
        }
        input
    }

    fn take<'a>(&mut self, input: &'a [u8], upto: usize) -> &'a [u8] {
        let n = upto.saturating_sub(self.partial.len()).min(input.len());
        let (bytes, rest) = input.split_at(n);
        self.partial.extend_from_slice(bytes);
        rest
    }

    #[inline]
    fn on_frame(&mut self, header: Header, payload: &[u8]) {
        if let Err(fault) = self.frame(header, payload) {
            self.on_fault(fault);
        }
    }

    fn frame(&mut self, header: Header, payload: &[u8]) -> Checked {
        if header.length > self.limits.frame_size_max as usize {
            return Err(frame_size_error());
        }
        if self.phase == Phase::Settings && header.kind != Kind::Settings {
            return Err(protocol_error("settings must come first"));
        }
        if self.block.is_some() && header.kind != Kind::Continuation {
            return Err(protocol_error("a header block is interrupted"));
        }
        match header.kind {
            Kind::Data => self.on_data(header, payload),
            Kind::Headers => self.on_headers(header, payload),
            Kind::Continuation => self.on_continuation(header, payload),
            Kind::Reset => self.on_reset(header, payload),
            Kind::Settings => self.on_settings(header, payload),
            Kind::Ping => self.on_ping(header, payload),
            Kind::WindowUpdate => self.on_window_update(header, payload),
            Kind::Priority => self.on_priority(header, payload),
            Kind::GoAway => self.on_go_away(header, payload),
            Kind::PushPromise => Err(protocol_error("a client can't push")),
            Kind::Unknown => self.spend(Expense::IdleFrame),
        }
    }

    #[cold]
    fn on_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Connection(code, why) => self.end(code, why),
            Fault::Stream(stream, code) => {
                if !self.budget.spend(Expense::Reset, &self.limits) {
                    return self.end(ErrorCode::EnhanceYourCalm, Expense::Reset.excess());
                }
                self.reset(stream, code);
            }
        }
    }

    /// Says why, and closes.
    #[cold]
    fn end(&mut self, code: ErrorCode, why: &str) {
        frame::put_go_away(self.output.buffer(), self.last_stream, code, why);
        self.close();
    }

    /// Resets a stream, open or not.
    fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        frame::put_reset(self.output.buffer(), stream, code);
        self.remove(stream, Ending::WeReset);
    }

    /// Forgets a stream, and tells the caller if it was not the caller's own doing.
    fn remove(&mut self, stream: StreamId, ending: Ending) {
        if let Some(method) = self.forget(stream, ending) {
            self.events.push_back(Event::Cancelled { stream, method });
        }
    }

    /// Forgets a stream; returns what it calls if the caller knows of it.
    fn forget(&mut self, stream: StreamId, ending: Ending) -> Option<Method> {
        self.recent.note(stream, ending);
        let gone = self.streams.remove(stream)?;
        self.settle(stream, gone);
        gone.announced.then_some(gone.method)
    }

    /// Clears up after a stream that was removed.
    fn settle(&mut self, stream: StreamId, gone: Gone) {
        self.buffered -= gone.buffered;
        if gone.ready {
            self.ready.retain(|&id| id != stream);
        }
        if self.phase == Phase::Drained && self.streams.is_empty() {
            self.phase = Phase::Closed;
        }
    }

    /// Counts what a peer may not do too often.
    fn spend(&mut self, expense: Expense) -> Checked {
        if self.budget.spend(expense, &self.limits) {
            return Ok(());
        }
        Err(Fault::Connection(ErrorCode::EnhanceYourCalm, expense.excess()))
    }
}
