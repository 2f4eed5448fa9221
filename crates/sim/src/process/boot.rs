//! From a disk to a process: what the server's `boot` does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use member::boot::{Founder, founding_log};
use member::pending::Patience;
use member::roster;
use member::{Effects, Member, View, durable};
use proto::etcdserverpb::Metadata;
use proto::prost::Message as _;
use raft::{Entry, EntryId, EntryKind, HardState, Index, Node, NodeId, Recovered, Term};
use state::{State, lease, restore};
use storage::disk::Disk;
use storage::revlog::{self, Hurry};
use storage::wal::{self, Settings, SnapshotMark, Wal};

use super::keeping::Keeping;
use super::watching::shards;
use super::{Alive, Death, MEMBER_DIR, Process, SNAPSHOT_DIR, WAL_DIR, snapshot_path};
use crate::model::TTL_MIN;
use crate::oracle::Oracle;

/// Small, so that segments come and go.
const WAL_SEGMENT_SIZE: u64 = 8 << 10;
const STORE_SEGMENT_SIZE: u64 = 4 << 10;
const LEDGER_SIZE_MIN: u64 = 4 << 10;
/// So often what is left of leases is written to the log, in milliseconds.
const CHECKPOINT_INTERVAL_MS: u64 = 1_500;
const CLUSTER_ID: u64 = 0xc1;

/// What a machine is told about its first start.
#[derive(Clone, Debug)]
pub(crate) struct Founding {
    pub(crate) id: u64,
    /// Empty for one that joins.
    pub(crate) founders: Vec<Founder>,
    /// How much goes into one append: little, so that logs are caught up with bit by bit.
    pub(crate) message_bytes_max: u64,
    /// Whether what is left of leases is written to the log.
    pub(crate) checkpoints: bool,
}

/// What the log remembers.
struct Remembered {
    wal: Wal,
    hard_state: HardState,
    entries: Vec<Entry>,
}

fn state_config(checkpoints: bool) -> state::Config {
    let lease = lease::Config {
        ttl_min: TTL_MIN,
        checkpoint: checkpoints,
        checkpoint_persist: checkpoints,
        checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
    };
    let store =
        revlog::Config { segment_size_max: STORE_SEGMENT_SIZE, ledger_size_min: LEDGER_SIZE_MIN };
    state::Config { cluster_id: 0, member_id: 0, quota_bytes: -1, lease, learners_max: 2, store }
}

/// Starts the process of a machine; `now` is the virtual time in microseconds.
pub(crate) fn boot(
    disk: Arc<dyn Disk>,
    founding: &Founding,
    now: u64,
    oracle: &mut Oracle,
) -> Alive<Process> {
    let (mut state, Remembered { wal, hard_state, entries }) = recover(&disk, founding)?;
    let (applied, term) = state.applied();
    if state.is_new() {
        // From now on a log that is gone is missed.
        state.checkpoint().commit(&mut Hurry)?;
    }
    state.identify(CLUSTER_ID, founding.id);
    state.tell(now / 1000);
    oracle.starts(founding.id, (applied, term), &entries);
    oracle.explain_state(&state);
    let recovered = Recovered {
        hard_state,
        snapshot: EntryId::new(Index(applied), Term(term)),
        entries,
        applied: Index(applied),
        conf_state: roster::conf_state(&state),
    };
    let id = NodeId::new(founding.id).expect("ids are not 0");
    let message_bytes_max = founding.message_bytes_max;
    let config = raft::Config { message_bytes_max, ..raft::Config::new(id, founding.id ^ now) };
    let node = Node::new(config, recovered)
        .map_err(|error| Death(format!("the log makes no sense: {error:?}")))?;
    let contexts_from = (founding.id << 56) | (now << 8 & (u64::MAX >> 8));
    let patience = Patience { retry_ticks: 5, give_up_ticks: 70 };
    let member = Member::new(node, contexts_from, patience);
    Ok(process(founding, disk, member, wal, state))
}

/// Up to which entry a machine would know, started on this disk, that all was agreed upon.
pub(crate) fn knows(disk: &Arc<dyn Disk>, founding: &Founding) -> Alive<u64> {
    let (state, remembered) = recover(disk, founding)?;
    Ok(state.applied().0.max(remembered.hard_state.commit.0))
}

fn recover(disk: &Arc<dyn Disk>, founding: &Founding) -> Alive<(State, Remembered)> {
    disk.create_dir(Path::new(MEMBER_DIR))?;
    disk.create_dir(Path::new(SNAPSHOT_DIR))?;
    let config = state_config(founding.checkpoints);
    let mut state = restore::open(disk, Path::new(MEMBER_DIR), config)?;
    finish_install(disk, config, &mut state)?;
    let remembered = remember(disk, founding, &state)?;
    Ok((state, remembered))
}

