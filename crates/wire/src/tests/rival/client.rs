//! A client that does anything: calls as they should be, and every mistake that has a name.
//!
//! It listens, as clients do: it knows which of its streams the server has ended, and how much it
//! may send on each.

use stdx::Generator;

use super::super::peer::{
    self, CONTINUATION, DATA, GO_AWAY, HEADERS, PING, PRIORITY, RESET, SETTINGS, WINDOW_UPDATE,
    frame,
};
use super::fields::{Field, Table};
use super::mistake;
use super::sign::Sign;
use crate::frame::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY as PRIORITIZED};
use crate::message;

/// What the client does next: the bytes, and what is to be thought of them.
#[derive(Clone, Debug)]
pub(super) struct Move {
    /// A sentence's subject, by which the table of freedoms knows it.
    pub(super) what: &'static str,
    pub(super) bytes: Vec<u8>,
}

const SOUND: &str = "a sound frame";
const LIE: &str = "a body that is not as long as was said";

impl Move {
    pub(super) fn new(what: &'static str, bytes: Vec<u8>) -> Self {
        Self { what, bytes }
    }

    fn sound(bytes: Vec<u8>) -> Self {
        Self::new(SOUND, bytes)
    }
}

/// A stream the client has opened.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What is left to send of its messages.
    rest: Vec<u8>,
    /// Bytes sent, of the kind that windows count.
    pub(super) sent: i64,
    /// The content-length that was given is not that of the messages.
    lies: bool,
    /// The client may still send.
    pub(super) open: bool,
    /// The server has answered in full.
    answered: bool,
    /// Either side has reset it.
    pub(super) reset: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) table: Table,
    pub(super) streams: Vec<Stream>,
    pub(super) next_stream: u32,
    /// What the server lets a stream send from the start.
    pub(super) window: u32,
    pings_left: u32,
}

/// A client that has nothing to do may not ask much oftener whether the server lives: grpc-go's rule.
const PINGS_MAX: u32 = 3;

impl Client {
    pub(super) fn new(window: u32) -> Self {
        Self {
            table: Table::new(),
            streams: Vec::new(),
            next_stream: 1,
            window,
            pings_left: PINGS_MAX,
        }
    }

    /// Learns what the server did.
    pub(super) fn heard(&mut self, signs: &[Sign]) {
        for sign in signs {
            let (Sign::End { stream } | Sign::Reset { stream, .. }) = *sign else { continue };
            let Some(known) = self.streams.iter_mut().find(|known| known.id == stream) else {
                continue;
            };
            known.answered = true;
            if matches!(sign, Sign::Reset { .. }) {
                known.reset = true;
                known.open = false;
            }
        }
    }

    /// The next move. `granted` says by how much the window of a stream was opened.
    pub(super) fn next(&mut self, g: &mut Generator, granted: impl Fn(u32) -> i64) -> Move {
        match g.below(100) {
            0..25 => self.call(g),
            25..68 => self.body(g, granted),
            68..72 => self.cancel(g),
            72..92 => self.chatter(g),
            _ => mistake::any(g, self),
        }
    }

    /// Some stream that may still send.
    pub(super) fn open_stream(&self, g: &mut Generator) -> Option<usize> {
        let open: Vec<_> = (0..self.streams.len()).filter(|&at| self.streams[at].open).collect();
        (!open.is_empty()).then(|| *g.pick(&open))
    }

    /// The fields of a call whose messages are so long.
    pub(super) fn fields(g: &mut Generator, length: Option<usize>) -> Vec<Field> {
        let path =
            *g.pick(&["/t.T/Unary", "/t.T/Unary", "/t.T/Stream", "/t.T/Stream", "/t.T/None"]);
        let method = if g.chance(97) { "POST" } else { "GET" };
        let kind = if g.chance(97) { "application/grpc" } else { "text/plain" };
        let scheme = *g.pick(&["http", "http", "https"]);
        let mut pseudo = vec![(":method", method), (":scheme", scheme), (":path", path)];
        if g.chance(80) {
            pseudo.push((":authority", "a"));
        }
        g.shuffle(&mut pseudo);
        let mut rest = vec![("content-type", kind.to_owned()), ("te", "trailers".to_owned())];
        for name in ["token", "token", "authorization", "client-api-version", "x-other"] {
            if g.chance(30) {
                rest.push((name, format!("v{}", g.below(3))));
            }
        }
        if g.chance(20) {
            rest.push(("hasleader", g.pick(&["true", "false"]).to_string()));
        }
        if let Some(length) = length {
            rest.push(("content-length", length.to_string()));
        }
        g.shuffle(&mut rest);
        let pseudo = pseudo.into_iter().map(|(name, value)| (name, value.to_owned()));
        pseudo.chain(rest).map(|(name, value)| (name.into(), value.into_bytes())).collect()
    }

