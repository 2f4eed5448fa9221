//! The hash of all keys at a revision, equal on every member, Go's included.
//!
//! ```text
//! CRC-32C over  "key"  and, by revision,  main sub ['t']  and  KeyValue
//!                                         8 '_' 8 bytes         as stored
//! ```
//!
//! Covered is what was written up to the revision. Of what lies at or below the compacted revision, only
//! what a compaction at the *hash's* revision would keep, so that it doesn't matter how far a member has
//! got with forgetting the rest. If that compaction would keep nothing at all, everything counts that the
//! last compaction left; and a tombstone exactly at the compacted revision never does, since old members
//! drop it. (Both as in etcd, once its compaction has run: before, it hashes what is yet to go.)
//!
//! Gathering what to read needs the state, in turns; reading and hashing doesn't: the records are pinned.

use std::collections::VecDeque;

use crc32c::{crc32c, crc32c_append};
use proto::error::Error;
use storage::revlog::{Pace, Pinned};

use super::Mvcc;
use super::index::Span;
use crate::fault::Fatal;

mod items;

pub(crate) use self::items::{Item, Items};

/// Compactions whose hashes are remembered.
const REMEMBERED_MAX: usize = 10;

/// Records hashed before there may be a rest.
const RECORDS_PER_STEP: usize = 256;

/// Keys looked at under one lock.
const KEYS_PER_TURN: usize = 1_000;

const SEED: &[u8] = b"key";

/// A hash, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    pub hash: u32,
    /// −1 before any compaction.
    pub compact_revision: i64,
    pub revision: i64,
}

/// The hashes of the latest compactions.
#[derive(Default)]
pub(crate) struct Hashes {
    by_revision: VecDeque<KvHash>,
}

impl Hashes {
    pub(crate) fn remember(&mut self, hash: KvHash) {
        let at = self.by_revision.partition_point(|known| known.revision <= hash.revision);
        self.by_revision.insert(at, hash);
        if self.by_revision.len() > REMEMBERED_MAX {
            self.by_revision.pop_front();
        }
    }

    pub(crate) fn get(&self, revision: i64) -> Option<KvHash> {
        self.by_revision.iter().find(|known| known.revision == revision).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KvHash> {
        self.by_revision.iter().copied()
    }
}

/// All that a hash needs to be computed without the state.
pub struct HashJob {
    items: Items,
    compacted: i64,
    revision: i64,
    pinned: Pinned,
}

impl HashJob {
    /// `items` are all records up to `revision` that compactions have left, each with whether one at
    /// `revision` would keep it.
    pub(crate) fn new(items: Items, compacted: i64, revision: i64, pinned: Pinned) -> Self {
        Self { items, compacted, revision, pinned }
    }

    /// Reads and hashes. Meant for a thread that may take its time.
    pub fn run(self, pace: &mut dyn Pace) -> Result<KvHash, Fatal> {
        let keeps_any = self.items.keeps_any();
        let compacted = self.compacted;
        let is_covered = |item: &Item| {
            let given_up = item.main <= compacted && keeps_any && !item.kept;
            let closing = item.main == compacted && item.tombstone;
            !given_up && !closing
        };
        let items = self.items.by_revision(is_covered, pace);
        let mut hash = crc32c(SEED);
        let mut record = Vec::new();
        for (n, item) in items.enumerate() {
            if n.is_multiple_of(RECORDS_PER_STEP) {
                pace.rest();
            }
            record.clear();
            record.extend_from_slice(&item.main.to_be_bytes());
            record.push(b'_');
            record.extend_from_slice(&i64::from(item.sub).to_be_bytes());
            if item.tombstone {
                record.push(b't');
            }
            self.pinned.read(item.place, &mut record)?;
            hash = crc32c_append(hash, &record);
        }
        Ok(KvHash { hash, compact_revision: compacted, revision: self.revision })
    }
}

/// What a turn of gathering has led to.
pub enum HashTurn {
    /// Call again.
    More,
    /// Run this, without any lock.
    Job(HashJob),
    Known(KvHash),
}

/// The hash of a revision, being gathered.
pub struct HashRun {
    /// 0: the head's.
    asked: i64,
    gathering: Option<Gathering>,
}

struct Gathering {
    revision: i64,
    compacted: i64,
    moves: u64,
    next: Vec<u8>,
    items: Items,
}

impl HashRun {
    pub(crate) fn new(revision: i64) -> Self {
        Self { asked: revision, gathering: None }
    }

    /// Looks at some keys.
    pub(crate) fn step(&mut self, mvcc: &Mvcc) -> Result<HashTurn, Error> {
        let mut gathering = match self.gathering.take() {
            // What was gathered before a compaction or a move is worth nothing: start again.
            Some(g) if g.compacted == mvcc.compacted() && g.moves == mvcc.moves => g,
            Some(_) | None => match self.begin(mvcc)? {
                Ok(gathering) => gathering,
                Err(known) => return Ok(HashTurn::Known(known)),
            },
        };
        let span = Span::From(gathering.next.clone());
        let mut chains = mvcc.index.chains(&span);
        for (_, chain) in chains.by_ref().take(KEYS_PER_TURN) {
            let kept = chain.kept(gathering.revision);
            let survivor = chain.survivor(gathering.compacted);
            chain.within(0, gathering.revision, |point| {
                let order = Some(point.order());
                if point.main > gathering.compacted || order == survivor {
                    gathering.items.push(Item::new(point, order == kept));
                }
            });
        }
        if let Some((key, _)) = chains.next() {
            gathering.next = key.to_vec();
            self.gathering = Some(gathering);
            return Ok(HashTurn::More);
        }
        let Gathering { revision, compacted, items, .. } = gathering;
        Ok(HashTurn::Job(HashJob::new(items, compacted, revision, mvcc.log.pin())))
    }

    fn begin(&mut self, mvcc: &Mvcc) -> Result<Result<Gathering, KvHash>, Error> {
        if let Some(known) = mvcc.hashes.get(self.asked) {
            return Ok(Err(known));
        }
        let (head, compacted) = (mvcc.head(), mvcc.compacted());
        if self.asked > 0 && self.asked < compacted {
            return Err(Error::Compacted);
        }
        if self.asked > head {
            return Err(Error::FutureRev);
        }
        if self.asked == 0 {
            self.asked = head; // Of all turns.
        }
        let moves = mvcc.moves;
        let (next, items) = (Vec::new(), Items::default());
        Ok(Ok(Gathering { revision: self.asked, compacted, moves, next, items }))
    }
}