fn process(
    founding: &Founding,
    disk: Arc<dyn Disk>,
    member: Member,
    wal: Wal,
    state: State,
) -> Process {
    Process {
        id: founding.id,
        config: state_config(founding.checkpoints),
        disk,
        shown: View::default(),
        member,
        effects: Effects::default(),
        wal,
        saved: state.applied().0,
        state,
        inbox: VecDeque::new(),
        turning: false,
        log: VecDeque::new(),
        flushing: None,
        marks_asked: 0,
        marks_durable: 0,
        apply: VecDeque::new(),
        applying: false,
        unsaved: 0,
        leads_in: None,
        keeping: Keeping::Idle,
        checkpoint_due: false,
        waiting: BTreeSet::new(),
        reads: BTreeMap::new(),
        ripening: Vec::new(),
        outgoing: BTreeMap::new(),
        shards: shards(),
        errands: BTreeMap::new(),
        rounds: BTreeMap::new(),
        n_rounds: 0,
        ticked_ms: 0,
        scratch: Vec::new(),
    }
}

fn remember(disk: &Arc<dyn Disk>, founding: &Founding, state: &State) -> Alive<Remembered> {
    let dir = Path::new(WAL_DIR);
    let (applied, term) = state.applied();
    let has_log = disk.list(dir).is_ok_and(|names| names.iter().any(|n| n.ends_with(".wal")));
    if has_log {
        let remembered = reopen(disk, SnapshotMark { index: applied, term })?;
        let is_begun = remembered.hard_state.commit > Index(0) || applied > 0;
        let joins = founding.founders.is_empty();
        return if is_begun || joins { Ok(remembered) } else { found(remembered.wal, founding) };
    }
    if !state.is_new() {
        return Err(Death("the log is gone, but the store is not".into()));
    }
    let metadata = Metadata { node_id: Some(founding.id), cluster_id: Some(CLUSTER_ID) };
    let wal = Wal::create_with(Arc::clone(disk), dir, &metadata.encode_to_vec(), settings())?;
    found(wal, founding)
}

fn settings() -> Settings {
    Settings { segment_size: WAL_SEGMENT_SIZE }
}

/// One that joins begins with nothing.
fn found(mut wal: Wal, founding: &Founding) -> Alive<Remembered> {
    if founding.founders.is_empty() {
        return Ok(Remembered { wal, hard_state: HardState::default(), entries: Vec::new() });
    }
    let (hard_state, entries) = founding_log(&founding.founders);
    durable::append(&mut wal, &entries, Some(hard_state))?;
    wal.flush()?;
    Ok(Remembered { wal, hard_state, entries })
}

fn reopen(disk: &Arc<dyn Disk>, after: SnapshotMark) -> Alive<Remembered> {
    let (wal, found) = Wal::open_with(Arc::clone(disk), Path::new(WAL_DIR), after, settings())?;
    let entry = |entry: wal::Entry| Entry {
        term: Term(entry.term),
        index: Index(entry.index),
        kind: EntryKind::from_number(u64::from(entry.kind)).expect("a kind that was written"),
        data: entry.data,
    };
    let entries = found.entries.into_iter().map(entry).collect();
    let wal::HardState { term, vote, commit } = found.hard_state;
    let hard_state = HardState { term: Term(term), vote: NodeId::new(vote), commit: Index(commit) };
    Ok(Remembered { wal, hard_state, entries })
}

/// A snapshot that came, and that the log knows of, but that a crash kept from becoming the state.
fn finish_install(disk: &Arc<dyn Disk>, config: state::Config, state: &mut State) -> Alive {
    let applied = state.applied().0;
    let mut came: Vec<u64> = snapshots(&**disk).into_iter().filter(|i| *i > applied).collect();
    if !came.is_empty() {
        let marks = Wal::marks(&**disk, Path::new(WAL_DIR))?;
        came.retain(|index| marks.iter().any(|mark| mark.index == *index));
    }
    if let Some(index) = came.pop() {
        let dir = Path::new(MEMBER_DIR);
        *state = restore::build(disk, &snapshot_path(index), dir, config, &mut Hurry)?;
        restore::remove_older(&**disk, dir)?;
    }
    Ok(remove_snapshots(&**disk, u64::MAX)?)
}

fn snapshots(disk: &dyn Disk) -> Vec<u64> {
    let names = disk.list(Path::new(SNAPSHOT_DIR)).unwrap_or_default();
    let index = |name: &String| u64::from_str_radix(name.strip_suffix(".snap.db")?, 16).ok();
    let mut found: Vec<u64> = names.iter().filter_map(index).collect();
    found.sort_unstable();
    found
}

pub(super) fn remove_snapshots(disk: &dyn Disk, upto: u64) -> io::Result<()> {
    let passed = snapshots(disk).into_iter().filter(|index| *index <= upto);
    passed.into_iter().try_for_each(|index| disk.remove(&snapshot_path(index)))
}
