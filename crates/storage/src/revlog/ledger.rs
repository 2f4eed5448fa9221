//! The ledger: what the store consists of, commit by commit.
//!
//! One file says which segments there are, which of their records are dead, what the small tables hold and
//! up to where all of it belongs to a commit. It is written from front to back, a transaction for each
//! checkpoint, and replaced by a shorter one once it has grown to twice what it last was when rewritten.
//!
//! ```text
//! 0                                             512                              each frame starts a sector
//! ┌──────────┬─────────┬────────┬─────┬───────┬───────┬──────────┬───────┬────────┬───────┬─────────
//! │"retcdled"│ version │ number │ crc │ 0 … 0 │ frame │ items    │ 0 … 0 │ frame  │ items │ 0 … 0
//! └──────────┴─────────┴────────┴─────┴───────┴───────┴──────────┴───────┴────────┴───────┴─────────
//! 0        4          8          12     16         24  28           32
//! ┌────────┬──────────┬──────────┬──────┬──────────┬───┬────────────┐
//! │ length │ body crc │ previous │ kind │ sequence │ 0 │ header crc │   of the items; little-endian
//! └────────┴──────────┴──────────┴──────┴──────────┴───┴────────────┘
//!   previous  the header crc of the frame before: a frame that survived from an older tail is not believed
//!   kind      1: more of this transaction follows · 2: it ends here, committed
//!   sequence  of the transaction, one more each time
//! ```
//!
//! # Torn, or damaged?
//!
//! A frame's header lies in one sector, so a crash leaves it whole or zero. Its body may lack sectors, which
//! are then zero, for whatever an earlier crash left behind was cut off, durably, before anything was written.
//! So a header that is neither valid nor zero, or a wrong body without a zero sector, was damaged; and so
//! was any frame in front of a later transaction, which is begun only when the one before it is durable.
//! All else is the torn end of a transaction nobody was told of.
//!
//! # Invariants
//!
//! - A transaction counts as a whole or not at all.
//! - After a failed commit there is none.   (asserted by `begin`)
//!
//! # Not here
//!
//! What the items mean: see `item`. Who makes the segments durable first: see `checkpoint`.

pub(super) mod item;
mod replay;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::crc32c;

use self::item::{Contents, Item};
use super::error::{Context, Fatal, Trouble};
use super::record::{u32_at, u64_at};
use crate::disk::{Disk, File};
use crate::pace::{Hurry, Pace, Portions};

const SECTOR_SIZE: usize = 512; // Disks write a sector whole or not at all.
const HEADER_SIZE: usize = 32;
const _: () = assert!(HEADER_SIZE <= SECTOR_SIZE);

const MAGIC: &[u8; 8] = b"retcdled";
const VERSION: u32 = 1;

/// A frame is closed once its items take this much.
const FRAME_SIZE: usize = 64 << 10;

/// A ledger shorter than this is never rewritten.
pub(super) const REWRITE_SIZE_MIN: u64 = 1 << 20;

/// A ledger this many times as long as it was when new is mostly garbage.
const GROWTH_MAX: u64 = 2;

const PART: u32 = 1;
const COMMIT: u32 = 2;

/// The ledger, open for commits.
pub(super) struct Ledger {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    number: u64,
    file: Arc<dyn File>,
    /// Where the next frame goes.
    end: u64,
    /// The header crc of the last frame.
    previous: u32,
    /// Of the last transaction.
    sequence: u64,
    /// The file's length when it was new.
    size_new: u64,
    rewrite_size_min: u64,
    /// A commit began and has not succeeded.
    broken: bool,
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.ledger"))
}

/// The number of the ledger of that name, if it is one's.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".ledger").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The name of a ledger that is being written, and no ledger yet.
pub(super) const TEMPORARY_SUFFIX: &str = ".ledger.tmp";

