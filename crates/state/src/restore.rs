//! A state from a snapshot's file: what another member, or etcd itself, has handed out.
//!
//! The file's records and tables are written into a store of their own, beside the one there is. It
//! counts from the moment its first checkpoint is committed, whole or not at all:
//!
//! ```text
//! member/store                     the state so far
//! member/store-2  ◄── build ── snap/00000000000004d2.snap.db
//!        └─ committed: from now on the newest generation that is whole is the store
//! ```
//!
//! # Invariants
//!
//! - Whatever moment a crash picks, the next start finds the old store whole or the new one whole.
//! - Memory is bounded, whatever the size of the file: a record at a time.
//!
//! # Not here
//!
//! When to do it, and the log that must know of the snapshot before.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proto::etcdserverpb::Member;
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use serde_json::Value;
use storage::bolt::reader::{BoltError, Reader};
use storage::disk::Disk;
use storage::revlog::{self, Mark, Meta, Pace, Revision, Revlog};

use crate::State;
use crate::membership::member_of;
use crate::state::{Config, OpenError, table};
use crate::watch::ShardId;

const KEY_SIZE: usize = 17;
const TOMBSTONE: u8 = b't';
/// The name of the first store; those that came of snapshots have a number behind it.
const STORE: &str = "store";

/// Records written before there may be a rest.
const RECORDS_PER_STEP: usize = 64;

