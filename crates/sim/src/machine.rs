//! A machine: a disk, and, while it is up, the member on it.
//!
//! Here are the duties of the server's threads, without threads: what raft hands out waits in two queues,
//! for the log and for the state, and whoever owns the time says when a turn of each is due.
//!
//! # Invariants
//!
//! - The log knows a mark, durably, before the store rests on it, or is replaced by a snapshot.
//! - After a disk has failed nothing more is done: the machine is down.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use member::boot::{Founder, founding_log};
use member::conf_change::MembershipChange;
use member::message::conf_state_of;
use member::pending::Patience;
use member::{Effects, Event, Member, roster};
use proto::prost::Message as _;
use raft::{
    ConfState, Entry, EntryId, EntryKind, HardState, Index, Message, Node, NodeId, PersistId,
    Recovered, Snapshot, Term,
};
use state::{Config, State, lease, restore};
use storage::disk::{Disk, SimulatedDisk};
use storage::revlog::{self, Hurry};
use storage::wal::{self, EntryRef, Settings, SnapshotMark, Wal};

use crate::oracle::Oracle;

const MEMBER_DIR: &str = "/member";
const WAL_DIR: &str = "/member/wal";
const SNAPSHOT_DIR: &str = "/member/snap";
const STORAGE_VERSION: &str = "3.7.0";

const WAL_SETTINGS: Settings = Settings { segment_size: 16 << 10 };
/// Entries raft keeps behind a checkpoint, for followers that are a little late.
const CATCHUP_ENTRIES: u64 = 20;
const ENTRIES_PER_TURN: usize = 16;

/// Why a machine is down: its disk failed, or the power did.
#[derive(Debug)]
pub(crate) struct Down(#[expect(dead_code, reason = "read in the trace")] String);

fn down(error: impl std::fmt::Debug) -> Down {
    Down(format!("{error:?}"))
}

enum LogWork {
    Append { entries: Vec<Entry>, hard_state: Option<HardState>, persist: Option<PersistId> },
    Mark(SnapshotMark, Vec<u8>),
}

enum ApplyWork {
    Entry(Entry),
    /// Once so many marks of snapshots are durable.
    Install(Snapshot, u64),
}

/// What a member has made known in a turn.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) send: Vec<Message>,
    pub(crate) refused: Vec<u64>,
    /// Reads by their round, and up to where must be applied.
    pub(crate) reads: Vec<(u64, Option<u64>)>,
    /// Answers to entries, by request id; `None`: refused.
    pub(crate) answers: Vec<(u64, Option<Bytes>)>,
    pub(crate) snapshots_wanted: Vec<NodeId>,
}

pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) disk: SimulatedDisk,
    /// Counts its starts.
    pub(crate) life: u64,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) member: Member,
    pub(crate) state: State,
    wal: Wal,
    effects: Effects,
    log: VecDeque<LogWork>,
    apply: VecDeque<ApplyWork>,
    /// Marks of snapshots given to the log, and how many of them are durable.
    marks: u64,
    marked: u64,
    /// Up to where the last checkpoint goes.
    saved: u64,
}

fn config(id: NodeId) -> Config {
    Config {
        cluster_id: 1,
        member_id: id.get(),
        quota_bytes: -1,
        lease: lease::Config { ttl_min: 1, checkpoint: false, checkpoint_persist: false },
        learners_max: 1,
        store: revlog::Config { segment_size_max: 8 << 10, ledger_size_min: 4 << 10 },
    }
}

fn snapshot_path(index: u64) -> PathBuf {
    Path::new(SNAPSHOT_DIR).join(format!("{index:016x}.snap.db"))
}

fn conf_state(state: &State) -> ConfState {
    let ids = |learners: bool| {
        let members = state.membership().members().filter(|m| m.is_learner == learners);
        members.filter_map(|member| NodeId::new(member.id)).collect()
    };
    ConfState::new(ids(false), ids(true))
}

impl Machine {
    pub(crate) fn new(id: NodeId, seed: u64) -> Self {
        Self { id, disk: SimulatedDisk::new(seed), life: 0, running: None }
    }

