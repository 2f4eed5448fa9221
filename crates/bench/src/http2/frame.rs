//! Frames: the nine bytes before every payload.
//!
//! ```text
//! 0        3     4      5          9
//! ┌────────┬─────┬──────┬──────────┬───────────┐  big-endian; length counts the payload alone
//! │ length │kind │flags │ stream   │ payload   │
//! └────────┴─────┴──────┴──────────┴───────────┘
//! ```

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_SIZE: usize = 9;

/// The largest window there can be.
pub(super) const WINDOW_MAX: u32 = (1 << 31) - 1;

/// What windows are before anyone says otherwise.
pub(super) const WINDOW_DEFAULT: u32 = 65_535;

/// What a frame may hold; we never allow more, nor make use of it where the server does.
pub(super) const PAYLOAD_MAX: usize = 16_384;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The number of a stream within its connection: odd, for all of them are begun by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u32);

/// The connection itself, as frames name it.
pub(super) const CONNECTION: StreamId = StreamId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 0x0,
    Headers = 0x1,
    ResetStream = 0x3,
    Settings = 0x4,
    Ping = 0x6,
    GoAway = 0x7,
    WindowUpdate = 0x8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: StreamId,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes the next frame off the input, if all of it is there.
///
/// Frames of kinds unknown to HTTP/2 are passed over, as it demands.
pub(super) fn take<'a>(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, &'static str> {
    loop {
        let Some((head, rest)) = input.split_at_checked(HEAD_SIZE) else { return Ok(None) };
        let length = (u32_at(head, 0) >> 8) as usize;
        if length > PAYLOAD_MAX {
            return Err("a frame larger than was allowed");
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        *input = rest;

        let (flags, stream) = (head[4], StreamId(u32_at(head, 5) & WINDOW_MAX));
        let kind = match head[3] {
            0x0 => Kind::Data,
            0x1 => Kind::Headers,
            0x3 => Kind::ResetStream,
            0x4 => Kind::Settings,
            0x6 => Kind::Ping,
            0x7 => Kind::GoAway,
            0x8 => Kind::WindowUpdate,
            0x5 => return Err("a pushed stream"),
            0x9 => return Err("a header block of several frames"),
            _ => continue,
        };
        if matches!(kind, Kind::Data | Kind::Headers) && flags & (PADDED | PRIORITY) != 0 {
            return Err("a padded or prioritized frame");
        }
        return Ok(Some(Frame { kind, flags, stream, payload }));
    }
}

/// Writes a frame's head; its payload must follow.
pub(super) fn put_head(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: StreamId, length: usize) {
    assert!(length <= PAYLOAD_MAX, "a frame holds no more than it may");
    let mut head = [0; HEAD_SIZE];
    head[..4].copy_from_slice(&((length as u32) << 8 | kind as u32).to_be_bytes());
    head[4] = flags;
    head[5..].copy_from_slice(&stream.0.to_be_bytes());
    out.extend_from_slice(&head);
}

pub(super) fn put(out: &mut Vec<u8>, frame: Frame<'_>) {
    put_head(out, frame.kind, frame.flags, frame.stream, frame.payload.len());
    out.extend_from_slice(frame.payload);
}

/// Reads four bytes that are known to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        let ping = Frame { kind: Kind::Ping, flags: ACK, stream: CONNECTION, payload: &[1; 8] };
        let data = Frame { kind: Kind::Data, flags: 0, stream: StreamId(7), payload: &[2; 300] };
        let mut bytes = Vec::new();
        put(&mut bytes, ping);
        put(&mut bytes, data);
        assert_eq!(bytes[..9], [0, 0, 8, 6, 1, 0, 0, 0, 0]);
        for cut in 0..bytes.len() {
            let mut input = &bytes[..cut];
            assert_eq!(take(&mut input), Ok((cut >= 17).then_some(ping)));
            assert_eq!(take(&mut input), Ok(None));
        }
        let mut input = &bytes[17..];
        assert_eq!(take(&mut input), Ok(Some(data)));
        assert!(input.is_empty());
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_what_is_not_expected_is_refused() {
        let unknown = [0, 0, 1, 0x77, 0, 0, 0, 0, 0, 9];
        assert_eq!(take(&mut &unknown[..]), Ok(None));
        let padded = [0, 0, 0, 0x0, PADDED, 0, 0, 0, 1];
        assert!(take(&mut &padded[..]).is_err());
        let huge = [0xff, 0, 0, 0x0, 0, 0, 0, 0, 1];
        assert!(take(&mut &huge[..]).is_err());
    }
}
