//! A snapshot: all that is known at one moment, as the bbolt file etcd would hand out.
//!
//! The small tables are copied at once; which records there are, and where, is gathered from the index
//! in turns; sorting, reading and writing need no lock, for the records are pinned.
//!
//! ```text
//! under the read lock, in turns          without any lock
//! snapshot ─► snapshot_turn … ─────────► Gathered::measure ─► Snapshot::file ─► File::write
//!             tables   24 B a record     sort, lengths        layout, size      page after page
//! ```
//!
//! # Invariants
//!
//! - Revision, tables and records belong together: records from after the moment are left out, and if a
//!   compaction or the collector has touched those from before, gathering begins again.
//! - It ends: each time it begins again its turns are twice as long.
//! - No values are held, whatever the size of the store.
//!
//! # Not here
//!
//! Who asked for it, and on what way it leaves.

mod table;

use std::io;
use std::mem::size_of;

use storage::bolt::writer::{EachRow, EachSize, Out, Plan, Rows};
use storage::revlog::{self, Pinned, Place};

use self::table::Tables;
use crate::State;
use crate::fault::Fatal;
use crate::mvcc::index::{Point, Span};

/// Keys looked at under one lock.
const KEYS_PER_TURN: usize = 1_000;

/// Records after which a turn ends as well: some keys have many.
const RECORDS_PER_TURN: usize = 4 * KEYS_PER_TURN;

/// A record of the store: when it was written, where it lies, how long it is.
#[derive(Clone, Copy)]
struct Record {
    main: i64,
    place: Place,
    /// The highest bit says that it is a tombstone.
    sub: u32,
    len: u32,
}

const TOMBSTONE: u32 = 1 << 31;
const _: () = assert!(size_of::<Record>() <= 24, "stores have millions of them");

/// `main _ sub`, and a `t` if it is a tombstone.
const KEY_SIZE: usize = 18;

impl Record {
    fn new(point: &Point) -> Self {
        let Point { main, sub, tombstone, place, .. } = *point;
        assert!(sub < TOMBSTONE, "a request with {sub} changes");
        Self { main, place, sub: sub | if tombstone { TOMBSTONE } else { 0 }, len: 0 }
    }

    fn order(&self) -> (i64, u32) {
        (self.main, self.sub & !TOMBSTONE)
    }

    /// Calls `each` with the record's key.
    fn key<T>(&self, each: impl FnOnce(&[u8]) -> T) -> T {
        let (main, sub) = self.order();
        let mut key = [b't'; KEY_SIZE];
        key[..8].copy_from_slice(&main.to_be_bytes());
        key[8] = b'_';
        key[9..17].copy_from_slice(&i64::from(sub).to_be_bytes());
        let is_tombstone = self.sub & TOMBSTONE != 0;
        each(&key[..if is_tombstone { KEY_SIZE } else { KEY_SIZE - 1 }])
    }
}

/// A snapshot, being gathered.
pub struct SnapshotRun {
    storage_version: &'static str,
    pub(crate) keys_per_turn: usize,
    gathering: Option<Gathering>,
}

struct Gathering {
    tables: Tables,
    revision: i64,
    compacted: i64,
    moves: u64,
    next: Vec<u8>,
    records: Vec<Record>,
}

/// All that a snapshot needs to be written without the state.
pub struct Gathered {
    tables: Tables,
    revision: i64,
    records: Vec<Record>,
    pinned: Pinned,
}

impl State {
    /// Begins a snapshot. The storage version is for the file to say.
    pub fn snapshot(&self, storage_version: &'static str) -> SnapshotRun {
        SnapshotRun { storage_version, keys_per_turn: KEYS_PER_TURN, gathering: None }
    }

