//! What holds for every client: sane, clumsy, or throwing bytes at random.

use std::fmt::Write;

use stdx::{Generator, each_seed};

use super::peer::{self, FrameReader, frame};
use crate::frame::{END_HEADERS, END_STREAM};
use crate::{Connection, Event, Limits, Status, StreamId};

/// Small limits, so that random clients meet them.
fn limits() -> Limits {
    Limits {
        streams_max: 8,
        message_size_max: 300,
        buffered_bytes_max: 600,
        stream_window: 500,
        header_list_size_max: 500,
        output_high_water: 2000,
        ..Limits::default()
    }
}

/// An HPACK block of a request, in one of the many ways it can be written.
fn request_block(g: &mut Generator, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let value = format!("{}", g.below(4));
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("token", value.as_str()),
    ] {
        let remembered = g.chance(50);
        block.push(if remembered { 0x40 } else { 0x10 });
        for text in [name, value] {
            if g.chance(50) {
                let code = crate::huffman::encode(text.as_bytes());
                block.push(0x80 | code.len() as u8);
                block.extend_from_slice(&code);
            } else {
                block.push(text.len() as u8);
                block.extend_from_slice(text.as_bytes());
            }
        }
    }
    block
}

/// A frame some client might send next.
fn some_frame(g: &mut Generator, next_stream: &mut u32) -> Vec<u8> {
    let known = 1 + 2 * g.below(u64::from(*next_stream / 2 + 1)) as u32;
    let end = if g.chance(60) { END_STREAM } else { 0 };
    match g.below(100) {
        0..40 => {
            let path = g.pick(&["/t.T/Unary", "/t.T/Unary", "/t.T/Stream", "/t.T/None"]);
            let block = request_block(g, path);
            let stream = *next_stream;
            *next_stream += 2;
            let mut bytes = frame(peer::HEADERS, END_HEADERS, stream, &block);
            if g.chance(80) {
                let body = g.bytes(0..100);
                bytes.extend(peer::message(stream, end != 0, &body));
            }
            bytes
        }
        40..70 => {
            let size_max = if g.chance(5) { 400 } else { 90 };
            let body = g.bytes(0..size_max);
            peer::message(known, end != 0, &body)
        }
        70..75 => frame(peer::DATA, end, known, &g.bytes(0..20)),
        75..80 => frame(peer::RESET, 0, known, &[0, 0, 0, 8]),
        80..85 => frame(peer::PING, 0, 0, &[1; 8]),
        85..90 => {
            let stream = if g.chance(50) { 0 } else { known };
            frame(peer::WINDOW_UPDATE, 0, stream, &(g.below(5000) as u32 + 1).to_be_bytes())
        }
        90..94 => {
            let window = [&[0, 4][..], &(g.below(2000) as u32).to_be_bytes()].concat();
            frame(peer::SETTINGS, 0, 0, &window)
        }
        94..97 => frame(peer::PRIORITY, 0, known, &[0; 5]),
        97..99 => frame(200, 3, known, &g.bytes(0..30)),
        _ => frame(g.below(10) as u8, g.number() as u8, known, &g.bytes(0..30)),
    }
}

fn client(g: &mut Generator) -> Vec<u8> {
    let (mut bytes, mut next_stream) = (peer::hello(), 1);
    for _ in 0..g.int(1..=60) {
        bytes.extend(some_frame(g, &mut next_stream));
    }
    bytes
}

/// Answers as soon as there is something to answer, so that the cut of the input can't matter.
fn serve(connection: &mut Connection, log: &mut String) {
    while let Some(event) = connection.poll() {
        writeln!(log, "{event:?}").unwrap();
        match event {
            Event::Unary { stream, body, .. } => {
                connection.reply(stream, |out| out.extend_from_slice(&body));
            }
            Event::Message { stream, body } => connection.send_message(stream, body),
            Event::HalfClosed { stream } => connection.finish(stream, &Status::OK),
            Event::Opened { .. }
            | Event::Drained { .. }
            | Event::DeadlineExceeded { .. }
            | Event::Cancelled { .. } => {}
        }
    }
}

#[test]
fn how_the_input_is_cut_shows_in_no_event() {
    each_seed(|g| {
        let input = client(g);
        let run = |pieces: &mut dyn FnMut(&[u8]) -> usize| {
            let mut connection = peer::connection(limits());
            let (mut log, mut rest) = (String::new(), &input[..]);
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(pieces(rest).min(rest.len()));
                connection.receive(piece);
                rest = tail;
                // What is answered between the pieces is part of the order of things: so nothing is.
                while let Some(event) = connection.poll() {
                    writeln!(log, "{event:?}").unwrap();
                }
            }
            (log, connection.is_closed(), peer::take_output(&mut connection, usize::MAX))
        };
        let whole = run(&mut <[u8]>::len);
        assert_eq!(run(&mut |_| 1), whole, "byte by byte");
        assert_eq!(run(&mut |_| g.int(1..=60)), whole, "in pieces");
    });
}

