//! The queues of moments at which a lease wants to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::LeaseId;

/// Behind a lock, since the leader's timer looks here while it may only read.
#[derive(Default)]
pub(super) struct Deadlines {
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    expiry: Queue,
    checkpoint: Queue,
}

/// One moment, in milliseconds, for each lease that waits; the earliest first, of equals the smaller id.
#[derive(Default)]
struct Queue {
    order: BTreeSet<(u64, LeaseId)>,
    moments: BTreeMap<LeaseId, u64>,
}

impl Queue {
    fn set(&mut self, moment_ms: u64, id: LeaseId) {
        self.remove(id);
        self.moments.insert(id, moment_ms);
        self.order.insert((moment_ms, id));
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(moment) = self.moments.remove(&id) {
            self.order.remove(&(moment, id));
        }
    }

    fn take_due(&mut self, now_ms: u64) -> Option<LeaseId> {
        let &(moment, id) = self.order.first()?;
        if moment > now_ms {
            return None;
        }
        self.remove(id);
        Some(id)
    }
}

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A queue left half changed by a panic is one this member doesn't live to use.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expire_at(&self, moment_ms: u64, id: LeaseId) {
        self.lock().expiry.set(moment_ms, id);
    }

    pub(super) fn checkpoint_at(&self, moment_ms: u64, id: LeaseId) {
        self.lock().checkpoint.set(moment_ms, id);
    }

    pub(super) fn remove(&self, id: LeaseId) {
        let mut queues = self.lock();
        queues.expiry.remove(id);
        queues.checkpoint.remove(id);
    }

    /// Takes the next lease to look at by `now_ms`.
    pub(super) fn next_due(&self, now_ms: u64) -> Option<LeaseId> {
        self.lock().expiry.take_due(now_ms)
    }

    pub(super) fn next_checkpoint(&self, now_ms: u64) -> Option<LeaseId> {
        self.lock().checkpoint.take_due(now_ms)
    }

    pub(super) fn clear(&self) {
        *self.lock() = Queues::default();
    }
}
