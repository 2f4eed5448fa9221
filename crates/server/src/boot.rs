//! From a folder to a member: what the disk remembers, put together again.
//!
//! ```text
//! <data-dir>/member/store   the state as of a checkpoint           ─┐
//! <data-dir>/member/wal     what raft promised since, in etcd's format ─┴─► the same member as before
//! ```
//!
//! A folder without a log is a first start: see [`founding`]. From then on the log's metadata say who
//! this member is, and flags about founding are not looked at.

mod founding;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use member::Member;
use member::pending::Patience;
use member::roster;
use proto::etcdserverpb::Metadata;
use proto::prost::Message;
use raft::{Entry, EntryId, EntryKind, HardState, Index, Node, NodeId, Recovered, Term};
use state::restore::{self, RestoreError};
use state::state::OpenError;
use state::{State, lease};
use storage::disk::{Disk, RealDisk};
use storage::revlog::{self, Hurry};
use storage::wal::{self, SnapshotMark, Wal};

use crate::config::{Config, Gate, Quota};
use crate::engine::Home;
use crate::log::{self, Logger, Value};
use crate::start::{self, StartError};

/// A read that nobody answers is asked again after this long, as in etcd.
const READ_RETRY_MS: u64 = 500;

/// A member ready to be driven.
pub(crate) struct Booted {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) member: Member,
    pub(crate) state: State,
    pub(crate) wal: Wal,
    /// The last entry found in the log.
    pub(crate) last: u64,
    /// Where to find the others before the log says so: ids and peer URLs.
    pub(crate) others: Vec<(u64, Vec<String>)>,
}

/// What the log remembers.
struct Remembered {
    wal: Wal,
    cluster_id: u64,
    member_id: u64,
    hard_state: HardState,
    entries: Vec<Entry>,
    /// Of a member that joins: who is there.
    others: Vec<(u64, Vec<String>)>,
}

pub(crate) fn boot(config: &Config, logger: &Logger) -> Result<Booted, StartError> {
    let home = home(config);
    let disk = Arc::clone(&home.disk);
    let wal_dir = &config.storage.wal_dir;
    refuse_theirs(&home)?;
    create_dir(&*disk, &config.storage.data_dir)?;
    create_dir(&*disk, &home.snapshot_dir)?;
    let mut state = open_store(&home)?;
    finish_install(&home, wal_dir, &mut state, logger)?;
    let (applied, term) = state.applied();
    let remembered = if has_log(&*disk, wal_dir) {
        let mark = SnapshotMark { index: applied, term };
        let remembered = reopen(&disk, wal_dir, mark, logger)?;
        if remembered.hard_state.commit == Index(0) && applied == 0 {
            founding::resume(remembered, wal_dir, config)?
        } else {
            remembered
        }
    } else if state.is_new() {
        founding::begin(&disk, wal_dir, config)?
    } else {
        let dir = wal_dir.display();
        return Err(StartError(format!("{dir}: the log is gone, but the store is not")));
    };
    if state.is_new() {
        // From now on a log that is gone is missed.
        state.checkpoint().commit(&mut Hurry).map_err(|e| StartError(e.to_string()))?;
    }
    let Remembered { wal, cluster_id, member_id, hard_state, entries, others } = remembered;
    if state.membership().is_removed(member_id) {
        let text = "the member has been permanently removed from the cluster";
        return Err(StartError(text.into()));
    }
    state.identify(cluster_id, member_id);
    let last = entries.last().map_or(applied, |entry| entry.index.0);
    let conf_state = roster::conf_state(&state);
    let recovered = Recovered {
        hard_state,
        snapshot: EntryId::new(Index(applied), Term(term)),
        entries,
        applied: Index(applied),
        conf_state,
    };
    let node = Node::new(raft_config(config, member_id)?, recovered)
        .map_err(|e| StartError(format!("{}: the log makes no sense: {e:?}", wal_dir.display())))?;
    log::info!(
        logger,
        "restored the member",
        "member-id" = Value::Id(member_id),
        "cluster-id" = Value::Id(cluster_id),
        "applied-index" = applied,
        "last-index" = last,
        "commit-index" = node.status().commit.0,
        "revision" = state.head()
    );
    let member = Member::new(node, contexts_from(member_id), patience(config));
    Ok(Booted { cluster_id, member_id, member, state, wal, last, others })
}

/// How often a read is asked again, and how long anything waits for a leader.
fn patience(config: &Config) -> Patience {
    let tick_ms = config.raft.heartbeat_interval_ms.max(1);
    let ticks = |ms: u64| ms.div_ceil(tick_ms).max(1);
    let retry_ticks = ticks(READ_RETRY_MS);
    Patience { retry_ticks, give_up_ticks: ticks(start::request_timeout_ms(config)) }
}

/// Names of reads begin anew with each start, and never where an earlier start has been.
fn contexts_from(member_id: u64) -> u64 {
    (member_id << 56) | (now_ms() << 16 & (u64::MAX >> 8))
}

/// Wall-clock time: for names that must differ between starts, never for order or duration.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StartError> {
    disk.create_dir(dir).map_err(|e| StartError(format!("cannot make {}: {e}", dir.display())))
}

