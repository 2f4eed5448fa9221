//! What a run amounted to, in a line.

use std::collections::BTreeMap;
use std::fmt;

use crate::nemesis::Fault;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub seed: u64,
    pub n_seeds: u64,
    pub steps: u64,
    pub messages: u64,
    pub snapshots: u64,
    pub asked: u64,
    pub answered: u64,
    pub unanswered: u64,
    /// Entries agreed upon, and how many times one was held against the model.
    pub entries: u64,
    pub compared: u64,
    /// Bits that flipped where they rested, and how many of them a member met.
    pub bits_flipped: u64,
    pub damage_found: u64,
    /// Events that watchers saw.
    pub events: u64,
    /// Leases that ended by themselves.
    pub expired: u64,
    /// In microseconds.
    pub virtual_time: u64,
    pub faults: BTreeMap<Fault, u64>,
}

impl Summary {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, n_seeds: 1, ..Self::default() }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.n_seeds += other.n_seeds;
        self.steps += other.steps;
        self.messages += other.messages;
        self.snapshots += other.snapshots;
        self.asked += other.asked;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.entries += other.entries;
        self.compared += other.compared;
        self.bits_flipped += other.bits_flipped;
        self.damage_found += other.damage_found;
        self.events += other.events;
        self.expired += other.expired;
        self.virtual_time += other.virtual_time;
        for (fault, n) in &other.faults {
            *self.faults.entry(*fault).or_default() += n;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.virtual_time / 1_000_000;
        if self.n_seeds == 1 {
            write!(f, "seed {}: ", self.seed)?;
        } else {
            write!(f, "{} seeds: ", self.n_seeds)?;
        }
        write!(
            f,
            "{} steps, {seconds} s of virtual time, {} messages, {} snapshots, \
             {} operations asked, {} checked, {} unanswered, {} entries compared {} times, \
             {} bits flipped, {} bad disks met, {} events watched, {} leases expired, faults:",
            self.steps,
            self.messages,
            self.snapshots,
            self.asked,
            self.answered,
            self.unanswered,
            self.entries,
            self.compared,
            self.bits_flipped,
            self.damage_found,
            self.events,
            self.expired
        )?;
        for (fault, n) in &self.faults {
            write!(f, " {fault} {n}")?;
        }
        Ok(())
    }
}
