//! Answers: headers, messages, trailers, and the windows they have to fit through.
//!
//! ```text
//! reply ──────── fits? ──► one run of bytes: headers · data · trailers
//!                  │ no
//! send_message ────┴─ fits? ──► a DATA frame
//!                       │ no
//!                     outbox ──► pump: a frame per stream and turn, while windows and socket allow
//! ```
//!
//! # Invariants
//!
//! - Windows never go below zero by what we send.   (asserted in `charge`)
//! - Streams that can send take turns, a frame each.
//! - Above the output's high water mark nothing is framed: it waits as references, not as bytes.

use bytes::Bytes;

use super::{Connection, Event};
use crate::frame::{self, ErrorCode, HEADER_SIZE, StreamId};
use crate::message::{self, PREFIX_SIZE};
use crate::response::{SHORT_HEADERS, SHORT_OK};
use crate::status::Status;
use crate::stream::{Ending, Outbox, Piece, Stream, Trailers};

/// Bodies from this size on are referred to; smaller ones are copied into the output.
const SPLICE_MIN: usize = 8 * 1024;

/// What stands before the message of a short answer: HEADERS, and the header of DATA.
const SHORT_HEAD: usize = HEADER_SIZE + SHORT_HEADERS.len() + HEADER_SIZE + PREFIX_SIZE;

impl Connection {
    /// Answers a call with the one message `write` appends to the buffer, and OK.
    ///
    /// The cheapest way to answer: the message is written where it will be sent from. Nothing is
    /// asked of `write` if the stream is gone.
    pub fn reply(&mut self, id: StreamId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(stream) = self.streams.get(id) else { return };
        let simple = !stream.headers_sent && stream.outbox.is_none() && self.blocks.are_short();
        if !simple || self.output.len() >= self.limits.output_high_water {
            let mut body = Vec::new();
            write(&mut body);
            return self.send_unary(id, body);
        }
        let room = stream.send_window.min(self.peer.window);
        let out = self.output.buffer();
        let at = out.len();
        out.extend_from_slice(&[0; SHORT_HEAD]);
        write(out);
        let length = out.len() - at - SHORT_HEAD;
        let size = PREFIX_SIZE + length;
        if size > self.peer.frame_size || size as i64 > room {
            let body = out.split_off(at + SHORT_HEAD);
            out.truncate(at);
            return self.send_unary(id, body);
        }
        out[at..at + SHORT_HEAD].copy_from_slice(&short_head(id, length));
        self.end_short(id, size);
    }

    /// Answers a call with one message, and OK.
    pub fn send_unary(&mut self, id: StreamId, message: impl Into<Bytes>) {
        self.queue_message(id, message.into());
        self.finish(id, &Status::OK);
        self.pump();
    }

    /// After the message of a short answer: trailers, and the stream is done.
    fn end_short(&mut self, id: StreamId, size: usize) {
        let mut tail = [0; HEADER_SIZE + SHORT_OK.len()];
        let flags = frame::END_STREAM | frame::END_HEADERS;
        let head = frame::header(SHORT_OK.len(), frame::HEADERS, flags, id);
        tail[..HEADER_SIZE].copy_from_slice(&head);
        tail[HEADER_SIZE..].copy_from_slice(&SHORT_OK);
        self.output.buffer().extend_from_slice(&tail);
        self.peer.window -= size as i64;
        self.budget.frames_sent += 1;
        self.clock.sent();
        self.end_stream(id);
    }

    /// Sends a message on a stream; the first brings the headers with it.
    ///
    /// What the windows or the socket don't take now is kept; `queued` says how much that is.
    pub fn send_message(&mut self, id: StreamId, message: impl Into<Bytes>) {
        self.queue_message(id, message.into());
        self.pump();
    }

    /// As [`Connection::send_message`], of one message in pieces: they are copied to where it is sent from.
    pub fn send_pieces(&mut self, id: StreamId, pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        match self.start_message(id, len) {
            Place::Nowhere => {}
            Place::Output if len < SPLICE_MIN => {
                self.clock.sent();
                let out = self.output.buffer();
                pieces.iter().for_each(|piece| out.extend_from_slice(piece));
            }
            Place::Output => self.put_body(Bytes::from(pieces.concat())),
            Place::Outbox => self.keep(id, Bytes::from(pieces.concat())),
        }
        self.pump();
    }

    /// Sends the beginning of a message of `len` bytes, whose rest comes by `send_part`.
    pub fn begin_message(&mut self, id: StreamId, len: u32) {
        self.queue_part(id, message::prefix(len as usize), 0, Bytes::new());
    }