    /// The header block of a call.
    pub(super) fn call_block(&mut self, g: &mut Generator) -> Vec<u8> {
        let fields = Self::fields(g, None);
        self.table.block(g, &fields)
    }

    /// Opens a stream, and notes it.
    fn call(&mut self, g: &mut Generator) -> Move {
        let mut rest = Vec::new();
        for _ in 0..g.int(0..=3) {
            let size_max = *g.pick(&[5, 80, 400]);
            let body = g.bytes(0..size_max);
            rest.extend_from_slice(&message::prefix(body.len()));
            rest.extend_from_slice(&body);
        }
        let lies = g.chance(3);
        let says = g.chance(30) || lies;
        let lie = |length: usize| if length > 0 { length - 1 } else { 1 };
        let length = says.then(|| if lies { lie(rest.len()) } else { rest.len() });
        let fields = Self::fields(g, length);
        let ends = rest.is_empty() && g.chance(50);
        let block = self.table.block(g, &fields);
        let id = self.next_stream;
        self.next_stream += 2 * g.int(1..=2) as u32;
        self.streams.push(Stream {
            id,
            rest,
            sent: 0,
            lies,
            open: !ends,
            answered: false,
            reset: false,
        });
        let bytes = headers(g, id, if ends { END_STREAM } else { 0 }, &block);
        let what = if lies { LIE } else { SOUND };
        Move::new(what, bytes)
    }

    /// Sends some of a stream's messages, or all that is left.
    fn body(&mut self, g: &mut Generator, granted: impl Fn(u32) -> i64) -> Move {
        let Some(at) = self.open_stream(g) else { return self.chatter(g) };
        let stream = &mut self.streams[at];
        if stream.rest.is_empty() && g.chance(30) {
            let block = self.table.block(g, &[(b"x-sum".to_vec(), b"1".to_vec())]);
            stream.open = false;
            let what = if stream.lies { LIE } else { SOUND };
            return Move::new(what, headers(g, stream.id, END_STREAM, &block));
        }
        let window = i64::from(self.window);
        let room = window + granted(stream.id) - stream.sent;
        let padding = if g.chance(15) { Some(g.int(0..=40)) } else { None };
        let extra = padding.map_or(0, |padding| padding + 1);
        let room = usize::try_from(room).unwrap_or(0).saturating_sub(extra);
        let all = stream.rest.len() <= room && g.chance(50);
        let n = if all { stream.rest.len() } else { g.int(0..=stream.rest.len().min(room)) };
        let data: Vec<u8> = stream.rest.drain(..n).collect();
        let cut_short = g.chance(3);
        let ends = (all || cut_short) && g.chance(90);
        let bytes = self::data(stream.id, if ends { END_STREAM } else { 0 }, padding, &data);
        stream.sent += (n + extra) as i64;
        stream.open = !ends;
        // A content-length makes a body that ends early one more lie.
        let what = if stream.lies || cut_short { LIE } else { SOUND };
        Move::new(what, bytes)
    }

    fn cancel(&mut self, g: &mut Generator) -> Move {
        let running: Vec<_> =
            (0..self.streams.len()).filter(|&at| !self.streams[at].reset).collect();
        if running.is_empty() {
            return self.chatter(g);
        }
        let stream = &mut self.streams[*g.pick(&running)];
        (stream.reset, stream.open) = (true, false);
        Move::sound(frame(RESET, 0, stream.id, &[0, 0, 0, 8]))
    }

