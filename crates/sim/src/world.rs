//! Time, the network, and what goes wrong.
//!
//! ```text
//!  moments, earliest first          machines                           oracle
//! ┌──────────────────────────┐    ┌──────────────────────────┐      ┌──────────┐
//! │ tick  message  flush     │ ─► │ member · log · state     │ ───► │ applied  │
//! │ apply keep  client fault │ ◄─ │ on a simulated disk      │      │ answered │
//! └──────────────────────────┘    └──────────────────────────┘      └──────────┘
//! ```
//!
//! For a while everything goes wrong that may. Then the network heals, all machines are up, and there must
//! be progress: within [`HEALING_MS`] all that is committed is applied everywhere, and all hashes agree.
//!
//! # Invariants
//!
//! - Two moments never have the same key: what is due at the same time comes in the order it was planned.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use member::boot::Founder;
use member::{Event, Proposal, ReadTicket, roster};
use proto::etcdserverpb::Member;
use raft::{Body, Message, NodeId};
use state::membership::MemberChange;
use stdx::Generator;

use crate::client::{Op, Waiting};
use crate::machine::{Down, Machine, Running, Told};
use crate::oracle::Oracle;

/// How long things go wrong.
const HOSTILE_MS: u64 = 20_000;
/// How long after that there may be no progress yet.
const HEALING_MS: u64 = 60_000;
const TICK_MS: u64 = 100;
const N_CLIENTS: usize = 4;
/// A client that is not answered asks something else.
const PATIENCE_MS: u64 = 3_000;
const KEEP_MS: u64 = 700;
/// Lines of the trace that a failure is told with.
const TRACE_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    PowerCut,
    Kill,
    /// The power fails in the middle of what the disk does next.
    PowerCutAtWrite,
    /// One way is cut.
    Cut,
    Isolate,
    Heal,
    Pause,
    SlowDisk,
    TransferLeader,
    DiskFull,
    ChangeMembers,
}

const FAULTS: [Fault; 11] = [
    Fault::PowerCut,
    Fault::Kill,
    Fault::PowerCutAtWrite,
    Fault::Cut,
    Fault::Isolate,
    Fault::Heal,
    Fault::Pause,
    Fault::SlowDisk,
    Fault::TransferLeader,
    Fault::DiskFull,
    Fault::ChangeMembers,
];

/// Machines there may be, all that ever were counted.
const MACHINES_MAX: usize = 8;

/// Something that is due. A machine's own moments belong to one of its lives.
enum Moment {
    Start(usize),
    Tick(usize, u64),
    Flush(usize, u64),
    Apply(usize, u64),
    Keep(usize, u64),
    Deliver(Message),
    /// The file of a snapshot has come, then the message about it.
    DeliverFile(Message, Vec<u8>),
    /// The sender of a snapshot hears what became of it.
    Sent {
        from: NodeId,
        to: NodeId,
        ok: bool,
    },
    Client(usize),
    Fault,
}

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub seed: u64,
    pub members: usize,
    pub steps: u64,
    pub virtual_ms: u64,
    pub applied: u64,
    pub checked: u64,
    pub snapshots: u64,
    /// Of the members.
    pub changes: u64,
    faults: BTreeMap<Fault, u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, members, steps, virtual_ms, applied, checked, .. } = self;
        let Self { snapshots, changes, faults, .. } = self;
        let seconds = virtual_ms / 1000;
        write!(
            f,
            "seed {seed}: {members} members, {steps} steps, {seconds} s, {applied} entries, "
        )?;
        write!(
            f,
            "{checked} answers checked, {snapshots} snapshots sent, {changes} changes of members, faults:"
        )?;
        faults.iter().try_for_each(|(fault, n)| write!(f, " {fault:?} {n}"))
    }
}

/// Runs one seed. What must hold is asserted.
pub fn run(seed: u64) -> Summary {
    drop(take_trace());
    let mut world = World::new(seed);
    world.run_until(HOSTILE_MS, &|_| false);
    world.heal();
    let before = world.oracle.n_applied();
    let deadline = world.now + HEALING_MS;
    let well = world.run_until(deadline, &|world| world.is_well(before));
    assert!(well, "no progress within {HEALING_MS} ms after all was healed: {}", world.shown());
    world.check_hashes();
    world.summary.virtual_ms = world.now;
    world.summary.applied = world.oracle.n_applied();
    world.summary.changes = world.oracle.n_changes() - world.founders.len() as u64;
    world.summary.checked = world.oracle.n_checked;
    world.summary.clone()
}

