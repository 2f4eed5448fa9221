//! A connection as its client sees it: requests in, events out.
//!
//! ```text
//!            request(method, body)          receive(&mut bytes) → Event
//!   load ────────────────────────► Session ─────────────────────────────► load
//!                                   │   ▲
//!                            output ▼   │ what the socket gave
//! ```
//!
//! A unary request ends its stream as it is sent. Beside those, a connection may have one long
//! stream, on which messages go both ways.
//!
//! # Invariants
//!
//! - Nothing is sent that the server's windows don't allow: ask `may_send` first.   (asserted)
//! - Every ping and every settings frame is answered in the order it came.

use proto::Method;

use super::frame::{
    self, ACK, CONNECTION, END_HEADERS, END_STREAM, Frame, Kind, PAYLOAD_MAX, StreamId,
    WINDOW_DEFAULT, WINDOW_MAX, u32_at,
};
use super::hpack::{self, Decoder};

const SETTING_TABLE_SIZE: u16 = 0x1;
const SETTING_PUSH: u16 = 0x2;
const SETTING_WINDOW: u16 = 0x4;

/// Our windows are refilled once so much has come: they are never in the server's way.
const REFILL_AT: u32 = WINDOW_MAX / 2;

/// What precedes a message: whether it is compressed, and its length.
pub(crate) const MESSAGE_HEAD_SIZE: usize = 5;

/// The header blocks of a request, with their frame's head.
const HEADERS_ALLOWANCE: usize = 512;

/// Why nothing more can come of this connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The server said no, with a gRPC status.
    Refused {
        code: u16,
        message: String,
    },
    /// The stream was cut off, with an HTTP/2 error.
    Reset {
        code: u32,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A piece of an answer's messages, cut wherever the frames cut it.
    Data {
        stream: StreamId,
        bytes: &'a [u8],
    },
    Ended {
        stream: StreamId,
        outcome: Outcome,
    },
}

/// The one stream that does not end with its first message.
struct Long {
    stream: StreamId,
    window: i64,
    received: u32,
}

pub(crate) struct Session {
    /// What the socket has yet to be given.
    pub(crate) output: Vec<u8>,
    authority: String,
    decoder: Decoder,
    /// The method whose header block the server's table holds.
    taught: Option<Method>,
    table_allowed: bool,
    is_ready: bool,
    next_stream: StreamId,
    window: i64,
    stream_window: u32,
    received: u32,
    long: Option<Long>,
}

impl Session {
    /// A connection to the server so named; its greeting is in the output.
    pub(crate) fn new(authority: &str) -> Self {
        let mut session = Self {
            output: Vec::new(),
            authority: authority.to_owned(),
            decoder: Decoder::new(),
            taught: None,
            table_allowed: true,
            is_ready: false,
            next_stream: StreamId(1),
            window: i64::from(WINDOW_DEFAULT),
            stream_window: WINDOW_DEFAULT,
            received: 0,
            long: None,
        };
        session.output.extend_from_slice(frame::PREFACE);
        let mut settings = [0; 12];
        settings[..2].copy_from_slice(&SETTING_PUSH.to_be_bytes());
        settings[6..8].copy_from_slice(&SETTING_WINDOW.to_be_bytes());
        settings[8..].copy_from_slice(&WINDOW_MAX.to_be_bytes());
        session.put(Kind::Settings, 0, CONNECTION, &settings);
        session.widen(CONNECTION, WINDOW_MAX - WINDOW_DEFAULT);
        session
    }

    /// Whether the server has said hello: before that, its limits aren't known.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether a unary request with such a body may be sent now.
    pub(crate) fn may_request(&self, body: &[u8]) -> bool {
        let size = (MESSAGE_HEAD_SIZE + body.len()) as i64;
        size <= self.window && size <= i64::from(self.stream_window)
    }

    /// Whether such a message may be sent on the long stream now.
    pub(crate) fn may_send(&self, message: &[u8]) -> bool {
        let size = (MESSAGE_HEAD_SIZE + message.len()) as i64;
        size <= self.window && self.long.as_ref().is_some_and(|long| size <= long.window)
    }

    /// Sends a request of one message.
    pub(crate) fn request(&mut self, method: Method, body: &[u8]) -> StreamId {
        assert!(self.may_request(body), "the windows were asked");
        let stream = self.begin(method);
        self.put_message(stream, body, END_STREAM);
        stream
    }

    /// Begins the long stream.
    pub(crate) fn open(&mut self, method: Method) -> StreamId {
        assert!(self.long.is_none(), "a connection has one long stream");
        let stream = self.begin(method);
        self.long = Some(Long { stream, window: i64::from(self.stream_window), received: 0 });
        stream
    }

    /// Sends a message on the long stream.
    pub(crate) fn send(&mut self, message: &[u8]) {
        assert!(self.may_send(message), "the windows were asked");
        let Some(long) = &mut self.long else { return };
        long.window -= (MESSAGE_HEAD_SIZE + message.len()) as i64;
        let stream = long.stream;
        self.put_message(stream, message, 0);
    }

    fn begin(&mut self, method: Method) -> StreamId {
        let stream = self.next_stream;
        assert!(stream.0 < WINDOW_MAX, "a connection outlives no billion requests");
        self.next_stream = StreamId(stream.0 + 2);
        if self.taught == Some(method) {
            self.put(Kind::Headers, END_HEADERS, stream, &hpack::REPEAT_BLOCK);
        } else if self.taught.is_none() && self.table_allowed {
            self.taught = Some(method);
            let block = hpack::first_block(method.path(), &self.authority);
            self.put(Kind::Headers, END_HEADERS, stream, &block);
        } else {
            let block = hpack::lone_block(method.path(), &self.authority);
            self.put(Kind::Headers, END_HEADERS, stream, &block);
        }
        stream
    }

