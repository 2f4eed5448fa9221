//! A segment: a file of records, written at its end and read anywhere.
//!
//! ```text
//! 0          8         12       16       20     24
//! ┌──────────┬─────────┬────────┬────────┬──────┬──────────────────┬──────────────┬─────┐
//! │"retcdrev"│ version │ number │ crc    │ 0    │ record record …  │ footer       │ 0…  │
//! └──────────┴─────────┴────────┴────────┴──────┴──────────────────┴──────────────┴─────┘
//!   crc: CRC-32C of the 16 bytes before it        ↑ records_end ↑    footer_end ↑
//! ```
//!
//! The newest records wait in the tail, in memory, until there is enough of them for a write. Readers find
//! them there; nobody waits for the disk to see what was appended.
//!
//! # Invariants
//!
//! - A record lies wholly in the file or wholly in the tail.
//! - Bytes once flushed never change while the file has its name, and a sealed segment takes no more records.
//! - A segment has one writer; its readers need no lock but the tail's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crc32c::crc32c;

use super::error::{Context, Fatal, Trouble};
use super::footer;
use super::record::{self, HEADER_SIZE, Meta, Revision, SegmentId, u32_at};
use super::scan::Scan;
use super::window::Window;
use crate::disk::{Disk, File};
use crate::pace::{Pace, Portions};

/// Where the first record lies.
pub(super) const FIRST_OFFSET: u64 = 24;

const MAGIC: &[u8; 8] = b"retcdrev";
const VERSION: u32 = 1;

/// The tail is written to the file once it holds this much.
const TAIL_SIZE: usize = 256 << 10;

/// The file's first length; it doubles until it is as long as segments get, so that few mappings do.
const LENGTH_FIRST: u64 = 1 << 20;

pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) path: PathBuf,
    file: Arc<dyn File>,
    /// Records below this offset are in the file, those above it in the tail.
    flushed: AtomicU64,
    tail: RwLock<Tail>,
    sealed: OnceLock<Sealed>,
}

#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    /// The file is this long, and mapped.
    prepared: u64,
}

/// What the ledger says of a segment that takes no more records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sealed {
    pub records_end: u64,
    pub footer_end: u64,
    pub n_records: u32,
    pub first: Revision,
}

pub(super) fn path_of(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{:016x}.rev", id.0))
}

/// The segment a file name belongs to, if it is one's.
pub(super) fn id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".rev").filter(|digits| digits.len() == 16)?;
    u32::from_str_radix(digits, 16).ok().map(SegmentId)
}

impl Segment {
    pub(super) fn create(disk: &dyn Disk, dir: &Path, id: SegmentId) -> Result<Self, Fatal> {
        let path = path_of(dir, id);
        let file = disk.create(&path).context(&path)?;
        let mut header = [0; FIRST_OFFSET as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&id.0.to_le_bytes());
        let crc = crc32c(&header[..16]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &header).context(&path)?;
        Ok(Self::of(id, path, file, FIRST_OFFSET))
    }

