//! What one client may cost: memory with a bound, and nobody else's time.
//!
//! Each test has a client that asks for much or never reads. Meanwhile another one puts: the server's own
//! memory grows by no more than a named number, and the puts go on.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proto::Method;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

use crate::support::client::{Client, Failure, Stream, samples};
use crate::support::process::{Home, Server};
use crate::support::{PATIENCE, block_on, prompt};

const MIB: u64 = 1 << 20;
/// What a client leaves open that does not want to read: HTTP/2's default.
const WINDOW_SMALL: u32 = 65_535;
/// Another client's puts: so many, of which all but one in a hundred are quicker than this. Other tests
/// run beside this one.
const N_PUTS: usize = 300;
const PUT_MAX: Duration = Duration::from_millis(500);

/// Growth allowed while a long range is read, or asked for by many who don't read.
const RANGE_GROWTH_MAX: u64 = 48 * MIB;
const N_RANGES_UNREAD: usize = 30;
/// Growth allowed for an answer in JSON that nobody reads: a few pieces of it, and their JSON.
const JSON_GROWTH_MAX: u64 = 2 * MIB;
/// What the range to be read holds; `RETCD_RANGE_MIB` says otherwise.
const RANGE_MIB: u64 = 256;
/// Growth allowed while watchers don't read what they asked for. The log keeps the newest entries in
/// memory, all watchers together may have a few megabytes waiting.
const WATCH_GROWTH_MAX: u64 = 96 * MIB;
const N_WATCHERS_UNREAD: usize = 20;
const N_EVENTS: u64 = 20_000;
/// Watchers on one stream, who all read.
const N_WATCHERS_TOGETHER: usize = 20_000;
const N_IDLE: u64 = 10_000;
/// Growth allowed for all idle connections.
const IDLE_GROWTH_MAX: u64 = 64 * MIB;

#[test]
fn ranges_that_nobody_reads_cost_little() {
    block_on(async {
        let home = Home::new("unread-range");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        fill(&client, 64).await;
        let before = server.memory();
        let mut streams = Vec::new();
        for _ in 0..N_RANGES_UNREAD {
            let stingy = Client::with_window(home.client_port, WINDOW_SMALL).await;
            let mut stream = stingy.expect("a server").open(Method::Range).await.expect("a call");
            stream.send(&everything(), true).expect("a call");
            streams.push(stream);
        }
        let in_json: Vec<_> = (0..N_RANGES_UNREAD).map(|_| ask_in_json(home.client_port)).collect();
        puts_go_on(&client).await;
        let max = RANGE_GROWTH_MAX + N_RANGES_UNREAD as u64 * JSON_GROWTH_MAX;
        grew_at_most(max, before, &server);
        drop((streams, in_json));
    });
}

