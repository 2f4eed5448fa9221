//! The state as a whole: opened, kept on the disk, tidied up.
//!
//! It lives behind one lock: written by the apply thread, read by all others. Whatever takes long is
//! divided into turns, so that nobody holds that lock for more than a moment, or is done without it.
//!
//! ```text
//! under the write lock        anywhere, later               under the write lock
//! checkpoint ───────────────► Checkpoint::commit            –
//! prune_turn (a few) ───────► HashJob::run ───────────────► remember_hash
//! victim ───────────────────► Victim::run ────────────────► adopt, relocate (a few), release
//! ```
//!
//! # Invariants
//!
//! - What a restart finds is the state as of some entry, and the members' log has what follows.
//! - Pruning and collecting exclude each other.

pub(crate) mod table;

use crate::tally::Tally;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::error::Error;
use proto::etcdserverpb::{RangeRequest, ResponseHeader};
use storage::disk::Disk;
use storage::revlog::{
    self, Checkpoint, Collected, Mark, OpenError as RevlogError, Relocation, Revlog, Size, Victim,
};

use crate::alarm::Alarms;
use crate::fault::{Fatal, Stop};
use crate::lease::{self, LeaseId, Leases};
use crate::membership::Membership;
use crate::mvcc::Mvcc;
use crate::mvcc::hash::{HashJob, HashRun, HashTurn, KvHash};
use crate::mvcc::stream::{RangeStream, Turn};
use crate::quota::Quota;
use crate::watch::Hub;

/// Copies of records the index is told of under one lock: a few tenths of a millisecond.
pub const RELOCATIONS_PER_TURN: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub cluster_id: u64,
    pub member_id: u64,
    /// The bound on the store's size: 0 for the default, less for none.
    pub quota_bytes: i64,
    pub lease: lease::Config,
    /// Learners a cluster may have; see `--max-learners`.
    pub learners_max: usize,
    pub store: revlog::Config,
}

/// Why the state could not be opened.
#[derive(Debug)]
pub enum OpenError {
    Store(RevlogError),
    /// A row of a table is none of ours.
    Table {
        table: u8,
        what: &'static str,
    },
}

impl From<RevlogError> for OpenError {
    fn from(error: RevlogError) -> Self {
        Self::Store(error)
    }
}

impl From<revlog::Fatal> for OpenError {
    fn from(fatal: revlog::Fatal) -> Self {
        Self::Store(fatal.into())
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Table { table, what } => write!(f, "the store's table {table} holds {what}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// See the module, and the crate.
pub struct State {
    pub(crate) mvcc: Mvcc,
    pub(crate) leases: Leases,
    pub(crate) alarms: Alarms,
    pub(crate) membership: Membership,
    pub(crate) quota: Quota,
    /// The watchers. Only the thread that applies may change it.
    pub hub: Hub,
    pub(crate) applied: u64,
    pub(crate) term: u64,
    raft_term: AtomicU64,
    cluster_id: u64,
    member_id: u64,
    collecting: bool,
}

impl State {
    /// Opens the state kept in `dir`, or begins a new one there.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: Config) -> Result<Self, OpenError> {
        let (log, recovered) = Revlog::open(disk, dir, config.store)?;
        let mark = recovered.mark;
        let mut state = Self {
            mvcc: table::rebuild(log, mark, recovered.entries)?,
            leases: Leases::new(config.lease),
            alarms: Alarms::default(),
            membership: Membership { learners_max: config.learners_max, ..Membership::default() },
            quota: Quota::from_bytes(config.quota_bytes),
            hub: Hub::default(),
            applied: mark.consistent_index,
            term: mark.term,
            raft_term: AtomicU64::new(mark.term),
            cluster_id: config.cluster_id,
            member_id: config.member_id,
            collecting: false,
        };
        state.restore(&recovered.tables)?;
        state.attach_leases().map_err(|fatal| match fatal {
            Fatal::Store(fatal) => OpenError::from(fatal),
            Fatal::Record { what } => OpenError::Table { table: 0, what },
            Fatal::Entry { .. } => unreachable!("nothing is applied yet"),
        })?;
        Ok(state)
    }

    /// Keys know that they have a lease; which, is in their records.
    fn attach_leases(&mut self) -> Result<(), Fatal> {
        if self.leases.is_empty() {
            return Ok(());
        }
        let all = crate::mvcc::index::Span::From(Vec::new());
        let leased = self.mvcc.index.scan(&all, self.mvcc.head());
        let leased = leased.filter(|(_, point)| point.leased);
        let mut attached = Vec::new();
        for (key, point) in leased {
            attached.push((key.to_vec(), LeaseId(self.mvcc.key_value(&point)?.lease)));
        }
        for (key, lease) in attached {
            if self.leases.exists(lease) {
                self.leases.attach(&key, lease);
            }
        }
        Ok(())
    }

    /// Says who answers: known only after the log was opened, which needs the state.
    pub fn identify(&mut self, cluster_id: u64, member_id: u64) {
        self.cluster_id = cluster_id;
        self.member_id = member_id;
    }

    /// The newest revision.
    pub fn head(&self) -> i64 {
        self.mvcc.head()
    }

    /// Reads below this revision are refused; −1 before any compaction.
    pub fn compacted(&self) -> i64 {
        self.mvcc.compacted()
    }

    /// The last entry that was applied, and its term.
    pub fn applied(&self) -> (u64, u64) {
        (self.applied, self.term)
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// What was written since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.mvcc.tally)
    }

    pub fn size(&self) -> Size {
        self.mvcc.log.size()
    }

    /// How many keys the index knows, and whether a compaction is still being carried out.
    pub fn n_keys(&self) -> usize {
        self.mvcc.index.len()
    }

    /// How many keys are there.
    pub fn n_live_keys(&self) -> usize {
        self.mvcc.n_live()
    }

    /// What responses say of who answers, and when.
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: self.mvcc.head(),
            raft_term: self.raft_term.load(Ordering::Relaxed),
        }
    }

