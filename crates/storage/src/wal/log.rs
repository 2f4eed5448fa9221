//! The log itself: an encoder, the segment it writes to, and the folder around them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open::{self, End, io_of};
use super::record::Encoder;
use super::replay::Replay;
use super::segment::{self, Name, Orders, Pipeline, Prepared, Segment, Workshop};
use super::{EntryRef, HardState, OpenError, Position, Recovered, Settings, SnapshotMark};
use crate::disk::{Disk, File};
use crate::pace::Hurry;

/// Past this many bytes `append` writes without waiting for `flush`.
const BUFFER_MAX: usize = 4 << 20;

/// The next segment is prepared when so many eighths of the last are full: until then it would only
/// cost space.
const PREPARE_FROM: u64 = 4;
/// And is ready when so many are.
const PREPARED_AT: u64 = 7;

/// A buffer that had to grow beyond this is given back.
const BUFFER_KEPT_MAX: usize = 1 << 20;

/// A write-ahead log, open for appending. It has one owner.
pub struct Wal {
    workshop: Workshop,
    metadata: Vec<u8>,
    hard_state: HardState,
    last_index: u64,
    /// Oldest first; the last is the tail. Those before the mark the log was opened at are not
    /// locked.
    segments: VecDeque<Segment>,
    tail: Arc<dyn File>,
    /// Where the next write goes.
    offset: u64,
    encoder: Encoder,
    /// Whether something was appended since the last sync that must not be lost. A commit index
    /// alone may be: it is found out again.
    must_sync: bool,
    /// The newest mark above the commit index. It counts for nothing until the index reaches it, so
    /// that index must not be lost.
    uncommitted_mark: u64,
    next: Option<Prepared>,
    /// Whether a thread of the log's own prepares segments, and the one at work.
    background: bool,
    pipeline: Option<Pipeline>,
    n_prepared: u64,
    /// Bytes of records, since this log was opened.
    written: u64,
    failed: bool,
}