/// Why a snapshot's file could not be made a state of.
#[derive(Debug)]
pub enum RestoreError {
    File(BoltError),
    /// A row of this bucket is none that etcd writes.
    Row {
        bucket: &'static str,
    },
    Store(OpenError),
    Io(io::Error),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Row { bucket } => {
                write!(f, "bbolt: bucket {bucket} holds a row of no known form")
            }
            Self::Store(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<BoltError> for RestoreError {
    fn from(error: BoltError) -> Self {
        Self::File(error)
    }
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<revlog::Fatal> for RestoreError {
    fn from(fatal: revlog::Fatal) -> Self {
        Self::Store(OpenError::from(fatal))
    }
}

impl From<revlog::OpenError> for RestoreError {
    fn from(error: revlog::OpenError) -> Self {
        Self::Store(OpenError::from(error))
    }
}

/// The folders of stores in `member_dir`, oldest first.
fn generations(disk: &dyn Disk, member_dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let names = match disk.list(member_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let generation = |name: &String| match name.strip_prefix(STORE)? {
        "" => Some(1),
        number => number.strip_prefix('-')?.parse().ok(),
    };
    let found = names.iter().filter_map(|name| Some((generation(name)?, member_dir.join(name))));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    Ok(found)
}

/// Opens the store in `member_dir`: the newest that is whole, or a new one. Others are removed.
pub fn open(
    disk: &Arc<dyn Disk>,
    member_dir: &Path,
    config: Config,
) -> Result<State, RestoreError> {
    disk.create_dir(member_dir)?;
    let mut found = generations(&**disk, member_dir)?;
    while let Some((_, dir)) = found.pop() {
        let state = State::open(Arc::clone(disk), &dir, config).map_err(RestoreError::Store)?;
        // One that was never committed is what a crash has left of a restore.
        if state.is_new() && !found.is_empty() {
            drop(state);
            remove(&**disk, &dir)?;
            continue;
        }
        for (_, older) in found {
            remove(&**disk, &older)?;
        }
        return Ok(state);
    }
    State::open(Arc::clone(disk), &member_dir.join(STORE), config).map_err(RestoreError::Store)
}

/// Removes all stores but the newest: what is left of those that were replaced.
pub fn remove_older(disk: &dyn Disk, member_dir: &Path) -> io::Result<()> {
    let mut found = generations(disk, member_dir)?;
    found.pop();
    found.iter().try_for_each(|(_, dir)| remove(disk, dir))
}

fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        disk.remove(&dir.join(name))?;
    }
    disk.remove_dir(dir)
}

/// Makes a state of the snapshot in `file`, in a store of its own beside the one there is. Once this
/// has returned it is durable, and the next start will find it.
pub fn build(
    disk: &Arc<dyn Disk>,
    file: &Path,
    member_dir: &Path,
    config: Config,
    pace: &mut dyn Pace,
) -> Result<State, RestoreError> {
    let newest = generations(&**disk, member_dir)?.last().map_or(0, |(number, _)| *number);
    let name = if newest == 0 { STORE.to_owned() } else { format!("{STORE}-{}", newest + 1) };
    let dir = member_dir.join(name);
    let reader = Reader::open(disk.open(file)?)?;
    let (mut log, _) = Revlog::open(Arc::clone(disk), &dir, config.store)?;
    let head = copy_records(&reader, &mut log, pace)?;
    copy_tables(&reader, &mut log)?;
    let mark = mark(&reader, head)?;
    log.checkpoint(mark).commit(pace)?;
    drop(log);
    State::open(Arc::clone(disk), &dir, config).map_err(RestoreError::Store)
}

/// Returns the newest revision.
fn copy_records(
    reader: &Reader,
    log: &mut Revlog,
    pace: &mut dyn Pace,
) -> Result<i64, RestoreError> {
    const BUCKET: &str = "key";
    let malformed = || RestoreError::Row { bucket: BUCKET };
    let bucket = reader.bucket(BUCKET.as_bytes())?.ok_or_else(malformed)?;
    let mut cursor = bucket.cursor()?;
    let mut last = Revision { main: 0, sub: 0 };
    let mut head = 1;
    let mut n_records = 0_usize;
    while let Some(row) = cursor.next()? {
        let (revision, tombstone) = revision_of(row.key).ok_or_else(malformed)?;
        let value = Bytes::copy_from_slice(row.value);
        let kv = KeyValue::decode(value.clone()).map_err(|_| malformed())?;
        let sane = revision > last && u32::try_from(revision.sub).is_ok() && !kv.key.is_empty();
        let bare = kv.create_revision == 0 && kv.version == 0 && kv.lease == 0;
        if !sane || (tombstone && !bare) || (!tombstone && kv.mod_revision != revision.main) {
            return Err(malformed());
        }
        last = revision;
        head = head.max(revision.main);
        let meta = Meta {
            revision,
            tombstone,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
        };
        log.append(&meta, &kv.key, &value)?;
        n_records += 1;
        if n_records.is_multiple_of(RECORDS_PER_STEP) {
            log.write_out(pace)?;
        }
    }
    Ok(head)
}

/// `main _ sub`, and a `t` if it is a tombstone.
fn revision_of(key: &[u8]) -> Option<(Revision, bool)> {
    let (revision, mark) = key.split_at_checked(KEY_SIZE)?;
    let number = |at: usize| Some(i64::from_be_bytes(revision.get(at..at + 8)?.try_into().ok()?));
    let (main, sub) = (number(0)?, number(9)?);
    let tombstone = match mark {
        [] => false,
        [TOMBSTONE] => true,
        _ => return None,
    };
    (revision[8] == b'_' && main > 0 && sub >= 0).then_some((Revision { main, sub }, tombstone))
}

fn copy_tables(reader: &Reader, log: &mut Revlog) -> Result<(), RestoreError> {
    each_row(reader, "lease", |key, value| {
        log.table_set(table::LEASES, key, Some(value));
        Some(())
    })?;
    each_row(reader, "alarm", |key, _| {
        log.table_set(table::ALARMS, key, Some(&[]));
        Some(())
    })?;
    each_row(reader, "members", |key, value| {
        let said: Value = serde_json::from_slice(value).ok()?;
        let member = Member { id: id_of(key)?, ..member_of(&said) };
        let row = member.encode_to_vec();
        log.table_set(table::MEMBERS, &member.id.to_be_bytes(), Some(&row));
        Some(())
    })?;
    each_row(reader, "members_removed", |key, _| {
        log.table_set(table::REMOVED, &id_of(key)?.to_be_bytes(), Some(&[]));
        Some(())
    })?;
    each_row(reader, "cluster", |key, value| {
        match key {
            b"clusterVersion" => {
                log.table_set(table::CLUSTER, table::CLUSTER_VERSION, Some(value));
            }
            b"downgrade" => {
                let said: Value = serde_json::from_slice(value).ok()?;
                let mut row = vec![u8::from(said["enabled"].as_bool().unwrap_or_default())];
                row.extend_from_slice(said["target-version"].as_str().unwrap_or("").as_bytes());
                log.table_set(table::CLUSTER, table::DOWNGRADE, Some(&row));
            }
            // Other versions may note more; it means nothing here.
            _ => {}
        }
        Some(())
    })
}

/// Calls `each` with the rows of a bucket, if it is there.
fn each_row(
    reader: &Reader,
    name: &'static str,
    mut each: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Result<(), RestoreError> {
    let Some(bucket) = reader.bucket(name.as_bytes())? else { return Ok(()) };
    let mut cursor = bucket.cursor()?;
    while let Some(row) = cursor.next()? {
        each(row.key, row.value).ok_or(RestoreError::Row { bucket: name })?;
    }
    Ok(())
}

fn id_of(hex: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn mark(reader: &Reader, head: i64) -> Result<Mark, RestoreError> {
    const BUCKET: &str = "meta";
    let malformed = || RestoreError::Row { bucket: BUCKET };
    let bucket = reader.bucket(BUCKET.as_bytes())?.ok_or_else(malformed)?;
    let number = |name: &str| -> Result<u64, RestoreError> {
        let Some(value) = bucket.get(name.as_bytes())? else { return Ok(0) };
        let bytes = value.as_slice().try_into().map_err(|_| malformed())?;
        Ok(u64::from_be_bytes(bytes))
    };
    let revision = |name: &str| -> Result<i64, RestoreError> {
        let Some(value) = bucket.get(name.as_bytes())? else { return Ok(-1) };
        revision_of(&value).map(|(revision, _)| revision.main).ok_or_else(malformed)
    };
    let compacted = revision("finishedCompactRev")?;
    let scheduled = revision("scheduledCompactRev")?.max(compacted);
    Ok(Mark {
        consistent_index: number("consistent_index")?,
        term: number("term")?,
        compacted,
        scheduled,
        // A compaction may have removed all there was.
        head: head.max(scheduled),
    })
}

impl State {
    /// Puts `restored` in this state's place, whose watchers and clients stay. The watchers of all
    /// `shards` are sent back to the history: each shard has to be told what is returned for it,
    /// the number of a delivery that never comes, and the revision from which on to look.
    pub fn replace_by(
        &mut self,
        restored: State,
        shards: impl Iterator<Item = ShardId>,
    ) -> Vec<(ShardId, u64, i64)> {
        let head = self.head();
        self.hub.admit(head);
        let lost = self.hub.forget(shards);
        let header = self.header();
        let old = std::mem::replace(self, restored);
        self.identify(header.cluster_id, header.member_id);
        self.set_raft_term(header.raft_term);
        self.hub = old.hub;
        self.leases.tell(old.leases.now_ms());
        // Whoever remembers places of the old store looks them up again.
        self.mvcc.moves = old.mvcc.moves + 1;
        lost.into_iter().map(|(shard, sequence)| (shard, sequence, head + 1)).collect()
    }
}
