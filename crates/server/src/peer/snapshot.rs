//! Snapshots between members: raft's message, then the state as one bbolt file.
//!
//! ```text
//! POST /raft/snapshot    u64 length ‖ raftpb.Message ‖ the file, to the end of the body
//! ```
//!
//! # Invariants
//!
//! - A file gets its name only when it is whole and durable; only then does raft hear of it.
//! - The body says how long it is: one that is cut short is never taken for a whole one.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use proto::prost::Message as _;
use proto::raftpb::{self, MessageType};
use raft::{Body, Message};
use storage::disk::{Disk, File};
use storage::pace::{Leisure, PORTION, Pace};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Shared;
use super::dial::Connection;
use super::head;
use super::remote::Remote;
use crate::http::Content;
use crate::log::{self, Value};

/// The longest message before a file; etcd's bound.
const MESSAGE_MAX: usize = 64 << 20;
const WORD: usize = size_of::<u64>();
/// Whoever takes nothing for so long is gone: with the slowest disk, it takes a little all the time.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long a receiver that was given all may take, at least, until all is durable.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Bytes a second, at least, of a receiver that wrote nothing to its disk before it had all.
const SYNC_SPEED: u64 = 5 << 20;
/// Pieces that wait to be written.
const AHEAD_MAX: usize = 4;
/// Rest for each bit of writing, in times of what it took.
const RESTS: u32 = 3;
/// How long a sender may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Where the snapshot up to entry `index` is kept until it is installed.
pub(crate) fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}.snap.db"))
}

/// Sends a snapshot, and tells raft what became of it.
pub(super) async fn send(
    shared: Arc<Shared>,
    remote: Arc<Remote>,
    message: Message,
    size: u64,
    file: mpsc::Receiver<Bytes>,
) {
    let started = Instant::now();
    let numbers = &remote.numbers.snapshots_sent;
    numbers.inflight.add(1);
    let sent = post(&shared, &remote, &message, size, file).await;
    numbers.inflight.add(-1);
    let ok = match sent {
        Ok(StatusCode::NO_CONTENT) => {
            numbers.success.inc();
            numbers.took.observe(started.elapsed());
            true
        }
        Ok(status) => {
            complain(&shared, &remote, &format!("refused with {status}"));
            false
        }
        Err(error) => {
            complain(&shared, &remote, &error.to_string());
            false
        }
    };
    if !ok {
        numbers.failures.inc();
    }
    shared.host.snapshot_sent(remote.id, ok);
}

fn complain(shared: &Shared, remote: &Remote, error: &str) {
    log::warn!(
        shared.config.logger,
        "failed to send database snapshot",
        "remote-peer-id" = Value::Id(remote.id),
        "error" = error
    );
}

async fn post(
    shared: &Shared,
    remote: &Remote,
    message: &Message,
    size: u64,
    file: mpsc::Receiver<Bytes>,
) -> io::Result<StatusCode> {
    let mut first = BytesMut::new();
    first.put_u64(member::message::encoded_len(message) as u64);
    member::message::encode(message, &mut first);
    let left = first.len() as u64 + size;
    // There is the file only once: another URL can be tried for a connection, and not after.
    let mut connection = Connection::reach(remote).await?;
    let request = head::introduce(Request::post("/raft/snapshot"), &shared.config)
        .header(CONTENT_TYPE, "application/octet-stream");
    let (taken, pieces) = mpsc::channel(1);
    let body = Content::Sized { first: first.freeze(), left, pieces };
    let status = {
        let mut answer = pin!(connection.send(request, body));
        tokio::select! {
            early = &mut answer => early.map(|answer| answer.status()),
            given = give(file, taken) => match given {
                Ok(()) => answered(answer, time_for(size)).await,
                Err(error) => Err(error),
            },
        }
    };
    if status.is_err() {
        remote.blame(&connection.url);
    }
    status
}