impl Wal {
    /// Makes a log that holds nothing but `metadata`, in `dir`, which is made if it isn't there.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is a log in it.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, metadata: &[u8]) -> io::Result<Self> {
        Self::create_with(disk, dir, metadata, Settings::default())
    }

    pub fn create_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: &[u8],
        settings: Settings,
    ) -> io::Result<Self> {
        disk.create_dir(dir)?;
        if !segment::list(&*disk, dir)?.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let workshop = Workshop { disk, dir: dir.to_owned(), segment_size: settings.segment_size };
        // Not filled with zeros: the first start shall not wait for that.
        let first = workshop.sparse()?;
        let mut wal = Self {
            workshop,
            metadata: metadata.to_vec(),
            hard_state: HardState::default(),
            last_index: 0,
            segments: VecDeque::new(),
            tail: Arc::clone(&first.file),
            offset: 0,
            encoder: Encoder::new(0),
            must_sync: false,
            uncommitted_mark: 0,
            next: None,
            background: false,
            pipeline: None,
            n_prepared: 1,
            written: 0,
            failed: false,
        };
        wal.encoder.head(metadata, HardState::default());
        wal.encoder.snapshot(SnapshotMark::default(), &[]);
        wal.begin_segment(&first, Name { sequence: 0, index: 0 })?;
        Ok(wal)
    }

    /// Opens the log in `dir` and reads what follows the snapshot `after`, which it must have been
    /// told of. A write that a crash cut short is cut off; then the log can be appended to.
    ///
    /// # Errors
    ///
    /// `SnapshotNeeded`, before anything is changed, if a leader's snapshot came after the mark: the log
    /// has no entries that lead to it, and must be opened after that one.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        after: SnapshotMark,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(disk, dir, after, Settings::default())
    }

    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        after: SnapshotMark,
        settings: Settings,
    ) -> Result<(Self, Recovered), OpenError> {
        let (older, needed) = open::select(&*disk, dir, after)?;
        let locked = open::lock(&*disk, dir, &needed)?;
        let mut replay = Replay::new(after);
        let end = open::walk(&*disk, dir, &needed, &mut replay)?;
        check(&mut replay, dir, after)?;

        let tail_path = needed.last().expect("a log has a segment").file(dir);
        let tail = mend(&*disk, dir, &tail_path, &end)?;
        let older = older.into_iter().map(|name| Segment { name, _lock: None });
        let torn = end.torn.then_some(Position { file: tail_path, offset: end.offset });
        let mut wal = Self {
            workshop: Workshop { disk, dir: dir.to_owned(), segment_size: settings.segment_size },
            metadata: Vec::new(),
            hard_state: replay.hard_state,
            last_index: replay.last_index,
            segments: older.chain(locked).collect(),
            tail,
            offset: end.offset,
            encoder: Encoder::new(end.crc),
            must_sync: false,
            uncommitted_mark: 0,
            next: None,
            background: false,
            pipeline: None,
            n_prepared: 0,
            written: 0,
            failed: false,
        };
        let last_snapshot = replay.valid_marks().max().unwrap_or(after).max(after);
        let Replay { metadata, hard_state, entries, .. } = replay;
        let metadata = metadata.expect("every segment has a head");
        wal.metadata.clone_from(&metadata);
        Ok((wal, Recovered { metadata, hard_state, entries, last_snapshot, torn }))
    }

    /// The snapshots the log in `dir` knows of and that were committed, oldest first: what it can
    /// be opened after. Nothing is changed, or locked.
    pub fn marks(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapshotMark>, OpenError> {
        let (older, last) = open::select(disk, dir, SnapshotMark { index: u64::MAX, term: 0 })?;
        // Removed segments may leave a gap behind when a crash undoes some of the removals.
        let mut names = [older, last].concat();
        while !segment::is_continuous(&names) {
            names.remove(0);
        }
        let mut replay = Replay::new(SnapshotMark { index: u64::MAX - 1, term: 0 });
        open::walk(disk, dir, &names, &mut replay)?;
        // A mark whose commit index was lost in a crash may come before lower ones.
        let mut marks: Vec<SnapshotMark> = replay.valid_marks().collect();
        marks.sort();
        marks.dedup();
        Ok(marks)
    }

    /// Takes entries, and then the hard state if it has changed. They are durable after `flush`.
    ///
    /// # Errors
    ///
    /// Those of the disk, for a batch so large that it is written ahead of `flush`.
    pub fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = EntryRef<'a>>,
        hard_state: Option<HardState>,
    ) -> io::Result<()> {
        self.ready()?;
        for entry in entries {
            assert!(entry.kind <= 2 && entry.term > 0 && entry.index > 0, "no entry: {entry:?}");
            self.encoder.entry(entry);
            self.last_index = entry.index;
            self.must_sync = true;
            if self.encoder.buffer.len() >= BUFFER_MAX {
                self.guarded(Self::write_buffer)?;
            }
        }
        if let Some(state) = hard_state.filter(|state| *state != HardState::default()) {
            assert!(state.term >= self.hard_state.term && state.term > 0, "terms never fall");
            self.must_sync |=
                (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote);
            if self.uncommitted_mark > 0 && state.commit >= self.uncommitted_mark {
                self.must_sync = true;
                self.uncommitted_mark = 0;
            }
            self.encoder.hard_state(state);
            self.hard_state = state;
        }
        Ok(())
    }

    /// Notes that a snapshot of the state at `mark` is kept; `conf_state` is its
    /// `raftpb.ConfState`. Durable after `flush`. The snapshot itself must be durable already.
    ///
    /// It may be one from the leader, that the entries don't lead to: the log then goes on behind it. A
    /// hard state that has it committed belongs into the same `flush`.
    pub fn mark_snapshot(&mut self, mark: SnapshotMark, conf_state: &[u8]) -> io::Result<()> {
        self.ready()?;
        self.encoder.snapshot(mark, conf_state);
        self.last_index = self.last_index.max(mark.index);
        self.must_sync = true;
        if mark.index > self.hard_state.commit {
            self.uncommitted_mark = self.uncommitted_mark.max(mark.index);
        }
        Ok(())
    }

    /// Writes all that was taken, which only [`flush`](Self::flush) makes durable.
    ///
    /// # Errors
    ///
    /// As for `flush`.
    pub fn write(&mut self) -> io::Result<()> {
        self.guarded(Self::write_buffer)
    }

    /// Makes all that was taken durable: one write, one sync. A mere commit index is written, not
    /// synced, unless it is what makes a mark count.
    ///
    /// # Errors
    ///
    /// Those of the disk. Nothing taken since the last `flush` may then be acknowledged, and the
    /// log is done for.
    pub fn flush(&mut self) -> io::Result<()> {
        self.guarded(|wal| {
            wal.write_buffer()?;
            if wal.offset >= wal.workshop.segment_size {
                return wal.cut();
            }
            wal.prepare_ahead()?;
            if wal.must_sync {
                wal.must_sync = false;
                wal.tail.sync()
            } else {
                Ok(())
            }
        })
    }

    /// Removes the segments that nobody needs who starts after a mark at `upto` or a later one. They are
    /// returned, without their names: their room is free when they are dropped, or by `pace::free`.
    pub fn release(&mut self, upto: u64) -> io::Result<Vec<Arc<dyn File>>> {
        let names = self.segments.iter().map(|segment| segment.name);
        let n_removed = segment::position_for(names, upto).unwrap_or(0);
        let Workshop { disk, dir, .. } = &self.workshop;
        let released = self.segments.drain(..n_removed).map(|segment| {
            let path = segment.name.file(dir);
            let file = disk.open(&path)?;
            disk.remove(&path)?;
            Ok(file)
        });
        released.collect()
    }

    /// Prepares the next segment now, unless it is ready: what a caller without threads does at
    /// leisure.
    pub fn prepare_next(&mut self) -> io::Result<()> {
        if self.next.is_none() && self.pipeline.is_none() {
            self.next = Some(self.prepare()?);
        }
        Ok(())
    }

    /// From now on a thread of the log's own prepares each next segment, once the last has filled up
    /// a little: a log that has just been opened has its disk to itself.
    pub fn prepare_in_background(&mut self) {
        self.background = true;
    }

    fn prepare_ahead(&mut self) -> io::Result<()> {
        let from = self.workshop.segment_size / 8 * PREPARE_FROM;
        if !self.background || self.offset < from || self.next.is_some() {
            return Ok(());
        }
        if self.pipeline.is_none() {
            self.pipeline = Some(Pipeline::start(self.workshop.clone(), self.n_prepared)?);
            self.n_prepared += 1;
        }
        if let Some(pipeline) = &self.pipeline {
            pipeline.need((self.offset - from) * 8 / (PREPARED_AT - PREPARE_FROM));
        }
        Ok(())
    }

    /// The index of the entry appended last, or of a snapshot marked since if that is higher.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Bytes of records written since the log was opened.
    pub fn n_bytes_written(&self) -> u64 {
        self.written
    }

    /// How many segments there are.
    pub fn n_segments(&self) -> usize {
        self.segments.len()
    }

    fn ready(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("wal: a write or sync failed before"));
        }
        Ok(())
    }

    /// Runs `work`, unless some failed before; if it fails, it was the last.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.ready()?;
        self.failed = true;
        work(self)?;
        self.failed = false;
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let buffer = &mut self.encoder.buffer;
        if !buffer.is_empty() {
            self.tail.write_at(self.offset, buffer)?;
            self.offset += buffer.len() as u64;
            self.written += buffer.len() as u64;
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_MAX);
        }
        Ok(())
    }

    /// Ends the segment, and goes on in the next one.
    fn cut(&mut self) -> io::Result<()> {
        self.tail.set_len(self.offset)?;
        self.tail.sync()?;
        self.must_sync = false;
        let next = self.take_prepared()?;
        let newest = self.segments.back().expect("a log has a segment").name;
        self.encoder.head(&self.metadata, self.hard_state);
        self.begin_segment(
            &next,
            Name { sequence: newest.sequence + 1, index: self.last_index + 1 },
        )
    }

    /// Writes what is encoded as the head of `prepared`, and gives it its name.
    fn begin_segment(&mut self, prepared: &Prepared, name: Name) -> io::Result<()> {
        let Workshop { disk, dir, .. } = &self.workshop;
        self.tail = Arc::clone(&prepared.file);
        self.tail.write_at(0, &self.encoder.buffer)?;
        self.tail.sync()?;
        disk.rename(&prepared.path, &name.file(dir))?;
        disk.sync_dir(dir)?;
        let lock = Some(disk.lock(&name.file(dir))?);
        self.offset = self.encoder.buffer.len() as u64;
        self.encoder.buffer.clear();
        self.segments.push_back(Segment { name, _lock: lock });
        Ok(())
    }

    fn take_prepared(&mut self) -> io::Result<Prepared> {
        if let Some(prepared) = self.next.take() {
            return Ok(prepared);
        }
        match self.pipeline.take().and_then(|pipeline| pipeline.take()) {
            Some(Ok(prepared)) => Ok(prepared),
            // Its thread came to nothing. Perhaps there is room by now; if not, this says so.
            Some(Err(_)) | None => self.prepare(),
        }
    }

    fn prepare(&mut self) -> io::Result<Prepared> {
        let prepared = self.workshop.prepare(self.n_prepared, &Orders::default(), &mut Hurry)?;
        self.n_prepared += 1;
        Ok(prepared)
    }
}

