//! The nemesis: what goes wrong, and when.
//!
//! It draws the kind of a fault before it looks at whether that kind is allowed: so a failing seed can
//! be tried again without some kinds, and the rest stays much as it was.

use std::fmt;
use std::str::FromStr;

use member::Event;

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
    TornWrite "torn-write"
    DiskFull "disk-full"
    SyncFailure "sync-failure"
    SlowDisk "slow-disk"
    Pause "pause"
    OneWay "one-way-cut"
    Partial "partial-cut"
    Isolation "isolation"
    BadNetwork "bad-network"
    Checkpoint "checkpoint"
    MoveLeader "move-leader"
    Campaign "campaign"
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

/// What ends by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mend {
    Network,
    Disk(usize),
}

impl World {
    pub(crate) fn nemesis(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let fault = *self.random.pick(Fault::ALL);
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let next = SECOND / 100 + self.random.below(self.calm_max);
        self.after(next, Happening::Nemesis);
        if self.without.contains(&fault) {
            return;
        }
        trace::note(self.now, || format!("{fault} at member {}", host + 1));
        self.summary.fault(fault);
        self.inflict(fault, host);
    }

    fn inflict(&mut self, fault: Fault, host: usize) {
        match fault {
            Fault::PowerLoss => self.end(host, true),
            Fault::Kill => self.end(host, false),
            Fault::TornWrite => {
                let k = 1 + self.random.below(40);
                self.hosts[host].disk.crash_at(k);
                self.hosts[host].doomed = true;
            }
            Fault::DiskFull => {
                let bytes = self.random.below(20_000);
                self.hosts[host].disk.limit_space(Some(bytes));
                self.hosts[host].doomed = true;
            }
            Fault::SyncFailure => {
                let k = 1 + self.random.below(10);
                self.hosts[host].disk.fail_sync_at(k);
                self.hosts[host].doomed = true;
            }
            Fault::SlowDisk => {
                self.hosts[host].slowness = 2 + self.random.below(60);
                let time = self.random.below(3 * SECOND);
                self.after(time, Happening::Mend(Mend::Disk(host)));
            }
            Fault::Pause => {
                let time = self.random.below(4 * SECOND);
                self.hosts[host].paused_until = self.now + time;
            }
            Fault::OneWay | Fault::Partial | Fault::Isolation | Fault::BadNetwork => {
                self.disturb(fault, host);
                let time = SECOND / 10 + self.random.below(5 * SECOND);
                self.after(time, Happening::Mend(Mend::Network));
            }
            Fault::AddMember | Fault::Promote | Fault::RemoveMember => self.reform(fault, host),
            Fault::MoveLeader => self.move_leader(host),
            Fault::Campaign => {
                self.with(host, |process, around| {
                    process.tell(Event::Campaign, around);
                    Ok(())
                });
            }
            Fault::Checkpoint => {
                self.with(host, |process, around| {
                    process.want_checkpoint(around);
                    Ok(())
                });
            }
        }
    }

    fn end(&mut self, host: usize, power: bool) {
        if self.hosts[host].process.is_some() {
            self.crash(host, power);
        }
    }

    fn disturb(&mut self, fault: Fault, host: usize) {
        let (random, network) = (&mut self.random, &mut self.network);
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if fault == Fault::OneWay && random.chance(70) {
                network.cuts.insert((host, other));
            } else if fault == Fault::Isolation || fault == Fault::Partial && random.chance(50) {
                network.cuts.extend([(host, other), (other, host)]);
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
        }
    }
}
