//! From a folder to a member: what the disk remembers, put together again.
//!
//! ```text
//! <data-dir>/member/store   the state as of a checkpoint           ─┐
//! <data-dir>/member/wal     what raft promised since, in etcd's format ─┴─► the same member as before
//! ```
//!
//! A folder without a log is a first start: the founding log is written, the same on every founder.
//! From then on the log's metadata say who this member is, and flags about founding are not looked at.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use member::boot::{Founder, founding_log};
use member::{Member, identity};
use proto::etcdserverpb::{self, Metadata};
use proto::prost::Message;
use raft::{ConfState, Entry, EntryId, EntryKind, HardState, Index, Node, NodeId, Recovered, Term};
use state::{State, lease};
use storage::disk::{Disk, RealDisk};
use storage::revlog::{self, Hurry};
use storage::wal::{self, EntryRef, OpenError, SnapshotMark, Wal};

use crate::config::{Config, Gate, Quota};
use crate::drive::membership;
use crate::log::{self, Logger, Value};
use crate::start::StartError;

/// A member ready to be driven.
pub(crate) struct Booted {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) member: Member,
    pub(crate) state: State,
    pub(crate) wal: Wal,
    /// The last entry found in the log.
    pub(crate) last: u64,
}

/// What the log remembers.
struct Remembered {
    wal: Wal,
    cluster_id: u64,
    member_id: u64,
    hard_state: HardState,
    entries: Vec<Entry>,
}

pub(crate) fn boot(config: &Config, logger: &Logger) -> Result<Booted, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store_dir = config.storage.data_dir.join("member").join("store");
    let wal_dir = &config.storage.wal_dir;
    create_dir(&*disk, &config.storage.data_dir)?;
    create_dir(&*disk, &store_dir)?;
    let mut state = open_store(&disk, &store_dir, config)?;
    let (applied, term) = state.applied();
    let remembered = if has_log(&*disk, wal_dir) {
        let mark = SnapshotMark { index: applied, term };
        let remembered = reopen(&disk, wal_dir, mark, logger)?;
        if remembered.hard_state.commit == Index(0) {
            found_again(remembered, wal_dir, config)?
        } else {
            remembered
        }
    } else if state.is_new() {
        found(&disk, wal_dir, config)?
    } else {
        let dir = wal_dir.display();
        return Err(StartError(format!("{dir}: the log is gone, but the store is not")));
    };
    if state.is_new() {
        // From now on a log that is gone is missed.
        state.checkpoint().commit(&mut Hurry).map_err(|e| StartError(e.to_string()))?;
    }
    let Remembered { wal, cluster_id, member_id, hard_state, entries } = remembered;
    state.identify(cluster_id, member_id);
    let last = entries.last().map_or(applied, |entry| entry.index.0);
    let conf_state = conf_state(&state);
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
    let member = Member::new(node, contexts_from(member_id));
    Ok(Booted { cluster_id, member_id, member, state, wal, last })
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

fn open_store(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<State, StartError> {
    let opened = State::open(Arc::clone(disk), dir, state_config(config));
    opened.map_err(|error| match error {
        state::state::OpenError::Store(error) => StartError(error.to_string()),
        error @ state::state::OpenError::Table { .. } => {
            StartError(format!("{}: {error}", dir.display()))
        }
    })
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
    };
    let store = revlog::Config::default();
    state::Config { cluster_id: 0, member_id: 0, quota_bytes, lease, store }
}

fn raft_config(config: &Config, member_id: u64) -> Result<raft::Config, StartError> {
    let id = NodeId::new(member_id).ok_or_else(|| StartError("the member's id is 0".into()))?;
    let ticks = u32::try_from(config.raft.election_ticks).unwrap_or(u32::MAX);
    let seed = member_id ^ now_ms();
    let pre_vote = config.raft.pre_vote;
    Ok(raft::Config { election_ticks: ticks, pre_vote, ..raft::Config::new(id, seed) })
}

fn conf_state(state: &State) -> ConfState {
    let ids = |learners: bool| {
        let members = state.membership().members();
        let of_kind = members.filter(|member| member.is_learner == learners);
        of_kind.filter_map(|member| NodeId::new(member.id)).collect()
    };
    ConfState::new(ids(false), ids(true))
}

/// The first start: a new log, that begins with the founding of the cluster.
fn found(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<Remembered, StartError> {
    let (cluster_id, member_id, founders) = founders(config)?;
    let metadata = Metadata { node_id: Some(member_id), cluster_id: Some(cluster_id) };
    let io = |e| StartError(format!("{}: {e}", dir.display()));
    let wal = Wal::create(Arc::clone(disk), dir, &metadata.encode_to_vec()).map_err(io)?;
    write_founding_log(wal, cluster_id, member_id, &founders).map_err(io)
}

fn write_founding_log(
    mut wal: Wal,
    cluster_id: u64,
    member_id: u64,
    founders: &[Founder],
) -> std::io::Result<Remembered> {
    let (hard_state, entries) = founding_log(founders);
    let records = entries.iter().map(|entry| EntryRef {
        kind: entry.kind as u8,
        term: entry.term.0,
        index: entry.index.0,
        data: &entry.data,
    });
    let commit = hard_state.commit.0;
    let state = wal::HardState { term: hard_state.term.0, vote: 0, commit };
    wal.append(records, Some(state))?;
    wal.flush()?;
    Ok(Remembered { wal, cluster_id, member_id, hard_state, entries })
}

/// A first start that was cut short: the log is there, and nothing was promised yet.
fn found_again(
    remembered: Remembered,
    dir: &Path,
    config: &Config,
) -> Result<Remembered, StartError> {
    let Remembered { wal, cluster_id, member_id, .. } = remembered;
    let dir = dir.display();
    let (cluster, own, founders) = founders(config)?;
    if (cluster, own) != (cluster_id, member_id) {
        let what = "the log was begun for another cluster, by a start that was cut short";
        return Err(StartError(format!("{dir}: {what}")));
    }
    write_founding_log(wal, cluster_id, member_id, &founders)
        .map_err(|e| StartError(format!("{dir}: {e}")))
}

/// Ids of the cluster and of this member, and all founders.
fn founders(config: &Config) -> Result<(u64, u64, Vec<Founder>), StartError> {
    let named = config.bootstrap.founders(&resolve).map_err(|e| StartError(e.to_string()))?;
    let token = &config.bootstrap.token;
    let mut own = None;
    let mut founders = Vec::new();
    for founder in &named {
        let urls: Vec<String> = founder.peer_urls.iter().map(|u| u.as_str().to_owned()).collect();
        let id = identity::member_id(&urls, token, None);
        if founder.name == config.name {
            own = Some(id);
        }
        let member = etcdserverpb::Member {
            id,
            name: founder.name.clone(),
            peer_urls: urls,
            ..etcdserverpb::Member::default()
        };
        founders.push(Founder { id, context: membership::encode(&member) });
    }
    let ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    let own = own.ok_or_else(|| StartError("this member is not among the founders".into()))?;
    if founders.len() > 1 {
        return Err(StartError("retcd does not support clusters of several members yet".into()));
    }
    Ok((identity::cluster_id(&ids), own, founders))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut found = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| format!("no address for {host}"))
}

/// Every later start: the log says who we are, and what was promised.
fn reopen(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    after: SnapshotMark,
    logger: &Logger,
) -> Result<Remembered, StartError> {
    let opened = Wal::open(Arc::clone(disk), dir, after);
    let (wal, found) = opened.map_err(|e: OpenError| StartError(e.to_string()))?;
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
    Ok(Remembered { wal, cluster_id, member_id, hard_state, entries })
}
