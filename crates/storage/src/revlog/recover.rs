//! Opening a log: the last commit of the newest ledger says what there is; the rest goes.
//!
//! ```text
//! newest ledger ─► last commit ─┬─► sealed segments   opened; what lies past the footer is cut
//!                               ├─► active segment    opened; what lies past the position is cut
//!                               └─► everything else   unlinked: it was never part of a commit, or no longer
//! ```
//!
//! No segment and no ledger is unlinked before all that the newest ledger names was found.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::checkpoint::Pending;
use super::error::{Context, Fatal, OpenError, Trouble};
use super::ledger::item::{Contents, Dead};
use super::ledger::{self, Ledger};
use super::record::{Revision, SegmentId};
use super::segment::{self, Sealed, Segment};
use super::shelf::{Holding, Shelf};
use super::{
    Collection, Config, Entry, Mark, Overhead, Revlog, SEGMENT_SIZE_LIMIT, Segments, Shared,
    Tables, footer, scan,
};
use crate::disk::Disk;

const LOCK_NAME: &str = "lock";

/// What a restart finds.
pub struct Recovered {
    pub mark: Mark,
    pub tables: Tables,
    pub entries: Entries,
}

impl Revlog {
    /// Opens the log in `dir`, which is made if it isn't there, and keeps other processes out of it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: Config,
    ) -> Result<(Self, Recovered), OpenError> {
        assert!(config.segment_size_max <= SEGMENT_SIZE_LIMIT, "offsets are 32 bits wide");
        disk.create_dir(dir).context(dir)?;
        let lock = dir.join(LOCK_NAME);
        let lock = match disk.lock(&lock) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(OpenError::Locked(lock)),
            outcome => outcome.context(&lock)?,
        };
        let found = Found::list(&*disk, dir)?;
        let (ledger, contents) = found.ledger(&disk, dir, &config)?;
        let mut stock = Stock::open(&*disk, dir, &contents)?;
        found.remove_strays(&*disk, dir, &contents)?;

        let mut next_segment =
            SegmentId(found.segments.iter().map(|id| id.0).max().unwrap_or(0) + 1);
        let mut pending = Pending::default();
        let active = match stock.active.take() {
            Some(active) => active,
            None => {
                let active = Arc::new(Segment::create(&*disk, dir, next_segment)?);
                next_segment = SegmentId(next_segment.0 + 1);
                pending.files_created = true;
                stock.take_in(&active, 0, Dead::default())?;
                active
            }
        };
        let overhead = Overhead {
            footers: AtomicU64::new(stock.footer_bytes),
            ledger: AtomicU64::new(ledger.size()),
        };
        let mark = contents.mark.map_or_else(Mark::default, |(mark, _)| mark);
        let shared =
            Shared { disk, dir: dir.to_owned(), ledger: Mutex::new(ledger), overhead, _lock: lock };
        let revlog = Self {
            shared: Arc::new(shared),
            config,
            segments: Arc::new(stock.segments),
            shelf: stock.shelf,
            active_end: active.flushed(),
            written_out: active.flushed(),
            active,
            next_segment,
            last: last_revision(&contents),
            pending,
            sequence: contents.sequence,
            mark,
            collection: Collection::None,
        };
        let entries = Entries { sources: stock.sources, current: None };
        Ok((revlog, Recovered { mark, tables: contents.tables, entries }))
    }
}

/// A revision that is not before any in the log, and before all that will come.
fn last_revision(contents: &Contents) -> Revision {
    match contents.mark {
        Some((mark, position)) if position.segment.is_some() => {
            Revision { main: mark.head, sub: i64::MAX }
        }
        Some(_) | None => Revision::default(),
    }
}

/// What lies in the folder.
struct Found {
    names: Vec<String>,
    segments: Vec<SegmentId>,
    newest_ledger: Option<u64>,
}

