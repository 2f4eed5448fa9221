//! What can be seen of a server: what it makes of requests, and the frames it sends.

use std::collections::BTreeMap;
use std::fmt;

use super::super::peer;
use crate::frame::{ACK, END_STREAM, HEADER_SIZE, Header, Kind};

/// One thing a server did. Of its answers it is told how much was sent and when they ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    Call {
        stream: u32,
        method: u16,
        known: String,
    },
    Message {
        stream: u32,
        body: Vec<u8>,
    },
    HalfClosed {
        stream: u32,
    },
    /// A call that was told of is no more.
    Gone {
        stream: u32,
    },
    Data {
        stream: u32,
        bytes: usize,
    },
    End {
        stream: u32,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    Goodbye {
        code: u32,
    },
    SettingsAck,
    Pong {
        data: Vec<u8>,
    },
}

/// How a server takes what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// The stream ends with this code.
    Stream(u32),
    /// The connection ends with this code.
    Connection(u32),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fine => write!(f, "fine"),
            Self::Stream(code) => write!(f, "stream {}", peer::code(code)),
            Self::Connection(code) => write!(f, "connection {}", peer::code(code)),
        }
    }
}

const NO_ERROR: u32 = 0;

/// The worst of what was done.
pub(super) fn verdict(signs: &[Sign]) -> Verdict {
    let mut verdict = Verdict::Fine;
    for sign in signs {
        if let Sign::Goodbye { code } = *sign {
            return Verdict::Connection(code);
        }
        if let Sign::Reset { code, .. } = *sign
            && code != NO_ERROR
        {
            verdict = Verdict::Stream(code);
        }
    }
    verdict
}

/// Reads the frames of a server into signs.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pending: Vec<u8>,
    /// By how much the server has opened the windows of its streams.
    granted: BTreeMap<u32, i64>,
}

impl Reader {
    pub(super) fn granted(&self, stream: u32) -> i64 {
        self.granted.get(&stream).copied().unwrap_or_default()
    }

    pub(super) fn read(&mut self, bytes: &[u8], signs: &mut Vec<Sign>) {
        self.pending.extend_from_slice(bytes);
        while let Some(head) = self.pending.first_chunk::<HEADER_SIZE>() {
            let header = Header::from_wire(head);
            let whole = HEADER_SIZE + header.length;
            let Some(payload) = self.pending.get(HEADER_SIZE..whole) else { return };
            let payload = payload.to_vec();
            self.pending.drain(..whole);
            self.on_frame(header, &payload, signs);
        }
    }

    fn on_frame(&mut self, header: Header, payload: &[u8], signs: &mut Vec<Sign>) {
        let stream = header.stream.0;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match header.kind {
            Kind::Data if !payload.is_empty() => {
                signs.push(Sign::Data { stream, bytes: payload.len() });
            }
            Kind::Reset => signs.push(Sign::Reset { stream, code: number(0) }),
            Kind::GoAway => signs.push(Sign::Goodbye { code: number(4) }),
            Kind::Settings if header.has(ACK) => signs.push(Sign::SettingsAck),
            Kind::Ping if header.has(ACK) => signs.push(Sign::Pong { data: payload.to_vec() }),
            Kind::WindowUpdate => {
                *self.granted.entry(stream).or_default() += i64::from(number(0));
            }
            Kind::Data
            | Kind::Headers
            | Kind::Priority
            | Kind::Settings
            | Kind::PushPromise
            | Kind::Ping
            | Kind::Continuation
            | Kind::Unknown => {}
        }
        if matches!(header.kind, Kind::Data | Kind::Headers) && header.has(END_STREAM) {
            signs.push(Sign::End { stream });
        }
    }
}

/// Signs in an order that does not depend on how the server goes about its streams.
pub(super) fn sorted(signs: Vec<Sign>) -> Vec<Sign> {
    let mut sent = BTreeMap::new();
    let mut rest: Vec<Sign> = Vec::new();
    for sign in signs {
        if let Sign::Data { stream, bytes } = sign {
            *sent.entry(stream).or_insert(0) += bytes;
        } else {
            rest.push(sign);
        }
    }
    rest.extend(sent.into_iter().map(|(stream, bytes)| Sign::Data { stream, bytes }));
    rest.sort_by_key(place);
    rest
}

/// Signs of one stream and kind stay in order.
fn place(sign: &Sign) -> (u32, u8) {
    match *sign {
        Sign::SettingsAck => (0, 0),
        Sign::Pong { .. } => (0, 1),
        Sign::Goodbye { .. } => (0, 2),
        Sign::Call { stream, .. } => (stream, 0),
        Sign::Message { stream, .. } => (stream, 1),
        Sign::HalfClosed { stream } => (stream, 2),
        Sign::Gone { stream } => (stream, 3),
        Sign::Data { stream, .. } => (stream, 4),
        Sign::End { stream } => (stream, 5),
        Sign::Reset { stream, .. } => (stream, 6),
    }
}

/// What a call is answered with, and when: the same on both servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// So many bytes, once the client has sent all of it.
    AtTheEnd(usize),
    /// The status alone, before its messages have come.
    AtOnce,
    Never,
}

pub(super) fn answer(stream: u32, streaming: bool) -> Answer {
    match stream / 2 % 4 {
        0 if streaming => Answer::AtOnce,
        1 => Answer::Never,
        n => Answer::AtTheEnd(n as usize * 13),
    }
}

/// What is kept of a request's metadata, in one line.
pub(super) fn known(fields: [Option<&[u8]>; 3], has_leader: bool) -> String {
    let fields = fields.map(|field| field.map(|value| value.escape_ascii().to_string()));
    format!("{fields:?} {has_leader}")
}

/// Where a path of the tests leads, and whether messages follow.
pub(super) fn lookup(path: &[u8]) -> Option<(u16, bool)> {
    match peer::route(path) {
        crate::Route::Unary(method) => Some((method.0, false)),
        crate::Route::Streaming(method) => Some((method.0, true)),
        crate::Route::UnknownMethod | crate::Route::UnknownService => None,
    }
}
