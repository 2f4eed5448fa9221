//! What a unary call costs the server: `cargo run --release -p wire --example cost`.
//!
//! A client's bytes are made beforehand, in the shape Go's client gives them once its header table
//! is warm; the connection reads them in batches and answers each call with 256 bytes. Under
//! `perf stat` or callgrind the calls may be given as an argument.

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use wire::{Connection, Event, Limits, Method, Route};

const CALLS_DEFAULT: usize = 2_000_000;
const BATCH: usize = 20;
const REPLY: &[u8] = &[7; 256];
/// A range request for one key.
const REQUEST: &[u8] = &[0x0a, 0x1e, b'k', b'e', b'y', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A field to be remembered, its name in the static table or spelled out.
fn field(out: &mut Vec<u8>, index: u8, name: &str, value: &str) {
    out.push(0x40 | index);
    if index == 0 {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
    }
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
}

fn first_block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    field(&mut block, 4, "", "/etcdserverpb.KV/Range");
    field(&mut block, 1, "", "127.0.0.1:2379");
    field(&mut block, 31, "", "application/grpc");
    field(&mut block, 58, "", "grpc-go/1.82.1");
    field(&mut block, 0, "te", "trailers");
    field(&mut block, 0, "client-api-version", "3.7.1");
    block
}

const WARM_BLOCK: &[u8] =
    &[0x83, 0x86, 0x80 | 67, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

/// A warm block with a deadline that is never the same: it has to be decoded.
fn deadline_block(n: u32) -> Vec<u8> {
    let mut block = WARM_BLOCK.to_vec();
    block.extend_from_slice(b"\x00\x0cgrpc-timeout\x08");
    block.extend_from_slice(format!("{:07}u", 4_000_000 + n % 999_999).as_bytes());
    block
}

fn request(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    frame(out, 1, 4, stream, block);
    let mut message = vec![0, 0, 0, 0, REQUEST.len() as u8];
    message.extend_from_slice(REQUEST);
    frame(out, 0, 1, stream, &message);
}

#[inline(never)]
fn turn(connection: &mut Connection, input: &[u8]) -> usize {
    connection.receive(input);
    let mut answered = 0;
    while let Some(event) = connection.poll() {
        if let Event::Unary { stream, body, .. } = event {
            black_box(&body);
            connection.reply(stream, |out| out.extend_from_slice(REPLY));
            answered += 1;
        }
    }
    let mut slices = [IoSlice::new(&[]); 4];
    let n = connection.output(&mut slices);
    let length = slices[..n].iter().map(|slice| black_box(slice).len()).sum();
    connection.consumed(length);
    answered
}

#[expect(clippy::print_stdout, reason = "a benchmark reports")]
fn main() {
    let calls = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(CALLS_DEFAULT);
    println!("{calls} calls, {} ns each", run(calls, |_| WARM_BLOCK.to_vec()));
    println!("{calls} calls with deadlines, {} ns each", run(calls, deadline_block));
}

/// Nanoseconds a call.
fn run(calls: usize, block: impl Fn(u32) -> Vec<u8>) -> u128 {
    let limits = Arc::new(Limits { window_updates_per_second_max: u32::MAX, ..Limits::default() });
    let mut connection = Connection::new(limits, |_| Route::Unary(Method(0)), 0);

    let mut input = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut input, 4, 0, 0, &[]);
    frame(&mut input, 8, 0, 0, &0x7000_0000u32.to_be_bytes());
    request(&mut input, 1, &first_block());
    assert_eq!(turn(&mut connection, &input), 1);

    let (mut stream, mut answered, mut batch) = (3, 0, Vec::new());
    let mut spent = std::time::Duration::ZERO;
    while answered < calls {
        batch.clear();
        for _ in 0..BATCH {
            request(&mut batch, stream, &block(stream));
            stream += 2;
        }
        let window = (BATCH * (REPLY.len() + 5)) as u32;
        frame(&mut batch, 8, 0, 0, &window.to_be_bytes());
        let start = Instant::now();
        answered += turn(&mut connection, &batch);
        spent += start.elapsed();
    }
    assert!(!connection.is_closed());
    spent.as_nanos() / answered as u128
}
