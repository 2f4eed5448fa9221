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

use crate::clients::Clients;
use crate::nemesis::{Fault, Mend};
use crate::network::{Network, Parcel};
use crate::oracle::Oracle;
use crate::process::{Alive, Death, Duty, Founding, Process, Step, Surroundings, TICK, boot};
use crate::summary::Summary;
use crate::trace;

pub(crate) const SECOND: u64 = 1_000_000;
/// After healing, how long until every request must be answered.
pub(crate) const RECOVERY: u64 = 8 * SECOND;
/// How long that is looked at.
const PROGRESS: u64 = 6 * SECOND;
/// How long the members have to become alike once clients are gone.
const QUIET: u64 = 10 * SECOND;

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
    Nemesis,
    Mend(Mend),
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
    /// A tick by this machine's clock.
    tick: u64,
    /// Something was planned that may end the process.
    pub(crate) doomed: bool,
    /// It has learned that it does not belong to the cluster any more.
    pub(crate) retired: bool,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Generator,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    pub(crate) summary: Summary,
    pub(crate) without: Vec<Fault>,
    pub(crate) healed: Option<u64>,
    /// The longest time between two faults.
    pub(crate) calm_max: u64,
    /// When the last removal of a member was asked for.
    pub(crate) removal_asked: u64,
    duties: Vec<Duty>,
}

impl World {
    pub(crate) fn new(seed: u64, without: Vec<Fault>) -> Self {
        let mut random = Generator::new(seed);
        let calm_max = *random.pick(&[SECOND / 4, SECOND, 3 * SECOND]);
        let n = *random.pick(&[1, 2, 3, 3, 3, 4, 5, 5]);
        let founders: Vec<Founder> = (1..=n).map(founder).collect();
        let host = |id| {
            let founding = Founding { id, founders: founders.clone() };
            Host::new(founding, &mut random)
        };
        let hosts = (1..=n).map(host).collect();
        let mut world = Self {
            now: 0,
            network: Network::default(),
            clients: Clients::new(&mut random),
            random,
            sequence: 0,
            queue: BTreeMap::new(),
            hosts,
            oracle: Oracle::default(),
            summary: Summary::new(seed),
            without,
            healed: None,
            calm_max,
            removal_asked: 0,
            duties: Vec::new(),
        };
        for host in 0..n as usize {
            let delay = world.random.below(SECOND);
            world.after(delay, Happening::Start { host });
        }
        for client in 0..world.clients.len() {
            world.after(SECOND, Happening::Client(client));
        }
        world.after(2 * SECOND, Happening::Nemesis);
        world
    }

    /// Lives it all through.
    pub(crate) fn run(mut self) -> Summary {
        let chaos = (5 + self.random.below(25)) * SECOND;
        self.run_until(chaos);
        self.heal();
        self.run_until(chaos + RECOVERY + PROGRESS);
        self.clients.stop();
        self.run_until(chaos + RECOVERY + PROGRESS + QUIET);
        self.compare_members();
        self.summary.virtual_time = self.now;
        self.summary.entries = self.oracle.n_agreed();
        self.summary.compared = self.oracle.n_compared;
        self.summary
    }

    pub(crate) fn after(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.summary.steps += 1;
            self.happen(happening);
        }
        self.now = end;
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
                self.after(self.hosts[host].tick, Happening::Tick { host, life });
            }
            Happening::Arrive(parcel) => self.arrive(*parcel),
            Happening::Start { host } => self.start(host),
            Happening::Client(client) => self.client(client),
            Happening::GiveUp { client, op } => self.give_up(client, op),
            Happening::Nemesis => self.nemesis(),
            Happening::Mend(mend) => self.mend(mend),
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
        let Host { process, slowness, life, .. } = &mut self.hosts[host];
        let life = *life;
        let mut around = Surroundings {
            now: self.now,
            random: &mut self.random,
            oracle: &mut self.oracle,
            duties: &mut duties,
            slowness: *slowness,
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
                    self.perform(host, life, duty);
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
            }
            Duty::Answer { op, told } => self.answered(op, told),
        }
    }

    fn send(&mut self, from: usize, life: u64, message: &Message, file: Option<&Arc<Vec<u8>>>) {
        let Some(to) = self.hosts.iter().position(|host| host.founding.id == message.to.get())
        else {
            return;
        };
        // A proposal goes by a connection that repeats nothing; so raft says it once.
        let may_repeat = !matches!(message.body, Body::Propose { .. } | Body::Snapshot(_));
        let delays = self.network.fate(from, to, may_repeat, &mut self.random);
        if delays.is_empty() && file.is_some() {
            self.snapshot_sent(from, life, message.to, false);
            return;
        }
        for delay in delays {
            let cut = file.is_some() && self.random.chance(20);
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
        assert!(self.hosts[host].doomed, "member {} died for no reason: {why}", host + 1);
        trace::note(self.now, || format!("member {} died: {why}", host + 1));
        self.crash(host, true);
    }

    /// Ends a process, and the machine with it if it loses `power`.
    pub(crate) fn crash(&mut self, host: usize, power: bool) {
        let pause = 20_000 + self.random.below(3 * SECOND);
        let machine = &mut self.hosts[host];
        machine.life += 1;
        machine.doomed = false;
        machine.process = None;
        machine.disk = if power { machine.disk.crash() } else { machine.disk.kill() };
        self.after(pause, Happening::Start { host });
    }

    fn start(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        if machine.process.is_some() || machine.retired {
            return;
        }
        let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
        match boot(disk, &machine.founding, self.now, &mut self.oracle) {
            Ok(process) => {
                trace::note(self.now, || {
                    let (index, term) = process.state.applied();
                    format!("member {} starts at {index}@{term}", host + 1)
                });
                machine.process = Some(process);
                machine.life += 1;
                let (life, tick) = (machine.life, machine.tick);
                let delay = self.random.below(tick);
                self.after(delay, Happening::Tick { host, life });
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
            if std::mem::take(&mut machine.doomed) {
                self.crash(host, false);
            }
            self.after(SECOND, Happening::Start { host });
        }
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
    pub(crate) fn new(founding: Founding, random: &mut Generator) -> Self {
        Self {
            founding,
            disk: SimulatedDisk::new(random.number()),
            process: None,
            life: 0,
            paused_until: 0,
            slowness: 1,
            // Clocks differ by a few parts in a hundred.
            tick: TICK * (95 + random.below(11)) / 100,
            doomed: false,
            retired: false,
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
