//! The connections of a shard: sockets on one side, calls on the other.
//!
//! # Invariants
//!
//! - A slot's generation grows with each connection that takes it: answers to the last one find
//!   nobody.
//! - A connection is on the dirty list at most once, and written at most once a turn, unless the
//!   socket takes less than it was given, or a turn has more to say than [`OUTPUT_MAX`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use mio::event::Event as Ready;
use mio::{Registry, Token};
use proto::error::{Code, Status};
use proto::method::{Kind, Method};
use wire::{Connection, Event, Metadata, Route, StreamId};

use super::socket::Socket;
use super::tally::{Spoken, Tally};
use crate::api::{Caller, Input, Outlet, ROOM, ReplyTo};
use crate::engine::Engine;

/// Bytes taken from one socket before the others get their turn.
const READ_PER_TURN_MAX: usize = 256 * 1024;
/// The buffer all sockets are read through.
const READ_BUFFER: usize = 64 * 1024;
/// Bytes a stream may have queued before its producer stops.
const STREAM_QUEUE_MAX: usize = ROOM;
/// Unwritten bytes of a connection above which none of its streams gets room.
pub(crate) const OUTPUT_MAX: usize = 256 * 1024;
/// Slices given to the socket in one call.
const SLICES_MAX: usize = 64;

struct Slot {
    socket: Socket,
    wire: Connection,
    generation: u32,
    readable: bool,
    writable: bool,
    read_closed: bool,
    /// Reading stopped because the client should first read what it asked for.
    held: bool,
    dirty: bool,
    /// Streams that were told there is no room.
    starved: Vec<ReplyTo>,
    spoken: Spoken,
}

/// See the module.
pub(super) struct Connections {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    generation: u32,
    limits: Arc<wire::Limits>,
    /// Slots with something to read.
    to_read: VecDeque<u32>,
    /// Slots whose streams or output changed.
    dirty: Vec<u32>,
    buffer: Vec<u8>,
    ticked_ms: u64,
    tally: Tally,
}

/// How often each connection's clock is looked at.
const TICK_MS: u64 = 1000;