    /// The term this member's raft is in, for headers.
    pub fn set_raft_term(&self, term: u64) {
        self.raft_term.store(term, Ordering::Relaxed);
    }

    /// Tells the time, in milliseconds of a clock that never jumps back.
    pub fn tell(&mut self, now_ms: u64) {
        self.leases.tell(now_ms);
    }

    /// This member leads `term` now; see [`Leases`].
    pub fn promote(&mut self, term: u64, now_ms: u64, extend_ms: u64) {
        self.leases.promote(term, now_ms, extend_ms);
    }

    pub fn demote(&mut self) {
        self.leases.demote();
    }

    /// Begins a range that is answered in several messages. `size_target` is what a message should have,
    /// the bytes a request may have at most.
    pub fn range_stream(&self, request: RangeRequest, size_target: usize) -> RangeStream {
        RangeStream::new(request, self.header(), size_target)
    }

    /// Appends the next `RangeStreamResponse`.
    pub fn range_stream_step(
        &self,
        stream: &mut RangeStream,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Stop> {
        stream.step(&self.mvcc, out)
    }

    /// Whether no checkpoint was ever committed here.
    pub fn is_new(&self) -> bool {
        self.mvcc.log.is_new()
    }

    /// Captures what a restart will find. To be committed without the lock, in order.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let mark = Mark {
            consistent_index: self.applied,
            term: self.term,
            compacted: self.mvcc.finished(),
            scheduled: self.mvcc.compacted(),
            head: self.mvcc.head(),
        };
        self.mvcc.log.checkpoint(mark)
    }

    /// Roughly how many bytes a checkpoint would make durable.
    pub fn unsynced(&self) -> u64 {
        self.mvcc.log.unsynced()
    }

    /// Whether the index has forgotten all that the latest compaction gave up.
    pub fn is_pruned(&self) -> bool {
        self.mvcc.is_pruned()
    }

    /// Carries a compaction out a bit further. To be called until [`State::is_pruned`]. At a compaction's
    /// end there is a hash to compute, for [`State::remember_hash`].
    pub fn prune_turn(&mut self) -> Option<HashJob> {
        if self.collecting { None } else { self.mvcc.prune_turn() }
    }

    /// How many records compactions have given up since the state was opened.
    pub fn n_dropped(&self) -> u64 {
        self.mvcc.n_dropped
    }

    pub fn remember_hash(&mut self, hash: KvHash) {
        self.mvcc.hashes.remember(hash);
    }

    /// The remembered hashes of compactions, by revision.
    pub fn hashes(&self) -> impl Iterator<Item = KvHash> {
        self.mvcc.hashes.iter()
    }

    /// Begins to compute the hash at a revision; 0 is the head.
    pub fn hash(&self, revision: i64) -> HashRun {
        HashRun::new(revision)
    }

    /// Brings a hash a bit further.
    pub fn hash_turn(&self, run: &mut HashRun) -> Result<HashTurn, Error> {
        run.step(&self.mvcc)
    }

    /// Whether what is left of a lease is stored when it is checkpointed.
    pub(crate) fn persists_checkpoints(&self) -> bool {
        self.leases.persists_checkpoints() || self.membership.speaks(3, 6)
    }

    /// Ends the segment that is being written, so that from the next checkpoint on it can be collected.
    pub fn roll(&mut self) -> Result<(), Fatal> {
        Ok(self.mvcc.log.roll()?)
    }

    /// What is worth collecting, if anything is. To be run without the lock, then brought back by
    /// [`State::adopt`], [`State::relocate`] and [`State::release`].
    pub fn victim(&mut self, dead_percent_min: u64) -> Option<Victim> {
        if !self.is_pruned() || self.collecting {
            return None;
        }
        let victim = self.mvcc.log.victim(dead_percent_min);
        self.collecting = victim.is_some();
        victim
    }

    pub fn adopt(&mut self, collected: &Collected) {
        self.mvcc.log.adopt(collected);
    }

    /// Tells the index where records lie now: up to [`RELOCATIONS_PER_TURN`] that `Collected::next` named.
    pub fn relocate(&mut self, moved: &[Relocation]) {
        for Relocation { key, revision, from, to } in moved {
            let sub = u32::try_from(revision.sub).expect("what the index holds, it packed");
            let order = (revision.main, sub);
            if self.mvcc.index.relocate(key, order, *from, *to) {
                self.mvcc.recent.relocate(order, *to);
            }
        }
    }

    /// Gives the collected records' old places up.
    pub fn release(&mut self, collected: Collected) {
        self.mvcc.log.release(collected);
        self.mvcc.moves += 1;
        self.collecting = false;
    }
}
