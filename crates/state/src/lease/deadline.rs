//! The queues of moments at which a lease wants to be looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::LeaseId;

/// A moment in milliseconds, and who waits for it. The earliest is on top; of equals the smaller id.
type Queue = BinaryHeap<Reverse<(u64, LeaseId)>>;

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

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A queue is whole between any two of its operations.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expire_at(&self, moment_ms: u64, id: LeaseId) {
        self.lock().expiry.push(Reverse((moment_ms, id)));
    }

    pub(super) fn checkpoint_at(&self, moment_ms: u64, id: LeaseId) {
        self.lock().checkpoint.push(Reverse((moment_ms, id)));
    }

    /// Takes the next lease to look at by `now_ms`.
    pub(super) fn next_due(&self, now_ms: u64) -> Option<LeaseId> {
        take_due(&mut self.lock().expiry, now_ms)
    }

    pub(super) fn next_checkpoint(&self, now_ms: u64) -> Option<LeaseId> {
        take_due(&mut self.lock().checkpoint, now_ms)
    }

    pub(super) fn clear(&self) {
        *self.lock() = Queues::default();
    }
}

fn take_due(queue: &mut Queue, now_ms: u64) -> Option<LeaseId> {
    let Reverse((moment, _)) = queue.peek()?;
    if *moment > now_ms {
        return None;
    }
    queue.pop().map(|Reverse((_, id))| id)
}
