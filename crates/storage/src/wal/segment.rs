//! Segments as files: their names, and the next one, prepared in zeros.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use crate::disk::{Disk, File, Lock};
use crate::pace::{self, Leisure, Pace, Portions};

/// What a segment's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) sequence: u64,
    /// The entry that was to be written first when the segment was begun.
    pub(super) index: u64,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sequence, index) = text.strip_suffix(".wal")?.split_once('-')?;
        Some(Self { sequence: hex(sequence)?, index: hex(index)? })
    }

    pub(super) fn file(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}.wal", self.sequence, self.index))
    }
}

/// A number as a name spells it: sixteen small digits and no sign.
fn hex(text: &str) -> Option<u64> {
    let is_plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| is_plain)
}

/// A segment of the log, locked if it was opened.
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) _lock: Option<Box<dyn Lock>>,
}

/// The segments in `dir`, oldest first. Other names are none of ours.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Name>> {
    let mut names: Vec<Name> = disk.list(dir)?.iter().filter_map(|n| Name::parse(n)).collect();
    names.sort();
    Ok(names)
}

/// Where reading on from `index` begins: the newest segment that starts at or before it.
pub(super) fn position_for(
    names: impl DoubleEndedIterator<Item = Name>,
    index: u64,
) -> Option<usize> {
    let starts: Vec<u64> = names.map(|name| name.index).collect();
    starts.iter().rposition(|start| *start <= index)
}

/// Whether no segment is missing between the first and the last.
pub(super) fn is_continuous(names: &[Name]) -> bool {
    names.windows(2).all(|pair| pair[0].sequence.checked_add(1) == Some(pair[1].sequence))
}

/// A file of zeros, waiting to become a segment.
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
}

/// Where prepared segments come from.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_size: u64,
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// How long the thread that makes segments rests, in times of what its work took.
const RESTS: u32 = 3;

impl Workshop {
    /// A file of the right length, whose zeros are not there until they are written over.
    pub(super) fn sparse(&self) -> io::Result<Prepared> {
        let path = self.dir.join("0.tmp");
        let file = self.disk.create(&path)?;
        file.set_len(self.segment_size)?;
        Ok(Prepared { path, file })
    }

    /// Makes the `n`-th prepared file, unless told to stop. Two names take turns: one may not have
    /// been given its final name yet while the next is made.
    pub(super) fn prepare(
        &self,
        n: u64,
        orders: &Orders,
        pace: &mut dyn Pace,
    ) -> io::Result<Prepared> {
        let path = self.dir.join(format!("{}.tmp", n % 2));
        let file = self.disk.create(&path)?;
        let mut portions = Portions::new(pace);
        let mut done = 0;
        while done < self.segment_size && !orders.stop.load(Ordering::Relaxed) {
            let part = ZEROS.len().min((self.segment_size - done) as usize);
            file.write_at(done, &ZEROS[..part])?;
            let end = done + part as u64;
            orders.done.store(end, Ordering::Relaxed);
            portions.wrote(done, end, &*file)?;
            done = end;
        }
        file.sync()?;
        Ok(Prepared { path, file })
    }
}

/// A thread that makes the next segment.
pub(super) struct Pipeline {
    ready: Receiver<io::Result<Prepared>>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    pub(super) fn start(workshop: Workshop, n: u64) -> io::Result<Self> {
        let (give, ready) = mpsc::sync_channel(1);
        let orders = Arc::new(Orders::default());
        let told = Arc::clone(&orders);
        let thread = thread::Builder::new().name("wal-prepare".to_owned()).spawn(move || {
            pace::step_back();
            make(&workshop, n, &give, &told);
        })?;
        Ok(Self { ready, orders, thread: Some(thread) })
    }

    /// So many bytes of the segment should be there by now.
    pub(super) fn need(&self, bytes: u64) {
        self.orders.needed.store(bytes, Ordering::Relaxed);
    }

    /// The segment, waiting for it if need be; `None` if the thread has given up.
    pub(super) fn take(&self) -> Option<io::Result<Prepared>> {
        self.need(u64::MAX);
        self.wake();
        self.ready.recv().ok()
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by its own thread.
            drop(thread.join());
        }
    }
}

/// What the thread is told meanwhile.
#[derive(Default)]
pub(super) struct Orders {
    /// Nobody needs the segment any more.
    stop: AtomicBool,
    /// Bytes that should be there by now: the thread takes its time while it is ahead of that.
    needed: AtomicU64,
    /// Bytes that are there.
    done: AtomicU64,
}

impl Orders {
    fn is_behind(&self) -> bool {
        self.done.load(Ordering::Relaxed) < self.needed.load(Ordering::Relaxed)
    }
}

fn make(workshop: &Workshop, n: u64, give: &SyncSender<io::Result<Prepared>>, orders: &Orders) {
    let is_hurried = || orders.stop.load(Ordering::Relaxed) || orders.is_behind();
    let mut leisure = Leisure::new(RESTS, is_hurried);
    // One that nobody takes is left behind: it costs space until the next start, nothing else.
    let _ = give.send(workshop.prepare(n, orders, &mut leisure));
}
