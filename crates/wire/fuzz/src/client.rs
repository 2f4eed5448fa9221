//! A client of few words: the frames that lead up to what a target tries, and what came of them.

use std::fmt::Write;
use std::io::IoSlice;
use std::sync::Arc;

use wire::{Connection, Event, Limits, Method, Route, Status};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// The paths of the two methods there are.
pub(crate) const UNARY: &str = "/t.T/Unary";
pub(crate) const STREAM: &str = "/t.T/Stream";

/// Small, so that they are met.
pub(crate) fn limits() -> Limits {
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

/// No input makes a connection hold more, with these limits.
const MEMORY_MAX: usize = 256 * 1024;

pub(crate) fn server(limits: Limits) -> Connection {
    let route = |path: &[u8]| match path {
        path if path == UNARY.as_bytes() => Route::Unary(Method(1)),
        path if path == STREAM.as_bytes() => Route::Streaming(Method(2)),
        _ => Route::UnknownService,
    };
    Connection::new(Arc::new(limits), route, 0)
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [&[a, b, c, kind, flags, s0, s1, s2, s3][..], payload].concat()
}

/// Preface, settings, and the acknowledgement of the server's.
pub(crate) fn hello() -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    [&preface[..], &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[])].concat()
}

/// The head of a gRPC call, every field spelled out.
pub(crate) fn call(stream: u32, path: &str, encoding: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("grpc-encoding", encoding),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// What a connection tells, one event a line.
pub(crate) fn events(connection: &mut Connection) -> String {
    let mut told = String::new();
    while let Some(event) = connection.poll() {
        writeln!(told, "{event:?}").expect("a text grows");
    }
    told
}

/// Answers everything at once: calls with what they sent.
pub(crate) fn answer(connection: &mut Connection) {
    while let Some(event) = connection.poll() {
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
    assert!(connection.memory() < MEMORY_MAX, "{} bytes are held", connection.memory());
}

/// Takes all there is to send.
pub(crate) fn output(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        let mut slices = [IoSlice::new(&[]); 4];
        let n = connection.output(&mut slices);
        let before = bytes.len();
        slices[..n].iter().for_each(|slice| bytes.extend_from_slice(slice));
        connection.consumed(bytes.len() - before);
    }
    bytes
}

/// What is sent is frames, whole, one after the other.
pub(crate) fn check_frames(mut sent: &[u8]) {
    while !sent.is_empty() {
        let header = sent.first_chunk::<9>().expect("a whole header");
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        sent = sent.get(9 + length..).expect("a whole payload");
    }
}
