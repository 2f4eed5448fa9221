//! Ends that are asked for.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use proto::Method;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest, WatchResponse};

use crate::support::block_on;
use crate::support::client::{Client, Stream};
use crate::support::process::Home;

/// Within this time a server that is asked to end has ended, whoever is connected. It gives clients a
/// second; the least that waiting for one of these would take is ten.
const AT_ONCE: Duration = Duration::from_secs(8);

#[test]
fn a_signal_ends_it_at_once_whoever_is_connected() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        block_on(ends_by(signal));
    }
}

async fn ends_by(signal: i32) {
    let home = Home::new("end");
    let mut server = home.start(&[]);
    let client = server.ready().await;
    let watch = watch(&client).await;
    let mut lease = client.open(Method::LeaseKeepAlive).await.expect("a stream");
    lease.send(&LeaseKeepAliveRequest { id: 1 }, false).expect("a stream");
    let idle = idle_http2(home.client_port);
    let silent = TcpStream::connect(("127.0.0.1", home.client_port)).expect("a connection");

    for passed_over in [libc::SIGUSR1, libc::SIGUSR2] {
        server.signal(passed_over);
    }
    let asked = Instant::now();
    server.signal(signal);
    let status = server.ended().await;
    let took = asked.elapsed();
    assert_eq!(status.signal(), Some(signal), "a shell says {}", 128 + signal);
    assert!(took < AT_ONCE, "took {took:?}:\n{}", server.log());
    for port in [home.client_port, home.peer_port] {
        TcpListener::bind(("127.0.0.1", port)).expect("a port that is free at once");
    }
    drop((watch, lease, idle, silent));
}

async fn watch(client: &Client) -> Stream {
    let mut watch = client.open(Method::Watch).await.expect("a watch");
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    watch.send(&request, false).expect("a watch");
    let created: WatchResponse = watch.next().await.expect("a watch").expect("a watch");
    assert!(created.created);
    watch
}

/// A connection that said hello once, and never says or reads anything more.
fn idle_http2(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("a connection");
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("a connection"); // Empty settings.
    socket
}
