//! The client port, frame by frame: what flags promise about connections, and how they end.
//!
//! What needs no process (floods, windows, order of frames) is tried in the crate `wire`; here it is
//! what only the whole server can break: that flags arrive, that clocks tick, that the end is told.

mod peer;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use self::peer::{ACK, DATA, END_STREAM, Frame, GO_AWAY, HEADERS, PING, Peer, RESET, SETTINGS};
use crate::support::client::{get, samples};
use crate::support::process::{Home, Server};
use crate::support::{PATIENCE, block_on, eventually};

const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const LOCK: &str = "/v3lockpb.Lock/Lock";
/// A range of the key `a`, and a watch of it.
const RANGE_A: &[u8] = &[0x0a, 1, b'a'];
const WATCH_A: &[u8] = &[0x0a, 3, 0x0a, 1, b'a'];
/// HTTP/2's code for a stream that was not looked at, and for a peer that asks too much.
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const SIGTERM: i32 = 15;

fn server(home: &Home, flags: &[&str]) -> Server {
    let mut server = home.start(flags);
    block_on(server.ready());
    server
}

/// Whether the frame is a stream's last.
fn ends(stream: u32) -> impl Fn(&Frame) -> bool {
    move |frame| frame.kind == HEADERS && frame.stream == stream && frame.flags & END_STREAM != 0
}

fn is_goodbye(frame: &Frame) -> bool {
    frame.kind == GO_AWAY
}

fn watch(peer: &mut Peer, stream: u32) {
    peer.open(stream, WATCH, &[]);
    peer.message(stream, 0, WATCH_A);
    // The head may come before it.
    let answered = peer.find(|frame| frame.stream == stream && frame.kind == DATA);
    assert!(answered.is_some(), "no watch");
}

/// How long the server waits for the answer to its goodbye.
const GOODBYE_HEARD: Duration = Duration::from_millis(500);

#[test]
fn a_client_hears_of_the_end_before_its_streams_end_and_is_answered_until_it_did() {
    let deadline = Instant::now() + PATIENCE;
    while !is_answered_after_the_goodbye() {
        assert!(Instant::now() < deadline, "this client is always too late");
    }
}

/// `false` if a busy machine kept this client from asking in time: then there was nothing to be seen.
fn is_answered_after_the_goodbye() -> bool {
    let home = Home::new("goodbye");
    let mut server = server(&home, &[]);
    let mut peer = Peer::greet(home.client_port);
    watch(&mut peer, 1);
    let asked = Instant::now();
    server.signal(SIGTERM);
    let first = peer.find(|frame| is_goodbye(frame) || ends(1)(frame)).expect("a goodbye");
    assert!(is_goodbye(&first) && first.says("graceful_stop"), "{first:?}");
    let ping = peer.find(|frame| frame.kind == PING).expect("a ping");
    if asked.elapsed() > GOODBYE_HEARD / 2 {
        return false;
    }
    // It has not read it yet, as far as anybody knows.
    peer.open(3, RANGE, &[]);
    peer.message(3, END_STREAM, RANGE_A);
    if peer.find(ends(3)).is_none() {
        assert!(asked.elapsed() > GOODBYE_HEARD, "no answer");
        return false;
    }
    peer.frame(PING, ACK, 0, &ping.payload);
    let last = peer.find(is_goodbye).expect("a last word");
    assert_eq!(last.number(0), 3, "the last stream: {last:?}");
    assert!(peer.ends_without(|_| false));
    block_on(server.ended());
    true
}

