//! One member as a process: what the server's threads do, one step at a time.
//!
//! Each thread of the server is a queue here, and a step that is due some time after the queue has
//! been given something. So all their interleavings come up, and each is told by the seed.
//!
//! ```text
//! inbox ──Turn──► Member ──► log queue ──Flushed──► Persisted ──► inbox
//!                        ├─► apply queue ──Apply──► answers, Applied ──► inbox
//!                        ├─► messages                     └─► Keep: mark ─► checkpoint ─► compact
//!                        └─► Gather ──► snapshots         └─► Shard ──► watchers' messages
//! ```
//!
//! # Invariants
//!
//! - Whatever a crash interrupts has left nothing behind but what is on the disk: a process is
//!   dropped as a whole.
//! - A failed disk operation is the end of the process, as it is in the server.

mod applying;
mod boot;
mod keeping;
mod leasing;
mod logging;
mod shipping;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use member::conf_change::MembershipChange;
use member::roster;
use member::{Effects, Event, Member, Proposal, ReadTicket, View};
use proto::error::Error;
use proto::etcdserverpb::RangeRequest;
use raft::{Body, Message, NodeId, RoleKind};
use state::membership::MemberChange;
use state::{HashTurn, State};
use stdx::Generator;
use storage::disk::Disk;
use storage::revlog::Hurry;
use storage::wal::Wal;

use self::applying::ApplyWork;
pub(crate) use self::boot::{Founding, boot, knows};
use self::keeping::Keeping;
pub(crate) use self::leasing::LeaseQuestion;
use self::leasing::{Errand, Round};
use self::logging::{Flushing, LogWork};
pub(crate) use self::watching::SHARDS;
use self::watching::Shard;
use crate::holding::LeaseParcel;
use crate::oracle::{Oracle, Word};
use crate::{trace, wording};

/// A tick, in microseconds.
pub(crate) const TICK: u64 = 100_000;
pub(crate) const MEMBER_DIR: &str = "/data/member";
const WAL_DIR: &str = "/data/member/wal";
const SNAPSHOT_DIR: &str = "/data/member/snap";

/// What ends a process: its disk, or an order to.
#[derive(Debug)]
pub(crate) struct Death(pub(crate) String);

impl<E: fmt::Display> From<E> for Death {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Alive<T = ()> = Result<T, Death>;

/// What a process does next by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Turn,
    Flushed,
    Apply,
    Keep,
    Gather(NodeId),
    /// A thread with connections has something to do.
    Shard(usize),
    Progress(usize),
    Chores,
    /// A question for the leader is tried again.
    Errand {
        op: u64,
        tries: u64,
    },
}

/// The answer to a client's request.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Answer(Bytes),
    /// Decided, and refused.
    Refused(String),
    /// It has not been applied, and never will be.
    Never(Error),
}

/// What a process wants of the world.
#[derive(Debug)]
pub(crate) enum Duty {
    In {
        delay: u64,
        step: Step,
    },
    Send {
        message: Message,
        file: Option<Arc<Vec<u8>>>,
    },
    Answer {
        op: u64,
        told: Told,
    },
    /// Another member is asked something about a lease.
    Ask {
        to: u64,
        op: u64,
        question: LeaseQuestion,
    },
    /// The answer to a client's question about a lease.
    Tell {
        op: u64,
        word: Word,
    },
    /// What is said to the other member that asked.
    Reply {
        parcel: Box<LeaseParcel>,
        word: Option<Word>,
    },
}

/// The world as a process sees it.
pub(crate) struct Surroundings<'a> {
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    pub(crate) random: &'a mut Generator,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) duties: &'a mut Vec<Duty>,
    /// How many times slower than usual the disk is.
    pub(crate) slowness: u64,
    /// By how much its clock has leapt ahead.
    pub(crate) ahead: u64,
}

impl Surroundings<'_> {
    fn after(&mut self, from: u64, to: u64, step: Step) {
        let delay = from + self.random.below(to - from);
        self.duties.push(Duty::In { delay, step });
    }

    /// Notes something that happens all the time.
    pub(crate) fn detail<T: Into<Option<String>>>(&self, text: impl FnOnce() -> T) {
        trace::detail(self.now, text);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.now + self.ahead) / 1000
    }
}