    /// From the disk to a member, as the server starts.
    pub(crate) fn start(&mut self, founders: &[Founder], seed: u64) -> Result<(), Down> {
        self.life += 1;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (member_dir, wal_dir) = (Path::new(MEMBER_DIR), Path::new(WAL_DIR));
        disk.create_dir(Path::new(SNAPSHOT_DIR)).map_err(down)?;
        let mut state = restore::open(&disk, member_dir, config(self.id)).map_err(down)?;
        self.finish_install(&disk, &mut state)?;
        let (applied, term) = state.applied();
        let names = disk.list(wal_dir).unwrap_or_default();
        let mut wal_and_entries = if names.iter().any(|name| name.ends_with(".wal")) {
            reopen(&disk, SnapshotMark { index: applied, term })?
        } else {
            assert!(state.is_new(), "the log is gone, but the store is not");
            let wal = Wal::create_with(disk, wal_dir, b"sim", WAL_SETTINGS).map_err(down)?;
            (wal, HardState::default(), Vec::new())
        };
        if wal_and_entries.1.commit == Index(0) && applied == 0 && !founders.is_empty() {
            let (wal, ..) = wal_and_entries;
            wal_and_entries = found(wal, founders)?;
        }
        let (wal, hard_state, entries) = wal_and_entries;
        if state.is_new() {
            state.checkpoint().commit(&mut Hurry).map_err(down)?;
        }
        let recovered = Recovered {
            hard_state,
            snapshot: EntryId::new(Index(applied), Term(term)),
            entries,
            applied: Index(applied),
            conf_state: conf_state(&state),
        };
        let raft = raft::Config::new(self.id, seed);
        let node = Node::new(raft, recovered).expect("a log that makes sense");
        let contexts_from = self.id.get() << 56 | self.life << 32;
        let patience = Patience { retry_ticks: 5, give_up_ticks: 50 };
        let member = Member::new(node, contexts_from, patience);
        self.running = Some(Running {
            member,
            state,
            wal,
            effects: Effects::default(),
            log: VecDeque::new(),
            apply: VecDeque::new(),
            marks: 0,
            marked: 0,
            saved: applied,
        });
        Ok(())
    }

    /// A snapshot that the log knows of, and that a crash kept from becoming the state.
    fn finish_install(&self, disk: &Arc<dyn Disk>, state: &mut State) -> Result<(), Down> {
        let mut came = snapshots(&**disk);
        let all = came.clone();
        came.retain(|index| *index > state.applied().0);
        if !came.is_empty() {
            let marks = Wal::marks(&**disk, Path::new(WAL_DIR)).map_err(down)?;
            came.retain(|index| marks.iter().any(|mark| mark.index == *index));
        }
        if let Some(index) = came.pop() {
            let member_dir = Path::new(MEMBER_DIR);
            *state = restore::build(disk, &snapshot_path(index), member_dir, config(self.id))
                .map_err(down)?;
            restore::remove_older(&**disk, member_dir).map_err(down)?;
        }
        all.iter().try_for_each(|index| disk.remove(&snapshot_path(*index))).map_err(down)
    }

    /// The power fails, or (`kill`) only the process ends.
    pub(crate) fn stop(&mut self, kill: bool) {
        self.running = None;
        self.disk = if kill { self.disk.kill() } else { self.disk.crash() };
    }

    /// A snapshot's file has come. It has its name only once it is whole: under that name there may be
    /// one that the log knows of already, and that a start would need.
    pub(crate) fn receive_file(&self, index: u64, bytes: &[u8]) -> io::Result<()> {
        let partial = Path::new(SNAPSHOT_DIR).join("partial");
        let file = self.disk.create(&partial)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        self.disk.rename(&partial, &snapshot_path(index))?;
        self.disk.sync_dir(Path::new(SNAPSHOT_DIR))
    }
}

fn snapshots(disk: &dyn Disk) -> Vec<u64> {
    let names = disk.list(Path::new(SNAPSHOT_DIR)).unwrap_or_default();
    let index = |name: &String| u64::from_str_radix(name.strip_suffix(".snap.db")?, 16).ok();
    let mut found: Vec<u64> = names.iter().filter_map(index).collect();
    found.sort_unstable();
    found
}

fn reopen(disk: &Arc<dyn Disk>, mark: SnapshotMark) -> Result<(Wal, HardState, Vec<Entry>), Down> {
    let opened = Wal::open_with(Arc::clone(disk), Path::new(WAL_DIR), mark, WAL_SETTINGS);
    let (wal, found) = match opened {
        Err(wal::OpenError::Io { error, .. }) => return Err(down(error)),
        opened => opened.unwrap_or_else(|e| panic!("a log that was only ever cut short: {e}")),
    };
    let entry = |entry: wal::Entry| Entry {
        kind: EntryKind::from_number(u64::from(entry.kind)).expect("a kind that was written"),
        term: Term(entry.term),
        index: Index(entry.index),
        data: entry.data,
    };
    let wal::HardState { term, vote, commit } = found.hard_state;
    let hard_state = HardState { term: Term(term), vote: NodeId::new(vote), commit: Index(commit) };
    Ok((wal, hard_state, found.entries.into_iter().map(entry).collect()))
}