impl Found {
    fn list(disk: &dyn Disk, dir: &Path) -> Result<Self, Fatal> {
        let mut names = disk.list(dir).context(dir)?;
        names.sort();
        for name in names.extract_if(.., |name| name.ends_with(ledger::TEMPORARY_SUFFIX)) {
            let path = dir.join(name);
            disk.remove(&path).context(&path)?;
        }
        let segments = names.iter().filter_map(|name| segment::id_of(name)).collect();
        let newest_ledger = names.iter().filter_map(|name| ledger::number_of(name)).max();
        Ok(Self { names, segments, newest_ledger })
    }

    fn ledger(
        &self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        config: &Config,
    ) -> Result<(Ledger, Contents), Fatal> {
        match (self.newest_ledger, self.segments.first()) {
            (Some(number), _) => Ledger::open(disk, dir, number, config.ledger_size_min),
            (None, None) => Ledger::create(disk, dir, config.ledger_size_min),
            // The ledger is there before the first segment is.
            (None, Some(_)) => {
                Err(Trouble::Corrupt { offset: 0, what: "segments without a ledger" }.at(dir))
            }
        }
    }

    /// Unlinks what is no part of the last commit. Names that are none of ours stay.
    fn remove_strays(&self, disk: &dyn Disk, dir: &Path, contents: &Contents) -> Result<(), Fatal> {
        let active = contents.mark.and_then(|(_, position)| position.segment);
        for name in &self.names {
            let is_stray = if let Some(id) = segment::id_of(name) {
                active != Some(id) && !contents.sealed.contains_key(&id)
            } else {
                ledger::number_of(name).is_some_and(|number| self.newest_ledger != Some(number))
            };
            if is_stray {
                let path = dir.join(name);
                disk.remove(&path).context(&path)?;
            }
        }
        Ok(())
    }
}

/// The segments of a commit.
#[derive(Default)]
struct Stock {
    segments: Segments,
    shelf: Shelf,
    sources: VecDeque<Source>,
    active: Option<Arc<Segment>>,
    footer_bytes: u64,
}

impl Stock {
    fn open(disk: &dyn Disk, dir: &Path, contents: &Contents) -> Result<Self, Fatal> {
        let mut stock = Self::default();
        let mut sealed: Vec<(SegmentId, Sealed)> =
            contents.sealed.iter().map(|(id, sealed)| (*id, *sealed)).collect();
        sealed.sort_by_key(|(_, sealed)| sealed.first);
        for (id, sealed) in sealed {
            let segment = Arc::new(Segment::open(disk, dir, id, sealed.records_end)?);
            segment.cut(sealed.footer_end)?;
            segment.believe(sealed)?;
            stock.footer_bytes += sealed.footer_end - sealed.records_end;
            stock.take_in(&segment, u64::from(sealed.n_records), dead_of(contents, id))?;
        }
        if let Some((_, position)) = contents.mark
            && let Some(id) = position.segment
        {
            let segment = Arc::new(Segment::open(disk, dir, id, position.offset)?);
            segment.cut(position.offset)?;
            segment.map()?;
            stock.take_in(&segment, position.n_records, dead_of(contents, id))?;
            stock.active = Some(segment);
        }
        Ok(stock)
    }

    fn take_in(
        &mut self,
        segment: &Arc<Segment>,
        n_records: u64,
        mut dead: Dead,
    ) -> Result<(), Fatal> {
        let bytes = segment.flushed() - segment::FIRST_OFFSET;
        if dead.bytes > bytes || dead.offsets.len() as u64 > n_records {
            let what = "the ledger has more dead records than there are";
            return Err(Trouble::Corrupt { offset: 0, what }.at(&segment.path));
        }
        dead.offsets.sort_unstable();
        self.sources.push_back(Source {
            segment: Arc::clone(segment),
            sealed: segment.sealed(),
            end: segment.flushed(),
            dead: Skip::new(dead.offsets.clone()),
        });
        self.shelf.push_known(segment.id, Holding { bytes, n_records, dead });
        self.segments.insert(segment.id, Arc::clone(segment));
        Ok(())
    }
}