struct World {
    g: Generator,
    now: u64,
    planned: u64,
    agenda: BTreeMap<(u64, u64), Moment>,
    machines: Vec<Machine>,
    founders: Vec<Founder>,
    /// Whether a turn of the log, or of the state, is planned.
    flushing: Vec<bool>,
    applying: Vec<bool>,
    /// Machines that do nothing until then; disks that are slow until then.
    paused: Vec<u64>,
    slow: Vec<u64>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    hostile: bool,
    clients: Vec<Option<Waiting>>,
    next_id: u64,
    files: BTreeMap<(NodeId, u64), Vec<u8>>,
    oracle: Oracle,
    summary: Summary,
}

thread_local! {
    /// The last things that happened in the run of this thread.
    static TRACE: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
}

/// Takes the last things that happened, to be told when a run fails.
pub fn take_trace() -> Vec<String> {
    TRACE.take().into()
}

fn note(now: u64, what: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        if trace.len() == TRACE_MAX {
            trace.pop_front();
        }
        trace.push_back(format!("{now:>6} {what}"));
    });
}

fn some_member(id: u64) -> Member {
    Member { id, peer_urls: vec![format!("http://{id}:2380")], ..Member::default() }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut g = Generator::new(seed);
        let n = if g.chance(70) { 3 } else { 5 };
        let id = |at: u64| NodeId::new(at + 1).expect("not 0");
        let founder = |at: u64| {
            let member = some_member(at + 1);
            Founder { id: member.id, context: roster::encode(&member) }
        };
        let mut world = Self {
            now: 0,
            planned: 0,
            agenda: BTreeMap::new(),
            machines: (0..n).map(|at| Machine::new(id(at), g.number())).collect(),
            founders: (0..n).map(founder).collect(),
            flushing: vec![false; n as usize],
            applying: vec![false; n as usize],
            paused: vec![0; n as usize],
            slow: vec![0; n as usize],
            cuts: BTreeSet::new(),
            hostile: true,
            clients: vec![None; N_CLIENTS],
            next_id: 1,
            files: BTreeMap::new(),
            oracle: Oracle::new(),
            summary: Summary { seed, members: n as usize, ..Summary::default() },
            g,
        };
        (0..n as usize).for_each(|at| world.plan(0, Moment::Start(at)));
        (0..N_CLIENTS).for_each(|n| world.plan(500, Moment::Client(n)));
        world.plan(1_500, Moment::Fault);
        world
    }

    fn plan(&mut self, in_ms: u64, moment: Moment) {
        self.planned += 1;
        self.agenda.insert((self.now + in_ms, self.planned), moment);
    }

    /// Up to `bound` milliseconds.
    fn soon(&mut self, bound: u64) -> u64 {
        1 + self.g.below(bound)
    }

    /// Lets time pass until it is over, or `done`; whether it was.
    fn run_until(&mut self, end: u64, done: &dyn Fn(&Self) -> bool) -> bool {
        while let Some(entry) = self.agenda.first_entry() {
            let at = entry.key().0;
            if at > end {
                break;
            }
            let moment = entry.remove();
            self.now = at;
            self.summary.steps += 1;
            self.happen(moment);
            if self.summary.steps.is_multiple_of(64) && done(self) {
                return true;
            }
        }
        self.now = end;
        done(self)
    }

    fn happen(&mut self, moment: Moment) {
        if let Some(at) = self.concerns(&moment)
            && self.paused[at] > self.now
        {
            let wait = self.paused[at] - self.now;
            return self.plan(wait, moment);
        }
        match moment {
            Moment::Start(at) => self.start(at),
            Moment::Tick(at, life) => self.tick(at, life),
            Moment::Flush(at, life) => self.flush(at, life),
            Moment::Apply(at, life) => self.apply(at, life),
            Moment::Keep(at, life) => self.keep(at, life),
            Moment::Deliver(message) => {
                let at = self.at(message.to);
                self.turn(at, None, |running, told| {
                    running.step(Event::Receive(message), told);
                    Ok(())
                });
            }
            Moment::DeliverFile(message, file) => self.deliver_file(message, &file),
            Moment::Sent { from, to, ok } => {
                let at = self.at(from);
                self.turn(at, None, |running, told| {
                    running.step(Event::SnapshotSent { node: to, ok }, told);
                    Ok(())
                });
            }
            Moment::Client(n) => self.ask(n),
            Moment::Fault => self.go_wrong(),
        }
    }

    fn concerns(&self, moment: &Moment) -> Option<usize> {
        match moment {
            Moment::Tick(at, _)
            | Moment::Flush(at, _)
            | Moment::Apply(at, _)
            | Moment::Keep(at, _) => Some(*at),
            Moment::Deliver(message) | Moment::DeliverFile(message, _) => Some(self.at(message.to)),
            Moment::Sent { from, .. } => Some(self.at(*from)),
            Moment::Start(_) | Moment::Client(_) | Moment::Fault => None,
        }
    }

    fn at(&self, node: NodeId) -> usize {
        node.get() as usize - 1
    }

    fn start(&mut self, at: usize) {
        if self.machines[at].running.is_some() {
            return;
        }
        let seed = self.g.number();
        (self.flushing[at], self.applying[at], self.paused[at]) = (false, false, 0);
        // Who comes later founds nothing.
        let founders = if at < self.founders.len() { &self.founders[..] } else { &[] };
        let started = self.machines[at].start(founders, seed);
        let life = self.machines[at].life;
        note(self.now, format_args!("{} starts: {started:?}", at + 1));
        if started.is_err() {
            return self.stop(at, false);
        }
        let first = self.soon(TICK_MS);
        self.plan(first, Moment::Tick(at, life));
        let keep = self.soon(KEEP_MS);
        self.plan(keep, Moment::Keep(at, life));
        self.turn(at, None, |_, _| Ok(()));
    }

    fn stop(&mut self, at: usize, kill: bool) {
        self.machines[at].stop(kill);
        let later = if self.hostile { self.soon(2_000) } else { 10 };
        self.plan(later, Moment::Start(at));
    }

    /// Lets a machine do something, and does what follows from it; `life`: only in that one.
    fn turn(
        &mut self,
        at: usize,
        life: Option<u64>,
        act: impl FnOnce(&mut Running, &mut Told) -> Result<(), Down>,
    ) {
        let machine = &mut self.machines[at];
        if life.is_some_and(|life| life != machine.life) {
            return;
        }
        let Some(running) = &mut machine.running else { return };
        let mut told = Told::default();
        if let Err(down) = act(running, &mut told) {
            note(self.now, format_args!("{} goes down: {down:?}", at + 1));
            return self.stop(at, false);
        }
        if let Some(term) = running.leads() {
            self.oracle.leads(at as u64 + 1, term);
        }
        let (log, apply) = (running.has_log_work(), running.has_apply_work());
        let life = machine.life;
        if log && !self.flushing[at] {
            self.flushing[at] = true;
            let slow = if self.slow[at] > self.now { 300 } else { 10 };
            let wait = self.soon(slow);
            self.plan(wait, Moment::Flush(at, life));
        }
        if apply && !self.applying[at] {
            self.applying[at] = true;
            let wait = self.soon(5);
            self.plan(wait, Moment::Apply(at, life));
        }
        self.hear(at, told);
    }

    fn hear(&mut self, at: usize, told: Told) {
        let Told { send, refused, reads, answers, snapshots_wanted } = told;
        send.into_iter().for_each(|message| self.send(message));
        let life = (at, self.machines[at].life);
        for id in refused {
            self.done(|waiting| waiting.id == id && waiting.of == life);
        }
        for (round, index) in reads {
            for waiting in self.clients.iter_mut().flatten() {
                if waiting.id == round && waiting.of == life {
                    waiting.read_at = index;
                }
            }
        }
        for (id, answer) in answers {
            let asked = |waiting: &&Waiting| waiting.id == id && waiting.of == life;
            let waiting = self.clients.iter().flatten().find(asked).cloned();
            if let (Some(waiting), Some(out)) = (&waiting, &answer) {
                self.oracle.answers(&waiting.op, out, waiting.floor);
            }
            self.done(|waiting| waiting.id == id && waiting.of == life);
        }
        self.read(at);
        for to in snapshots_wanted {
            self.make_snapshot(at, to);
        }
    }

    fn done(&mut self, is: impl Fn(&Waiting) -> bool) {
        for client in &mut self.clients {
            if client.as_ref().is_some_and(&is) {
                *client = None;
            }
        }
    }

    /// Answers the reads whose index is applied.
    fn read(&mut self, at: usize) {
        let machine = &self.machines[at];
        let Some(running) = &machine.running else { return };
        let (applied, _) = running.state.applied();
        for client in &mut self.clients {
            let is_due = |waiting: &Waiting| {
                waiting.of == (at, machine.life)
                    && waiting.read_at.is_some_and(|index| index <= applied)
            };
            let Some(waiting) = client.take_if(|waiting| is_due(waiting)) else { continue };
            let Op::Get { key } = &waiting.op else { unreachable!("only reads have an index") };
            let mut out = Vec::new();
            running.state.range(&Op::range(key), &mut out).expect("the head can be read");
            self.oracle.answers(&waiting.op, &out, waiting.floor);
        }
    }

    fn make_snapshot(&mut self, at: usize, to: NodeId) {
        note(self.now, format_args!("{} makes a snapshot for {to}", at + 1));
        let from = self.machines[at].id;
        let Some(running) = &self.machines[at].running else { return };
        let Ok((snapshot, file)) = running.snapshot() else { return self.stop(at, false) };
        self.files.insert((from, snapshot.index.0), file);
        self.turn(at, None, |running, told| {
            running.step(Event::SnapshotTaken { to, snapshot }, told);
            Ok(())
        });
    }

    fn send(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        let from_link = if matches!(message.body, Body::TransferLeader) { to } else { from };
        let is_lost = self.cuts.contains(&(from_link, to)) || (self.hostile && self.g.chance(3));
        let far = if self.hostile && self.g.chance(5) { 600 } else { 20 };
        let wait = self.soon(far);
        if let Body::Snapshot(snapshot) = &message.body {
            self.summary.snapshots += 1;
            let file = self.files.get(&(from, snapshot.index.0)).cloned();
            self.plan(2 * wait, Moment::Sent { from, to, ok: !is_lost && file.is_some() });
            if let Some(file) = file.filter(|_| !is_lost) {
                self.plan(wait, Moment::DeliverFile(message, file));
            }
            return;
        }
        if is_lost {
            return;
        }
        // What asks for something new travels on a stream, and comes once.
        let twice = !matches!(message.body, Body::Propose { .. });
        if self.hostile && twice && self.g.chance(3) {
            let again = self.soon(400);
            self.plan(again, Moment::Deliver(message.clone()));
        }
        self.plan(wait, Moment::Deliver(message));
    }

    fn deliver_file(&mut self, message: Message, file: &[u8]) {
        let at = self.at(message.to);
        let Body::Snapshot(snapshot) = &message.body else { unreachable!("of a snapshot") };
        let index = snapshot.index.0;
        if self.machines[at].running.is_none() {
            return;
        }
        if self.machines[at].receive_file(index, file).is_err() {
            return self.stop(at, false);
        }
        self.turn(at, None, |running, told| {
            running.step(Event::Receive(message), told);
            Ok(())
        });
    }

    fn tick(&mut self, at: usize, life: u64) {
        if life != self.machines[at].life {
            return;
        }
        // Clocks differ.
        let next = TICK_MS - 10 + (at as u64 * 7) % 20;
        self.plan(next, Moment::Tick(at, life));
        self.turn(at, Some(life), |running, told| {
            running.step(Event::Tick, told);
            Ok(())
        });
    }

    fn flush(&mut self, at: usize, life: u64) {
        if life == self.machines[at].life {
            self.flushing[at] = false;
            self.turn(at, Some(life), Running::flush);
        }
    }

    fn apply(&mut self, at: usize, life: u64) {
        let Machine { id, disk, life: now, .. } = &self.machines[at];
        let (id, disk) = (*id, disk.clone());
        if life != *now {
            return;
        }
        self.applying[at] = false;
        let mut oracle = std::mem::take(&mut self.oracle);
        self.turn_with(at, life, &mut oracle, |running, oracle, told| {
            running.apply(&disk, id, oracle, told)
        });
    }

    /// As [`World::turn`], with the oracle at hand.
    fn turn_with(
        &mut self,
        at: usize,
        life: u64,
        oracle: &mut Oracle,
        act: impl FnOnce(&mut Running, &mut Oracle, &mut Told) -> Result<(), Down>,
    ) {
        let mut told = Told::default();
        let mut failed = Ok(());
        if let Some(running) = &mut self.machines[at].running {
            failed = act(running, oracle, &mut told);
        }
        self.oracle = std::mem::take(oracle);
        self.turn(at, Some(life), |_, all| {
            *all = told;
            failed
        });
    }

    fn keep(&mut self, at: usize, life: u64) {
        if life == self.machines[at].life {
            let next = self.soon(2 * KEEP_MS);
            self.plan(next, Moment::Keep(at, life));
            self.turn(at, Some(life), Running::keep);
        }
    }

    fn ask(&mut self, n: usize) {
        let next = self.soon(150);
        self.plan(next, Moment::Client(n));
        if self.clients[n].as_ref().is_some_and(|w| w.since_ms + PATIENCE_MS > self.now) {
            return;
        }
        self.clients[n] = None;
        let at = self.g.below(self.machines.len() as u64) as usize;
        if self.machines[at].running.is_none() || self.paused[at] > self.now {
            return;
        }
        // In peace clients find out who belongs to the cluster: the others know no leader for long.
        let knows_leader = |running: &Running| running.member.view().leader != 0;
        if !self.hostile && !self.machines[at].running.as_ref().is_some_and(knows_leader) {
            return;
        }
        let (id, head) = (self.next_id, self.oracle.head());
        self.next_id += 1;
        let op = Op::some(&mut self.g, id, head);
        let (of, floor) = ((at, self.machines[at].life), self.oracle.told());
        let waiting = Waiting { id, op: op.clone(), of, floor, since_ms: self.now, read_at: None };
        self.clients[n] = Some(waiting);
        let event = if matches!(op, Op::Get { .. }) {
            Event::Read(ReadTicket { port: 0, round: id })
        } else {
            let data = op.encode(id);
            self.oracle.propose(id, op);
            Event::Propose(vec![Proposal { id, data }])
        };
        self.turn(at, None, |running, told| {
            running.step(event, told);
            Ok(())
        });
    }

    fn go_wrong(&mut self) {
        if !self.hostile {
            return;
        }
        let next = self.soon(1_200);
        self.plan(next, Moment::Fault);
        let fault = *self.g.pick(&FAULTS);
        let at = self.g.below(self.machines.len() as u64) as usize;
        *self.summary.faults.entry(fault).or_default() += 1;
        note(self.now, format_args!("{fault:?} {}", at + 1));
        let id = self.machines[at].id;
        let ids: Vec<NodeId> = self.machines.iter().map(|machine| machine.id).collect();
        match fault {
            Fault::PowerCut | Fault::Kill if self.machines[at].running.is_some() => {
                self.stop(at, fault == Fault::Kill);
            }
            Fault::PowerCut | Fault::Kill => {}
            Fault::PowerCutAtWrite => {
                let k = self.soon(30);
                self.machines[at].disk.crash_at(k);
            }
            Fault::DiskFull => {
                let room = self.g.below(20_000);
                self.machines[at].disk.limit_space(Some(room));
            }
            Fault::Cut => drop(self.cuts.insert((id, *self.g.pick(&ids)))),
            Fault::Isolate => {
                let ways = ids.into_iter().flat_map(|other| [(id, other), (other, id)]);
                self.cuts.extend(ways);
            }
            Fault::Heal => self.cuts.clear(),
            Fault::Pause => self.paused[at] = self.now + self.g.below(3_000),
            Fault::SlowDisk => self.slow[at] = self.now + self.g.below(3_000),
            Fault::ChangeMembers => self.change_members(at),
            Fault::TransferLeader => {
                let to = *self.g.pick(&ids);
                self.turn(at, None, |running, told| {
                    running.step(Event::TransferLeader(to), told);
                    Ok(())
                });
            }
        }
    }

    /// Asks a machine for a change of the members. It makes sense to what this machine knows.
    fn change_members(&mut self, at: usize) {
        let Some(running) = &self.machines[at].running else { return };
        let membership = running.state.membership();
        let members: Vec<(u64, bool)> =
            membership.members().map(|m| (m.id, m.is_learner)).collect();
        let learner = members.iter().find(|(_, is_learner)| *is_learner).map(|(id, _)| *id);
        let n = self.machines.len();
        let change = match (learner, self.g.below(3)) {
            (Some(id), 0 | 1) => MemberChange::Promote { id },
            (None, 0 | 1) if n < MACHINES_MAX && !members.is_empty() => {
                MemberChange::Add(Member { is_learner: true, ..some_member(n as u64 + 1) })
            }
            _ if members.len() > 3 => MemberChange::Remove { id: self.g.pick(&members).0 },
            _ => return,
        };
        let mut proposed = roster::propose(&change, membership);
        proposed.id = self.next_id;
        self.next_id += 1;
        if let MemberChange::Add(_) = change {
            self.add_machine();
        }
        note(self.now, format_args!("{} asks for {change:?}", at + 1));
        self.turn(at, None, |running, told| {
            running.step(Event::Change(proposed), told);
            Ok(())
        });
    }

    /// A machine on which a member waits to be told what the cluster is.
    fn add_machine(&mut self) {
        let at = self.machines.len();
        let id = NodeId::new(at as u64 + 1).expect("not 0");
        self.machines.push(Machine::new(id, self.g.number()));
        self.flushing.push(false);
        self.applying.push(false);
        self.paused.push(0);
        self.slow.push(0);
        self.plan(10, Moment::Start(at));
    }

    fn heal(&mut self) {
        note(self.now, format_args!("all is healed"));
        self.hostile = false;
        self.cuts.clear();
        for at in 0..self.machines.len() {
            (self.paused[at], self.slow[at]) = (0, 0);
            self.machines[at].disk.limit_space(None);
            if self.machines[at].running.is_none() {
                self.plan(10, Moment::Start(at));
            }
        }
    }

    /// Whether something new is decided, and all have applied all that is.
    fn is_well(&self, before: u64) -> bool {
        let all = self.oracle.n_applied();
        let up_to_date = |running: &&Running| running.state.applied().0 == all;
        let mut running = self.machines.iter().filter_map(|machine| machine.running.as_ref());
        let Some(furthest) = running.find(up_to_date) else { return false };
        let is_well = |id: u64| {
            let running = self.machines[id as usize - 1].running.as_ref();
            running.is_some_and(|running| up_to_date(&running))
        };
        let members = furthest.state.membership();
        all > before + 20 && members.members().all(|member| is_well(member.id))
    }

    fn check_hashes(&self) {
        let all = self.oracle.n_applied();
        let running = self.machines.iter().filter_map(|machine| machine.running.as_ref());
        let whole = running.filter(|running| running.state.applied().0 == all);
        let hashes: BTreeSet<u32> = whole.map(Running::hash).collect();
        assert_eq!(hashes.len(), 1, "all hashes are equal");
    }

    fn shown(&self) -> String {
        let show = |machine: &Machine| {
            let running = machine.running.as_ref();
            let shown = running.map(|r| {
                let members = r.state.membership().members();
                let roster: Vec<_> = members.map(|m| (m.id, m.is_learner)).collect();
                (r.member.view(), r.member.peers(), r.state.applied(), roster)
            });
            format!("\n{}: {shown:?}", machine.id)
        };
        let lines: String = self.machines.iter().map(show).collect();
        format!("{} applied{lines}", self.oracle.n_applied())
    }
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn whatever_goes_wrong_the_promises_hold() {
        stdx::generate::each_seed_of(8, |g| {
            let summary = run(g.number());
            assert!(summary.checked > 20, "{summary}");
        });
    }

    #[test]
    fn a_seed_replays_exactly() {
        assert_eq!(run(7).to_string(), run(7).to_string());
    }
}