#[test]
fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let home = Home::new("streams");
    let _server = server(&home, &["--max-concurrent-streams=2"]);
    let mut peer = Peer::greet(home.client_port);
    let settings = peer.find(|frame| frame.kind == SETTINGS).expect("settings");
    assert!(settings.payload.chunks(6).any(|pair| pair == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    watch(&mut peer, 1);
    watch(&mut peer, 3);
    peer.open(5, WATCH, &[]);
    let refused = peer.find(|frame| frame.stream == 5).expect("a word");
    assert_eq!((refused.kind, refused.number(0)), (RESET, REFUSED_STREAM), "{refused:?}");
    peer.frame(RESET, 0, 1, &[0, 0, 0, 8]);
    watch(&mut peer, 7);
}

#[test]
fn who_does_not_answer_a_ping_is_gone_and_who_does_is_not() {
    let home = Home::new("keepalive");
    // A second would do, but may be lost on a busy machine before the lively one gets to answer.
    let flags = ["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=5s"];
    let _server = server(&home, &flags);
    let (mut lively, mut dead) = (Peer::greet(home.client_port), Peer::greet(home.client_port));
    watch(&mut lively, 1);
    watch(&mut dead, 1);
    let is_asked = |frame: &Frame| frame.kind == PING && !frame.is_ack();
    assert!(dead.find(is_asked).is_some(), "no ping");
    // Until the other one's time is over.
    for _ in 0..6 {
        let ping = lively.find(is_asked).expect("a ping");
        lively.frame(PING, ACK, 0, &ping.payload);
    }
    assert!(dead.ends_without(is_asked), "asked again");
    lively.open(3, RANGE, &[]);
    lively.message(3, END_STREAM, RANGE_A);
    assert!(lively.find(ends(3)).is_some(), "no answer");
}

#[test]
fn pings_may_come_as_often_as_the_flag_says() {
    let pings = |flag: &str| {
        let home = Home::new("pings");
        let _server = server(&home, &[flag]);
        let mut peer = Peer::greet(home.client_port);
        watch(&mut peer, 1);
        let mut answered = 0;
        for n in 0..10_u64 {
            peer.frame(PING, 0, 0, &n.to_be_bytes());
            let said = peer.find(|frame| is_goodbye(frame) || frame.kind == PING).expect("a word");
            if is_goodbye(&said) {
                assert_eq!(said.number(4), ENHANCE_YOUR_CALM, "{said:?}");
                assert!(said.says("too_many_pings"), "{said:?}");
                assert!(peer.ends_without(|_| false));
                return answered;
            }
            answered += 1;
        }
        answered
    };
    assert_eq!(pings("--grpc-keepalive-min-time=0s"), 10);
    // One is forgiven for the answer before it, one starts the clock, two are too early; the third
    // that is ends it, and is answered all the same.
    assert_eq!(pings("--grpc-keepalive-min-time=1h"), 4);
}

#[test]
fn a_timeout_ends_a_call_that_waits() {
    let home = Home::new("timeout");
    let _server = server(&home, &[]);
    let mut peer = Peer::greet(home.client_port);
    peer.open(1, WATCH, &[("grpc-timeout", "50m")]);
    peer.message(1, 0, WATCH_A);
    let end = peer.find(ends(1)).expect("an end");
    assert!(end.says("context deadline exceeded"), "{end:?}");
    peer.open(3, LOCK, &[("grpc-timeout", "1x")]);
    let end = peer.find(ends(3)).expect("an end");
    assert!(end.says("malformed grpc-timeout"), "{end:?}");
}

/// What a member has received from gRPC's clients, and sent to them, by its own account.
fn traffic(port: u16) -> [u64; 2] {
    let samples = samples(port);
    let name = |way| format!("etcd_network_client_grpc_{way}_bytes_total");
    ["received", "sent"].map(|way| samples[&name(way)] as u64)
}

#[test]
fn bytes_of_messages_are_counted() {
    let home = Home::new("traffic");
    let _server = server(&home, &[]);
    let mut peer = Peer::greet(home.client_port);
    // That it is ready was asked by a call, too.
    let mut before = block_on(eventually("a call counted", async || {
        Some(traffic(home.client_port)).filter(|&[_, sent]| sent > 0)
    }));
    peer.open(1, RANGE, &[]);
    peer.message(1, END_STREAM, RANGE_A);
    let data = peer.find(|frame| frame.kind == DATA).expect("an answer");
    // gRPC says in five bytes how long the message is.
    before[0] += RANGE_A.len() as u64;
    before[1] += data.payload.len() as u64 - 5;
    block_on(eventually("all bytes counted", async || {
        (traffic(home.client_port) == before).then_some(())
    }));
}

/// A method of HTTP/1.1 may begin like the preface of HTTP/2, and come in pieces.
#[test]
fn a_request_may_come_a_letter_at_a_time() {
    let home = Home::new("letters");
    let _server = server(&home, &[]);
    let mut socket = TcpStream::connect(("127.0.0.1", home.client_port)).expect("a connection");
    socket.set_nodelay(true).expect("a connection");
    let body = "{\"key\":\"YQ==\"}";
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for letter in request.as_bytes().chunks(1) {
        socket.write_all(letter).expect("a connection");
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

/// Clients of every kind that begin and never come to an end.
fn dawdlers(port: u16) -> Vec<TcpStream> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
    let beginnings: [&[u8]; 7] = [
        b"",
        b"P",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\n",
        &[&hello[..], &[0, 64, 0, 1]].concat(), // The head of a frame, not all of it.
        &[&hello[..], &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat(), // A header block, to be continued.
    ];
    let connect = |beginning: &&[u8]| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        socket.set_nodelay(true).expect("a connection");
        socket.write_all(beginning).expect("a connection");
        socket
    };
    (0..DAWDLERS_OF_A_KIND).flat_map(|_| beginnings.iter().map(connect)).collect()
}

const DAWDLERS_OF_A_KIND: usize = 50;
/// What a request may take while they are there. It takes a thousandth of that.
const PROMPT: Duration = Duration::from_secs(5);

/// Slowloris: none of them is to be waited for. (When each is let go is tried where time is virtual:
/// the crate `server`, `listen` and `http`; the crate `wire`, scripts.)
#[test]
fn clients_that_dawdle_hold_up_nobody_else_nor_the_end() {
    let home = Home::new("dawdle");
    let mut server = server(&home, &[]);
    let mut dawdling = dawdlers(home.client_port);
    for round in 0..20 {
        for socket in dawdling.iter_mut().filter(|_| round % 4 == 0) {
            // A letter more, to those that are not past it: then it is the server's to refuse.
            drop(socket.write_all(b"x"));
        }
        let began = Instant::now();
        let mut peer = Peer::greet(home.client_port);
        peer.open(1, RANGE, &[]);
        peer.message(1, END_STREAM, RANGE_A);
        assert!(peer.find(ends(1)).is_some(), "no answer");
        let health = get(home.client_port, "/health").expect("an answer");
        assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
        assert!(began.elapsed() < PROMPT, "held up for {:?}", began.elapsed());
    }
    server.signal(SIGTERM);
    block_on(server.ended());
}
