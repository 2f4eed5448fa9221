//! Requests: the headers that open them and the data that carries their messages.

use std::sync::Arc;

use bytes::Bytes;

use super::{Block, Checked, Connection, Event, Fault, Phase, frame_size_error, protocol_error};
use crate::budget::Expense;
use crate::deflate;
use crate::frame::{self, ErrorCode, Header, StreamId};
use crate::head::{Call, Encoding, Head, Verdict};
use crate::hpack::Broken;
use crate::message::{Assembler, Flaw, Message, PREFIX_SIZE};
use crate::status::{Code, Status};
use crate::stream::{Ending, Stream};

impl Connection {
    pub(super) fn on_headers(&mut self, header: Header, payload: &[u8]) -> Checked {
        if header.stream.0.is_multiple_of(2) {
            return Err(protocol_error("headers on a stream clients can't open"));
        }
        let mut block = frame::without_padding(header.has(frame::PADDED), payload)
            .ok_or(protocol_error("more padding than frame"))?;
        if header.has(frame::PRIORITY) {
            block = block.get(5..).ok_or(frame_size_error())?;
        }
        let end_stream = header.has(frame::END_STREAM);
        if header.has(frame::END_HEADERS) {
            return self.on_block(header.stream, end_stream, block);
        }
        self.check_block_size(block.len())?;
        let bytes = block.to_vec();
        self.block = Some(Block { stream: header.stream, end_stream, bytes, continuations: 0 });
        Ok(())
    }