    fn put_message(&mut self, stream: StreamId, message: &[u8], flags: u8) {
        self.window -= (MESSAGE_HEAD_SIZE + message.len()) as i64;
        self.output.reserve(message.len() + HEADERS_ALLOWANCE);
        let mut head = [0; MESSAGE_HEAD_SIZE];
        head[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());

        let (first, mut rest) = message.split_at(message.len().min(PAYLOAD_MAX - head.len()));
        let end = |rest: &[u8]| if rest.is_empty() { flags } else { 0 };
        frame::put_head(&mut self.output, Kind::Data, end(rest), stream, head.len() + first.len());
        self.output.extend_from_slice(&head);
        self.output.extend_from_slice(first);
        while !rest.is_empty() {
            let (next, later) = rest.split_at(rest.len().min(PAYLOAD_MAX));
            rest = later;
            self.put(Kind::Data, end(rest), stream, next);
        }
    }

    fn put(&mut self, kind: Kind, flags: u8, stream: StreamId, payload: &[u8]) {
        frame::put(&mut self.output, Frame { kind, flags, stream, payload });
    }

    fn widen(&mut self, stream: StreamId, by: u32) {
        self.put(Kind::WindowUpdate, 0, stream, &by.to_be_bytes());
    }

    /// Reads on, up to the next event; `None` when the input holds no further whole frame.
    ///
    /// What is left in the input must come again, before what follows it.
    pub(crate) fn receive<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, Broken> {
        while let Some(frame) = frame::take(input).map_err(Broken)? {
            match frame.kind {
                Kind::Data => {
                    if let Some(event) = self.on_data(frame)? {
                        return Ok(Some(event));
                    }
                }
                Kind::Headers => {
                    if let Some(event) = self.on_headers(frame)? {
                        return Ok(Some(event));
                    }
                }
                Kind::ResetStream => {
                    let [a, b, c, d] = *frame.payload else { return Err(Broken("a bad reset")) };
                    let outcome = Outcome::Reset { code: u32::from_be_bytes([a, b, c, d]) };
                    return Ok(Some(Event::Ended { stream: frame.stream, outcome }));
                }
                Kind::Settings => self.on_settings(frame)?,
                Kind::Ping if frame.has(ACK) => {}
                Kind::Ping => self.put(Kind::Ping, ACK, CONNECTION, frame.payload),
                Kind::WindowUpdate => self.on_window_update(frame)?,
                Kind::GoAway => return Err(Broken("the server asked us to go")),
            }
        }
        Ok(None)
    }

    fn on_data<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Broken> {
        if frame.has(END_STREAM) {
            return Err(Broken("an answer without a status"));
        }
        let length = frame.payload.len() as u32;
        self.received += length;
        if self.received >= REFILL_AT {
            let by = std::mem::take(&mut self.received);
            self.widen(CONNECTION, by);
        }
        if let Some(long) = self.long.as_mut().filter(|long| long.stream == frame.stream) {
            long.received += length;
            if long.received >= REFILL_AT {
                let by = std::mem::take(&mut long.received);
                self.widen(frame.stream, by);
            }
        }
        let event = Event::Data { stream: frame.stream, bytes: frame.payload };
        Ok((length > 0).then_some(event))
    }

    fn on_headers(&mut self, frame: Frame<'_>) -> Result<Option<Event<'static>>, Broken> {
        if !frame.has(END_HEADERS) {
            return Err(Broken("a header block of several frames"));
        }
        let (mut status, mut message) = (None, String::new());
        let read = self.decoder.decode(frame.payload, |name, value| match name {
            b"grpc-status" => status = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()),
            b"grpc-message" if !value.is_empty() => {
                message = String::from_utf8_lossy(value).into_owned();
            }
            _ => {}
        });
        read.map_err(|_| Broken("a malformed header block"))?;
        if !frame.has(END_STREAM) {
            return Ok(None);
        }
        let outcome = match status {
            Some(0) => Outcome::Done,
            Some(code) => Outcome::Refused { code, message },
            None => return Err(Broken("an answer that is not gRPC's")),
        };
        Ok(Some(Event::Ended { stream: frame.stream, outcome }))
    }

    fn on_settings(&mut self, frame: Frame<'_>) -> Result<(), Broken> {
        if frame.has(ACK) {
            return Ok(());
        }
        for setting in frame.payload.chunks_exact(6) {
            let value = u32_at(setting, 2);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                SETTING_TABLE_SIZE => self.table_allowed = value as usize >= hpack::TABLE_SIZE,
                SETTING_WINDOW if value <= WINDOW_MAX => {
                    let by = i64::from(value) - i64::from(self.stream_window);
                    self.stream_window = value;
                    if let Some(long) = &mut self.long {
                        long.window += by;
                    }
                }
                SETTING_WINDOW => return Err(Broken("a window beyond the largest")),
                _ => {}
            }
        }
        self.is_ready = true;
        self.put(Kind::Settings, ACK, CONNECTION, &[]);
        Ok(())
    }

    fn on_window_update(&mut self, frame: Frame<'_>) -> Result<(), Broken> {
        let [a, b, c, d] = *frame.payload else { return Err(Broken("a bad window update")) };
        let by = i64::from(u32::from_be_bytes([a, b, c, d]) & WINDOW_MAX);
        if frame.stream == CONNECTION {
            self.window += by;
        } else if let Some(long) = self.long.as_mut().filter(|long| long.stream == frame.stream) {
            long.window += by;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
