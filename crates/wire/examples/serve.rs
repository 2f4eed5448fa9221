//! A server of a few echo methods, for clients and conformance suites to be pointed at.
//!
//! `cargo run -p wire --example serve -- 127.0.0.1:4000`. One thread per connection and blocking
//! sockets: enough to be talked to, and nothing like the real thing.

use std::collections::HashSet;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wire::{Code, Connection, Event, Limits, Method, Route, Status, StreamId};

const UNARY: Method = Method(0);
const MANY: Method = Method(1);
const STREAM: Method = Method(2);
const FAIL: Method = Method(3);
/// Takes what comes, says hello at the end: what h2spec, taught to speak gRPC, is pointed at.
const HELLO: Method = Method(4);

/// How many messages an answer of `Many` has.
const N_MANY: usize = 10;

/// A read without news for so long is a chance to tell the time.
const TICK: Duration = Duration::from_millis(100);

fn route(path: &[u8]) -> Route {
    match path {
        b"/wire.Echo/Unary" => Route::Unary(UNARY),
        b"/wire.Echo/Many" => Route::Unary(MANY),
        b"/wire.Echo/Stream" => Route::Streaming(STREAM),
        b"/wire.Echo/Hello" => Route::Streaming(HELLO),
        b"/wire.Echo/Fail" => Route::Unary(FAIL),
        _ if path.starts_with(b"/wire.Echo/") => Route::UnknownMethod,
        _ => Route::UnknownService,
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_owned());
    for socket in TcpListener::bind(address)?.incoming() {
        let socket = socket?;
        thread::spawn(move || serve(socket));
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    let born = Instant::now();
    let limits = Limits { streams_max: 100, ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits), route, 0);
    let mut buffer = vec![0; 64 * 1024];
    let mut greeted = HashSet::new();
    loop {
        while let Some(event) = connection.poll() {
            answer(&mut connection, &mut greeted, event);
        }
        while connection.wants_write() {
            let mut slices = [IoSlice::new(&[]); 16];
            let n = connection.output(&mut slices);
            let written = socket.write_vectored(&slices[..n])?;
            connection.consumed(written);
        }
        if connection.is_closed() {
            return socket.shutdown(std::net::Shutdown::Both);
        }
        let read = socket.read(&mut buffer);
        connection.tick(born.elapsed().as_millis() as u64);
        match read {
            Ok(0) => return Ok(()),
            Ok(n) => connection.receive(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn answer(connection: &mut Connection, greeted: &mut HashSet<StreamId>, event: Event) {
    match event {
        Event::Opened { stream, method: HELLO, .. } => drop(greeted.insert(stream)),
        Event::Message { stream, .. } if greeted.contains(&stream) => {}
        Event::HalfClosed { stream } if greeted.remove(&stream) => {
            connection.send_unary(stream, &b"hello"[..]);
        }
        Event::Unary { stream, method: MANY, body, .. } => {
            for _ in 0..N_MANY {
                connection.send_message(stream, body.clone());
            }
            connection.finish(stream, &Status::OK);
        }
        Event::Unary { stream, method: FAIL, body, .. } => {
            let message = String::from_utf8_lossy(&body);
            let details = Some(&body[..]);
            let status = Status { code: Code::OutOfRange, message: &message, details };
            connection.finish(stream, &status);
        }
        Event::Unary { stream, body, .. } => {
            connection.reply(stream, |out| out.extend_from_slice(&body));
        }
        Event::Message { stream, body } => connection.send_message(stream, body),
        Event::HalfClosed { stream } => connection.finish(stream, &Status::OK),
        Event::DeadlineExceeded { stream } => {
            let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            connection.finish(stream, &status);
        }
        Event::Opened { .. } | Event::Drained { .. } | Event::Cancelled { .. } => {}
    }
}