#[test]
fn a_range_of_any_size_is_answered_in_little_memory() {
    block_on(async {
        let mib = env::var("RETCD_RANGE_MIB").map_or(RANGE_MIB, |n| n.parse().expect("a number"));
        let home = Home::new("long-range");
        let mut server = home.start(&["--quota-backend-bytes=8589934592"]);
        let client = server.ready().await;
        fill(&client, mib).await;
        let before = server.memory();
        let latest_first = RangeRequest {
            sort_target: SortTarget::Mod.into(),
            sort_order: SortOrder::Descend.into(),
            ..everything()
        };
        for request in [everything(), latest_first] {
            let reader = Client::with_window(home.client_port, MIB as u32).await.expect("a server");
            let mut stream = reader.open(Method::Range).await.expect("a call");
            stream.send(&request, true).expect("a call");
            let reading = tokio::spawn(async move { stream.drain().await });
            puts_go_on(&client).await;
            grew_at_most(RANGE_GROWTH_MAX, before, &server);
            let n = reading.await.expect("no panic");
            assert!(n.as_ref().is_ok_and(|n| *n > mib * MIB), "not all of it came: {n:?}");
            grew_at_most(RANGE_GROWTH_MAX, before, &server);
        }
        let mut socket = ask_in_json(home.client_port);
        let reading = tokio::task::spawn_blocking(move || read_to_end(&mut socket));
        puts_go_on(&client).await;
        let (n, end) = reading.await.expect("no panic").expect("an answer");
        assert!(n > mib * MIB * 4 / 3, "{n} bytes of JSON");
        // The last of the JSON, and of its chunks.
        assert!(end.contains(r#"],"count":""#) && end.ends_with("\"}\r\n0\r\n\r\n"), "{end}");
        grew_at_most(RANGE_GROWTH_MAX, before, &server);
    });
}

#[test]
fn a_txn_that_reads_much_is_answered_in_little_memory() {
    block_on(async {
        const MIB_EACH: u64 = 64;
        const N_RANGES: usize = 4;
        let home = Home::new("long-txn");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        fill(&client, MIB_EACH).await;
        let before = server.memory();
        let [ranges, txns] = ranges_and_txns(home.client_port);
        let op = || RequestOp { request: Some(Request::RequestRange(everything())) };
        let success = (0..N_RANGES).map(|_| op()).collect();
        let request = TxnRequest { success, ..TxnRequest::default() };
        let mut unread = Vec::new();
        for _ in 0..N_RANGES_UNREAD {
            let stingy = Client::with_window(home.client_port, WINDOW_SMALL).await;
            let mut stream = stingy.expect("a server").open(Method::Txn).await.expect("a call");
            stream.send(&request, true).expect("a call");
            unread.push(stream);
        }
        let reader = Client::with_window(home.client_port, MIB as u32).await.expect("a server");
        let mut stream = reader.open(Method::Txn).await.expect("a call");
        stream.send(&request, true).expect("a call");
        let reading = tokio::spawn(async move { stream.drain().await });
        puts_go_on(&client).await;
        let n = reading.await.expect("no panic");
        let all = N_RANGES as u64 * MIB_EACH * MIB;
        assert!(n.as_ref().is_ok_and(|n| *n > all), "not all of it came: {n:?}");
        grew_at_most(RANGE_GROWTH_MAX, before, &server);
        let n_txns = N_RANGES_UNREAD as u64 + 1;
        let counted = ranges_and_txns(home.client_port);
        assert_eq!(counted, [ranges + n_txns * N_RANGES as u64, txns + n_txns]);
        drop(unread);
    });
}

#[test]
fn watchers_that_never_read_hold_nobody_up() {
    block_on(async {
        let home = Home::new("unread-watch");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        let before = server.memory();
        let mut streams = Vec::new();
        for _ in 0..N_WATCHERS_UNREAD {
            streams.push(watch(home.client_port).await);
        }
        for n in 0..N_EVENTS / 100 {
            txn(&client, (0..100).map(|i| put(n * 100 + i, 1024)).collect()).await.expect("puts");
        }
        puts_go_on(&client).await;
        grew_at_most(WATCH_GROWTH_MAX, before, &server);
        drop(streams);
    });
}

#[test]
fn a_stream_of_many_watchers_holds_nobody_up() {
    block_on(async {
        let home = Home::new("many-watchers");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        let watching = Client::connect(home.client_port).await.expect("a server");
        let mut stream = watching.open(Method::Watch).await.expect("a watch");
        let create = WatchCreateRequest { key: "w".into(), ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        for _ in 0..N_WATCHERS_TOGETHER {
            stream.send(&request, false).expect("a watch");
        }
        for _ in 0..N_WATCHERS_TOGETHER {
            let created: Option<WatchResponse> = stream.next().await.expect("a watch");
            assert!(created.is_some_and(|answer| answer.created));
        }
        puts_go_on(&client).await;
        drop(stream);
    });
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let wanted = N_IDLE + 1000;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|n| n < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_err() {
            // Not a thing of ours: this machine allows fewer files.
            let _ = writeln!(std::io::stderr(), "skipped: no {wanted} files allowed here");
            return;
        }
    }
    block_on(async {
        let home = Home::new("idle");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        let before = server.memory();
        let idle: Vec<TcpStream> = (0..N_IDLE).map(|_| greet(home.client_port)).collect();
        puts_go_on(&client).await;
        grew_at_most(IDLE_GROWTH_MAX, before, &server);
        drop(idle);
    });
}

#[test]
fn what_is_too_large_is_refused_in_etcds_words() {
    block_on(async {
        let home = Home::new("too-large");
        let mut server = home.start(&[]);
        let client = server.ready().await;
        let before = server.memory();
        let large = client.call::<PutResponse>(Method::Put, &put(1, 1_600_000)).await;
        refused(large, 3, "etcdserver: request is too large");
        let larger = client.call::<PutResponse>(Method::Put, &put(1, 3_000_000)).await;
        refused(larger, 8, "grpc: received message larger than max (3000015 vs. 2097152)");
        let many = txn(&client, (0..129).map(|n| put(n, 1)).collect()).await;
        refused(many, 3, "etcdserver: too many operations in txn request");
        puts_go_on(&client).await;
        grew_at_most(RANGE_GROWTH_MAX, before, &server);
    });
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Failure>, expected: u32, text: &str) {
    match answer {
        Err(Failure::Refused { code, message }) => {
            assert_eq!((code, message.as_str()), (expected, text));
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Puts, one after the other: each is answered, and most are at once.
async fn puts_go_on(client: &Client) {
    let mut took = Vec::with_capacity(N_PUTS);
    for n in 0..N_PUTS as u64 {
        let start = Instant::now();
        let request = put(n, 100);
        let answer = timeout(PATIENCE, client.call::<PutResponse>(Method::Put, &request)).await;
        assert!(matches!(answer, Ok(Ok(_))), "a put failed: {answer:?}");
        took.push(start.elapsed());
    }
    took.sort_unstable();
    prompt("99 % of the puts beside others", took[N_PUTS * 99 / 100], PUT_MAX);
}

fn grew_at_most(max: u64, before: u64, server: &Server) {
    let grew = server.memory().saturating_sub(before);
    assert!(grew <= max, "grew by {} MiB, not {}", grew / MIB, max / MIB);
}

/// What a member has counted of them.
fn ranges_and_txns(port: u16) -> [u64; 2] {
    let samples = samples(port);
    ["range", "txn"].map(|what| samples[&format!("etcd_mvcc_{what}_total")] as u64)
}

/// Writes so many MiB of values, a transaction for each.
async fn fill(client: &Client, mib: u64) {
    const VALUES: u64 = 16;
    for n in 0..mib {
        let puts = (0..VALUES).map(|i| put(1000 + n * VALUES + i, (MIB / VALUES) as usize));
        txn(client, puts.collect()).await.expect("puts");
    }
}

async fn txn(client: &Client, puts: Vec<PutRequest>) -> Result<TxnResponse, Failure> {
    let ops = puts.into_iter().map(|put| RequestOp { request: Some(Request::RequestPut(put)) });
    let request = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
    client.call(Method::Txn, &request).await
}

fn put(n: u64, len: usize) -> PutRequest {
    let key = format!("{n:08}").into();
    PutRequest { key, value: vec![7; len].into(), ..PutRequest::default() }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

/// Asks for everything, in JSON.
fn ask_in_json(port: u16) -> TcpStream {
    let body = r#"{"key":"AA==","range_end":"AA=="}"#;
    let head = "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nConnection: close";
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).expect("a connection");
    socket
}

/// How many bytes come, and the last of them.
fn read_to_end(socket: &mut TcpStream) -> io::Result<(u64, String)> {
    const END: usize = 100;
    let (mut n, mut end, mut buffer) = (0, Vec::new(), vec![0; 1 << 16]);
    loop {
        let n_read = socket.read(&mut buffer)?;
        if n_read == 0 {
            return Ok((n, String::from_utf8_lossy(&end).into_owned()));
        }
        n += n_read as u64;
        end.extend_from_slice(&buffer[..n_read]);
        end.drain(..end.len().saturating_sub(END));
    }
}

async fn watch(port: u16) -> Stream {
    let client = Client::with_window(port, WINDOW_SMALL).await.expect("a server");
    let mut stream = client.open(Method::Watch).await.expect("a watch");
    let RangeRequest { key, range_end, .. } = everything();
    let create = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    stream.send(&request, false).expect("a watch");
    let created: Option<WatchResponse> = stream.next().await.expect("a watch");
    assert!(created.is_some_and(|answer| answer.created));
    stream
}

/// A connection that says hello and no more.
fn greet(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("a connection");
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("a connection"); // Empty settings.
    socket
}
