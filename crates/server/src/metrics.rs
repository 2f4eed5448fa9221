//! Counters that other threads add to. How they are shown comes with the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations: how many, and how long together.
#[derive(Debug, Default)]
pub struct Histogram {
    count: Counter,
    micros: Counter,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        self.count.inc();
        self.micros.add(duration.as_micros() as u64);
    }
}

/// All counters of a member.
#[derive(Debug, Default)]
pub struct Metrics {
    pub wal_fsync: Histogram,
    pub checkpoint: Histogram,
    pub apply: Histogram,
    pub applied: Counter,
    pub leader_changes_seen: Counter,
    pub proposals_failed: Counter,
    pub slow_apply: Counter,
    pub lease_expired: Counter,
}
