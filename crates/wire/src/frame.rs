//! Frames: the nine bytes before every payload, and the few payloads we write.
//!
//! ```text
//! 0        3     4      5          9
//! ┌────────┬─────┬──────┬──────────┬───────────┐  big-endian
//! │ length │kind │flags │ stream   │ payload   │  length counts the payload alone;
//! └────────┴─────┴──────┴──────────┴───────────┘  the top bit of the stream is ignored
//! ```
//!
//! # Not here
//!
//! What a frame means for a stream: `connection`. Header blocks: `hpack` and `response`.

/// What a client says first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const HEADER_SIZE: usize = 9;

/// The largest window HTTP/2 can express.
pub(crate) const WINDOW_MAX: i64 = (1 << 31) - 1;

/// What windows are before anyone says otherwise.
pub(crate) const WINDOW_DEFAULT: u32 = 65_535;

/// What frames may hold before anyone says otherwise; also the least a peer may allow.
pub(crate) const FRAME_SIZE_DEFAULT: u32 = 16_384;

/// The most a peer may allow.
pub(crate) const FRAME_SIZE_CEILING: u32 = (1 << 24) - 1;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

/// The number of a stream within its connection: odd, for all of ours are begun by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Why a stream or a connection ended, in HTTP/2's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    NoError = 0x0,
    Protocol = 0x1,
    Internal = 0x2,
    FlowControl = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSize = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    Compression = 0x9,
    EnhanceYourCalm = 0xb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored, says RFC 9113.
    Unknown,
}

impl Kind {
    fn from_wire(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: StreamId,
}

impl Header {
    pub(crate) fn from_wire(bytes: &[u8; HEADER_SIZE]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::from_wire(kind),
            flags,
            stream: StreamId(u31([s0, s1, s2, s3])),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A big-endian number whose top bit is reserved.
pub(crate) fn u31(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// The nine bytes before a payload. `length` must fit a frame.
pub(crate) fn header(length: usize, kind: u8, flags: u8, stream: StreamId) -> [u8; HEADER_SIZE] {
    debug_assert!(length <= FRAME_SIZE_CEILING as usize, "a payload must fit its frame");
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.0.to_be_bytes();
    [a, b, c, kind, flags, s0, s1, s2, s3]
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Bytes every PING carries.
pub(crate) type PingData = [u8; 8];

/// Settings, by their number on the wire.
pub(crate) const SETTING_TABLE_SIZE: u16 = 1;
pub(crate) const SETTING_ENABLE_PUSH: u16 = 2;
pub(crate) const SETTING_STREAMS: u16 = 3;
pub(crate) const SETTING_WINDOW: u16 = 4;
pub(crate) const SETTING_FRAME_SIZE: u16 = 5;
pub(crate) const SETTING_HEADER_LIST: u16 = 6;

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    out.extend_from_slice(&header(settings.len() * 6, SETTINGS, 0, StreamId(0)));
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    out.extend_from_slice(&header(0, SETTINGS, ACK, StreamId(0)));
}

pub(crate) fn put_ping(out: &mut Vec<u8>, flags: u8, data: PingData) {
    out.extend_from_slice(&header(8, PING, flags, StreamId(0)));
    out.extend_from_slice(&data);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: StreamId, code: ErrorCode) {
    out.extend_from_slice(&header(4, RESET, 0, stream));
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: StreamId, by: u32) {
    assert!(by > 0, "a window never grows by nothing");
    out.extend_from_slice(&header(4, WINDOW_UPDATE, 0, stream));
    out.extend_from_slice(&by.to_be_bytes());
}

pub(crate) fn put_go_away(out: &mut Vec<u8>, last: StreamId, code: ErrorCode, debug: &str) {
    out.extend_from_slice(&header(8 + debug.len(), GO_AWAY, 0, StreamId(0)));
    out.extend_from_slice(&last.0.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

/// A payload without its padding; `None` if the padding is longer than the payload.
pub(crate) fn without_padding(padded: bool, payload: &[u8]) -> Option<&[u8]> {
    if !padded {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header::from_wire(&header(0x01_0203, HEADERS, END_STREAM, StreamId(7)));
        assert_eq!(header.length, 0x01_0203);
        assert_eq!(header.kind, Kind::Headers);
        assert_eq!(header.stream, StreamId(7));
        assert!(header.has(END_STREAM) && !header.has(END_HEADERS));
    }

    #[test]
    fn padding_may_fill_the_payload_but_not_exceed_it() {
        assert_eq!(without_padding(true, &[2, 9, 0, 0]), Some(&[9][..]));
        assert_eq!(without_padding(true, &[1, 0]), Some(&[][..]));
        assert_eq!(without_padding(true, &[2, 0]), None);
        assert_eq!(without_padding(true, &[]), None);
        assert_eq!(without_padding(false, &[2, 0]), Some(&[2, 0][..]));
    }
}
