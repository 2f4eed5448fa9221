//! Everything a client can do wrong, by name.

use stdx::Generator;

use super::super::peer::{
    CONTINUATION, DATA, GO_AWAY, HEADERS, PING, PRIORITY, RESET, SETTINGS, WINDOW_UPDATE, frame,
};
use super::client::{Client, Move, data, headers};
use super::fields::Field;
use crate::frame::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY as PRIORITIZED};
use crate::hpack::tests::put_integer;

const PUSH_PROMISE: u8 = 5;
/// Past every limit on CONTINUATION frames there is.
const CONTINUATIONS: usize = 40;

pub(super) fn any(g: &mut Generator, client: &mut Client) -> Move {
    match g.below(13) {
        0..4 => head(g, client),
        4 => block(g, client),
        5 => size(g, client),
        6 => place(g, client),
        7 => value(g, client),
        _ => late(g, client).unwrap_or_else(|| place(g, client)),
    }
}

fn field(name: &str, value: &[u8]) -> Field {
    (name.as_bytes().to_vec(), value.to_vec())
}

/// A request whose fields are wrong.
fn head(g: &mut Generator, client: &mut Client) -> Move {
    let mut fields = Client::fields(g, None);
    let mut flags = 0;
    let what = spoil(g, &mut fields, &mut flags);
    let block = client.table.block(g, &fields);
    let stream = client.next_stream;
    client.next_stream += 2;
    if g.chance(90) {
        return Move::new(what, frame(HEADERS, flags | END_HEADERS, stream, &block));
    }
    let (begin, end) = block.split_at(g.int(0..=block.len()));
    let begin = frame(HEADERS, flags, stream, begin);
    let end = frame(CONTINUATION, END_HEADERS, stream, end);
    Move::new("a malformed request in two frames", [begin, end].concat())
}

fn spoil(g: &mut Generator, fields: &mut Vec<Field>, flags: &mut u8) -> &'static str {
    match g.below(14) {
        0 => {
            let lacking = *g.pick(&[":method", ":scheme", ":path"]);
            fields.retain(|(name, _)| name != lacking.as_bytes());
            "a request that lacks a field"
        }
        1 => {
            fields.insert(0, fields[0].clone());
            "a pseudo-field twice"
        }
        2 => {
            let pseudo = fields.remove(0);
            fields.push(pseudo);
            "a pseudo-field after others"
        }
        3 => {
            let name = *g.pick(&[":unknown", ":"]);
            fields.insert(0, field(name, b"x"));
            "a pseudo-field nobody knows"
        }
        4 => {
            fields.insert(0, field(":status", b"200"));
            "a pseudo-field of answers"
        }
        5 => {
            let name = *g.pick(&["X-Upper", "a b", "a:b", "\u{e9}"]);
            fields.push(field(name, b"x"));
            "a name that is none"
        }
        6 => {
            fields.push(field("", b"x"));
            "a field without a name"
        }
        7 => {
            let name = *g.pick(&["connection", "upgrade", "keep-alive", "proxy-connection"]);
            fields.push(field(name, b"x"));
            "a field about the connection"
        }
        8 => {
            let (name, value) = *g.pick(&[("te", "gzip"), ("transfer-encoding", "chunked")]);
            fields.push(field(name, value.as_bytes()));
            "a field about the connection"
        }
        9 => {
            let value = *g.pick(&[&b"a\0"[..], b"\r\n", b"a\nb", b"\x7f"]);
            let name = *g.pick(&["x-other", "token", "content-type"]);
            fields.push(field(name, value));
            "a value that is none"
        }
        10 => lengths(g, fields, flags),
        11 => path(g, fields),
        12 => {
            fields.push(field("x-long", &vec![b'x'; g.int(900..=1500)]));
            "more fields than the server wants"
        }
        _ => {
            fields.push(field("x-long", &vec![b'x'; 9000]));
            "far more fields than the server wants"
        }
    }
}

fn lengths(g: &mut Generator, fields: &mut Vec<Field>, flags: &mut u8) -> &'static str {
    match g.below(3) {
        0 => {
            let length = *g.pick(&[&b"x"[..], b"-1", b"+1", b"1 "]);
            fields.push(field("content-length", length));
            "a content-length that is no number"
        }
        1 => {
            fields.extend([field("content-length", b"5"), field("content-length", b"6")]);
            "two content-lengths that differ"
        }
        _ => {
            fields.push(field("content-length", b"5"));
            *flags |= END_STREAM;
            "a content-length and no body"
        }
    }
}