impl Connections {
    pub(super) fn new(engine: &Arc<Engine>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            limits: Arc::clone(&engine.limits.wire),
            to_read: VecDeque::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BUFFER],
            ticked_ms: 0,
            tally: Tally::new(Arc::clone(engine)),
        }
    }

    /// Whether any client has yet to take something.
    pub(super) fn wants_write(&self) -> bool {
        self.slots.iter().flatten().any(|slot| slot.wire.wants_write())
    }

    /// Whether any client has yet to say that it read of the end.
    pub(super) fn are_draining(&self) -> bool {
        self.slots.iter().flatten().any(|slot| slot.wire.is_draining())
    }

    /// Whether the next turn has work without any socket asking for it.
    pub(super) fn has_backlog(&self) -> bool {
        !self.to_read.is_empty()
    }

    /// Takes a connection over. One that cannot be waited for is dropped, which closes it.
    pub(super) fn add(&mut self, mut socket: Socket, registry: &Registry, now_ms: u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("far fewer sockets than that")
        });
        if socket.register(registry, Token(index as usize)).is_err() {
            self.free.push(index);
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.slots[index as usize] = Some(Slot {
            socket,
            wire: Connection::new(Arc::clone(&self.limits), route, now_ms),
            generation: self.generation,
            readable: true,
            writable: true,
            read_closed: false,
            held: false,
            dirty: true,
            starved: Vec::new(),
            spoken: Spoken::default(),
        });
        self.to_read.push_back(index);
        self.dirty.push(index);
    }

    /// A socket has changed.
    pub(super) fn ready(&mut self, event: &Ready) {
        let index = u32::try_from(event.token().0).expect("tokens are slots");
        let Some(slot) = self.slots.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            slot.read_closed |= event.is_read_closed() || event.is_error();
            if !slot.readable {
                slot.readable = true;
                self.to_read.push_back(index);
            }
        }
        if event.is_writable() && !slot.writable {
            slot.writable = true;
            mark(&mut self.dirty, slot, index);
        }
    }

    /// Reads every socket that has something, and gathers what its calls want.
    pub(super) fn read(&mut self, inputs: &mut Vec<Input>, now_ms: u64) {
        for _ in 0..self.to_read.len() {
            let Some(index) = self.to_read.pop_front() else { break };
            let Some(slot) = self.slots[index as usize].as_mut() else { continue };
            let more = slot.read(&mut self.buffer);
            mark(&mut self.dirty, slot, index);
            slot.gather(index, inputs, &mut self.tally);
            if more {
                self.to_read.push_back(index);
            }
        }
        if now_ms.saturating_sub(self.ticked_ms) >= TICK_MS {
            self.ticked_ms = now_ms;
            self.tick(inputs, now_ms);
        }
    }

    fn tick(&mut self, inputs: &mut Vec<Input>, now_ms: u64) {
        for (index, slot) in (0..).zip(&mut self.slots) {
            if let Some(slot) = slot {
                slot.wire.tick(now_ms);
                slot.gather(index, inputs, &mut self.tally);
                mark(&mut self.dirty, slot, index);
            }
        }
    }

    /// Writes what every changed connection has to say; drops those that have ended.
    pub(super) fn write(&mut self, inputs: &mut Vec<Input>, registry: &Registry) {
        for at in 0..self.dirty.len() {
            let index = self.dirty[at];
            let Some(slot) = self.slots[index as usize].as_mut() else { continue };
            slot.dirty = false;
            let ended =
                slot.write().is_err() || (slot.wire.is_closed() && !slot.wire.wants_write());
            if ended {
                slot.wire.close();
            }
            slot.gather(index, inputs, &mut self.tally);
            slot.feed_starved(inputs);
            if slot.held && slot.wire.wants_read() {
                slot.held = false;
                self.to_read.push_back(index);
            }
            if ended {
                // The system forgets a closed socket by itself; a failure to deregister changes nothing.
                drop(slot.socket.deregister(registry));
                self.slots[index as usize] = None;
                self.free.push(index);
            }
        }
        self.dirty.clear();
    }

    /// Hands over what was counted since the last time.
    pub(super) fn hand_over(&mut self) {
        self.tally.hand_over();
    }

    /// Asks every client to go, and lets what runs finish.
    pub(super) fn drain(&mut self) {
        for (index, slot) in (0..).zip(&mut self.slots) {
            if let Some(slot) = slot {
                slot.wire.drain();
                mark(&mut self.dirty, slot, index);
            }
        }
    }

    fn slot(&mut self, to: ReplyTo) -> Option<(&mut Slot, StreamId, &mut Tally)> {
        let slot = self.slots.get_mut(to.connection as usize)?.as_mut()?;
        if slot.generation != to.generation {
            return None;
        }
        mark(&mut self.dirty, slot, to.connection);
        Some((slot, StreamId(to.stream), &mut self.tally))
    }
}

fn mark(dirty: &mut Vec<u32>, slot: &mut Slot, index: u32) {
    if !slot.dirty {
        slot.dirty = true;
        dirty.push(index);
    }
}