/// What only the whole log can tell.
fn check(replay: &mut Replay, dir: &Path, after: SnapshotMark) -> Result<(), OpenError> {
    if !replay.has_mark {
        return Err(OpenError::MarkMissing { dir: dir.to_owned(), after });
    }
    if let Some(mark) = replay.settle() {
        return Err(OpenError::SnapshotNeeded { dir: dir.to_owned(), mark });
    }
    let (last, commit) = (replay.end(), replay.hard_state.commit);
    if commit > last {
        return Err(OpenError::Lost { dir: dir.to_owned(), last, commit });
    }
    Ok(())
}

/// Makes the tail end in zeros, and all that was found durable: it may have been read from memory
/// that the last process wrote and never synced.
fn mend(
    disk: &dyn Disk,
    dir: &Path,
    tail_path: &Path,
    end: &End,
) -> Result<Arc<dyn File>, OpenError> {
    let tail = disk.open(tail_path).map_err(io_of(tail_path))?;
    if let Some(dirt_end) = end.dirt_end {
        let zeros = vec![0; (dirt_end - end.offset) as usize];
        tail.write_at(end.offset, &zeros).map_err(io_of(tail_path))?;
    }
    tail.sync().map_err(io_of(tail_path))?;
    for name in disk.list(dir).map_err(io_of(dir))? {
        if name.ends_with(".tmp") {
            let file: PathBuf = dir.join(name);
            disk.remove(&file).map_err(io_of(&file))?;
        }
    }
    disk.sync_dir(dir).map_err(io_of(dir))?;
    Ok(tail)
}
