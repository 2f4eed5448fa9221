//! The world: machines, what happens to them, and a clock that jumps from one event to the next.
//!
//! One loop takes the earliest event off a queue and lets it happen; what follows from it joins the
//! queue. All choices come from the seed, and ties are broken by the order of arrival, so a seed is a
//! whole history.
//!
//! ```text
//!  0 s ──────── nemesis ────────► healed ──── progress is owed ────► quiet ──► all are alike
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use member::Event;
use member::boot::Founder;
use member::roster;
use proto::etcdserverpb::Member;
use raft::{Body, Message, NodeId};
use stdx::Generator;
use storage::disk::{Disk, SimulatedDisk};

use crate::ambush::Ambush;
use crate::clients::Clients;
use crate::damage::Damage;
use crate::holding::{Holders, LeaseParcel};
use crate::nemesis::Mend;
use crate::network::{Network, Parcel};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::process::{
    Alive, Death, Duty, Founding, LeaseQuestion, Process, Step, Surroundings, TICK, boot,
};
use crate::streams::Stream;
use crate::summary::Summary;
use crate::watching::Watchers;
use crate::{trace, wording};

pub(crate) const SECOND: u64 = 1_000_000;
/// After healing, how long until every request must be answered.
pub(crate) const RECOVERY: u64 = 8 * SECOND;
/// How long that is looked at.
const PROGRESS: u64 = 6 * SECOND;
/// How long the members have to become alike once clients are gone.
const QUIET: u64 = 10 * SECOND;
/// When nothing was agreed upon for so long, all have heard of what was before.
const SETTLED: u64 = SECOND / 5;
const SETTLING_MAX: u64 = 25;

pub(crate) enum Happening {
    Step {
        host: usize,
        life: u64,
        step: Step,
    },
    Tick {
        host: usize,
        life: u64,
    },
    Arrive(Box<Parcel>),
    Start {
        host: usize,
    },
    Client(usize),
    /// The client waits no longer for this request.
    GiveUp {
        client: usize,
        op: u64,
    },
    /// The nemesis acts; its acts are numbered.
    Nemesis(u64),
    /// A client with a watch stream looks at it.
    Watcher(usize),
    /// A client with a lease asks something.
    Holder(usize),
    HolderGivesUp(u64),
    /// A client's question about a lease comes to a member.
    Question {
        host: usize,
        life: u64,
        op: u64,
        question: LeaseQuestion,
    },
    /// What one member says to another about a lease.
    Word(Box<LeaseParcel>),
    Mend(Mend),
    /// The operator sees to it that this machine is replaced.
    Replace {
        host: usize,
    },
}