impl Slot {
    /// Reads until the socket is empty, has had its share, or its output should be written first.
    /// True if there is more.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let mut n_read = 0;
        while n_read < READ_PER_TURN_MAX {
            if !self.wire.wants_read() {
                self.held = true;
                return false;
            }
            match self.socket.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    self.wire.close();
                    return false;
                }
                Ok(n) => {
                    n_read += n;
                    self.wire.receive(&buffer[..n]);
                    // A short read has emptied the socket; its next bytes will be told of.
                    if n < buffer.len() && !self.read_closed {
                        self.readable = false;
                        return false;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return false;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.readable = false;
                    self.wire.close();
                    return false;
                }
            }
        }
        true
    }

    /// Writes until there is nothing left or the socket is full.
    fn write(&mut self) -> io::Result<()> {
        while self.writable && self.wire.wants_write() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let n_slices = self.wire.output(&mut slices);
            match self.socket.write(&slices[..n_slices]) {
                Ok(n) => self.wire.consumed(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn reply_to(&self, connection: u32, stream: StreamId) -> ReplyTo {
        ReplyTo { connection, stream: stream.0, generation: self.generation }
    }

    /// Turns what the wire has understood into inputs.
    fn gather(&mut self, index: u32, inputs: &mut Vec<Input>, tally: &mut Tally) {
        while let Some(event) = self.wire.poll() {
            self.count(&event, tally);
            let input = match event {
                Event::Unary { stream, method, metadata, body } => Input::Call {
                    to: self.reply_to(index, stream),
                    method: method_of(method),
                    caller: caller(&metadata),
                    body,
                },
                Event::Opened { stream, method, metadata } => Input::Open {
                    to: self.reply_to(index, stream),
                    method: method_of(method),
                    caller: caller(&metadata),
                },
                Event::Message { stream, body } => {
                    Input::Message { to: self.reply_to(index, stream), body }
                }
                Event::HalfClosed { stream } => {
                    Input::HalfClosed { to: self.reply_to(index, stream) }
                }
                Event::Drained { stream } => Input::Room { to: self.reply_to(index, stream) },
                Event::DeadlineExceeded { stream } => {
                    let status = wire::Status::new(wire::Code::DeadlineExceeded, DEADLINE_TEXT);
                    self.wire.finish(stream, &status);
                    Input::Gone { to: self.reply_to(index, stream) }
                }
                Event::Cancelled { stream, .. } => Input::Gone { to: self.reply_to(index, stream) },
            };
            inputs.push(input);
        }
    }

    fn count(&mut self, event: &Event, tally: &mut Tally) {
        match event {
            Event::Unary { method, metadata, body, .. } => {
                let method = method_of(*method);
                tally.started(method, &mut self.spoken, metadata);
                tally.received(method, body.len());
            }
            Event::Opened { method, metadata, .. } => {
                tally.started(method_of(*method), &mut self.spoken, metadata);
            }
            Event::Message { stream, body } => {
                if let Some(method) = self.wire.method(*stream) {
                    tally.received(method_of(method), body.len());
                }
            }
            Event::DeadlineExceeded { stream } => {
                if let Some(method) = self.wire.method(*stream) {
                    tally.ended(method_of(method), Code::DeadlineExceeded);
                }
            }
            Event::Cancelled { method, .. } => tally.ended(method_of(*method), Code::Canceled),
            Event::HalfClosed { .. } | Event::Drained { .. } => {}
        }
    }

    /// Tells streams that were refused room that there is some again.
    fn feed_starved(&mut self, inputs: &mut Vec<Input>) {
        if !self.starved.is_empty() && self.wire.output_len() <= OUTPUT_MAX / 2 {
            inputs.extend(self.starved.drain(..).map(|to| Input::Room { to }));
        }
    }
}

/// What a caller is told whose own deadline passed. It rarely sees it: it has left by then.
const DEADLINE_TEXT: &str = "context deadline exceeded";

impl Outlet for Connections {
    fn reply(&mut self, to: ReplyTo, message: Bytes) {
        let Some((slot, stream, tally)) = self.slot(to) else { return };
        if let Some(method) = slot.wire.method(stream) {
            tally.sent(method_of(method), message.len());
            tally.ended(method_of(method), Code::Ok);
        }
        slot.wire.send_unary(stream, message);
    }

    fn message(&mut self, to: ReplyTo, message: Bytes) {
        let Some((slot, stream, tally)) = self.slot(to) else { return };
        if let Some(method) = slot.wire.method(stream) {
            tally.sent(method_of(method), message.len());
        }
        slot.wire.send_message(stream, message);
    }

    fn pieces(&mut self, to: ReplyTo, pieces: &[&[u8]]) {
        let Some((slot, stream, tally)) = self.slot(to) else { return };
        if let Some(method) = slot.wire.method(stream) {
            tally.sent(method_of(method), pieces.iter().map(|piece| piece.len()).sum());
        }
        slot.wire.send_pieces(stream, pieces);
    }

    fn begin(&mut self, to: ReplyTo, len: u32) {
        let Some((slot, stream, tally)) = self.slot(to) else { return };
        if let Some(method) = slot.wire.method(stream) {
            tally.sent(method_of(method), len as usize);
        }
        slot.wire.begin_message(stream, len);
    }

    fn part(&mut self, to: ReplyTo, part: Bytes) {
        let Some((slot, stream, _)) = self.slot(to) else { return };
        slot.wire.send_part(stream, part);
    }

    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>) {
        let Some((slot, stream, tally)) = self.slot(to) else { return };
        if let Some(method) = slot.wire.method(stream) {
            let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
            tally.ended(method_of(method), code);
        }
        match result {
            Ok(()) => slot.wire.finish(stream, &wire::Status::OK),
            Err(status) => {
                let code = wire_code(status.code);
                slot.wire.finish(stream, &wire::Status::new(code, &status.message));
            }
        }
    }

    fn room(&mut self, to: ReplyTo) -> usize {
        let Some((slot, stream, _)) = self.slot(to) else { return usize::MAX };
        let queued = slot.wire.queued(stream);
        if queued >= STREAM_QUEUE_MAX {
            return 0; // The wire tells when all of it is on its way.
        }
        if slot.wire.output_len() >= OUTPUT_MAX {
            // The socket may take it now. What fails here fails again when the turn's output is written.
            drop(slot.write());
        }
        if slot.wire.output_len() >= OUTPUT_MAX {
            slot.starved.push(to);
            return 0;
        }
        STREAM_QUEUE_MAX - queued
    }
}

/// Where a path leads: the whole table of methods, as the wire wants it.
fn route(path: &[u8]) -> Route {
    match Method::from_path(path) {
        Some(method) => {
            let number = wire::Method(method as u16);
            match method.kind() {
                Kind::Unary | Kind::ServerStream => Route::Unary(number),
                Kind::BidiStream => Route::Streaming(number),
            }
        }
        None if has_known_service(path) => Route::UnknownMethod,
        None => Route::UnknownService,
    }
}

fn has_known_service(path: &[u8]) -> bool {
    let end = path.iter().rposition(|&byte| byte == b'/');
    let service = end.and_then(|end| path[..end].strip_prefix(b"/"));
    Method::ALL.iter().any(|method| service == Some(method.service().as_bytes()))
}

fn method_of(method: wire::Method) -> Method {
    Method::ALL[usize::from(method.0)]
}

fn caller(metadata: &Metadata) -> Caller {
    let token = metadata.token.as_ref().or(metadata.authorization.as_ref());
    let token = token.and_then(|token| std::str::from_utf8(token).ok());
    Caller {
        token: token.map(Box::from),
        client_version: metadata.client_api_version.clone(),
        requires_leader: metadata.has_leader,
    }
}

fn wire_code(code: Code) -> wire::Code {
    match code {
        Code::Ok => wire::Code::Ok,
        Code::Canceled => wire::Code::Canceled,
        Code::Unknown => wire::Code::Unknown,
        Code::InvalidArgument => wire::Code::InvalidArgument,
        Code::DeadlineExceeded => wire::Code::DeadlineExceeded,
        Code::NotFound => wire::Code::NotFound,
        Code::AlreadyExists => wire::Code::AlreadyExists,
        Code::PermissionDenied => wire::Code::PermissionDenied,
        Code::ResourceExhausted => wire::Code::ResourceExhausted,
        Code::FailedPrecondition => wire::Code::FailedPrecondition,
        Code::Aborted => wire::Code::Aborted,
        Code::OutOfRange => wire::Code::OutOfRange,
        Code::Unimplemented => wire::Code::Unimplemented,
        Code::Internal => wire::Code::Internal,
        Code::Unavailable => wire::Code::Unavailable,
        Code::DataLoss => wire::Code::DataLoss,
        Code::Unauthenticated => wire::Code::Unauthenticated,
    }
}
