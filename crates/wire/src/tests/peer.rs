//! The client's side of a connection: makes frames, reads frames. For tests, so it may send
//! whatever it likes, right or wrong.

use std::io::IoSlice;
use std::sync::Arc;

use crate::field::{Method, Route};
use crate::frame::{self, HEADER_SIZE, Header, Kind, StreamId, u31};
use crate::hpack::{Decoder, Field, Sink};
use crate::message;
use crate::{Connection, Limits};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GO_AWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// The methods of the tests: `/t.T/Unary` and `/t.T/Stream`.
pub(super) fn route(path: &[u8]) -> Route {
    match path {
        b"/t.T/Unary" => Route::Unary(Method(1)),
        b"/t.T/Stream" => Route::Streaming(Method(2)),
        _ if path.starts_with(b"/t.T/") => Route::UnknownMethod,
        _ => Route::UnknownService,
    }
}

pub(super) fn connection(limits: Limits) -> Connection {
    Connection::new(Arc::new(limits), route, 0)
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame::header(payload.len(), kind, flags, StreamId(stream)).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Preface and settings, and the acknowledgement of the server's.
pub(super) fn hello() -> Vec<u8> {
    [&frame::PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, 1, 0, &[])].concat()
}

/// Fields spelled out, none remembered.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            if text.len() < 127 {
                block.push(text.len() as u8);
            } else {
                let rest = text.len() - 127;
                assert!(rest < 1 << 14, "tests have no longer texts");
                block.extend_from_slice(&[127, rest as u8 | 0x80, (rest >> 7) as u8]);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Fields spelled out, all remembered: the table is as full as it gets.
pub(super) fn remembered_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut whole = Vec::new();
    for field in fields {
        let at = whole.len();
        whole.extend(block(&[*field]));
        whole[at] = 0x40;
    }
    whole
}

/// What every call of a gRPC client says.
pub(super) fn call_fields(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

pub(super) fn call(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, frame::END_HEADERS, stream, &block(&call_fields(path)))
}

pub(super) fn message(stream: u32, end: bool, body: &[u8]) -> Vec<u8> {
    let payload = [&message::prefix(body.len())[..], body].concat();
    frame(DATA, u8::from(end), stream, &payload)
}

/// Takes up to `max` bytes of the output, as a socket would.
pub(super) fn take_output(connection: &mut Connection, max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() && bytes.len() < max {
        let mut slices = [IoSlice::new(&[]); 4];
        let n = connection.output(&mut slices);
        let before = bytes.len();
        for slice in &slices[..n] {
            let room = max - bytes.len();
            bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        connection.consumed(bytes.len() - before);
    }
    bytes
}

#[derive(Default)]
struct Text(String);

impl Sink for Text {
    fn field(&mut self, field: Field<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.0 += &format!(" {}={}", text(field.name), text(field.value).replace(' ', "_"));
    }
}

/// Reads the server's frames into lines.
pub(super) struct FrameReader {
    decoder: Decoder,
    pending: Vec<u8>,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self { decoder: Decoder::new(4096, |_| Route::UnknownService), pending: Vec::new() }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let (mut lines, mut at) = (Vec::new(), 0);
        while let Some(head) = self.pending[at..].first_chunk::<HEADER_SIZE>() {
            let header = Header::from_wire(head);
            let body_at = at + HEADER_SIZE;
            let Some(payload) = self.pending.get(body_at..body_at + header.length) else { break };
            lines.push(describe(&mut self.decoder, header, payload));
            at = body_at + header.length;
        }
        self.pending.drain(..at);
        lines
    }
}

fn describe(decoder: &mut Decoder, header: Header, payload: &[u8]) -> String {
    let stream = header.stream.0;
    let end = if header.has(frame::END_STREAM) { " end" } else { "" };
    let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    match header.kind {
        Kind::Data => format!("DATA {stream}{end} {}", shown(payload)),
        Kind::Headers | Kind::Continuation => {
            let mut text = Text::default();
            decoder.decode(payload, &mut text).expect("a readable block");
            format!("HEADERS {stream}{end}{}", text.0)
        }
        Kind::Reset => format!("RST_STREAM {stream} {}", code(number(0))),
        Kind::Settings if header.has(frame::ACK) => "SETTINGS ack".to_owned(),
        Kind::Settings => {
            let pairs = payload.chunks(6).map(|pair| {
                let id = u16::from_be_bytes([pair[0], pair[1]]);
                format!(" {id}={}", u32::from_be_bytes(pair[2..].try_into().unwrap()))
            });
            format!("SETTINGS{}", pairs.collect::<String>())
        }
        Kind::Ping => {
            let ack = if header.has(frame::ACK) { " ack" } else { "" };
            format!("PING{ack} {}", String::from_utf8_lossy(payload))
        }
        Kind::GoAway => {
            let (last, debug) = (u31(payload[..4].try_into().unwrap()), &payload[8..]);
            format!("GOAWAY {last} {} {}", code(number(4)), String::from_utf8_lossy(debug))
        }
        Kind::WindowUpdate => format!("WINDOW_UPDATE {stream} {}", number(0)),
        Kind::Priority | Kind::PushPromise | Kind::Unknown => format!("{header:?}"),
    }
}

/// A payload, its text if it is short and its length if it is not.
fn shown(payload: &[u8]) -> String {
    if payload.len() <= 40 {
        payload.escape_ascii().to_string()
    } else {
        format!("({} bytes)", payload.len())
    }
}

/// The name of an error code.
pub(super) fn code(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("?")
}
