//! Streams: appends, and everything else, as they are said.
//!
//! Whoever receives dials. A stream that is silent for too long is given up, for the other end says
//! now and then that the link lives; and a stream that ends is dialled anew.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use raft::{Body, NodeId};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::dial::Connection;
use super::frame::{Decoder, Encoder, Kind};
use super::head;
use super::remote::Remote;
use crate::http::Content;
use crate::log::{self, Value};

/// Between two tries to dial.
const REDIAL: Duration = Duration::from_millis(100);
/// A link says that it lives three times in the time after which it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const LINK: Duration = Duration::from_millis(1666);
/// How long the remote has to answer that it will stream.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Batches a writer is ahead of its socket: while one is written, the next gathers in the queue.
const AHEAD_MAX: usize = 2;
/// Bytes of a batch, at least, after which it is sent before more is encoded.
const BATCH_SIZE: usize = 256 * 1024;

/// Why a stream could not be had, or ended.
enum Trouble {
    Io(io::Error),
    Refused(StatusCode),
    Silent,
    Malformed,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(status) => write!(f, "refused with {status}"),
            Self::Silent => f.write_str("silent for too long"),
            Self::Malformed => f.write_str("what came was no message"),
        }
    }
}

/// Dials a stream of the remote's and hands on what comes, for ever.
pub(super) async fn listen(shared: Arc<Shared>, remote: Arc<Remote>, kind: Kind) {
    let mut said = false;
    loop {
        let mut heard = false;
        let Err(trouble) = read(&shared, &remote, kind, &mut heard).await;
        if heard {
            said = false;
        }
        if matches!(trouble, Trouble::Refused(StatusCode::GONE)) {
            shared.host.removed();
        }
        if !said {
            said = true;
            log::info!(
                shared.config.logger,
                "stream to a peer is down",
                "stream" = kind.path(),
                "remote-peer-id" = Value::Id(remote.id),
                "error" = &trouble.to_string()
            );
        }
        sleep(REDIAL).await;
    }
}

/// Counts a stream as live for as long as it exists.
struct Live<'a>(&'a Remote);

impl<'a> Live<'a> {
    fn new(remote: &'a Remote) -> Self {
        remote.begin_live();
        Self(remote)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.end_live();
    }
}

async fn read(
    shared: &Shared,
    remote: &Remote,
    kind: Kind,
    heard: &mut bool,
) -> Result<std::convert::Infallible, Trouble> {
    let mut connection = Connection::reach(remote).await?;
    let ended = read_from(&mut connection, shared, remote, kind, heard).await;
    remote.blame(&connection.url);
    ended
}

async fn read_from(
    connection: &mut Connection,
    shared: &Shared,
    remote: &Remote,
    kind: Kind,
    heard: &mut bool,
) -> Result<std::convert::Infallible, Trouble> {
    let config = &shared.config;
    let path = format!("/raft/stream/{}/{:x}", kind.path(), config.member_id);
    let request =
        head::introduce(Request::get(path), config).header(head::RAFT_TO, head::hex(remote.id));
    let answer = timeout(ANSWER_MAX, connection.send(request, Content::Whole(Bytes::new())));
    let answer = answer.await.map_err(|_| Trouble::Silent)??;
    if answer.status() != StatusCode::OK {
        return Err(Trouble::Refused(answer.status()));
    }
    *heard = true;
    let _live = Live::new(remote);
    log::info!(
        config.logger,
        "established TCP streaming connection with remote peer",
        "stream-reader-type" = kind.path(),
        "local-member-id" = Value::Id(config.member_id),
        "remote-peer-id" = Value::Id(remote.id)
    );
    let id = |id| NodeId::new(id).ok_or(Trouble::Malformed);
    let mut decoder = Decoder::new(kind, id(remote.id)?, id(config.member_id)?);
    let mut body = answer.into_body();
    let mut messages = Vec::new();
    loop {
        let frame = timeout(SILENCE_MAX, body.frame()).await.map_err(|_| Trouble::Silent)?;
        let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() else { continue };
        remote.numbers.received_bytes.add(bytes.len() as u64);
        let decoded = decoder.receive(&bytes, &mut messages);
        // Without its file a snapshot means nothing, and files do not come this way.
        messages.retain(|message| !matches!(message.body, Body::Snapshot(_)));
        if !messages.is_empty() {
            shared.host.receive(&mut messages);
            messages.clear();
        }
        decoded.map_err(|_| Trouble::Malformed)?;
    }
}

/// Feeds a stream that the remote has dialled; the body is what to answer with.
pub(super) fn feed(shared: &Arc<Shared>, remote: &Arc<Remote>, kind: Kind) -> Receiver<Bytes> {
    let (sender, body) = mpsc::channel(AHEAD_MAX);
    let (own, to) = (Arc::clone(shared), Arc::clone(remote));
    let writer = tokio::spawn(async move {
        write(&to, kind, &sender).await;
        to.detach(kind, tokio::task::id());
        // What was on its way may be lost.
        own.host.unreachable(to.id);
    });
    remote.attach(kind, writer.abort_handle());
    body
}

/// Writes what is in the queue until the remote is gone.
async fn write(remote: &Remote, kind: Kind, body: &Sender<Bytes>) {
    let mut encoder = Encoder::new(kind);
    let mut messages = VecDeque::new();
    let mut out = BytesMut::new();
    encoder.link(&mut out); // Says at once that the stream is there.
    loop {
        remote.outbox(kind).take(&mut messages);
        if messages.is_empty() && out.is_empty() {
            tokio::select! {
                () = remote.outbox(kind).arrived() => continue,
                () = sleep(LINK) => encoder.link(&mut out),
                () = body.closed() => return,
            }
        }
        while let Some(message) = messages.pop_front() {
            encoder.encode(&message, &mut out);
            if out.len() >= BATCH_SIZE && !send(remote, body, &mut out).await {
                return;
            }
        }
        if !out.is_empty() && !send(remote, body, &mut out).await {
            return;
        }
    }
}

/// Hands a batch to the socket; false if there is none any more.
async fn send(remote: &Remote, body: &Sender<Bytes>, out: &mut BytesMut) -> bool {
    let batch = out.split().freeze();
    remote.numbers.sent_bytes.add(batch.len() as u64);
    let sent = timeout(SILENCE_MAX, body.send(batch)).await;
    sent.is_ok_and(|sent| sent.is_ok())
}