fn found(mut wal: Wal, founders: &[Founder]) -> Result<(Wal, HardState, Vec<Entry>), Down> {
    let (hard_state, entries) = founding_log(founders);
    append(&mut wal, &entries, Some(hard_state)).map_err(down)?;
    wal.flush().map_err(down)?;
    Ok((wal, hard_state, entries))
}

fn append(wal: &mut Wal, entries: &[Entry], hard_state: Option<HardState>) -> io::Result<()> {
    let entries = entries.iter().map(|entry| EntryRef {
        kind: entry.kind as u8,
        term: entry.term.0,
        index: entry.index.0,
        data: &entry.data,
    });
    let hard_state = hard_state.map(|state| wal::HardState {
        term: state.term.0,
        vote: state.vote.map_or(0, NodeId::get),
        commit: state.commit.0,
    });
    wal.append(entries, hard_state)
}

impl Running {
    pub(crate) fn step(&mut self, event: Event, told: &mut Told) {
        self.member.step(event, &mut self.effects);
        let raft = &mut self.effects.raft;
        if let Some(snapshot) = raft.snapshot.take() {
            let mark = SnapshotMark { index: snapshot.index.0, term: snapshot.term.0 };
            let conf_state = conf_state_of(&snapshot.conf_state).encode_to_vec();
            self.log.push_back(LogWork::Mark(mark, conf_state));
            self.marks += 1;
            self.apply.push_back(ApplyWork::Install(snapshot, self.marks));
        }
        if !raft.append.is_empty() || raft.hard_state.is_some() || raft.persist.is_some() {
            self.log.push_back(LogWork::Append {
                entries: std::mem::take(&mut raft.append),
                hard_state: raft.hard_state.take(),
                persist: raft.persist.take(),
            });
        }
        told.send.append(&mut raft.send);
        self.apply.extend(raft.commit.drain(..).map(ApplyWork::Entry));
        told.snapshots_wanted.append(&mut raft.snapshots_wanted);
        let reads = self.effects.reads.drain(..);
        told.reads.extend(reads.map(|(ticket, index)| (ticket.round, index.ok().map(|i| i.0))));
        told.refused.extend(self.effects.refused.drain(..).map(|(id, _)| id));
        self.effects.clear();
    }

    pub(crate) fn has_log_work(&self) -> bool {
        !self.log.is_empty()
    }

    pub(crate) fn has_apply_work(&self) -> bool {
        match self.apply.front() {
            None => false,
            Some(ApplyWork::Entry(_)) => true,
            Some(ApplyWork::Install(_, n)) => *n <= self.marked,
        }
    }

    /// A turn of the log thread: one write and one sync for all that waits.
    pub(crate) fn flush(&mut self, told: &mut Told) -> Result<(), Down> {
        let mut durable = None;
        let mut marked = self.marked;
        for work in self.log.drain(..) {
            match work {
                LogWork::Append { entries, hard_state, persist } => {
                    append(&mut self.wal, &entries, hard_state).map_err(down)?;
                    durable = persist.or(durable);
                }
                LogWork::Mark(mark, conf_state) => {
                    self.wal.mark_snapshot(mark, &conf_state).map_err(down)?;
                    marked += 1;
                }
            }
        }
        self.wal.flush().map_err(down)?;
        self.marked = marked;
        if let Some(persist) = durable {
            self.step(Event::Persisted(persist), told);
        }
        Ok(())
    }