fn path(g: &mut Generator, fields: &mut [Field]) -> &'static str {
    let at = fields.iter().position(|(name, _)| name == b":path").expect("each has one");
    let (path, what) = *g.pick(&[
        ("", "an empty path"),
        ("t.T/Unary", "a path without a slash"),
        ("*", "a path without a slash"),
    ]);
    fields[at].1 = path.as_bytes().to_vec();
    what
}

/// A header block that is none, or not framed as one.
fn block(g: &mut Generator, client: &mut Client) -> Move {
    let stream = client.next_stream;
    client.next_stream += 2;
    let sound = client.call_block(g);
    let mut number = Vec::new();
    let bad: Vec<u8> = match g.below(9) {
        0 => vec![0x80],
        1 => vec![0x80 | 126],
        2 => [&sound[..], &[0x00, 5, b'a']].concat(),
        3 => [&sound[..], &[0x00, 1, b'a', 0x81, 0x00]].concat(), // Padding of zeroes.
        4 => [&sound[..], &[0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]].concat(),
        5 => {
            put_integer(&mut number, 0x20, 5, 4097);
            [&number[..], &sound].concat()
        }
        6 => [&sound[..], &[0x20]].concat(),
        7 => [&sound[..], &[0xff; 12]].concat(),
        _ => return framing(g, stream, &sound),
    };
    Move::new("a header block that can't be read", frame(HEADERS, END_HEADERS, stream, &bad))
}

fn framing(g: &mut Generator, stream: u32, block: &[u8]) -> Move {
    let begun = frame(HEADERS, 0, stream, &block[..block.len() / 2]);
    match g.below(4) {
        0 => {
            let other = frame(*g.pick(&[PING, 99]), 0, 0, &[0; 8]);
            Move::new("a header block that is interrupted", [begun, other].concat())
        }
        1 => {
            let other = frame(CONTINUATION, END_HEADERS, stream + 2, &[]);
            Move::new("a header block that is interrupted", [begun, other].concat())
        }
        2 => {
            let more = frame(CONTINUATION, 0, stream, &[]).repeat(CONTINUATIONS);
            Move::new("continuations without end", [begun, more].concat())
        }
        _ => {
            let itself = [&stream.to_be_bytes()[..], &[1], block].concat();
            let bytes = frame(HEADERS, END_HEADERS | PRIORITIZED, stream, &itself);
            Move::new("a stream that depends on itself", bytes)
        }
    }
}