    /// Brings a snapshot a bit further. To be called until there is something.
    pub fn snapshot_turn(&self, run: &mut SnapshotRun) -> Option<Gathered> {
        let mvcc = &self.mvcc;
        let mut gathering = match run.gathering.take() {
            Some(g) if g.compacted == mvcc.compacted() && g.moves == mvcc.moves => g,
            Some(_) => {
                run.keys_per_turn = run.keys_per_turn.saturating_mul(2);
                self.begin_snapshot(run)
            }
            None => self.begin_snapshot(run),
        };
        let records_max = gathering.records.len() + run.keys_per_turn.max(RECORDS_PER_TURN);
        let span = Span::From(std::mem::take(&mut gathering.next));
        let chains = mvcc.index.chains(&span);
        for (n_keys, (key, chain)) in chains.enumerate() {
            if n_keys == run.keys_per_turn || gathering.records.len() >= records_max {
                gathering.next = key.to_vec();
                run.gathering = Some(gathering);
                return None;
            }
            let records = &mut gathering.records;
            chain.within(0, gathering.revision, |point| records.push(Record::new(point)));
        }
        let Gathering { tables, revision, records, .. } = gathering;
        Some(Gathered { tables, revision, records, pinned: mvcc.log.pin() })
    }

    fn begin_snapshot(&self, run: &SnapshotRun) -> Gathering {
        Gathering {
            tables: Tables::of(self, run.storage_version),
            revision: self.head(),
            compacted: self.compacted(),
            moves: self.mvcc.moves,
            next: Vec::new(),
            records: Vec::new(),
        }
    }
}

impl Gathered {
    /// Sorts the records and learns their lengths. Takes its time.
    pub fn measure(mut self) -> Result<Snapshot, Fatal> {
        self.records.sort_unstable_by_key(Record::order);
        for record in &mut self.records {
            record.len = self.pinned.len_of(record.place)?;
        }
        let Self { tables, revision, records, pinned } = self;
        Ok(Snapshot { tables, revision, records: Records { records, pinned } })
    }
}

/// All that is known at one moment.
pub struct Snapshot {
    tables: Tables,
    revision: i64,
    records: Records,
}

impl Snapshot {
    /// The newest revision in it.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The last entry that is part of it, and its term.
    pub fn applied(&self) -> (u64, u64) {
        self.tables.applied()
    }

    /// The members in it: their ids, and whether they are learners.
    pub fn members(&self) -> impl Iterator<Item = (u64, bool)> {
        self.tables.roster().iter().copied()
    }

    /// Lays the file out.
    pub fn file(&self) -> File<'_> {
        let buckets = self.tables.buckets(&self.records);
        File { plan: Plan::new(buckets).expect("lengths are known: nothing is read") }
    }
}

/// A snapshot's file, of which the size is known.
pub struct File<'a> {
    plan: Plan<'a>,
}

/// Why a file was not written to its end.
#[derive(Debug)]
pub enum Unwritten {
    /// The store failed.
    Fatal(Fatal),
    /// Whoever took the file did.
    Out(io::Error),
}

impl File<'_> {
    pub fn size(&self) -> u64 {
        self.plan.size()
    }

    /// Gives the file to `out`, from its first byte to its last.
    pub fn write(&self, out: &mut Out) -> Result<(), Unwritten> {
        self.plan.write(out).map_err(|error| match error.downcast::<revlog::Fatal>() {
            Ok(fatal) => Unwritten::Fatal(fatal.into()),
            Err(error) => Unwritten::Out(error),
        })
    }
}

/// The bucket of keys.
struct Records {
    /// By revision.
    records: Vec<Record>,
    pinned: Pinned,
}

impl Rows for Records {
    fn sizes(&self, each: &mut EachSize) -> io::Result<()> {
        self.records.iter().try_for_each(|record| record.key(|key| each(key, record.len as usize)))
    }

    fn rows(&self, each: &mut EachRow) -> io::Result<()> {
        let mut value = Vec::new();
        for record in &self.records {
            value.clear();
            self.pinned.read(record.place, &mut value).map_err(io::Error::other)?;
            record.key(|key| each(key, &value))?;
        }
        Ok(())
    }
}