    /// A turn of the apply thread.
    pub(crate) fn apply(
        &mut self,
        machine: &SimulatedDisk,
        id: NodeId,
        oracle: &mut Oracle,
        told: &mut Told,
    ) -> Result<(), Down> {
        let mut last = None;
        for _ in 0..ENTRIES_PER_TURN {
            if !self.has_apply_work() {
                break;
            }
            match self.apply.pop_front() {
                None => break,
                Some(ApplyWork::Entry(entry)) => {
                    last = Some(entry.index);
                    self.apply_entry(&entry, id, oracle, told)?;
                }
                Some(ApplyWork::Install(snapshot, _)) => {
                    last = Some(snapshot.index);
                    self.install(machine, id, snapshot.index.0)?;
                    oracle.installs(id.get(), snapshot.index.0, self.state.head());
                }
            }
        }
        if let Some(index) = last {
            self.step(Event::Applied(index), told);
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        id: NodeId,
        oracle: &mut Oracle,
        told: &mut Told,
    ) -> Result<(), Down> {
        let (index, term) = (entry.index.0, entry.term.0);
        if entry.kind != EntryKind::Normal {
            let change = MembershipChange::decode(entry.data.clone()).expect("one we made");
            let meant = roster::meaning(&change);
            let accepted = meant.filter(|meant| self.state.membership().check(meant).is_ok());
            let for_raft = accepted.is_some().then(|| change.for_raft()).flatten();
            self.state.conf_change(index, term, accepted);
            oracle.applies(id.get(), entry, None);
            let event = Event::ConfChangeApplied { index: entry.index, change: for_raft };
            self.step(event, told);
            return Ok(());
        }
        let mut out = Vec::new();
        let outcome = self.state.apply(index, term, &entry.data, true, &mut out).map_err(down)?;
        let answer = outcome.as_ref().map(|outcome| outcome.result.is_ok().then_some(&out[..]));
        oracle.applies(id.get(), entry, answer);
        if let Some(outcome) = outcome {
            let answer = outcome.result.is_ok().then(|| Bytes::from(out));
            told.answers.push((outcome.request_id, answer));
        }
        Ok(())
    }

    fn install(&mut self, disk: &SimulatedDisk, id: NodeId, index: u64) -> Result<(), Down> {
        if self.state.applied().0 >= index {
            return Ok(());
        }
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let member_dir = Path::new(MEMBER_DIR);
        let restored = restore::build(&disk, &snapshot_path(index), member_dir, config(id));
        drop(self.state.replace_by(restored.map_err(down)?, std::iter::empty()));
        restore::remove_older(&*disk, member_dir).map_err(down)?;
        let passed = snapshots(&*disk).into_iter().filter(|at| *at <= index);
        passed.into_iter().try_for_each(|at| disk.remove(&snapshot_path(at))).map_err(down)
    }

    /// A turn of the keeper: a checkpoint, then what a compaction has left to do.
    pub(crate) fn keep(&mut self, told: &mut Told) -> Result<(), Down> {
        self.checkpoint(told)?;
        let mut pruned = false;
        while !self.state.is_pruned() {
            if let Some(job) = self.state.prune_turn() {
                let hash = job.run(&mut Hurry).map_err(down)?;
                self.state.remember_hash(hash);
            }
            pruned = true;
        }
        if pruned {
            self.state.roll().map_err(down)?;
            self.checkpoint(told)?;
        }
        while let Some(victim) = self.state.victim(revlog::DEAD_PERCENT_USUAL) {
            let mut collected = victim.run(&mut Hurry).map_err(down)?;
            self.state.adopt(&collected);
            loop {
                let moved = collected.next(state::state::RELOCATIONS_PER_TURN).map_err(down)?;
                if moved.is_empty() {
                    break;
                }
                self.state.relocate(&moved);
            }
            self.state.release(collected);
            self.checkpoint(told)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, told: &mut Told) -> Result<(), Down> {
        let checkpoint = self.state.checkpoint();
        let (index, term) = self.state.applied();
        if index > self.saved {
            let conf_state = conf_state_of(&conf_state(&self.state)).encode_to_vec();
            self.log.push_back(LogWork::Mark(SnapshotMark { index, term }, conf_state));
            self.marks += 1;
            self.flush(told)?;
        }
        checkpoint.commit(&mut Hurry).map_err(down)?;
        if index > self.saved {
            self.saved = index;
            let keep_from = index.saturating_sub(CATCHUP_ENTRIES);
            self.step(Event::Compact(Index(keep_from)), told);
            self.wal.release(index).map_err(down)?;
        }
        Ok(())
    }

    /// The state as a snapshot for another member: what raft is told, and the file.
    pub(crate) fn snapshot(&self) -> Result<(Snapshot, Vec<u8>), Down> {
        let mut run = self.state.snapshot(STORAGE_VERSION);
        let gathered = loop {
            if let Some(gathered) = self.state.snapshot_turn(&mut run) {
                break gathered;
            }
        };
        let whole = gathered.measure().map_err(down)?;
        let (index, term) = whole.applied();
        let mut bytes = Vec::new();
        let written = whole.file().write(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        written.map_err(down)?;
        let conf_state = conf_state(&self.state);
        let (index, term, data) = (Index(index), Term(term), Bytes::new());
        Ok((Snapshot { index, term, conf_state, data }, bytes))
    }

    pub(crate) fn leads(&self) -> Option<u64> {
        let view = self.member.view();
        view.is_leader.then_some(view.term)
    }

    /// The hash of all keys.
    pub(crate) fn hash(&self) -> u32 {
        let mut run = self.state.hash(0);
        loop {
            match self.state.hash_turn(&mut run).expect("the head is there") {
                state::HashTurn::More => {}
                state::HashTurn::Known(known) => return known.hash,
                state::HashTurn::Job(job) => return job.run(&mut Hurry).expect("readable").hash,
            }
        }
    }
}