/// A frame of a length that its kind doesn't have.
fn size(g: &mut Generator, client: &Client) -> Move {
    let known = client.known_stream(g);
    let wrong = "a frame of the wrong size";
    match g.below(8) {
        0 => Move::new(wrong, frame(PING, 0, 0, &vec![0; g.int(0..=7)])),
        1 => Move::new(wrong, frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        2 => Move::new(wrong, frame(SETTINGS, 0, 0, &[0; 5])),
        3 => Move::new(wrong, frame(GO_AWAY, 0, 0, &[0; 7])),
        4 => Move::new(wrong, frame(SETTINGS, ACK, 0, &[0; 6])),
        5 => Move::new(wrong, frame(RESET, 0, known.unwrap_or(client.next_stream), &[0; 5])),
        6 => {
            let what = "a priority of the wrong size";
            Move::new(what, frame(PRIORITY, 0, known.unwrap_or(client.next_stream), &[0; 4]))
        }
        _ => {
            let kind = *g.pick(&[DATA, HEADERS, PING, 99]);
            Move::new("a frame too large", frame(kind, 0, known.unwrap_or(1), &[0; 16_385]))
        }
    }
}

/// A frame on a stream where there can't be one.
fn place(g: &mut Generator, client: &Client) -> Move {
    let idle = client.next_stream + 10;
    let wrong = "a frame on the wrong stream";
    let (kind, stream, payload): (u8, u32, &[u8]) = match g.below(14) {
        0 => (DATA, 0, b"x"),
        1 => (HEADERS, 0, &[0x82]),
        2 => (HEADERS, 2, &[0x82]),
        3 => (RESET, 0, &[0; 4]),
        4 => (SETTINGS, 1, &[]),
        5 => (PING, 1, &[0; 8]),
        6 => (GO_AWAY, 1, &[0; 8]),
        7 => (PRIORITY, 0, &[0; 5]),
        8 => (CONTINUATION, idle, &[]),
        9 => (DATA, idle, b"x"),
        10 => (RESET, idle, &[0; 4]),
        11 => (WINDOW_UPDATE, idle, &[0, 0, 0, 1]),
        12 => {
            let push = frame(PUSH_PROMISE, END_HEADERS, idle, &[0, 0, 0, 2, 0x82]);
            return Move::new("a push", push);
        }
        _ => (DATA, 2, b"x"),
    };
    Move::new(wrong, frame(kind, if kind == HEADERS { END_HEADERS } else { 0 }, stream, payload))
}

/// A frame that says what can't be.
fn value(g: &mut Generator, client: &mut Client) -> Move {
    let setting =
        |id: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat());
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let open = client.open_stream(g);
    let stream = open.map_or(0, |at| client.streams[at].id);
    let what = match g.below(12) {
        0 => return Move::new("a setting out of range", setting(2, 2)),
        1 => return Move::new("a window setting out of range", setting(4, 0x8000_0000)),
        2 => {
            return Move::new("a setting out of range", setting(5, *g.pick(&[0, 16_383, 1 << 24])));
        }
        3 => return Move::new("an answer to no settings", frame(SETTINGS, ACK, 0, &[])),
        4 => {
            let bytes = frame(WINDOW_UPDATE, 0, 0, &[0; 4]);
            return Move::new("a connection's window that grows by nothing", bytes);
        }
        5 => {
            let bytes = frame(WINDOW_UPDATE, 0, 0, &most).repeat(2);
            return Move::new("a connection's window beyond all bounds", bytes);
        }
        6 if open.is_some() => ("a window that grows by nothing", WINDOW_UPDATE, vec![0; 4]),
        7 if open.is_some() => {
            let bytes = frame(WINDOW_UPDATE, 0, stream, &most).repeat(2);
            return Move::new("a window beyond all bounds", bytes);
        }
        8 if open.is_some() => {
            let beyond = vec![0; client.window as usize + g.int(1..=100)];
            ("data beyond the window", DATA, beyond)
        }
        9 | 10 if open.is_some() => return trailers(g, client, stream),
        _ => {
            let id = if open.is_some() { stream } else { client.next_stream };
            let depends = [&id.to_be_bytes()[..], &[0]].concat();
            return Move::new(
                "a priority that depends on itself",
                frame(PRIORITY, 0, id, &depends),
            );
        }
    };
    Move::new(what.0, frame(what.1, 0, stream, &what.2))
}

/// Trailers that are none, or padding that is too long.
fn trailers(g: &mut Generator, client: &mut Client, stream: u32) -> Move {
    match g.below(4) {
        0 => {
            let block = client.table.block(g, &[field("x-sum", b"1")]);
            Move::new("trailers that end nothing", headers(g, stream, 0, &block))
        }
        1 => {
            let block = client.table.block(g, &[field(":path", b"/")]);
            Move::new("trailers with a pseudo-field", headers(g, stream, END_STREAM, &block))
        }
        2 => {
            let block = client.table.block(g, &[field("x-sum", b"\0")]);
            Move::new("trailers that are malformed", headers(g, stream, END_STREAM, &block))
        }
        _ => {
            let kind = *g.pick(&[DATA, HEADERS]);
            let bytes = frame(kind, PADDED | END_HEADERS, stream, &[5, 0, 0]);
            Move::new("more padding than frame", bytes)
        }
    }
}

/// A frame on a stream that has ended, for the client or for both.
fn late(g: &mut Generator, client: &mut Client) -> Option<Move> {
    let ended: Vec<_> =
        client.streams.iter().filter(|stream| !stream.open).map(|stream| stream.id).collect();
    if g.chance(15) {
        let skipped = (1..client.next_stream).step_by(2);
        let skipped: Vec<u32> =
            skipped.filter(|&id| client.streams.iter().all(|known| known.id != id)).collect();
        let stream = *skipped.first()?;
        let block = client.call_block(g);
        return Some(Move::new("a stream out of order", headers(g, stream, 0, &block)));
    }
    if ended.is_empty() {
        return None;
    }
    let stream = *g.pick(&ended);
    Some(match g.below(5) {
        0 | 1 => Move::new("data after the end", data(stream, 0, None, b"late")),
        2 => {
            let block = client.call_block(g);
            Move::new("headers after the end", headers(g, stream, END_STREAM, &block))
        }
        3 => Move::new("a window after the end", frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])),
        _ => Move::new("a reset after the end", frame(RESET, 0, stream, &[0, 0, 0, 8])),
    })
}
