//! Posts: messages one by one, while the other member has not dialled a stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use raft::Message;
use tokio::time::timeout;

use super::Shared;
use super::dial::Connection;
use super::head;
use super::remote::Remote;

/// Posts under way to one member.
pub(super) const WORKERS: usize = 2;
/// How long a post may take.
const POST_MAX: Duration = Duration::from_secs(3);

/// Posts what waits, for ever.
pub(super) async fn work(shared: Arc<Shared>, remote: Arc<Remote>) {
    let mut connection: Option<Connection> = None;
    loop {
        let Some(message) = remote.posts.pop() else {
            remote.posts.arrived().await;
            continue;
        };
        remote.posts.pass_on();
        let posted = timeout(POST_MAX, post(&shared, &remote, &mut connection, &message)).await;
        match posted {
            Ok(Ok(StatusCode::NO_CONTENT)) => {}
            Ok(Ok(status)) => {
                if status == StatusCode::FORBIDDEN {
                    shared.host.removed();
                }
                shared.host.unreachable(remote.id);
            }
            Ok(Err(_)) | Err(_) => {
                if let Some(broken) = connection.take() {
                    remote.blame(&broken.url);
                }
                remote.numbers.sent_failures.inc();
                shared.host.unreachable(remote.id);
            }
        }
    }
}

async fn post(
    shared: &Shared,
    remote: &Remote,
    connection: &mut Option<Connection>,
    message: &Message,
) -> io::Result<StatusCode> {
    if !connection.as_ref().is_some_and(Connection::is_open) {
        *connection = Some(Connection::reach(remote).await?);
    }
    let connection = connection.as_mut().expect("just opened");
    let body = encoded(message);
    remote.numbers.sent_bytes.add(body.len() as u64);
    let request = head::introduce(Request::post("/raft"), &shared.config)
        .header(CONTENT_TYPE, "application/protobuf");
    Ok(connection.ask(request, body).await?.0)
}

fn encoded(message: &Message) -> Bytes {
    let mut body = BytesMut::with_capacity(member::message::encoded_len(message));
    member::message::encode(message, &mut body);
    body.freeze()
}