impl Ledger {
    /// Makes the first ledger of an empty folder.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        rewrite_size_min: u64,
    ) -> Result<(Self, Contents), Fatal> {
        let contents = Contents::default();
        let written = write_new(disk, dir, 1, &contents, &mut Hurry)?;
        let ledger = Self::of(disk, dir, 1, written, 0, rewrite_size_min);
        Ok((ledger, contents))
    }

    /// Opens a ledger as of its last commit, and cuts off what a crash left behind it.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        rewrite_size_min: u64,
    ) -> Result<(Self, Contents), Fatal> {
        let path = path_of(dir, number);
        let file = disk.open(&path).context(&path)?;
        let found = replay::replay(&file, number).context(&path)?;
        if file.len().context(&path)? > found.end {
            file.set_len(found.end).context(&path)?;
            file.sync().context(&path)?;
        }
        let written = Written { file, end: found.end, previous: found.previous };
        let sequence = found.contents.sequence;
        let ledger = Self::of(disk, dir, number, written, sequence, rewrite_size_min);
        Ok((ledger, found.contents))
    }

    fn of(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        written: Written,
        sequence: u64,
        rewrite_size_min: u64,
    ) -> Self {
        Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            path: path_of(dir, number),
            number,
            file: written.file,
            end: written.end,
            previous: written.previous,
            sequence,
            size_new: written.end,
            rewrite_size_min,
            broken: false,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.end
    }

    /// Begins transaction `sequence`, which must be the next one.
    pub(super) fn begin(&mut self, sequence: u64) {
        assert!(!self.broken, "after a failed checkpoint the member stops");
        assert_eq!(sequence, self.sequence + 1, "checkpoints are committed in order, none skipped");
        self.broken = true;
    }

    /// Writes the transaction that was begun, and makes it durable.
    pub(super) fn commit<'a>(
        &mut self,
        items: impl Iterator<Item = Item<'a>>,
        pace: &mut dyn Pace,
    ) -> Result<(), Fatal> {
        assert!(self.broken, "`begin` comes first");
        let sequence = self.sequence + 1;
        let mut writer = FrameWriter::new(&self.file, self.end, self.previous, sequence);
        let written = writer.write_all(items, pace).and_then(|()| Ok(self.file.sync()?));
        written.context(&self.path)?;
        (self.end, self.previous) = (writer.end, writer.previous);
        (self.sequence, self.broken) = (sequence, false);
        Ok(())
    }

    /// Replaces the ledger if most of it is garbage.
    pub(super) fn rewrite_if_grown(&mut self, pace: &mut dyn Pace) -> Result<(), Fatal> {
        if self.end < self.rewrite_size_min.max(self.size_new.saturating_mul(GROWTH_MAX)) {
            return Ok(());
        }
        let found = replay::replay(&self.file, self.number).context(&self.path)?;
        assert_eq!(found.end, self.end, "a ledger reads as it was written");
        let number = self.number + 1;
        let written = write_new(&self.disk, &self.dir, number, &found.contents, pace)?;
        self.disk.remove(&self.path).context(&self.path)?;
        self.path = path_of(&self.dir, number);
        self.number = number;
        (self.end, self.size_new) = (written.end, written.end);
        (self.file, self.previous) = (written.file, written.previous);
        Ok(())
    }
}

struct Written {
    file: Arc<dyn File>,
    end: u64,
    previous: u32,
}

/// Writes a ledger that says nothing but `contents`. It appears under its name when it is whole.
fn write_new(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    number: u64,
    contents: &Contents,
    pace: &mut dyn Pace,
) -> Result<Written, Fatal> {
    let path = path_of(dir, number);
    let temporary = dir.join(format!("{number:016x}{TEMPORARY_SUFFIX}"));
    let file = disk.create(&temporary).context(&temporary)?;
    let header = file_header(number);
    let mut writer =
        FrameWriter::new(&file, SECTOR_SIZE as u64, u32_at(&header, 20), contents.sequence);
    let written = file
        .write_at(0, &header)
        .map_err(Trouble::from)
        .and_then(|()| writer.write_all(contents.items(), pace))
        .and_then(|()| Ok(file.sync()?));
    written.context(&temporary)?;
    let (end, previous) = (writer.end, writer.previous);
    disk.rename(&temporary, &path).context(&path)?;
    disk.sync_dir(dir).context(dir)?;
    Ok(Written { file, end, previous })
}

fn file_header(number: u64) -> [u8; SECTOR_SIZE] {
    let mut header = [0; SECTOR_SIZE];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c(&header[..20]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What stands before a frame's items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FrameHeader {
    length: u32,
    body_crc: u32,
    previous: u32,
    kind: u32,
    sequence: u64,
}

impl FrameHeader {
    /// The answer ends with the checksum the next frame refers to.
    fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.previous.to_le_bytes());
        out[12..16].copy_from_slice(&self.kind.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` if the bytes are no frame's header.
    fn decode(bytes: &[u8; HEADER_SIZE]) -> Option<Self> {
        let valid = crc32c(&bytes[..28]) == u32_at(bytes, 28);
        valid.then(|| Self {
            length: u32_at(bytes, 0),
            body_crc: u32_at(bytes, 4),
            previous: u32_at(bytes, 8),
            kind: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
        })
    }
}

/// Writes one transaction, a frame at a time.
struct FrameWriter<'a> {
    file: &'a Arc<dyn File>,
    end: u64,
    previous: u32,
    sequence: u64,
    frame: Vec<u8>,
}

impl<'a> FrameWriter<'a> {
    fn new(file: &'a Arc<dyn File>, end: u64, previous: u32, sequence: u64) -> Self {
        Self { file, end, previous, sequence, frame: vec![0; HEADER_SIZE] }
    }

    fn write_all<'i>(
        &mut self,
        items: impl Iterator<Item = Item<'i>>,
        pace: &mut dyn Pace,
    ) -> Result<(), Trouble> {
        let mut portions = Portions::new(pace);
        for item in items {
            if self.frame.len() >= FRAME_SIZE {
                let before = self.end;
                self.close(PART)?;
                portions.wrote(before, self.end, &**self.file)?;
            }
            item.encode(&mut self.frame);
        }
        self.close(COMMIT)
    }

    fn close(&mut self, kind: u32) -> Result<(), Trouble> {
        let body = &self.frame[HEADER_SIZE..];
        let header = FrameHeader {
            length: u32::try_from(body.len()).expect("a frame is closed long before 4 GiB"),
            body_crc: crc32c(body),
            previous: self.previous,
            kind,
            sequence: self.sequence,
        }
        .encode();
        self.frame[..HEADER_SIZE].copy_from_slice(&header);
        self.frame.resize(self.frame.len().next_multiple_of(SECTOR_SIZE), 0);
        self.file.write_at(self.end, &self.frame)?;
        self.end += self.frame.len() as u64;
        self.previous = u32_at(&header, 28);
        self.frame.truncate(HEADER_SIZE);
        Ok(())
    }
}