    /// Some stream that was opened.
    pub(super) fn known_stream(&self, g: &mut Generator) -> Option<u32> {
        (!self.streams.is_empty()).then(|| g.pick(&self.streams).id)
    }

    /// The last thing a client says.
    pub(super) fn goodbye() -> Move {
        Move::new("a goodbye", frame(GO_AWAY, 0, 0, &[0; 8]))
    }

    /// Frames that are about no request.
    fn chatter(&mut self, g: &mut Generator) -> Move {
        let known = self.known_stream(g).unwrap_or(0);
        match g.below(10) {
            0 | 1 if self.pings_left > 0 => {
                self.pings_left -= 1;
                Move::sound(frame(PING, 0, 0, &g.number().to_be_bytes()))
            }
            0..=2 => Move::sound(frame(PING, ACK, 0, &[3; 8])),
            3 | 4 => {
                let more = (g.below(1000) as u32 + 1).to_be_bytes();
                let stream = if g.chance(50) { 0 } else { known };
                Move::sound(frame(WINDOW_UPDATE, 0, stream, &more))
            }
            5 | 6 => Move::sound(frame(SETTINGS, 0, 0, &settings(g))),
            7 => {
                let weight = g.number() as u8;
                Move::sound(frame(PRIORITY, 0, self.next_stream, &[0, 0, 0, 0, weight]))
            }
            8 => Move::sound(frame(*g.pick(&[10, 16, 200]), 0xff, known, &g.bytes(0..20))),
            _ => match self.open_stream(g) {
                Some(at) => Move::sound(frame(DATA, 0, self.streams[at].id, &[])),
                None => Move::sound(Vec::new()),
            },
        }
    }
}

fn settings(g: &mut Generator) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..g.int(0..=3) {
        let (id, value): (u16, u64) = match g.below(7) {
            0 => (1, *g.pick(&[0, 50, 4096, 100_000])),
            1 => (2, g.below(2)),
            2 => (3, g.below(200)),
            3 => (4, *g.pick(&[0, 10, 100, 65_535])),
            4 => (5, 16_384 + g.below(10_000)),
            5 => (6, g.below(100_000)),
            _ => (99, g.below(1 << 32)),
        };
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&(value as u32).to_be_bytes());
    }
    payload
}

pub(super) fn data(stream: u32, flags: u8, padding: Option<usize>, data: &[u8]) -> Vec<u8> {
    let Some(padding) = padding else { return frame(DATA, flags, stream, data) };
    let payload = [&[padding as u8][..], data, &vec![0; padding]].concat();
    frame(DATA, flags | PADDED, stream, &payload)
}

/// A header block in one of the many ways it can be framed.
pub(super) fn headers(g: &mut Generator, stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let pieces = if g.chance(20) { g.int(2..=4) } else { 1 };
    let cut = block.len() / pieces;
    let (first, mut rest) = block.split_at(if pieces == 1 { block.len() } else { cut });
    let mut payload = first.to_vec();
    let mut flags = flags;
    if g.chance(10) {
        flags |= PRIORITIZED;
        payload.splice(0..0, [0x80, 0, 0, 0, 9]);
    }
    if g.chance(10) {
        flags |= PADDED;
        let padding = g.int(0..=20);
        payload.insert(0, padding as u8);
        payload.extend(vec![0; padding]);
    }
    if rest.is_empty() && pieces == 1 {
        return frame(HEADERS, flags | END_HEADERS, stream, &payload);
    }
    let mut bytes = frame(HEADERS, flags, stream, &payload);
    for piece in 1..pieces {
        let last = piece == pieces - 1;
        let (part, more) = rest.split_at(if last { rest.len() } else { cut });
        bytes.extend(frame(CONTINUATION, if last { END_HEADERS } else { 0 }, stream, part));
        rest = more;
    }
    bytes
}

/// What the client says before anything else; and its answer to the server's settings.
pub(super) fn greeting() -> [Vec<u8>; 2] {
    let hello = peer::hello();
    let (greeting, acknowledgement) = hello.split_at(hello.len() - crate::frame::HEADER_SIZE);
    [greeting.to_vec(), acknowledgement.to_vec()]
}
