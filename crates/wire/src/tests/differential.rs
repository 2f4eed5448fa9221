//! Another implementation as the client: the `h2` crate, over a pipe in memory, with random calls.
//!
//! What `h2` sends is HTTP/2 as somebody else reads the RFC: its own HPACK, windows and order of
//! frames. It refuses what it finds wrong in ours.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{Method, Request};
use stdx::Generator;
use stdx::generate::each_seed_of;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::peer;
use crate::message;
use crate::{Code, Connection, Event, Limits, Status};

const SEEDS: u64 = 48;

/// A call as the client makes it and the answer it must get: every message comes back.
#[derive(Clone, Debug)]
struct Plan {
    path: &'static str,
    messages: Vec<Bytes>,
    /// The size of the pieces the messages are sent in.
    piece: usize,
    /// The client resets the stream instead of reading the answer.
    resets: bool,
}

fn plan(g: &mut Generator) -> Plan {
    let path = *g.pick(&["/t.T/Unary", "/t.T/Unary", "/t.T/Stream", "/t.T/None"]);
    let n = if path == "/t.T/Stream" { g.int(0..=5) } else { 1 };
    let mut messages = Vec::new();
    for _ in 0..n {
        let size_max = *g.pick(&[10, 1000, 100_000]);
        messages.push(Bytes::from(g.bytes(0..size_max)));
    }
    Plan { path, messages, piece: g.int(1..=40_000), resets: g.chance(10) }
}

#[test]
fn another_librarys_client_gets_its_messages_back() {
    each_seed_of(SEEDS, |g| {
        let plans = g.vec(1..25, plan);
        let pipe = g.int(64..=100_000);
        let (window, connection_window) =
            (g.int(1..=100_000) as u32, g.int(65_535..=200_000) as u32);
        let table = *g.pick(&[0, 50, 4096, 65_536]);
        Builder::new_current_thread().build().unwrap().block_on(async {
            let (ours, theirs) = tokio::io::duplex(pipe);
            let server = tokio::spawn(serve(ours));
            let (client, connection) = client::Builder::new()
                .initial_window_size(window)
                .initial_connection_window_size(connection_window)
                .header_table_size(table)
                .handshake::<_, Bytes>(theirs)
                .await
                .unwrap();
            let driver = tokio::spawn(connection);
            let mut calls = JoinSet::new();
            for plan in plans {
                calls.spawn(call(client.clone(), plan));
            }
            while let Some(done) = calls.join_next().await {
                done.unwrap();
            }
            drop(client);
            driver.await.unwrap().unwrap();
            server.await.unwrap();
        });
    });
}

async fn call(client: SendRequest<Bytes>, plan: Plan) {
    let mut client = client.ready().await.unwrap();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://server{}", plan.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("token", "secret")
        .body(())
        .unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    let mut sent = BytesMut::new();
    for message in &plan.messages {
        sent.extend_from_slice(&message::prefix(message.len()));
        sent.extend_from_slice(message);
    }
    let expected = sent.clone().freeze();
    if plan.resets {
        return stream.send_reset(h2::Reason::CANCEL);
    }
    // Sending and receiving at once: the server echoes while we still send.
    let sending = async {
        let mut rest = sent.freeze();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(plan.piece));
            if stream.send_data(piece, false).is_err() {
                return; // The server knew enough.
            }
            tokio::task::yield_now().await;
        }
        let _ = stream.send_data(Bytes::new(), true);
    };
    let receiving = async {
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], "application/grpc");
        let mut received = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
        if plan.path == "/t.T/None" {
            assert_eq!(trailers["grpc-status"], "12");
            assert_eq!(trailers["grpc-message"], "unknown method None for service t.T");
        } else {
            assert_eq!(trailers["grpc-status"], "0");
            assert!(received == expected, "the same messages");
        }
    };
    tokio::join!(sending, receiving);
}

/// An event loop of one connection: echoes what comes.
async fn serve(mut pipe: DuplexStream) {
    let mut connection = peer::connection(Limits { stream_window: 70_000, ..Limits::default() });
    let mut buffer = [0; 10_000];
    loop {
        while let Some(event) = connection.poll() {
            echo(&mut connection, event);
        }
        while connection.wants_write() {
            let mut slices = [IoSlice::new(&[]); 5];
            let n = connection.output(&mut slices);
            let mut first = slices[..n].first().map(|slice| &slice[..]).unwrap_or_default();
            let (mut reader, mut writer) = tokio::io::split(&mut pipe);
            // A pipe that is full must still be read, or both sides wait for ever.
            tokio::select! {
                written = writer.write_buf(&mut first) => match written {
                    Ok(written) => connection.consumed(written),
                    Err(_) => return connection.close(),
                },
                read = reader.read(&mut buffer) => match read {
                    Ok(n) if n > 0 => connection.receive(&buffer[..n]),
                    _ => return connection.close(),
                },
            }
            while let Some(event) = connection.poll() {
                echo(&mut connection, event);
            }
        }
        assert!(!connection.is_closed(), "nothing h2 does is an error");
        match pipe.read(&mut buffer).await {
            Ok(n) if n > 0 => connection.receive(&buffer[..n]),
            _ => return,
        }
    }
}

fn echo(connection: &mut Connection, event: Event) {
    match event {
        Event::Unary { stream, metadata, body, .. } => {
            assert_eq!(metadata.token.as_deref(), Some(&b"secret"[..]));
            if body.len().is_multiple_of(2) {
                connection.reply(stream, |out| out.extend_from_slice(&body));
            } else {
                connection.send_unary(stream, body);
            }
        }
        Event::Message { stream, body } => connection.send_message(stream, body),
        Event::HalfClosed { stream } => connection.finish(stream, &Status::new(Code::Ok, "")),
        Event::Opened { .. }
        | Event::Drained { .. }
        | Event::DeadlineExceeded { .. }
        | Event::Cancelled { .. } => {}
    }
}