/// See the module.
pub(crate) struct Process {
    pub(crate) id: u64,
    config: state::Config,
    disk: Arc<dyn Disk>,
    member: Member,
    effects: Effects,
    wal: Wal,
    pub(crate) state: State,
    pub(crate) shown: View,
    inbox: VecDeque<Event>,
    turning: bool,
    log: VecDeque<LogWork>,
    flushing: Option<Flushing>,
    marks_asked: u64,
    marks_durable: u64,
    apply: VecDeque<ApplyWork>,
    applying: bool,
    unsaved: u64,
    leads_in: Option<u64>,
    saved: u64,
    keeping: Keeping,
    checkpoint_due: bool,
    waiting: BTreeSet<u64>,
    reads: BTreeMap<u64, RangeRequest>,
    ripening: Vec<(u64, ReadTicket)>,
    outgoing: BTreeMap<u64, state::Snapshot>,
    shards: [Shard; SHARDS],
    errands: BTreeMap<u64, Errand>,
    /// Questions about leases that wait for their round, and how many there ever were.
    rounds: BTreeMap<u64, Round>,
    n_rounds: u64,
    /// When the clock was heard last.
    ticked_ms: u64,
    scratch: Vec<u8>,
}

impl Process {
    /// Begins what goes on by the clock.
    pub(crate) fn begin(&mut self, around: &mut Surroundings<'_>) {
        (0..SHARDS).for_each(|shard| self.notify_progress(shard, around));
        self.chores(around);
    }

    /// Does what is due. On an error the process is no more.
    pub(crate) fn step(&mut self, step: Step, around: &mut Surroundings<'_>) -> Alive {
        match step {
            Step::Turn => self.turn(around),
            Step::Flushed => self.flushed(around),
            Step::Apply => self.apply_some(around),
            Step::Keep => self.keep(around),
            Step::Gather(to) => self.gather(to, around),
            Step::Shard(shard) => self.shard_turn(shard, around),
            Step::Progress(shard) => {
                self.notify_progress(shard, around);
                Ok(())
            }
            Step::Chores => {
                self.chores(around);
                Ok(())
            }
            Step::Errand { op, tries } => {
                self.run_errand(op, tries, around);
                Ok(())
            }
        }
    }

    /// Gives the member's thread something to do.
    pub(crate) fn tell(&mut self, event: Event, around: &mut Surroundings<'_>) {
        self.inbox.push_back(event);
        if !self.turning {
            self.turning = true;
            around.after(5, 60, Step::Turn);
        }
    }

    /// A client's request that must be agreed upon.
    pub(crate) fn propose(&mut self, id: u64, data: Bytes, around: &mut Surroundings<'_>) {
        self.waiting.insert(id);
        self.tell(Event::Propose(vec![Proposal { id, data }]), around);
    }

    /// A change of membership.
    pub(crate) fn change(&mut self, id: u64, meant: &MemberChange, around: &mut Surroundings<'_>) {
        let change = roster::propose(meant, self.state.membership());
        self.waiting.insert(id);
        self.tell(Event::Change(MembershipChange { id, ..change }), around);
    }

    /// Whether a request of this number is not answered yet.
    pub(crate) fn waits_for(&self, id: u64) -> bool {
        self.waiting.contains(&id)
    }