    /// Opens a segment that holds records up to `records_end`.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        id: SegmentId,
        records_end: u64,
    ) -> Result<Self, Fatal> {
        let path = path_of(dir, id);
        let file = disk.open(&path).context(&path)?;
        let mut header = [0; FIRST_OFFSET as usize];
        let n = file.read_at(0, &mut header).context(&path)?;
        if n < header.len() || &header[..8] != MAGIC || crc32c(&header[..16]) != u32_at(&header, 16)
        {
            return Err(Trouble::Corrupt { offset: 0, what: "the header" }.at(&path));
        }
        if u32_at(&header, 8) != VERSION {
            return Err(Trouble::Corrupt { offset: 8, what: "a newer version" }.at(&path));
        }
        if u32_at(&header, 12) != id.0 {
            return Err(Trouble::Corrupt { offset: 12, what: "another segment's number" }.at(&path));
        }
        Ok(Self::of(id, path, file, records_end))
    }

    fn of(id: SegmentId, path: PathBuf, file: Arc<dyn File>, records_end: u64) -> Self {
        let flushed = AtomicU64::new(records_end);
        Self { id, path, file, flushed, tail: RwLock::default(), sealed: OnceLock::new() }
    }

    /// Cuts off all that lies past `end`, which readers have not seen.
    pub(super) fn cut(&self, end: u64) -> Result<(), Fatal> {
        let len = self.file.len().context(&self.path)?;
        if len < end {
            return Err(
                Trouble::Corrupt { offset: len, what: "the file is too short" }.at(&self.path)
            );
        }
        if len > end {
            self.file.set_len(end).context(&self.path)?;
        }
        Ok(())
    }

    /// Takes over what the ledger knows, and makes the records quick to read.
    pub(super) fn believe(&self, sealed: Sealed) -> Result<(), Fatal> {
        assert!(self.sealed.set(sealed).is_ok(), "a segment is sealed once");
        self.file.map(sealed.records_end).context(&self.path)
    }

    pub(super) fn append(&self, meta: &Meta, key_value: &[u8]) -> Result<Appended, Fatal> {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        let at = self.flushed.load(Ordering::Relaxed) + tail.bytes.len() as u64;
        let offset = u32::try_from(at).expect("a segment ends long before 4 GiB");
        let length = record::encode(meta, key_value, &mut tail.bytes);
        if tail.bytes.len() >= TAIL_SIZE {
            self.write_tail(&mut tail)?;
        }
        Ok(Appended { offset, end: at + u64::from(length) })
    }

    /// Appends whole records as they are in another segment.
    pub(super) fn append_copies(
        &self,
        records: &[u8],
        portions: &mut Portions<'_>,
    ) -> Result<(), Fatal> {
        let at = self.flushed.load(Ordering::Relaxed);
        self.file.write_at(at, records).context(&self.path)?;
        let end = at + records.len() as u64;
        self.flushed.store(end, Ordering::Release);
        portions.wrote(at, end, &*self.file).context(&self.path)
    }

    /// Hands the tail to the file. It is durable only after `sync`.
    pub(super) fn flush(&self) -> Result<(), Fatal> {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        if tail.bytes.is_empty() { Ok(()) } else { self.write_tail(&mut tail) }
    }

    fn write_tail(&self, tail: &mut Tail) -> Result<(), Fatal> {
        let from = self.flushed.load(Ordering::Relaxed);
        let end = from + tail.bytes.len() as u64;
        if end > tail.prepared {
            let length = end.next_power_of_two().max(LENGTH_FIRST);
            self.file.set_len(length).context(&self.path)?;
            self.file.map(length).context(&self.path)?;
            tail.prepared = length;
        }
        self.file.write_at(from, &tail.bytes).context(&self.path)?;
        tail.bytes.clear();
        self.flushed.store(end, Ordering::Release);
        Ok(())
    }

    /// Hands over what was written since `from`, without waiting until it is durable.
    pub(super) fn write_out(&self, from: u64) -> Result<(), Fatal> {
        self.flush()?;
        self.file.write_out(from, self.flushed() - from).context(&self.path)
    }

    pub(super) fn sync(&self) -> Result<(), Fatal> {
        self.file.sync().context(&self.path)
    }

    /// Where the records in the file end; the tail's are past it.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    pub(super) fn sealed(&self) -> Option<Sealed> {
        self.sealed.get().copied()
    }

    /// Writes the footer behind the records, and makes all of it durable.
    pub(super) fn seal(&self, pace: &mut dyn Pace) -> Result<Sealed, Fatal> {
        let records_end = self.flushed();
        let sealed = self.write_footer(records_end, pace).context(&self.path)?;
        self.sync()?;
        assert!(self.sealed.set(sealed).is_ok(), "a segment is sealed once");
        Ok(sealed)
    }

    fn write_footer(&self, records_end: u64, pace: &mut dyn Pace) -> Result<Sealed, Trouble> {
        let mut records = self.scan(records_end);
        let mut writer = footer::Writer::new(Arc::clone(&self.file), records_end);
        let mut portions = Portions::new(pace);
        let (mut n_records, mut first) = (0, None);
        while records.advance()? {
            let entry = records.entry();
            let before = writer.end();
            writer.push(&entry)?;
            portions.wrote(before, writer.end(), &*self.file)?;
            portions.saw_record();
            n_records += 1;
            first.get_or_insert(entry.meta.revision);
        }
        let first = first.expect("an empty segment is never sealed");
        Ok(Sealed { records_end, footer_end: writer.finish()?, n_records, first })
    }

    pub(super) fn scan(&self, end: u64) -> Scan {
        Scan::new(self.id, Arc::clone(&self.file), end)
    }

    pub(super) fn footer(&self, sealed: &Sealed) -> footer::Reader {
        let file = Arc::clone(&self.file);
        footer::Reader::new(self.id, file, sealed.records_end, sealed.footer_end)
    }

    /// Makes an unmapped segment quick to read.
    pub(super) fn map(&self) -> Result<(), Fatal> {
        self.file.map(self.flushed()).context(&self.path)
    }

    /// The bytes of the records in the file.
    pub(super) fn window(&self) -> Window {
        Window::new(Arc::clone(&self.file), FIRST_OFFSET, self.flushed())
    }

    /// Appends the KeyValue of the record at `offset` to `out`.
    pub(super) fn read(&self, offset: u32, out: &mut Vec<u8>) -> Result<(), Fatal> {
        let offset = u64::from(offset);
        if let Some(done) = self.in_tail(offset, |record| {
            let (_, body) = record::split(record, offset)?;
            out.extend_from_slice(body);
            Ok(())
        }) {
            return done.context(&self.path);
        }
        let used = out.len();
        let done = self.read_file(offset, out);
        done.inspect_err(|_| out.truncate(used)).context(&self.path)
    }

    /// The length of the KeyValue at `offset`.
    pub(super) fn len_of(&self, offset: u32) -> Result<u32, Fatal> {
        let offset = u64::from(offset);
        let length = match self.in_tail(offset, |record| Ok(u32_at(record, 4))) {
            Some(length) => length,
            None => {
                let mut header = Vec::with_capacity(HEADER_SIZE);
                self.length_in_file(offset, &mut header)
            }
        };
        Ok(length.context(&self.path)? - HEADER_SIZE as u32)
    }

    /// Calls `look` with what the tail holds from `offset` on, if that is where the record is.
    fn in_tail<T>(
        &self,
        offset: u64,
        look: impl FnOnce(&[u8]) -> Result<T, Trouble>,
    ) -> Option<Result<T, Trouble>> {
        if offset < self.flushed() {
            return None;
        }
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        // It may have been flushed meanwhile; not while we hold the tail.
        let within = offset.checked_sub(self.flushed())?;
        Some(look(&tail.bytes[within as usize..]))
    }

    fn read_file(&self, offset: u64, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let used = out.len();
        let length = self.length_in_file(offset, out)?;
        let header: [u8; HEADER_SIZE] = out[used..].try_into().expect("a header was read");
        out.truncate(used);
        self.file.copy_to(offset + HEADER_SIZE as u64, length as usize - HEADER_SIZE, out)?;
        match record::check(&header, &out[used..]) {
            Ok(_) => Ok(()),
            Err(what) => Err(Trouble::Corrupt { offset, what }),
        }
    }

    /// Appends the header of a record to `out`; the answer is the record's length.
    fn length_in_file(&self, offset: u64, out: &mut Vec<u8>) -> Result<u32, Trouble> {
        let used = out.len();
        self.file.copy_to(offset, HEADER_SIZE, out)?;
        let header = out[used..].first_chunk().expect("a header was read");
        record::length(header, self.flushed() - offset)
            .map_err(|what| Trouble::Corrupt { offset, what })
    }
}

/// Where a record went, and where the next one will.
pub(super) struct Appended {
    pub offset: u32,
    pub end: u64,
}
