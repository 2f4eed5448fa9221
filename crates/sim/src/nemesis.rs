//! The nemesis: what goes wrong, and when.
//!
//! Each act has a number and a stream of choices of its own, and draws what it is before it looks at
//! whether it is allowed: so a failing seed can be tried again without some acts, and the others stay
//! what they were.

use std::fmt;
use std::str::FromStr;

use member::Event;
use stdx::Generator;

use crate::ambush::Ambush;
use crate::process::TICK;
use crate::reform::HOSTS_MAX;
use crate::streams::{Stream, pick_of};
use crate::trace;
use crate::world::{Happening, SECOND, World};

macro_rules! faults {
    ($($name:ident $text:literal)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name),* }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

faults! {
    PowerLoss "power-loss"
    Kill "kill"
    Ambush "ambush"
    TornWrite "torn-write"
    DiskFull "disk-full"
    SyncFailure "sync-failure"
    SlowDisk "slow-disk"
    FlippedBit "flipped-bit"
    ClockSkew "clock-skew"
    Pause "pause"
    OneWay "one-way-cut"
    Partial "partial-cut"
    Isolation "isolation"
    BadNetwork "bad-network"
    LateLinks "late-links"
    Checkpoint "checkpoint"
    MoveLeader "move-leader"
    Campaign "campaign"
    Rivals "rivals"
    AddMember "add-member"
    Promote "promote"
    RemoveMember "remove-member"
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = Self::ALL.iter().find(|fault| fault.text() == text);
        fault.copied().ok_or_else(|| format!("no kind of fault is called {text}"))
    }
}

/// So many acts in a hundred are aimed at whoever leads.
const AIMED_PERCENT: u64 = 25;
/// A timer that is late makes up for no more ticks than this.
const LEAP_TICKS_MAX: u64 = 30;
/// After so long without a leader members listen to others.
const ELECTION: u64 = 10 * TICK;

/// What ends, or comes, by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mend {
    Network,
    Disk(usize),
    /// Everybody wants to lead.
    Leaderless,
}

impl World {
    pub(crate) fn nemesis(&mut self, number: u64) {
        if self.healed.is_some() {
            return;
        }
        let mut random = Stream::Act(number).of(self.plan.seed);
        let fault = *random.pick(Fault::ALL);
        let host = pick_of(self.hosts.len(), HOSTS_MAX, &mut random);
        let host = if random.chance(AIMED_PERCENT) { self.leader().unwrap_or(host) } else { host };
        let next = SECOND / 100 + random.below(self.calm_max);
        self.after(next, Happening::Nemesis(number + 1));
        // Where clocks leap leases promise nothing: half of the runs have better ones.
        let is_spared = fault == Fault::ClockSkew && self.plan.seed.is_multiple_of(2);
        if is_spared || !self.plan.allows(number, fault) {
            return;
        }
        trace::act(self.now, number, &format!("{fault} at member {}", host + 1));
        self.summary.fault(fault);
        self.inflict(fault, number, host, &mut random);
    }

    fn inflict(&mut self, fault: Fault, number: u64, host: usize, random: &mut Generator) {
        match fault {
            Fault::PowerLoss => self.end(host, true),
            Fault::Kill => self.end(host, false),
            Fault::Ambush => {
                let ambush = Ambush::plan(random);
                trace::note(self.now, || format!("it waits for its next {:?}", ambush.moment()));
                self.hosts[host].ambush = Some(ambush);
            }
            Fault::TornWrite => {
                let k = 1 + random.below(40);
                self.hosts[host].disk.crash_at(k);
                self.hosts[host].doomed = true;
            }
            Fault::DiskFull => {
                let bytes = random.below(20_000);
                self.hosts[host].disk.limit_space(Some(bytes));
                self.hosts[host].doomed = true;
            }
            Fault::SyncFailure => {
                let k = 1 + random.below(10);
                self.hosts[host].disk.fail_sync_at(k);
                self.hosts[host].doomed = true;
            }
            Fault::SlowDisk => {
                let slowest = *random.pick(&[10, 60, 600]);
                self.hosts[host].slowness = 2 + random.below(slowest);
                let time = random.below(3 * SECOND);
                self.after(time, Happening::Mend(Mend::Disk(host)));
            }
            Fault::FlippedBit => self.flip(host, random),
            Fault::ClockSkew => self.skew(host, random),
            Fault::Pause => {
                let time = random.below(4 * SECOND);
                self.hosts[host].paused_until = self.now + time;
            }
            Fault::OneWay
            | Fault::Partial
            | Fault::Isolation
            | Fault::BadNetwork
            | Fault::LateLinks => {
                self.disturb(fault, host, random);
                let time = SECOND / 10 + random.below(5 * SECOND);
                self.after(time, Happening::Mend(Mend::Network));
            }
            Fault::AddMember | Fault::Promote | Fault::RemoveMember => {
                self.reform(fault, number, host, random);
            }
            Fault::MoveLeader => self.move_leader(host, random),
            Fault::Campaign => self.tell(host, Event::Campaign),
            Fault::Rivals => self.rivals(host, random),
            Fault::Checkpoint => {
                self.with(host, |process, around| {
                    process.want_checkpoint(around);
                    Ok(())
                });
            }
        }
    }

