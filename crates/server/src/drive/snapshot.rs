//! Snapshots on their way to whoever saves them: a thread for each.
//!
//! ```text
//! gather, in turns ─► measure ─► bbolt pages ─► messages of 32 KiB ─► channel ─► port ─► caller
//!                                └► SHA-256 ───────────► last message ┘
//! ```
//!
//! The thread is held up by its caller alone: it makes a few messages ahead and waits. Meanwhile the
//! store keeps what the snapshot covers, and nothing else waits.
//!
//! # Invariants
//!
//! - No more than [`SNAPSHOTS_MAX`] at a time, for each keeps a list of all records.
//! - A stream ends well only after its last message: half a snapshot never looks like a whole one.
//! - A caller that is gone ends the thread at its next message.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use proto::error::{Code, Status};
use proto::prost::encoding::{self, WireType};
use sha2::{Digest, Sha256};
use state::{Gathered, Unwritten};
use storage::pace;

use super::chores::Answering;
use crate::api::port::PortWork;
use crate::engine::Engine;
use crate::{log, version};

/// Snapshots under way at a time; more are refused.
const SNAPSHOTS_MAX: usize = 4;
/// Bytes of the file in one message, as etcd sends them.
const BLOB_SIZE: usize = 32 * 1024;
/// Messages a snapshot is ahead of its caller.
const AHEAD_MAX: usize = 16;
/// What a message holds beside its blob, at most.
const MESSAGE_OVERHEAD: usize = 64;

/// What comes out of a snapshot's thread.
#[derive(Debug)]
pub(crate) enum Piece {
    /// An encoded `SnapshotResponse`.
    Message(Bytes),
    /// That was all. Without this the snapshot is not whole.
    End,
}

pub(crate) type Pieces = Receiver<Piece>;

/// Starts a snapshot. The port is told by `PortWork::Ready` when there is more of it.
pub(crate) fn start(engine: &Arc<Engine>, answering: Answering) -> Result<Pieces, Status> {
    let seat = Seat::take(engine)?;
    let (sender, pieces) = sync_channel(AHEAD_MAX);
    let outlet = Outlet { engine: Arc::clone(engine), sender: Some(sender), answering };
    let run = move || run(&seat.0, &outlet);
    let started = thread::Builder::new().name("snapshot".into()).spawn(run);
    started.map_err(|error| refusal(format!("etcdserver: no thread for a snapshot: {error}")))?;
    Ok(pieces)
}

fn refusal(text: String) -> Status {
    Status::new(Code::ResourceExhausted, text)
}

/// One of the [`SNAPSHOTS_MAX`].
struct Seat(Arc<Engine>);

