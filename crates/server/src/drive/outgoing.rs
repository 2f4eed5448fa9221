//! Snapshots for members that are too far behind for the log: a thread for each.
//!
//! ```text
//! raft wants one ─► make: gather, measure ─► SnapshotTaken ─► raft ─► ship: its message
//!                      └─────────── the file waits for it ◄──────────────┘
//!                                        └─► transport ─► SnapshotSent
//! ```
//!
//! # Invariants
//!
//! - One snapshot a member at a time, [`SNAPSHOTS_MAX`] in all; one that cannot be made is reported
//!   as not sent, and raft asks again.
//! - No values are held, whatever the size of the store: the file is made as the receiver takes it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use member::Event;
use member::roster;
use raft::{Message, NodeId};
use storage::pace;
use tokio::sync::mpsc;

use super::snapshot::gather;
use crate::engine::Engine;
use crate::log::{self, Value};

/// Snapshots to members under way at a time.
const SNAPSHOTS_MAX: usize = 4;
/// How long a file waits for its message. Raft sends it at once, or has changed its mind.
const MESSAGE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a piece of the file, and pieces made ahead.
const PIECE_SIZE: usize = 64 * 1024;
const AHEAD_MAX: usize = 8;

/// How long the log is kept for a member whose snapshot has been sent; etcd's number.
const LOG_HELD: Duration = Duration::from_secs(30);

/// Snapshots that wait for their message, by the member they are for.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    waiting: Mutex<BTreeMap<u64, SyncSender<Message>>>,
    under_way: AtomicUsize,
    /// When the last one ended.
    ended: Mutex<Option<Instant>>,
}

impl Outgoing {
    /// Whether the log is to be kept whole: a member that installs a snapshot needs what followed it,
    /// or it would need the next snapshot, and so on.
    pub(crate) fn holds_log(&self) -> bool {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.under_way.load(Ordering::SeqCst) > 0
            || ended.is_some_and(|ended| ended.elapsed() < LOG_HELD)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, SyncSender<Message>>> {
        // No step under the lock can stop halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One snapshot under way, however it ends.
struct UnderWay<'a>(&'a Outgoing);

impl<'a> UnderWay<'a> {
    fn begin(outgoing: &'a Outgoing) -> Self {
        outgoing.under_way.fetch_add(1, Ordering::SeqCst);
        Self(outgoing)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes a snapshot of what is applied, for member `to`.
pub(super) fn make(engine: &Arc<Engine>, to: NodeId) {
    let (sender, message) = sync_channel(1);
    {
        let mut waiting = engine.outgoing.lock();
        if waiting.len() >= SNAPSHOTS_MAX || waiting.contains_key(&to.get()) {
            drop(waiting);
            return failed(engine, to);
        }
        waiting.insert(to.get(), sender);
    }
    let own = Arc::clone(engine);
    let run = move || {
        pace::step_back();
        let _under_way = UnderWay::begin(&own.outgoing);
        let sent = run(&own, to, &|| message.recv_timeout(MESSAGE_WAIT).ok());
        own.outgoing.lock().remove(&to.get());
        if sent.is_none() {
            failed(&own, to);
        }
    };
    if thread::Builder::new().name("outgoing".into()).spawn(run).is_err() {
        engine.outgoing.lock().remove(&to.get());
        failed(engine, to);
    }
}

/// Gives raft's message to the file that waits for it.
pub(super) fn ship(engine: &Engine, message: Message) {
    let to = message.to;
    let given = match engine.outgoing.lock().get(&to.get()) {
        Some(sender) => sender.try_send(message).is_ok(),
        None => false,
    };
    if !given {
        failed(engine, to);
    }
}

fn failed(engine: &Engine, node: NodeId) {
    engine.tell_member(Event::SnapshotSent { node, ok: false });
}

/// `None` if the snapshot did not get as far as the transport, which reports of its own.
fn run(engine: &Engine, to: NodeId, message: &dyn Fn() -> Option<Message>) -> Option<()> {
    let gathered = gather(engine)?;
    let snapshot = engine.or_die("store", gathered.measure());
    engine.tell_member(Event::SnapshotTaken { to, snapshot: roster::described(&snapshot) });
    let message = message()?;
    let file = snapshot.file();
    let size = file.size();
    let (index, term) = snapshot.applied();
    log::info!(
        engine.logger,
        "sending database snapshot",
        "snapshot-index" = index,
        "snapshot-term" = term,
        "remote-peer-id" = Value::Id(to.get()),
        "total-bytes" = size
    );
    let (sender, chunks) = mpsc::channel(AHEAD_MAX);
    engine.peers().send_snapshot(message, size, chunks);
    let mut pieces = Pieces { sender, piece: BytesMut::new() };
    let written = file.write(&mut |bytes| pieces.push(bytes));
    let sent = written.and_then(|()| pieces.finish().map_err(state::Unwritten::Out));
    match sent {
        Ok(()) => {}
        Err(state::Unwritten::Fatal(fatal)) => engine.die(&format!("store: {fatal}")),
        Err(state::Unwritten::Out(error)) => log::warn!(
            engine.logger,
            "database snapshot was not sent to its end",
            "remote-peer-id" = Value::Id(to.get()),
            "error" = &error.to_string()
        ),
    }
    Some(())
}

/// Cuts the file into pieces, as fast as they are taken.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl Pieces {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = PIECE_SIZE - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_SIZE {
                self.send()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> io::Result<()> {
        let next = BytesMut::with_capacity(PIECE_SIZE);
        let piece = std::mem::replace(&mut self.piece, next).freeze();
        self.sender.blocking_send(piece).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}