    pub(super) fn on_continuation(&mut self, header: Header, payload: &[u8]) -> Checked {
        let Some(mut block) = self.block.take() else {
            return Err(protocol_error("a continuation of nothing"));
        };
        if block.stream != header.stream {
            return Err(protocol_error("a header block is interrupted"));
        }
        block.continuations += 1;
        if block.continuations > self.limits.continuations_max {
            return Err(Fault::Connection(ErrorCode::EnhanceYourCalm, "too_many_continuations"));
        }
        self.check_block_size(block.bytes.len() + payload.len())?;
        block.bytes.extend_from_slice(payload);
        if header.has(frame::END_HEADERS) {
            return self.on_block(block.stream, block.end_stream, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    fn check_block_size(&self, size: usize) -> Checked {
        if size > self.limits.header_block_size_max {
            return Err(Fault::Connection(ErrorCode::EnhanceYourCalm, "headers_too_large"));
        }
        Ok(())
    }

    /// A whole header block: a new request, the end of one, or nothing that may be.
    fn on_block(&mut self, id: StreamId, end_stream: bool, block: &[u8]) -> Checked {
        let generation = self.decoder.generation();
        if id > self.last_stream
            && let Some(call) = self.memo.find(generation, block)
        {
            return self.on_request(id, end_stream, Verdict::Call(call));
        }
        let mut head = Head::new(&self.metadata, self.limits.header_list_size_max);
        self.decoder.decode(block, &mut head).map_err(|Broken| {
            Fault::Connection(ErrorCode::Compression, "a header block can't be read")
        })?;
        if head.is_bomb() {
            return Err(Fault::Connection(ErrorCode::EnhanceYourCalm, "headers_too_large"));
        }
        if id <= self.last_stream {
            let sound = end_stream && head.are_trailers();
            return self.on_trailers(id, sound);
        }
        let verdict = head.verdict();
        if let Verdict::Call(call) = &verdict
            && call.timeout_ms.is_none() // Those differ from call to call.
            && self.decoder.generation() == generation
        {
            self.memo.note(generation, block, call);
        }
        self.on_request(id, end_stream, verdict)
    }

    fn on_request(&mut self, id: StreamId, end_stream: bool, verdict: Verdict) -> Checked {
        if self.phase == Phase::Drained {
            return self.spend(Expense::IdleFrame); // It was told that we don't take it.
        }
        self.last_stream = id;
        if self.streams.len() >= self.limits.streams_max as usize {
            return Err(Fault::Stream(id, ErrorCode::RefusedStream));
        }
        match verdict {
            Verdict::Call(call) => self.open(id, end_stream, call),
            Verdict::Malformed => Err(Fault::Stream(id, ErrorCode::Protocol)),
            Verdict::TooLarge => Err(Fault::Stream(id, ErrorCode::FrameSize)),
            Verdict::Refuse { http, code, message } => {
                self.refuse(id, end_stream, http, &Status::new(code, &message))
            }
        }
    }

    /// Headers on a stream that was opened before.
    fn on_trailers(&mut self, id: StreamId, sound: bool) -> Checked {
        let Some(stream) = self.streams.get(id) else {
            return match self.recent.find(id) {
                Some(Ending::WeReset) => self.spend(Expense::IdleFrame),
                Some(Ending::Over) => {
                    Err(Fault::Connection(ErrorCode::StreamClosed, "headers after the end"))
                }
                None => Err(protocol_error("streams must be opened in order")),
            };
        };
        if stream.remote_closed {
            return Err(Fault::Stream(id, ErrorCode::StreamClosed));
        }
        if !sound {
            return Err(Fault::Stream(id, ErrorCode::Protocol));
        }
        self.on_end_stream(id)
    }

    /// Answers a request that never becomes a call.
    fn refuse(
        &mut self,
        id: StreamId,
        end_stream: bool,
        http: u16,
        status: &Status<'_>,
    ) -> Checked {
        let mut block = Vec::new();
        self.blocks.put_head(&mut block, http);
        self.blocks.put_status(&mut block, status);
        self.put_headers(id, frame::END_STREAM, &block);
        if end_stream {
            self.recent.note(id, Ending::Over);
            return Ok(());
        }
        self.spend(Expense::Reset)?;
        self.reset(id, ErrorCode::NoError);
        Ok(())
    }

    fn open(&mut self, id: StreamId, end_stream: bool, call: Call) -> Checked {
        if end_stream && call.content_length.is_some_and(|length| length > 0) {
            return Err(Fault::Stream(id, ErrorCode::Protocol));
        }
        if call.timeout_ms == Some(0) {
            let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            return self.refuse(id, end_stream, 200, &status);
        }
        if !Arc::ptr_eq(&self.metadata, &call.metadata) {
            self.metadata = Arc::clone(&call.metadata);
        }
        let Call { method, streaming, metadata, .. } = call;
        let mut stream = Stream {
            id,
            method,
            streaming,
            encoding: call.encoding,
            remote_closed: false,
            announced: streaming,
            held: false,
            headers_sent: false,
            ready: false,
            deadline_ms: self.clock.deadline(call.timeout_ms),
            metadata: None,
            send_window: self.peer.stream_window,
            receive_window: i64::from(self.limits.stream_window),
            content_left: call.content_length,
            assembler: Assembler::default(),
            body: None,
            outbox: None,
        };
        if streaming {
            self.events.push_back(Event::Opened { stream: id, method, metadata });
        } else {
            stream.metadata = Some(metadata);
        }
        self.streams.insert(stream);
        if end_stream { self.on_end_stream(id) } else { Ok(()) }
    }

    pub(super) fn on_data(&mut self, header: Header, payload: &[u8]) -> Checked {
        let id = header.stream;
        self.check_not_idle(id)?;
        self.receive_on_connection(payload.len())?;
        let data = frame::without_padding(header.has(frame::PADDED), payload)
            .ok_or(protocol_error("more padding than frame"))?;
        let end_stream = header.has(frame::END_STREAM);
        if data.is_empty() && !end_stream {
            self.spend(Expense::EmptyFrame)?;
        }
        let Some(place) = self.streams.find(id) else {
            if self.recent.find(id) == Some(Ending::WeReset) {
                return self.spend(Expense::IdleFrame);
            }
            return Err(Fault::Stream(id, ErrorCode::StreamClosed));
        };
        let stream = self.streams.at(place);
        if stream.remote_closed {
            return Err(Fault::Stream(id, ErrorCode::StreamClosed));
        }
        stream.receive_window -= payload.len() as i64;
        if stream.receive_window < 0 {
            return Err(Fault::Stream(id, ErrorCode::FlowControl));
        }
        if let Some(left) = &mut stream.content_left {
            *left = left
                .checked_sub(data.len() as u64)
                .ok_or(Fault::Stream(id, ErrorCode::Protocol))?;
            if end_stream && *left > 0 {
                return Err(Fault::Stream(id, ErrorCode::Protocol));
            }
        }
        if end_stream && let Some(body) = stream.whole_call(data, self.limits.message_size_max) {
            self.events.push_back(stream.announce(body));
            return Ok(());
        }
        stream.remote_closed = end_stream;
        if !data.is_empty() {
            self.on_messages(id, data)?;
        }
        if end_stream {
            return self.on_end_stream(id);
        }
        self.refill(id);
        Ok(())
    }

    /// Counts what came against the connection's window, and opens it again: what holds a client
    /// back is the window of each stream.
    fn receive_on_connection(&mut self, n: usize) -> Checked {
        self.receive_window -= n as i64;
        if self.receive_window < 0 {
            return Err(Fault::Connection(ErrorCode::FlowControl, "beyond the window"));
        }
        let full = i64::from(self.limits.connection_window.max(frame::WINDOW_DEFAULT));
        if self.receive_window < full / 2 {
            let more = (full - self.receive_window) as u32;
            frame::put_window_update(self.output.buffer(), StreamId(0), more);
            self.receive_window = full;
        }
        Ok(())
    }

    /// Opens a stream's window again when half of it is used.
    fn refill(&mut self, id: StreamId) {
        let full = i64::from(self.limits.stream_window);
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.receive_window < full / 2 && !stream.held && !stream.remote_closed {
            let more = (full - stream.receive_window) as u32;
            frame::put_window_update(self.output.buffer(), id, more);
            stream.receive_window = full;
        }
    }

    /// Stops or resumes the client on this stream: while it is held, its window is not refilled.
    pub fn hold(&mut self, id: StreamId, held: bool) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.held = held;
            self.refill(id);
        }
    }

    /// Takes the messages out of the data.
    fn on_messages(&mut self, id: StreamId, mut data: &[u8]) -> Checked {
        loop {
            let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
            let before = stream.buffered();
            let next = stream.assembler.next(&mut data, self.limits.message_size_max);
            let next = next.and_then(|next| {
                next.map(|message| readable(message, stream.encoding, &self.limits)).transpose()
            });
            self.buffered = self.buffered - before + stream.buffered();
            match next {
                Ok(Some(body)) if stream.streaming => {
                    self.events.push_back(Event::Message { stream: id, body });
                }
                Ok(Some(body)) if stream.body.is_none() => {
                    self.buffered += body.len();
                    stream.body = Some(body);
                }
                // The method takes one message; grpc-go, too, looks at no second.
                Ok(Some(_)) => {}
                Ok(None) if data.is_empty() => return self.check_buffered(id),
                Ok(None) => {}
                Err(flaw) => return self.fail(id, &Status::new(flaw.code, &flaw.text)),
            }
        }
    }

    fn check_buffered(&mut self, id: StreamId) -> Checked {
        if self.buffered <= self.limits.buffered_bytes_max {
            return Ok(());
        }
        let message = "grpc: too many incomplete messages on this connection";
        self.fail(id, &Status::new(Code::ResourceExhausted, message))
    }

    /// The client is done with the stream.
    fn on_end_stream(&mut self, id: StreamId) -> Checked {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        stream.remote_closed = true;
        if stream.content_left.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(id, ErrorCode::Protocol));
        }
        let cut_short = stream.assembler.buffered() >= PREFIX_SIZE;
        if stream.streaming && cut_short {
            return self.fail(id, &Status::new(Code::Internal, "unexpected EOF"));
        }
        if stream.streaming {
            self.events.push_back(Event::HalfClosed { stream: id });
            return Ok(());
        }
        let Some(body) = stream.body.take() else {
            let message = if cut_short { "unexpected EOF" } else { "EOF" };
            return self.fail(id, &Status::new(Code::Unknown, message));
        };
        self.buffered -= body.len();
        self.events.push_back(stream.announce(body));
        Ok(())
    }

    /// Ends a call on our own account. A peer that makes us do it all the time is not served.
    fn fail(&mut self, id: StreamId, status: &Status<'_>) -> Checked {
        if self.streams.get(id).is_some_and(|stream| !stream.remote_closed) {
            self.spend(Expense::Reset)?;
        }
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let announced = stream.announced.then_some(stream.method);
        stream.outbox = None;
        self.finish(id, status);
        if let Some(method) = announced {
            self.events.push_back(Event::Cancelled { stream: id, method });
        }
        Ok(())
    }
}

/// The message as the client meant it.
fn readable(message: Message, encoding: Encoding, limits: &crate::Limits) -> Result<Bytes, Flaw> {
    if !message.compressed {
        return Ok(message.body);
    }
    match encoding {
        Encoding::Gzip => deflate::gunzip(&message.body, limits.message_size_max),
        Encoding::Identity => Err(Flaw {
            code: Code::Internal,
            text: "grpc: compressed flag set with identity or empty encoding".to_owned(),
        }),
    }
}