    /// Continues a message that was begun.
    pub fn send_part(&mut self, id: StreamId, part: impl Into<Bytes>) {
        self.queue_part(id, [0; PREFIX_SIZE], PREFIX_SIZE, part.into());
    }

    fn queue_part(
        &mut self,
        id: StreamId,
        prefix: [u8; PREFIX_SIZE],
        prefix_sent: usize,
        body: Bytes,
    ) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.is_finished() {
            return;
        }
        if !stream.headers_sent {
            stream.headers_sent = true;
            let block = self.blocks.headers();
            self.put_headers(id, 0, block);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        let outbox = stream.outbox.get_or_insert_default();
        outbox.queued += PREFIX_SIZE - prefix_sent + body.len();
        outbox.pieces.push_back(Piece { prefix, prefix_sent, body });
        if stream.send_window > 0 {
            self.make_ready(id);
        }
        self.pump();
    }

    /// Frames a message if it fits, and else puts it in line.
    fn queue_message(&mut self, id: StreamId, body: Bytes) {
        match self.start_message(id, body.len()) {
            Place::Nowhere => {}
            Place::Output => self.put_body(body),
            Place::Outbox => self.keep(id, body),
        }
    }

    /// Begins a message of `len` bytes: with its frame, if it fits as a whole.
    fn start_message(&mut self, id: StreamId, len: usize) -> Place {
        let Some(stream) = self.streams.get_mut(id) else { return Place::Nowhere };
        if stream.is_finished() {
            return Place::Nowhere;
        }
        let size = PREFIX_SIZE + len;
        if !stream.headers_sent {
            stream.headers_sent = true;
            let block = self.blocks.headers();
            self.put_headers(id, 0, block);
        }
        let Some(stream) = self.streams.get_mut(id) else { return Place::Nowhere };
        let fits = size <= self.peer.frame_size
            && size as i64 <= stream.send_window.min(self.peer.window)
            && self.output.len() < self.limits.output_high_water;
        if stream.outbox.is_some() || !fits {
            return Place::Outbox;
        }
        charge(stream, &mut self.peer.window, size);
        self.budget.frames_sent += 1;
        let mut head = [0; HEADER_SIZE + PREFIX_SIZE];
        head[..HEADER_SIZE].copy_from_slice(&frame::header(size, frame::DATA, 0, id));
        head[HEADER_SIZE..].copy_from_slice(&message::prefix(len));
        self.output.buffer().extend_from_slice(&head);
        Place::Output
    }

