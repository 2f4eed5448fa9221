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

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
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
/// How long a receiver may take to install nothing but what is on its way: it has only to write it.
const ANSWER_MAX: Duration = Duration::from_secs(60);
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
    let size = first.len() as u64 + size;
    let body = Content::Sized { first: first.freeze(), left: size, pieces: file };
    let mut connection = Connection::open(&remote.url()).await?;
    let request = head::introduce(Request::post("/raft/snapshot"), &shared.config)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(head::RAFT_TO, head::hex(remote.id));
    let answer = connection.send(request, body);
    Ok(timeout(ANSWER_MAX.max(time_for(size)), answer).await??.status())
}

/// Ten megabytes a second are slow, and still in time.
fn time_for(size: u64) -> Duration {
    Duration::from_secs(size / (10 << 20))
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

/// Takes in a snapshot. Returns the message once its file is whole and durable.
pub(super) async fn receive(shared: &Shared, desk: &Desk, body: Incoming) -> io::Result<Message> {
    if desk.busy.swap(true, Ordering::Acquire) {
        return Err(io::Error::new(ErrorKind::ResourceBusy, "another snapshot is on its way"));
    }
    let _seat = Seat(desk);
    let mut body = Pieces { body, rest: Bytes::new() };
    let message = body.message().await?;
    let Body::Snapshot(snapshot) = &message.body else {
        return Err(io::Error::new(ErrorKind::InvalidData, "wrong raft message type"));
    };
    let (disk, dir) = (Arc::clone(&shared.config.disk), shared.config.snapshot_dir.clone());
    let name = path(&dir, snapshot.index.0);
    let partial = dir.join("receiving.tmp");
    let file = {
        let (disk, dir, partial) = (Arc::clone(&disk), dir.clone(), partial.clone());
        blocking(move || {
            disk.create_dir(&dir)?;
            disk.create(&partial)
        })
        .await?
    };
    let written = write(&mut body, Arc::clone(&file)).await;
    blocking(move || match written {
        Ok(()) => keep(&*disk, &*file, &partial, &name, &dir),
        Err(error) => {
            // What is left behind is overwritten by the next one.
            drop(disk.remove(&partial));
            Err(error)
        }
    })
    .await?;
    Ok(message)
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

    async fn message(&mut self) -> io::Result<Message> {
        let malformed = || io::Error::new(ErrorKind::InvalidData, "malformed snapshot message");
        let mut word = self.exactly(WORD).await?;
        let len = usize::try_from(word.get_u64()).map_err(|_| malformed())?;
        if len > MESSAGE_MAX {
            return Err(malformed());
        }
        let bytes = self.exactly(len).await?;
        member::message::decode(bytes).map_err(|_| malformed())
    }

    async fn exactly(&mut self, len: usize) -> io::Result<Bytes> {
        let mut gathered = BytesMut::new();
        while gathered.len() < len {
            let piece = self.next().await?.ok_or(ErrorKind::UnexpectedEof)?;
            gathered.extend_from_slice(&piece);
        }
        self.rest = gathered.split_off(len).freeze();
        Ok(gathered.freeze())
    }
}