async fn answered(
    answer: impl Future<Output = io::Result<Response<Incoming>>>,
    patience: Duration,
) -> io::Result<StatusCode> {
    Ok(timeout(patience, answer).await??.status())
}

/// Gives the file to a receiver as fast as that takes it. The whole may take hours; how long nothing is
/// taken tells whether there is anybody.
async fn give(mut file: mpsc::Receiver<Bytes>, taken: mpsc::Sender<Bytes>) -> io::Result<()> {
    while let Some(piece) = file.recv().await {
        if timeout(STALL_MAX, taken.send(piece)).await?.is_err() {
            break; // The connection has ended, and says how.
        }
    }
    Ok(())
}

fn time_for(size: u64) -> Duration {
    ANSWER_MAX.max(Duration::from_secs(size / SYNC_SPEED))
}

/// Receives one snapshot at a time.
#[derive(Debug, Default)]
pub(super) struct Desk {
    busy: AtomicBool,
}

/// Frees the desk, whatever happened.
struct Seat<'a>(&'a Desk);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Why a snapshot was not taken in; in etcd's words, as far as it has any.
pub(super) enum Refusal {
    Undecodable(Cow<'static, str>),
    NoSnapshot,
    ForAnother,
    Unsaved(io::Error),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Undecodable(_) | Self::NoSnapshot => StatusCode::BAD_REQUEST,
            Self::ForAnother | Self::Unsaved(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => write!(f, "failed to decode raft message ({why})"),
            Self::NoSnapshot => f.write_str("wrong raft message type"),
            Self::ForAnother => f.write_str(
                "failed to process raft message (cannot process message to mismatch member)",
            ),
            Self::Unsaved(why) => write!(f, "failed to save KV snapshot ({why})"),
        }
    }
}

/// Takes in a snapshot. Returns the message once its file is whole and durable.
pub(super) async fn receive(
    shared: &Shared,
    desk: &Desk,
    body: Incoming,
) -> Result<Message, Refusal> {
    if desk.busy.swap(true, Ordering::Acquire) {
        let busy = io::Error::new(ErrorKind::ResourceBusy, "another snapshot is on its way");
        return Err(Refusal::Unsaved(busy));
    }
    let _seat = Seat(desk);
    let mut body = Pieces { body, rest: Bytes::new() };
    let said = body.message().await?;
    if said.r#type() != MessageType::MsgSnap {
        return Err(Refusal::NoSnapshot);
    }
    if said.to() != shared.config.member_id {
        return Err(Refusal::ForAnother);
    }
    let malformed = |_| Refusal::Undecodable("malformed snapshot".into());
    let message = member::message::from_wire(said).map_err(malformed)?;
    let Body::Snapshot(snapshot) = &message.body else { return Err(Refusal::NoSnapshot) };
    save(shared, snapshot.index.0, &mut body).await.map_err(Refusal::Unsaved)?;
    Ok(message)
}

async fn save(shared: &Shared, index: u64, body: &mut Pieces) -> io::Result<()> {
    let (disk, dir) = (Arc::clone(&shared.config.disk), shared.config.snapshot_dir.clone());
    let name = path(&dir, index);
    let partial = dir.join("receiving.tmp");
    let file = {
        let (disk, dir, partial) = (Arc::clone(&disk), dir.clone(), partial.clone());
        blocking(move || {
            disk.create_dir(&dir)?;
            disk.create(&partial)
        })
        .await?
    };
    let written = write(body, Arc::clone(&file)).await;
    blocking(move || match written {
        Ok(()) => keep(&*disk, &*file, &partial, &name, &dir),
        Err(error) => {
            // What is left behind is overwritten by the next one.
            drop(disk.remove(&partial));
            Err(error)
        }
    })
    .await
}