    /// Whether this member knows that it does not belong to the cluster any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.state.membership().is_removed(self.id)
    }

    /// A client's linearizable read.
    pub(crate) fn read(
        &mut self,
        op: u64,
        request: RangeRequest,
        around: &mut Surroundings<'_>,
    ) -> Alive {
        self.reads.insert(op, request);
        if self.shown.lone {
            return self.serve(op, around);
        }
        self.tell(Event::Read(ReadTicket { port: 0, round: op }), around);
        Ok(())
    }

    fn serve(&mut self, op: u64, around: &mut Surroundings<'_>) -> Alive {
        let request = self.reads.remove(&op).expect("a read that waits");
        let mut out = Vec::new();
        let told = match self.state.range(&request, &mut out) {
            Ok(()) => Told::Answer(out.into()),
            Err(state::Stop::Refused(status)) => Told::Refused(status.message.into()),
            Err(state::Stop::Fatal(fatal)) => return Err(fatal.into()),
        };
        around.duties.push(Duty::Answer { op, told });
        Ok(())
    }

    /// The hash of all keys at `revision`.
    pub(crate) fn hash(&self, revision: i64) -> state::KvHash {
        let mut run = self.state.hash(revision);
        loop {
            match self.state.hash_turn(&mut run).expect("a revision that is there") {
                HashTurn::More => {}
                HashTurn::Known(hash) => return hash,
                HashTurn::Job(job) => return job.run(&mut Hurry).expect("a sound store"),
            }
        }
    }

    fn serve_ripe(&mut self, around: &mut Surroundings<'_>) -> Alive {
        let applied = self.state.applied().0;
        let ripe: Vec<_> = self.ripening.extract_if(.., |(index, _)| *index <= applied).collect();
        for (_, ReadTicket { port, round }) in ripe {
            if port == leasing::PORT {
                self.confirmed(round, around);
            } else {
                self.serve(round, around)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, around: &mut Surroundings<'_>) -> Alive {
        self.turning = false;
        let mut proposals = Vec::new();
        for event in std::mem::take(&mut self.inbox) {
            if let Event::Propose(batch) = event {
                proposals.extend(batch);
            } else {
                self.step_member(event, around);
            }
        }
        if !proposals.is_empty() {
            self.step_member(Event::Propose(proposals), around);
        }
        self.show(around);
        self.perform(around)
    }

    fn step_member(&mut self, event: Event, around: &mut Surroundings<'_>) {
        if matches!(event, Event::Tick) {
            self.ticked_ms = around.now_ms();
        }
        self.member.step(event, &mut self.effects);
        if let Some(role) = self.effects.raft.role
            && role.role == RoleKind::Leader
        {
            trace::note(around.now, || format!("member {} leads term {}", self.id, role.term.0));
            around.oracle.leads(self.id, role.term.0);
        }
    }

    fn show(&mut self, around: &mut Surroundings<'_>) {
        let view = self.member.view();
        let of = |view: &View| (view.leader, view.is_leader.then_some(view.term));
        if of(&view) != of(&self.shown) {
            let term = view.is_leader.then_some(view.term);
            self.push_apply(ApplyWork::Leadership { term }, around);
        }
        self.shown = view;
    }

    /// The order of duties is [`raft::Effects`]'s.
    fn perform(&mut self, around: &mut Surroundings<'_>) -> Alive {
        if let Some(snapshot) = self.effects.raft.snapshot.take() {
            around.oracle.installs(self.id, snapshot.index.0, snapshot.term.0);
            let mark =
                self.push_mark(snapshot.index.0, snapshot.term.0, &snapshot.conf_state, around)?;
            self.push_apply(ApplyWork::Install { index: snapshot.index.0, mark }, around);
        }
        let raft = &mut self.effects.raft;
        if !raft.append.is_empty() || raft.hard_state.is_some() || raft.persist.is_some() {
            around.oracle.writes(self.id, &raft.append);
            around.detail(|| {
                let entries = wording::entries(&raft.append);
                (!entries.is_empty()).then(|| format!("member {} writes {entries}", self.id))
            });
            let work = LogWork::Append {
                entries: std::mem::take(&mut raft.append),
                hard_state: raft.hard_state.take(),
                persist: raft.persist.take(),
            };
            self.push_log(work, around)?;
        }
        for message in std::mem::take(&mut self.effects.raft.send) {
            if matches!(message.body, Body::Snapshot(_)) {
                self.ship(message, around)?;
            } else {
                around.duties.push(Duty::Send { message, file: None });
            }
        }
        if !self.effects.raft.commit.is_empty() {
            let entries = std::mem::take(&mut self.effects.raft.commit);
            self.push_apply(ApplyWork::Committed(entries.into()), around);
        }
        for node in std::mem::take(&mut self.effects.raft.snapshots_wanted) {
            around.after(100, 50_000, Step::Gather(node));
        }
        self.answer(around)?;
        self.effects.clear();
        Ok(())
    }

    fn answer(&mut self, around: &mut Surroundings<'_>) -> Alive {
        for (ticket, result) in std::mem::take(&mut self.effects.reads) {
            match result {
                Ok(index) => self.ripening.push((index.0, ticket)),
                Err(error) if ticket.port == leasing::PORT => {
                    self.unconfirmed(ticket.round, error, around);
                }
                Err(error) => {
                    self.reads.remove(&ticket.round);
                    let told = Told::Never(error);
                    around.duties.push(Duty::Answer { op: ticket.round, told });
                }
            }
        }
        self.serve_ripe(around)?;
        for (id, error) in std::mem::take(&mut self.effects.refused) {
            around.oracle.refused(id);
            if self.waiting.remove(&id) {
                around.duties.push(Duty::Answer { op: id, told: Told::Never(error) });
            }
        }
        Ok(())
    }
}

fn snapshot_path(index: u64) -> PathBuf {
    Path::new(SNAPSHOT_DIR).join(format!("{index:016x}.snap.db"))
}