/// etcd's store holds what its log may not say: after `etcdutl snapshot restore`, everything.
/// From the log alone such a member would start empty, and well.
fn refuse_theirs(home: &Home) -> Result<(), StartError> {
    let files = |dir: &Path| home.disk.list(dir).unwrap_or_default();
    let theirs = files(&home.snapshot_dir).iter().any(|name| name == "db");
    if theirs && files(&home.member_dir.join("store")).is_empty() {
        let db = home.snapshot_dir.join("db");
        return Err(StartError(format!("{}: a store of etcd's cannot be opened", db.display())));
    }
    Ok(())
}

fn open_store(home: &Home) -> Result<State, StartError> {
    let opened = restore::open(&home.disk, &home.member_dir, home.state);
    opened.map_err(|error| match error {
        RestoreError::Store(OpenError::Table { .. }) => {
            StartError(format!("{}: {error}", home.member_dir.display()))
        }
        RestoreError::Store(OpenError::Store(_))
        | RestoreError::File(_)
        | RestoreError::Row { .. }
        | RestoreError::Io(_) => StartError(error.to_string()),
    })
}

/// A snapshot that came, and that the log knows of, but that a crash kept from becoming the state.
fn finish_install(
    home: &Home,
    wal_dir: &Path,
    state: &mut State,
    logger: &Logger,
) -> Result<(), StartError> {
    let told = |error: &dyn fmt::Display| StartError(format!("snapshot: {error}"));
    let applied = state.applied().0;
    let mut came: Vec<u64> = home.snapshots().into_iter().filter(|i| *i > applied).collect();
    if !came.is_empty() {
        let marks = Wal::marks(&*home.disk, wal_dir).map_err(|e| told(&e))?;
        came.retain(|index| marks.iter().any(|mark| mark.index == *index));
    }
    if let Some(index) = came.pop() {
        let file = home.snapshot(index);
        *state = restore::build(&home.disk, &file, &home.member_dir, home.state, &mut Hurry)
            .map_err(|e| told(&e))?;
        restore::remove_older(&*home.disk, &home.member_dir).map_err(|e| told(&e))?;
        log::info!(logger, "applied snapshot", "snapshot-index" = index);
    }
    // Of those raft never got to hear of, the leader sends another.
    home.remove_snapshots(u64::MAX, &mut Hurry).map_err(|e| told(&e))
}

/// Where the member of `config` lives.
pub(crate) fn home(config: &Config) -> Home {
    let member_dir = config.storage.data_dir.join("member");
    Home {
        disk: Arc::new(RealDisk),
        snapshot_dir: member_dir.join("snap"),
        member_dir,
        state: state_config(config),
    }
}

fn has_log(disk: &dyn Disk, dir: &Path) -> bool {
    disk.list(dir).is_ok_and(|names| names.iter().any(|name| name.ends_with(".wal")))
}

fn state_config(config: &Config) -> state::Config {
    let quota_bytes = match config.storage.quota {
        Quota::Unlimited => -1,
        Quota::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    // Half as long again as an election takes, in whole seconds: a lease outlives a change of leaders.
    let ttl_min = (3 * config.raft.election_timeout_ms).div_ceil(2 * 1000).max(1);
    let lease = lease::Config {
        ttl_min: i64::try_from(ttl_min).unwrap_or(i64::MAX),
        checkpoint: config.gates.is_open(Gate::LeaseCheckpoint),
        checkpoint_persist: config.gates.is_open(Gate::LeaseCheckpointPersist),
        checkpoint_interval_ms: lease::CHECKPOINT_INTERVAL_MS,
    };
    let store = revlog::Config::default();
    let learners_max = config.raft.learners_max;
    state::Config { cluster_id: 0, member_id: 0, quota_bytes, lease, learners_max, store }
}

fn raft_config(config: &Config, member_id: u64) -> Result<raft::Config, StartError> {
    let id = NodeId::new(member_id).ok_or_else(|| StartError("the member's id is 0".into()))?;
    let ticks = u32::try_from(config.raft.election_ticks).unwrap_or(u32::MAX);
    let seed = member_id ^ now_ms();
    let pre_vote = config.raft.pre_vote;
    Ok(raft::Config { election_ticks: ticks, pre_vote, ..raft::Config::new(id, seed) })
}

/// Every later start: the log says who we are, and what was promised.
fn reopen(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    after: SnapshotMark,
    logger: &Logger,
) -> Result<Remembered, StartError> {
    let opened = Wal::open(Arc::clone(disk), dir, after);
    let (wal, found) = opened.map_err(|e| StartError(e.to_string()))?;
    if let Some(torn) = &found.torn {
        log::info!(logger, "the last write was cut short by a crash", "at" = &torn.to_string());
    }
    let damaged = |what: &str| StartError(format!("{}: {what}", dir.display()));
    let metadata = Metadata::decode(&found.metadata[..])
        .map_err(|_| damaged("the log does not say whose it is"))?;
    let (member_id, cluster_id) = (metadata.node_id(), metadata.cluster_id());
    let mut entries = Vec::with_capacity(found.entries.len());
    for entry in found.entries {
        let kind = EntryKind::from_number(u64::from(entry.kind))
            .ok_or_else(|| damaged("the log holds an entry of an unknown kind"))?;
        let (term, index) = (Term(entry.term), Index(entry.index));
        entries.push(Entry { term, index, kind, data: entry.data });
    }
    let wal::HardState { term, vote, commit } = found.hard_state;
    let hard_state = HardState { term: Term(term), vote: NodeId::new(vote), commit: Index(commit) };
    let others = Vec::new();
    Ok(Remembered { wal, cluster_id, member_id, hard_state, entries, others })
}