    /// The clock of a machine runs at another rate, from half to twice the usual one, and may leap
    /// ahead with all the ticks that it owes.
    fn skew(&mut self, host: usize, random: &mut Generator) {
        self.oracle.leases.clocks_lie();
        let machine = &mut self.hosts[host];
        machine.tick = Some(TICK * (50 + random.below(150)) / 100);
        if random.chance(50) {
            let leap = random.below(100);
            machine.ahead += leap * TICK;
            (0..leap.min(LEAP_TICKS_MAX)).for_each(|_| self.tell(host, Event::Tick));
        }
    }

    /// Whoever leads, or leads last.
    pub(crate) fn leader(&self) -> Option<usize> {
        let view = |host: &usize| self.hosts[*host].process.as_ref().map(|process| process.shown);
        let leads = |host: &usize| view(host).is_some_and(|view| view.is_leader);
        let leaders = (0..self.hosts.len()).filter(leads);
        leaders.max_by_key(|host| view(host).map(|view| view.term))
    }

    fn tell(&mut self, host: usize, event: Event) {
        self.with(host, |process, around| {
            process.tell(event, around);
            Ok(())
        });
    }

    /// Nobody leads, and all who are left stand for election at once, over slow links. One of them
    /// loses power as soon as it has voted.
    fn rivals(&mut self, voter: usize, random: &mut Generator) {
        for host in 0..self.hosts.len() {
            let process = self.hosts[host].process.as_ref();
            if process.is_some_and(|process| process.shown.is_leader) {
                self.crash(host, true);
            }
        }
        self.network.delay_max = *random.pick(&[SECOND / 20, SECOND / 2, SECOND]);
        self.hosts[voter].ambush = Some(Ambush::of_vote());
        self.after(ELECTION + SECOND / 20, Happening::Mend(Mend::Leaderless));
        self.after(2 * ELECTION + SECOND, Happening::Mend(Mend::Network));
    }

    fn end(&mut self, host: usize, power: bool) {
        if self.hosts[host].process.is_some() {
            self.crash(host, power);
        }
    }

    fn disturb(&mut self, fault: Fault, host: usize, random: &mut Generator) {
        let network = &mut self.network;
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if fault == Fault::OneWay && random.chance(70) {
                network.cuts.insert((host, other));
            } else if fault == Fault::Isolation || fault == Fault::Partial && random.chance(50) {
                network.cuts.extend([(host, other), (other, host)]);
            } else if fault == Fault::LateLinks && random.chance(50) {
                let delay = random.below(3 * SECOND);
                let link = if random.chance(50) { (host, other) } else { (other, host) };
                network.late.insert(link, delay);
            }
        }
        if fault == Fault::BadNetwork {
            network.loss_percent = random.below(30);
            network.repeat_percent = random.below(30);
            network.delay_max = 1 + random.below(SECOND / 2);
        }
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Network => self.network = Default::default(),
            Mend::Disk(host) => self.hosts[host].slowness = 1,
            Mend::Leaderless => {
                (0..self.hosts.len()).for_each(|host| self.tell(host, Event::Campaign));
            }
        }
    }
}
