//! The log thread: one write and one sync for all that waits.
//!
//! It takes the whole inbox, appends everything to the write-ahead log, flushes once, and tells the
//! member thread how far the log is durable. No timer gathers a batch: while one flush runs, the
//! next batch gathers by itself.
//!
//! A failed write or sync ends the process: the disk may have kept any part of it, and a second
//! sync could succeed without the data.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use member::inbox::Waited;
use member::{Event, durable};
use raft::{Entry, HardState, PersistId};
use storage::disk::File;
use storage::wal::{SnapshotMark, Wal};

use crate::engine::Engine;

/// How long the thread sleeps when there is nothing to write.
const IDLE: Duration = Duration::from_secs(1);

/// What the log thread is given, in the order in which it must reach the disk.
#[derive(Debug)]
pub enum LogWork {
    Append {
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
        persist: Option<PersistId>,
    },
    /// The store is about to be durable up to here; `conf_state` is encoded as the record wants it.
    Mark {
        mark: SnapshotMark,
        conf_state: Vec<u8>,
        done: std::sync::mpsc::SyncSender<()>,
    },
    /// The store is durable up to here: segments wholly below are no longer needed. They lose their names,
    /// and whoever waits for them frees their room.
    Release {
        index: u64,
        released: std::sync::mpsc::SyncSender<Vec<Arc<dyn File>>>,
    },
}

pub(crate) fn run(engine: &Arc<Engine>, mut wal: Wal) {
    let inbox = &engine.log;
    let mut work = VecDeque::new();
    loop {
        if inbox.wait(IDLE) == Waited::Closed {
            return;
        }
        inbox.take(&mut work);
        let mut durable = None;
        let mut marked = Vec::new();
        for item in work.drain(..) {
            match item {
                LogWork::Append { entries, hard_state, persist } => {
                    engine.or_die("wal", durable::append(&mut wal, &entries, hard_state));
                    durable = persist.or(durable);
                }
                LogWork::Mark { mark, conf_state, done } => {
                    engine.or_die("wal", wal.mark_snapshot(mark, &conf_state));
                    marked.push(done);
                }
                LogWork::Release { index, released } => {
                    let files = engine.or_die("wal", wal.release(index));
                    let _ = released.try_send(files);
                }
            }
        }
        flush(engine, &mut wal);
        if let Some(persist) = durable {
            engine.tell_member(Event::Persisted(persist));
        }
        for done in marked {
            let _ = done.try_send(());
        }
    }
}

fn flush(engine: &Engine, wal: &mut Wal) {
    let start = Instant::now();
    engine.or_die("wal", wal.write());
    let written = Instant::now();
    engine.metrics.wal_write.observe(written - start);
    engine.or_die("wal", wal.flush());
    engine.metrics.wal_fsync.observe(written.elapsed());
    engine.metrics.wal_write_bytes.set_unsigned(wal.n_bytes_written());
}