#[test]
fn no_client_makes_it_panic_hold_much_or_forget_a_stream() {
    each_seed(|g| {
        let mut input = client(g);
        if g.chance(50) {
            for _ in 0..g.int(1..=5) {
                let at = g.int(0..=input.len() - 1);
                input[at] = g.number() as u8;
            }
        }
        let mut connection = peer::connection(limits());
        let (mut log, mut now_ms) = (String::new(), 0);
        for piece in input.chunks(g.int(1..=500)) {
            connection.receive(piece);
            serve(&mut connection, &mut log);
            if g.chance(70) {
                peer::take_output(&mut connection, g.int(0..=3000));
            }
            now_ms += g.below(100);
            connection.tick(now_ms);
            assert!(connection.memory() < 256 * 1024);
        }
        connection.close();
        serve(&mut connection, &mut log);
        assert_eq!(connection.streams(), 0);
        check_stories(&log);
    });
}

/// Each stream's events make sense one after the other, and nothing follows a cancellation.
fn check_stories(log: &str) {
    for id in (1..200).step_by(2) {
        let name = format!("stream: {:?}", StreamId(id));
        let story: Vec<_> = log.lines().filter(|line| line.contains(&name)).collect();
        let kind = |line: &str| line.split(' ').next().unwrap().to_owned();
        for (n, line) in story.iter().enumerate() {
            match kind(line).as_str() {
                "Unary" | "Opened" => assert_eq!(n, 0, "{story:?}"),
                "Cancelled" => assert_eq!(n, story.len() - 1, "{story:?}"),
                _ => assert!(n > 0, "{story:?}"),
            }
        }
    }
}

#[test]
fn random_bytes_after_the_greeting_end_in_peace() {
    each_seed(|g| {
        let mut connection = peer::connection(limits());
        connection.receive(&peer::hello());
        for _ in 0..g.int(1..=20) {
            connection.receive(&g.bytes(0..200));
        }
        while connection.poll().is_some() {}
        FrameReader::new().read(&peer::take_output(&mut connection, usize::MAX));
    });
}

/// Answers of all sizes, through windows of all sizes, to a socket that takes what it likes: the
/// client gets every message, whole, in order, and never more than it allowed.
#[test]
fn every_answer_arrives_whole_through_any_windows() {
    each_seed(|g| {
        let mut connection = peer::connection(Limits { output_high_water: 5000, ..limits() });
        connection.receive(&peer::hello());
        let window = g.int(0..=3000) as u32;
        connection.receive(&frame(
            peer::SETTINGS,
            0,
            0,
            &[&[0, 4][..], &window.to_be_bytes()].concat(),
        ));
        let mut expected = vec![Vec::new(); 5];
        for (n, expected) in expected.iter_mut().enumerate() {
            let id = 2 * n as u32 + 1;
            connection.receive(&peer::call(id, "/t.T/Unary"));
            connection.receive(&peer::message(id, true, b"x"));
            for _ in 0..g.int(1..=4) {
                let large = g.chance(20);
                let body = g.bytes(0..if large { 40_000 } else { 100 });
                expected.extend_from_slice(&crate::message::prefix(body.len()));
                expected.extend_from_slice(&body);
                if g.chance(50) {
                    let pieces = body.split_at(g.int(0..=body.len()));
                    connection.send_pieces(StreamId(id), &[pieces.0, pieces.1]);
                } else {
                    connection.send_message(StreamId(id), body);
                }
            }
            connection.finish(StreamId(id), &Status::OK);
        }
        let mut client = Client { windows: [i64::from(window); 5], ..Client::default() };
        for _ in 0..2000 {
            let bytes = peer::take_output(&mut connection, g.int(1..=9000));
            client.read(&bytes);
            client.open_some_window(g, &mut connection);
        }
        assert_eq!(client.ended, 5, "healed, but stuck");
        assert!(client.received == expected, "the same messages");
    });
}

struct Client {
    pending: Vec<u8>,
    window: i64,
    windows: [i64; 5],
    received: Vec<Vec<u8>>,
    ended: usize,
    now_ms: u64,
}

impl Default for Client {
    fn default() -> Self {
        let received = vec![Vec::new(); 5];
        Self { pending: Vec::new(), window: 65_535, windows: [0; 5], received, ended: 0, now_ms: 0 }
    }
}

impl Client {
    fn read(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(head) = self.pending.first_chunk() {
            let header = crate::frame::Header::from_wire(head);
            if self.pending.len() < 9 + header.length {
                return;
            }
            let rest = self.pending.split_off(9 + header.length);
            let payload = std::mem::replace(&mut self.pending, rest).split_off(9);
            let n = (header.stream.0 / 2) as usize;
            if header.kind == crate::frame::Kind::Data {
                self.window -= payload.len() as i64;
                self.windows[n] -= payload.len() as i64;
                assert!(self.window >= 0 && self.windows[n] >= 0, "more than was allowed");
                self.received[n].extend_from_slice(&payload);
            }
            if header.kind == crate::frame::Kind::Headers && header.has(END_STREAM) {
                self.ended += 1;
            }
        }
    }

    fn open_some_window(&mut self, g: &mut Generator, connection: &mut Connection) {
        let more = g.int(1..=3000) as u32;
        let n = g.int(0..=9);
        if n < 5 {
            self.windows[n] += i64::from(more);
            let id = 2 * n as u32 + 1;
            connection.receive(&frame(peer::WINDOW_UPDATE, 0, id, &more.to_be_bytes()));
        } else {
            self.window += i64::from(more);
            connection.receive(&frame(peer::WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
        }
        self.now_ms += 100;
        connection.tick(self.now_ms);
    }
}