impl Seat {
    fn take(engine: &Arc<Engine>) -> Result<Self, Status> {
        let one_more = |n| (n < SNAPSHOTS_MAX).then_some(n + 1);
        let taken = engine.snapshots.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        match taken {
            Ok(_) => Ok(Self(Arc::clone(engine))),
            Err(n) => Err(refusal(format!("etcdserver: too many snapshots at a time: {n}"))),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.snapshots.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The thread's end of the stream.
struct Outlet {
    engine: Arc<Engine>,
    sender: Option<SyncSender<Piece>>,
    answering: Answering,
}

impl Outlet {
    /// Waits for room, then hands the piece over.
    fn send(&self, piece: Piece) -> io::Result<()> {
        let sender = self.sender.as_ref().expect("open until it is dropped");
        sender.send(piece).map_err(|_| ErrorKind::BrokenPipe)?;
        self.rouse();
        Ok(())
    }

    /// At most one more of these waits in the port's inbox than pieces do in the channel.
    fn rouse(&self) {
        let Answering { port, to } = self.answering;
        self.engine.ports[usize::from(port)].push_admitted([PortWork::Ready { to }]);
    }
}

impl Drop for Outlet {
    /// The port hears of the end however it came about.
    fn drop(&mut self) {
        self.sender = None;
        self.rouse();
    }
}

fn run(engine: &Engine, outlet: &Outlet) {
    pace::step_back();
    let start = Instant::now();
    let Some(gathered) = gather(engine) else { return };
    let snapshot = engine.or_die("store", gathered.measure());
    let file = snapshot.file();
    let size = file.size();
    log::info!(
        engine.logger,
        "sending database snapshot to client",
        "total-bytes" = size,
        "revision" = snapshot.revision(),
        "storage-version" = version::STORAGE
    );
    let mut blobs = Blobs::new(outlet, size);
    let written = file.write(&mut |bytes| blobs.push(bytes));
    let sent = written.and_then(|()| blobs.finish().map_err(Unwritten::Out));
    let took = start.elapsed();
    engine.metrics.backend_snapshot.observe(took);
    match sent {
        Ok(()) => log::info!(
            engine.logger,
            "successfully sent database snapshot to client",
            "total-bytes" = size,
            "took" = took,
            "storage-version" = version::STORAGE
        ),
        Err(Unwritten::Fatal(fatal)) => engine.die(&format!("store: {fatal}")),
        Err(Unwritten::Out(error)) => log::warn!(
            engine.logger,
            "database snapshot was not sent to its end",
            "total-bytes" = size,
            "error" = &error.to_string()
        ),
    }
}

/// `None` when the process ends.
pub(super) fn gather(engine: &Engine) -> Option<Gathered> {
    let mut run = engine.state().snapshot(version::STORAGE);
    while !engine.is_stopping() {
        // The lock is taken anew for each turn: the writer comes in between.
        let turn = engine.state().snapshot_turn(&mut run);
        if turn.is_some() {
            return turn;
        }
        thread::yield_now();
    }
    None
}

/// Cuts the file into messages. Each byte is copied once, into the message it leaves in.
struct Blobs<'a> {
    outlet: &'a Outlet,
    message: BytesMut,
    /// Bytes of the file that no message has room for yet.
    remaining: u64,
    /// Bytes the message in the making still takes.
    room: usize,
    hash: Sha256,
}

impl<'a> Blobs<'a> {
    fn new(outlet: &'a Outlet, size: u64) -> Self {
        let (message, hash) = (BytesMut::new(), Sha256::new());
        let mut blobs = Self { outlet, message, remaining: size, room: 0, hash };
        blobs.begin();
        blobs
    }

    /// How long a blob is, is known before its first byte.
    fn begin(&mut self) {
        let len = self.remaining.min(BLOB_SIZE as u64);
        self.remaining -= len;
        self.room = len as usize;
        self.message = open(self.remaining, self.room);
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.room == 0 {
                return Err(io::Error::new(ErrorKind::InvalidData, "more than was measured"));
            }
            let (now, later) = bytes.split_at(self.room.min(bytes.len()));
            self.message.put_slice(now);
            self.hash.update(now);
            self.room -= now.len();
            bytes = later;
            if self.room == 0 {
                let message = std::mem::take(&mut self.message);
                self.outlet.send(Piece::Message(close(message)))?;
                self.begin();
            }
        }
        Ok(())
    }

    /// Sends the checksum of what was sent, which ends the stream.
    fn finish(self) -> io::Result<()> {
        assert!(self.room == 0 && self.remaining == 0, "the plan counts what it writes");
        let hash = self.hash.finalize();
        let mut message = open(0, hash.len());
        message.put_slice(&hash);
        self.outlet.send(Piece::Message(close(message)))?;
        self.outlet.send(Piece::End)
    }
}

const REMAINING: u32 = 2;
const BLOB: u32 = 3;
const VERSION: u32 = 4;

/// A `SnapshotResponse` up to its blob of `len` bytes; as with etcd it has no header.
fn open(remaining: u64, len: usize) -> BytesMut {
    let mut message = BytesMut::with_capacity(len + MESSAGE_OVERHEAD);
    if remaining > 0 {
        encoding::uint64::encode(REMAINING, &remaining, &mut message);
    }
    encoding::encode_key(BLOB, WireType::LengthDelimited, &mut message);
    encoding::encode_varint(len as u64, &mut message);
    message
}

/// What follows the blob.
fn close(mut message: BytesMut) -> Bytes {
    encoding::encode_key(VERSION, WireType::LengthDelimited, &mut message);
    encoding::encode_varint(version::STORAGE.len() as u64, &mut message);
    message.put_slice(version::STORAGE.as_bytes());
    message.freeze()
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::SnapshotResponse;
    use proto::prost::Message;

    use super::*;

    #[test]
    fn a_message_is_a_snapshot_response_without_header() {
        for remaining in [0, 1 << 40] {
            let mut message = open(remaining, BLOB_SIZE);
            message.put_bytes(7, BLOB_SIZE);
            let whole = SnapshotResponse {
                header: None,
                remaining_bytes: remaining,
                blob: vec![7; BLOB_SIZE].into(),
                version: version::STORAGE.into(),
            };
            let message = close(message);
            assert_eq!(message, whole.encode_to_vec());
            assert!(message.len() <= BLOB_SIZE + MESSAGE_OVERHEAD);
        }
    }
}