/// A machine: a disk, and perhaps a process.
pub(crate) struct Host {
    pub(crate) founding: Founding,
    pub(crate) disk: SimulatedDisk,
    pub(crate) process: Option<Process>,
    /// Counts the starts, so that nothing meant for a process reaches a later one.
    pub(crate) life: u64,
    pub(crate) paused_until: u64,
    pub(crate) slowness: u64,
    /// A tick by this machine's clock, if it runs.
    pub(crate) tick: Option<u64>,
    usual_tick: Option<u64>,
    /// By how much its clock has leapt ahead.
    pub(crate) ahead: u64,
    /// Something was planned that may end the process.
    pub(crate) doomed: bool,
    /// It loses power at a moment to come.
    pub(crate) ambush: Option<Ambush>,
    /// Choices of the process, or, while it is down, of the machine.
    random: Generator,
    /// It has learned that it does not belong to the cluster any more.
    pub(crate) retired: bool,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    sequence: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    /// Choices about the messages from one machine to another.
    links: BTreeMap<(usize, usize), Generator>,
    pub(crate) clients: Clients,
    pub(crate) watchers: Watchers,
    pub(crate) holders: Holders,
    pub(crate) oracle: Oracle,
    pub(crate) damage: Damage,
    pub(crate) summary: Summary,
    pub(crate) healed: Option<u64>,
    /// Of every member: see [`Founding`].
    pub(crate) message_bytes_max: u64,
    /// How long things go wrong.
    chaos: u64,
    /// The longest time between two faults.
    pub(crate) calm_max: u64,
    /// The last removal of a member that was asked for: its number, and when it was.
    pub(crate) removal: Option<(u64, u64)>,
    duties: Vec<Duty>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut random = Stream::Setup.of(plan.seed);
        let calm_max = *random.pick(&[SECOND / 4, SECOND, 3 * SECOND]);
        let n = *random.pick(&[1, 2, 3, 3, 3, 4, 5, 5]);
        let message_bytes_max = *random.pick(&[1, 500, 1 << 20]);
        let clients = Clients::new(plan.clients, &mut random);
        let heal = plan.heal.map_or(u64::MAX, |seconds| seconds * SECOND);
        let chaos = ((5 + random.below(25)) * SECOND).min(heal);
        let mut world = Self { calm_max, chaos, ..Self::of(plan, n, message_bytes_max, clients) };
        for host in 0..n as usize {
            let delay = world.hosts[host].random.below(SECOND);
            world.after(delay, Happening::Start { host });
        }
        for client in 0..world.clients.len() {
            world.after(SECOND, Happening::Client(client));
        }
        for watcher in 0..world.watchers.len() {
            world.after(SECOND, Happening::Watcher(watcher));
        }
        for holder in 0..world.holders.len() {
            world.after(SECOND, Happening::Holder(holder));
        }
        world.after(2 * SECOND, Happening::Nemesis(1));
        world
    }

    /// Machines that are to found a cluster, and nothing that happens by itself.
    pub(crate) fn of(plan: Plan, n: u64, message_bytes_max: u64, clients: Clients) -> Self {
        let founders: Vec<Founder> = (1..=n).map(founder).collect();
        let checkpoints = Stream::Holder(usize::MAX, 1).of(plan.seed).chance(50);
        let founding = |id| {
            let founders = founders.clone();
            Founding { id, founders, message_bytes_max, checkpoints }
        };
        Self {
            now: 0,
            network: Network::default(),
            links: BTreeMap::new(),
            clients,
            watchers: Watchers::new(plan.clients, plan.seed),
            holders: Holders::new(plan.clients, plan.seed),
            message_bytes_max,
            chaos: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: (1..=n).map(|id| Host::new(founding(id), plan.seed)).collect(),
            oracle: Oracle::default(),
            damage: Damage::default(),
            summary: Summary::new(plan.seed),
            plan,
            healed: None,
            calm_max: 0,
            removal: None,
            duties: Vec::new(),
        }
    }

    /// Lives it all through; `judge` sees the world after each step.
    pub(crate) fn run(mut self, mut judge: impl FnMut(&Self)) -> Summary {
        self.run_until(self.chaos, &mut judge);
        self.heal();
        self.run_until(self.chaos + RECOVERY + PROGRESS, &mut judge);
        self.clients.stop();
        self.run_until(self.chaos + RECOVERY + PROGRESS + QUIET, &mut judge);
        self.settle(&mut judge);
        self.compare_members();
        self.compare_watchers();
        self.compare_leases();
        self.summary.virtual_time = self.now;
        self.summary.entries = self.oracle.n_agreed();
        self.summary.compared = self.oracle.n_compared;
        self.summary
    }

    /// A lease may end at the last moment: what comes of that is waited for.
    fn settle(&mut self, judge: &mut impl FnMut(&Self)) {
        for _ in 0..SETTLING_MAX {
            let agreed = self.oracle.n_agreed();
            self.run_until(self.now + SETTLED, judge);
            if self.oracle.n_agreed() == agreed {
                return;
            }
        }
    }

    pub(crate) fn after(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(crate) fn run_until(&mut self, end: u64, judge: &mut impl FnMut(&Self)) {
        while self.step_until(end) {
            judge(self);
        }
        self.now = end;
    }

    /// Lets the next thing happen, if it does by `end`.
    pub(crate) fn step_until(&mut self, end: u64) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            return false;
        };
        let ((at, _), happening) = entry.remove_entry();
        self.now = at;
        self.oracle.now = at;
        self.summary.steps += 1;
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Step { host, life, step } => {
                if self.is_held_up(host, life, |host| Happening::Step { host, life, step }) {
                    return;
                }
                self.with(host, |process, around| process.step(step, around));
            }
            Happening::Tick { host, life } => {
                if self.is_held_up(host, life, |host| Happening::Tick { host, life }) {
                    return;
                }
                self.with(host, |process, around| {
                    process.tell(Event::Tick, around);
                    Ok(())
                });
                if let Some(tick) = self.hosts[host].tick {
                    self.after(tick, Happening::Tick { host, life });
                }
            }
            Happening::Arrive(parcel) => self.arrive(*parcel),
            Happening::Start { host } => self.start(host),
            Happening::Client(client) => self.client(client),
            Happening::GiveUp { client, op } => self.give_up(client, op),
            Happening::Nemesis(number) => self.nemesis(number),
            Happening::Watcher(watcher) => self.watcher(watcher),
            Happening::Holder(holder) => self.holder(holder),
            Happening::HolderGivesUp(op) => self.holder_gives_up(op),
            Happening::Question { host, life, op, question } => {
                let again = |host| Happening::Question { host, life, op, question };
                if !self.is_held_up(host, life, again) {
                    self.put_question(host, op, question);
                }
            }
            Happening::Word(parcel) => self.word_arrives(*parcel),
            Happening::Mend(mend) => self.mend(mend),
            Happening::Replace { host } => self.replace(host),
        }
    }

    /// Whether this is for a process that is gone, or that must wait: then it happens again later.
    fn is_held_up(&mut self, host: usize, life: u64, again: impl Fn(usize) -> Happening) -> bool {
        let Host { life: current, paused_until, process, .. } = &self.hosts[host];
        if *current != life || process.is_none() {
            return true;
        }
        let wait = paused_until.saturating_sub(self.now);
        if wait > 0 {
            self.after(wait, again(host));
        }
        wait > 0
    }

    /// Lets the process of `host`, if there is one, do something, and does what it then wants.
    pub(crate) fn with<T>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Process, &mut Surroundings<'_>) -> Alive<T>,
    ) -> Option<T> {
        let mut duties = std::mem::take(&mut self.duties);
        let Host { process, slowness, life, random, ahead, .. } = &mut self.hosts[host];
        let life = *life;
        let mut around = Surroundings {
            now: self.now,
            random,
            oracle: &mut self.oracle,
            duties: &mut duties,
            slowness: *slowness,
            ahead: *ahead,
        };
        let process = process.as_mut()?;
        let done = act(process, &mut around);
        match done {
            Ok(value) => {
                if process.is_removed() && self.removed_may_go() {
                    self.retire(host);
                    return None;
                }
                for duty in duties.drain(..) {
                    if self.hosts[host].life == life {
                        self.perform(host, life, duty);
                    }
                }
                self.duties = duties;
                Some(value)
            }
            Err(death) => {
                self.die(host, &death);
                None
            }
        }
    }

    fn perform(&mut self, host: usize, life: u64, duty: Duty) {
        match duty {
            Duty::In { delay, step } => self.after(delay, Happening::Step { host, life, step }),
            Duty::Send { message, file } => {
                self.oracle.sends(&message);
                self.send(host, life, &message, file.as_ref());
                if self.hosts[host].ambush.as_mut().is_some_and(|ambush| ambush.strikes(&message)) {
                    trace::note(self.now, || format!("member {} loses power", host + 1));
                    self.crash(host, true);
                }
            }
            Duty::Answer { op, told } => self.answered(op, told),
            Duty::Ask { to, op, question } => self.ask_member(host, to, op, question),
            Duty::Tell { op, word } => self.holder_told(op, &word),
            Duty::Reply { parcel, word } => self.reply(&parcel, word),
        }
    }

    /// Choices about what goes from one machine to another.
    fn link(&mut self, from: usize, to: usize) -> &mut Generator {
        let seed = self.plan.seed;
        self.links.entry((from, to)).or_insert_with(|| Stream::Link(from, to).of(seed))
    }

    /// After how long something arrives: never, once, or twice.
    pub(crate) fn delays(&mut self, from: usize, to: usize, may_repeat: bool) -> Vec<u64> {
        let network = std::mem::take(&mut self.network);
        let delays = network.fate(from, to, may_repeat, self.link(from, to));
        self.network = network;
        delays
    }

    fn send(&mut self, from: usize, life: u64, message: &Message, file: Option<&Arc<Vec<u8>>>) {
        let Some(to) = self.hosts.iter().position(|host| host.founding.id == message.to.get())
        else {
            return;
        };
        // A proposal goes by a connection that repeats nothing; so raft says it once.
        let may_repeat = !matches!(message.body, Body::Propose { .. } | Body::Snapshot(_));
        let cut = file.is_some() && self.link(from, to).chance(20);
        let delays = self.delays(from, to, may_repeat);
        trace::detail(self.now, || {
            let lost = if delays.is_empty() { " (lost)" } else { "" };
            wording::message(message).map(|text| format!("{text}{lost}"))
        });
        if delays.is_empty() && file.is_some() {
            self.snapshot_sent(from, life, message.to, false);
            return;
        }
        for delay in delays {
            let (message, file) = (message.clone(), file.cloned());
            let parcel = Parcel { from, from_life: life, to, message, file, cut };
            self.after(delay, Happening::Arrive(Box::new(parcel)));
        }
    }

    fn arrive(&mut self, parcel: Parcel) {
        let Parcel { from, from_life, to, message, file, cut } = parcel;
        let wait = self.hosts[to].paused_until.saturating_sub(self.now);
        if wait > 0 {
            let parcel = Parcel { from, from_life, to, message, file, cut };
            return self.after(wait, Happening::Arrive(Box::new(parcel)));
        }
        self.summary.messages += 1;
        if self.knows_as_removed(to, self.hosts[from].founding.id) {
            return; // It is turned away at the door.
        }
        let node = message.to;
        let bytes = file.as_deref().map(Vec::as_slice);
        let came = self.with(to, |process, around| process.receive(message, bytes, cut, around));
        if file.is_some() {
            self.summary.snapshots += u64::from(came == Some(true));
            self.snapshot_sent(from, from_life, node, came == Some(true));
        }
    }

    fn snapshot_sent(&mut self, host: usize, life: u64, node: NodeId, ok: bool) {
        if self.hosts[host].life == life {
            self.with(host, |process, around| {
                process.tell(Event::SnapshotSent { node, ok }, around);
                Ok(())
            });
        }
    }

    /// A process has come to its end by itself; it is started again.
    fn die(&mut self, host: usize, Death(why): &Death) {
        if self.damage.is_at(host) && !self.hosts[host].doomed {
            return self.finds_damage(host, why);
        }
        assert!(self.hosts[host].doomed, "member {} died for no reason: {why}", host + 1);
        trace::note(self.now, || format!("member {} died: {why}", host + 1));
        self.crash(host, true);
    }

    /// Ends a process, and the machine with it if it loses `power`. It starts again some time later.
    pub(crate) fn crash(&mut self, host: usize, power: bool) {
        let pause = self.bring_down(host, power);
        self.after(pause, Happening::Start { host });
    }

    /// The answer is how long it takes to start again.
    pub(crate) fn bring_down(&mut self, host: usize, power: bool) -> u64 {
        let machine = &mut self.hosts[host];
        machine.life += 1;
        machine.random = Stream::Life(host, machine.life).of(self.plan.seed);
        machine.ambush = None;
        let longest = *machine.random.pick(&[SECOND / 20, SECOND / 2, 3 * SECOND]);
        let pause = 20_000 + machine.random.below(longest);
        machine.doomed = false;
        machine.process = None;
        machine.disk = if power { machine.disk.crash() } else { machine.disk.kill() };
        pause
    }

    pub(crate) fn start(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        if machine.process.is_some() || machine.retired {
            return;
        }
        let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
        let clock = self.now + machine.ahead;
        match boot(disk, &machine.founding, clock, &mut self.oracle) {
            Ok(process) => {
                trace::note(self.now, || {
                    let (index, term) = process.state.applied();
                    format!("member {} starts at {index}@{term}", host + 1)
                });
                machine.process = Some(process);
                machine.life += 1;
                let (life, tick) = (machine.life, machine.tick);
                machine.random = Stream::Life(host, life).of(self.plan.seed);
                if let Some(tick) = tick {
                    let delay = machine.random.below(tick);
                    self.after(delay, Happening::Tick { host, life });
                }
                self.with(host, |process, around| {
                    process.begin(around);
                    Ok(())
                });
            }
            Err(death) => self.die(host, &death),
        }
    }

    fn heal(&mut self) {
        trace::note(self.now, || "all is healed".to_owned());
        self.healed = Some(self.now);
        self.network = Network::default();
        for host in 0..self.hosts.len() {
            let machine = &mut self.hosts[host];
            machine.paused_until = self.now;
            machine.slowness = 1;
            machine.tick = machine.usual_tick;
            machine.ambush = None;
            if std::mem::take(&mut machine.doomed) {
                self.crash(host, false);
            }
            self.after(SECOND, Happening::Start { host });
        }
        self.replace_damaged();
    }

    /// At the end all members are what the model is.
    fn compare_members(&mut self) {
        let head = self.oracle.model.head;
        let agreed = self.oracle.n_agreed();
        let mut known = BTreeMap::new();
        for id in self.members(|_| true) {
            let process = self.hosts[id as usize - 1].process.as_ref();
            let process = process.unwrap_or_else(|| panic!("member {id} is down"));
            let state = &process.state;
            assert_eq!(state.applied().0, agreed, "member {id} did not catch up");
            assert_eq!(state.head(), head, "member {id} has another revision");
            self.oracle.model.explain_all(state);
            let members: Vec<Member> = state.membership().members().cloned().collect();
            known.insert(id, (process.hash(head), members));
        }
        let first = known.first_key_value().expect("somebody is there").1;
        assert!(known.values().all(|other| other == first), "not alike: {known:?}");
    }
}

impl Host {
    pub(crate) fn new(founding: Founding, seed: u64) -> Self {
        let host = founding.id as usize - 1;
        let mut random = Stream::Host(host).of(seed);
        // Clocks differ by a few parts in a hundred.
        let tick = Some(TICK * (95 + random.below(11)) / 100);
        Self {
            founding,
            disk: SimulatedDisk::new(Stream::Disk(host).of(seed).number()),
            process: None,
            life: 0,
            paused_until: 0,
            slowness: 1,
            tick,
            usual_tick: tick,
            ahead: 0,
            doomed: false,
            retired: false,
            ambush: None,
            random,
        }
    }
}

pub(crate) fn member(id: u64) -> Member {
    let peer_urls = vec![format!("http://{id}:2380")];
    Member { id, name: format!("m{id}"), peer_urls, ..Member::default() }
}

fn founder(id: u64) -> Founder {
    Founder { id, context: roster::encode(&member(id)) }
}