/// One thread writes what comes. It rests as it must, and the sender has to wait: other processes may
/// share the disk, and syncs of theirs would wait for a flood of writes.
async fn write(body: &mut Pieces, file: Arc<dyn File>) -> io::Result<()> {
    let (pieces, mut arriving) = mpsc::channel::<Bytes>(AHEAD_MAX);
    let writer = blocking(move || {
        let mut leisure = Leisure::new(RESTS, || false);
        let (mut offset, mut written_out) = (0, 0);
        while let Some(piece) = arriving.blocking_recv() {
            leisure.begin();
            file.write_at(offset, &piece)?;
            offset += piece.len() as u64;
            if offset - written_out >= PORTION {
                file.write_out(written_out, offset - written_out)?;
                written_out = offset;
                leisure.rest();
            }
        }
        Ok(())
    });
    let reader = async move {
        while let Some(piece) = body.next().await? {
            if pieces.send(piece).await.is_err() {
                break; // The writer has failed, and says why.
            }
        }
        Ok(())
    };
    let (read, written) = tokio::join!(reader, writer);
    written.and(read)
}

fn keep(
    disk: &dyn Disk,
    file: &dyn File,
    partial: &Path,
    name: &Path,
    dir: &Path,
) -> io::Result<()> {
    file.sync()?;
    disk.rename(partial, name)?;
    disk.sync_dir(dir)
}

/// Disks may take long, and raft's messages must not wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The body as it comes.
struct Pieces {
    body: Incoming,
    rest: Bytes,
}

impl Pieces {
    /// The next bytes; `None` at the end, if it is where it was said to be.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            let Some(frame) = timeout(SILENCE_MAX, self.body.frame()).await? else {
                return Ok(None);
            };
            if let Ok(bytes) = frame.map_err(io::Error::other)?.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
    }

    async fn message(&mut self) -> Result<raftpb::Message, Refusal> {
        let refuse = |why: &'static str| Refusal::Undecodable(why.into());
        let mut word = self.exactly(WORD).await?;
        let len = usize::try_from(word.get_u64()).unwrap_or(usize::MAX);
        if len > MESSAGE_MAX {
            return Err(refuse("rafthttp: error limit exceeded"));
        }
        let bytes = self.exactly(len).await?;
        let decoded = raftpb::Message::decode(bytes);
        decoded.map_err(|_| refuse("proto: cannot parse invalid wire-format data"))
    }

    /// The next `len` bytes, or in Go's words why there are none.
    async fn exactly(&mut self, len: usize) -> Result<Bytes, Refusal> {
        let mut gathered = BytesMut::new();
        while gathered.len() < len {
            match self.next().await {
                Ok(Some(piece)) => gathered.extend_from_slice(&piece),
                Ok(None) if gathered.is_empty() => return Err(Refusal::Undecodable("EOF".into())),
                Ok(None) => return Err(Refusal::Undecodable("unexpected EOF".into())),
                Err(error) => return Err(Refusal::Undecodable(error.to_string().into())),
            }
        }
        self.rest = gathered.split_off(len).freeze();
        Ok(gathered.freeze())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PIECES: u32 = 100;

    fn file() -> mpsc::Receiver<Bytes> {
        let (sender, file) = mpsc::channel(PIECES as usize);
        (0..PIECES).for_each(|_| sender.try_send(Bytes::from_static(b"piece")).expect("room"));
        file
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_may_take_as_long_as_it_likes_if_it_goes_on() {
        let (taken, mut pieces) = mpsc::channel(1);
        let take = async {
            let mut n = 0;
            while pieces.recv().await.is_some() {
                n += 1;
                sleep(STALL_MAX - Duration::from_secs(1)).await;
            }
            n
        };
        let (given, n) = tokio::join!(give(file(), taken), take);
        given.expect("a receiver to the end");
        assert_eq!(n, PIECES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_takes_nothing_any_more_is_given_up() {
        let (taken, _pieces) = mpsc::channel(1);
        let given = give(file(), taken).await;
        assert_eq!(given.expect_err("nobody there").kind(), ErrorKind::TimedOut);
    }
}