    /// Puts a message in line.
    fn keep(&mut self, id: StreamId, body: Bytes) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let outbox = stream.outbox.get_or_insert_default();
        outbox.queued += PREFIX_SIZE + body.len();
        let prefix = message::prefix(body.len());
        outbox.pieces.push_back(Piece { prefix, prefix_sent: 0, body });
        if stream.send_window > 0 {
            self.make_ready(id);
        }
    }

    /// Ends a call: trailers after what is queued, or an answer of trailers only.
    pub fn finish(&mut self, id: StreamId, status: &Status<'_>) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if let Some(outbox) = &mut stream.outbox {
            outbox.trailers.get_or_insert_with(|| Trailers::new(status));
            return;
        }
        let headers_sent = stream.headers_sent;
        self.put_trailers(id, headers_sent, status);
    }

    /// Ends a call without a word: the client sees a reset.
    pub fn abort(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.get(id).is_some() {
            frame::put_reset(self.output.buffer(), id, code);
            self.forget(id, Ending::WeReset);
        }
    }

    /// Bytes of messages of this stream that are not framed yet.
    pub fn queued(&self, id: StreamId) -> usize {
        let outbox = self.streams.get(id).and_then(|stream| stream.outbox.as_ref());
        outbox.map_or(0, |outbox| outbox.queued)
    }

    fn put_trailers(&mut self, id: StreamId, headers_sent: bool, status: &Status<'_>) {
        if headers_sent && *status == Status::OK {
            let block = self.blocks.ok();
            self.put_headers(id, frame::END_STREAM, block);
        } else {
            let mut block = Vec::new();
            if !headers_sent {
                self.blocks.put_head(&mut block, 200);
            }
            self.blocks.put_status(&mut block, status);
            self.put_headers(id, frame::END_STREAM, &block);
        }
        self.end_stream(id);
    }

    /// Our side of the stream is done. If the client's isn't, it is told not to bother.
    fn end_stream(&mut self, id: StreamId) {
        let Some(gone) = self.streams.remove(id) else { return };
        if gone.remote_closed {
            self.recent.note(id, Ending::Over);
        } else {
            frame::put_reset(self.output.buffer(), id, ErrorCode::NoError);
            self.recent.note(id, Ending::WeReset);
        }
        self.settle(id, gone);
    }

    /// Writes a header block, over several frames if it has to be.
    pub(super) fn put_headers(&mut self, id: StreamId, flags: u8, block: &[u8]) {
        const CONTINUATION: u8 = 9;
        self.clock.sent();
        let out = self.output.buffer();
        let (mut kind, mut flags, mut rest) = (frame::HEADERS, flags, block);
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.peer.frame_size));
            let end = if later.is_empty() { frame::END_HEADERS } else { 0 };
            out.extend_from_slice(&frame::header(now.len(), kind, flags | end, id));
            out.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            (kind, flags, rest) = (CONTINUATION, 0, later);
        }
    }

    fn put_body(&mut self, body: Bytes) {
        self.clock.sent();
        if body.len() < SPLICE_MIN {
            self.output.buffer().extend_from_slice(&body);
        } else {
            self.output.splice(body);
        }
    }

    /// Puts a stream with something to send into the line.
    pub(super) fn make_ready(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.ready {
            stream.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Frames what waits, a frame per stream and turn, as far as windows and socket allow.
    pub(super) fn pump(&mut self) {
        while self.peer.window > 0 && self.output.len() < self.limits.output_high_water {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.ready = false;
            self.pump_stream(id);
        }
    }

    /// Sends one frame of a stream.
    fn pump_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(outbox) = &stream.outbox else { return };
        let room = stream.send_window.min(self.peer.window).max(0) as usize;
        let size = outbox.queued.min(room).min(self.peer.frame_size);
        if size > 0 {
            charge(stream, &mut self.peer.window, size);
            self.budget.frames_sent += 1;
            let head = frame::header(size, frame::DATA, 0, id);
            self.output.buffer().extend_from_slice(&head);
            self.put_pieces(id, size);
        }
        let Some(stream) = self.streams.get_mut(id) else { return };
        let window = stream.send_window;
        let Some(outbox) = &stream.outbox else { return };
        if outbox.queued > 0 {
            if window > 0 {
                self.make_ready(id);
            }
            return;
        }
        let headers_sent = stream.headers_sent;
        let outbox = stream.outbox.take();
        match outbox.and_then(|outbox| outbox.trailers) {
            Some(trailers) => self.put_trailers(id, headers_sent, &trailers.status()),
            None => self.events.push_back(Event::Drained { stream: id }),
        }
    }

    /// Moves `size` bytes from the outbox into the output.
    fn put_pieces(&mut self, id: StreamId, mut size: usize) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let Some(mut outbox) = stream.outbox.take() else { return };
        outbox.queued -= size;
        while size > 0 {
            let piece = outbox.pieces.front_mut().expect("as many bytes as are queued");
            let prefix = &piece.prefix[piece.prefix_sent..];
            let n = prefix.len().min(size);
            self.output.buffer().extend_from_slice(&prefix[..n]);
            piece.prefix_sent += n;
            size -= n;
            let body = piece.body.split_to(piece.body.len().min(size));
            size -= body.len();
            let done = piece.prefix_sent == PREFIX_SIZE && piece.body.is_empty();
            self.put_body(body);
            if done {
                outbox.pieces.pop_front();
            }
        }
        self.restore(id, outbox);
    }

    fn restore(&mut self, id: StreamId, outbox: Box<Outbox>) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.outbox = Some(outbox);
        }
    }
}

/// Where the body of a message belongs that was begun.
enum Place {
    /// Its stream is gone.
    Nowhere,
    /// Behind its frame's header.
    Output,
    /// In line: it does not fit yet.
    Outbox,
}

/// Takes what is sent off both windows.
fn charge(stream: &mut Stream, window: &mut i64, size: usize) {
    stream.send_window -= size as i64;
    *window -= size as i64;
    assert!(stream.send_window >= 0 && *window >= 0, "no more is sent than the peer allows");
}

/// HEADERS and the head of DATA, for a message of `length` bytes.
#[inline]
fn short_head(id: StreamId, length: usize) -> [u8; SHORT_HEAD] {
    const DATA_AT: usize = HEADER_SIZE + SHORT_HEADERS.len();
    const PREFIX_AT: usize = DATA_AT + HEADER_SIZE;
    let mut head = [0; SHORT_HEAD];
    let headers = frame::header(SHORT_HEADERS.len(), frame::HEADERS, frame::END_HEADERS, id);
    head[..HEADER_SIZE].copy_from_slice(&headers);
    head[HEADER_SIZE..DATA_AT].copy_from_slice(&SHORT_HEADERS);
    let data = frame::header(PREFIX_SIZE + length, frame::DATA, 0, id);
    head[DATA_AT..PREFIX_AT].copy_from_slice(&data);
    head[PREFIX_AT..].copy_from_slice(&message::prefix(length));
    head
}