fn dead_of(contents: &Contents, id: SegmentId) -> Dead {
    contents.dead.get(&id).cloned().unwrap_or_default()
}

/// A walk over all records that are not known to be dead, in the order of their revisions. Of sealed
/// segments it reads the footers alone, through a small buffer.
pub struct Entries {
    sources: VecDeque<Source>,
    current: Option<Walk>,
}

struct Source {
    segment: Arc<Segment>,
    /// As it was when the log was opened, whatever became of the segment since.
    sealed: Option<Sealed>,
    end: u64,
    dead: Skip,
}

impl Entries {
    /// The next record; `None` after the last. What it finds damaged is the end of the walk.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows from the walk")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Fatal> {
        loop {
            match &mut self.current {
                None => match self.sources.pop_front() {
                    Some(source) => self.current = Some(Walk::new(source)),
                    None => return Ok(None),
                },
                Some(walk) => {
                    if walk.advance()? {
                        break;
                    }
                    self.current = None;
                }
            }
        }
        Ok(self.current.as_ref().map(Walk::entry))
    }
}

/// A walk over the records of one segment, leaving out the dead.
pub(super) struct Walk {
    segment: Arc<Segment>,
    dead: Skip,
    reader: Reader,
}

enum Reader {
    Footer(footer::Reader),
    Records(scan::Scan),
}

impl Walk {
    fn new(source: Source) -> Self {
        let Source { segment, sealed, end, dead } = source;
        let reader = match sealed {
            Some(sealed) => Reader::Footer(segment.footer(&sealed)),
            None => Reader::Records(segment.scan(end)),
        };
        Self { segment, dead, reader }
    }

    /// Over a sealed segment's footer.
    pub(super) fn sealed(segment: Arc<Segment>, dead: Skip) -> Self {
        let sealed = segment.sealed().expect("a sealed segment");
        Self { reader: Reader::Footer(segment.footer(&sealed)), segment, dead }
    }

    pub(super) fn advance(&mut self) -> Result<bool, Fatal> {
        self.advance_seeing(&mut || ())
    }

    /// Tells of every record, dead ones too.
    pub(super) fn advance_seeing(&mut self, saw: &mut dyn FnMut()) -> Result<bool, Fatal> {
        loop {
            saw();
            let advanced = match &mut self.reader {
                Reader::Footer(footer) => footer.advance(),
                Reader::Records(records) => records.advance(),
            };
            if !advanced.context(&self.segment.path)? {
                return self.dead.finish().map(|()| false).context(&self.segment.path);
            }
            let offset = self.entry().place.offset();
            if !self.dead.passes(offset) {
                return Ok(true);
            }
        }
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        match &self.reader {
            Reader::Footer(footer) => footer.entry(),
            Reader::Records(records) => records.entry(),
        }
    }
}

/// Offsets of dead records, ascending, met one after the other.
pub(super) struct Skip {
    offsets: Vec<u32>,
    met: usize,
}

impl Skip {
    pub(super) fn new(offsets: Vec<u32>) -> Self {
        Self { offsets, met: 0 }
    }

    /// Whether the record at `offset`, past all asked for so far, is dead.
    fn passes(&mut self, offset: u32) -> bool {
        let dead = self.offsets.get(self.met) == Some(&offset);
        self.met += usize::from(dead);
        dead
    }

    /// Every dead record was met, or there is none where the ledger says so.
    fn finish(&self) -> Result<(), Trouble> {
        match self.offsets.get(self.met) {
            None => Ok(()),
            Some(offset) => {
                let what = "no record where the ledger has a dead one";
                Err(Trouble::Corrupt { offset: u64::from(*offset), what })
            }
        }
    }
}
