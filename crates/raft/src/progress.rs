//! What a leader knows of one follower's log, and how fast it may feed it.
//!
//! ```text
//!              reply agrees                     rejected, unreachable
//!   ┌─ Probe ─────────────────► Replicate ──────────────────────────► Probe
//!   │    ▲  one append per          many appends at once, the
//!   │    │  heartbeat               window says how many
//!   │    │ sent, failed
//!   └──► Snapshot ── reply reaches our log ──► Replicate
//!        nothing is sent
//! ```
//!
//! # Invariants
//!
//! - matched < next.   (`assert_invariants`)
//! - In `Replicate`, what lies between `matched` and `next` is in the window.
//! - In `Snapshot`, next is the one after the snapshot.
//!
//! # Not here
//!
//! The log itself, and messages: `node/leader.rs`.

use std::collections::VecDeque;

use crate::number::{Index, NodeId};

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) node: NodeId,
    /// The follower's log is known to agree with ours up to here, durably.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// It has been heard of since the last time the quorum was checked.
    pub(crate) active: bool,
    /// Nothing more is sent until it answers a heartbeat.
    pub(crate) paused: bool,
    /// The newest round of reads it has confirmed.
    pub(crate) read_round: u64,
    /// The highest commit index sent, as far as it may still arrive.
    commit_sent: Index,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// We do not know where the logs agree, and ask with one append at a time.
    Probe,
    /// We do, and send without waiting for answers.
    Replicate,
    /// It needs entries we no longer have; a snapshot up to `pending` stands in for them.
    Snapshot { pending: Index },
}

/// Appends under way: the last index of each, and their bytes.
#[derive(Debug)]
struct Window {
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
    n_max: usize,
    bytes_max: u64,
}

impl Progress {
    pub(crate) fn new(node: NodeId, next: Index, n_max: usize, bytes_max: u64) -> Self {
        Self {
            node,
            matched: Index(0),
            next: next.max(Index(1)),
            flow: Flow::Probe,
            active: false,
            paused: false,
            read_round: 0,
            commit_sent: Index(0),
            window: Window { sent: VecDeque::new(), bytes: 0, n_max, bytes_max },
        }
    }

    /// Whether an append may be sent at all.
    pub(crate) fn may_send(&self) -> bool {
        match self.flow {
            Flow::Probe | Flow::Replicate => !self.paused,
            Flow::Snapshot { .. } => false,
        }
    }

    /// Whether it may carry entries. With a full window it goes out empty: if everything in the
    /// window was lost, the answer to it is what gets things moving again.
    pub(crate) fn may_send_entries(&self) -> bool {
        match self.flow {
            Flow::Probe => true,
            Flow::Replicate => !self.window.is_full(),
            Flow::Snapshot { .. } => false,
        }
    }

    /// An append with `n` entries was sent.
    pub(crate) fn on_sent(&mut self, n: u64, bytes: u64, commit: Index) {
        match self.flow {
            Flow::Probe => self.paused |= n > 0,
            Flow::Replicate => {
                if n > 0 {
                    self.next = Index(self.next.0 + n);
                    self.window.add(self.next.before(), bytes);
                }
                self.paused = self.window.is_full();
            }
            Flow::Snapshot { .. } => unreachable!("nothing is appended during a snapshot"),
        }
        self.commit_sent = commit;
    }

    pub(crate) fn on_heartbeat_sent(&mut self, commit: Index) {
        self.commit_sent = commit;
    }

    /// Whether it would learn something from being told that `commit` is committed.
    pub(crate) fn would_learn(&self, commit: Index) -> bool {
        commit > self.commit_sent && self.commit_sent < self.next.before()
    }

    /// It holds everything up to `index`. Returns whether that was news.
    pub(crate) fn on_accepted(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.paused = false;
        true
    }

    pub(crate) fn free_window(&mut self, upto: Index) {
        self.window.free(upto);
    }

    /// It does not hold what came before `rejected.next()`, but maybe `hint`. Returns whether that
    /// was news; an old rejection that arrives late is none.
    pub(crate) fn on_rejected(&mut self, rejected: Index, hint: Index) -> bool {
        match self.flow {
            Flow::Replicate => {
                if rejected <= self.matched {
                    return false;
                }
                self.become_probe();
            }
            // What it lacks is under way already.
            Flow::Snapshot { .. } => return false,
            Flow::Probe => {
                if self.next.before() != rejected {
                    return false;
                }
                self.next = rejected.min(hint.next()).max(self.matched.next());
                self.paused = false;
            }
        }
        self.commit_sent = self.commit_sent.min(self.next.before());
        true
    }

    pub(crate) fn become_probe(&mut self) {
        let next = match self.flow {
            Flow::Probe | Flow::Replicate => self.matched.next(),
            Flow::Snapshot { pending } => self.matched.next().max(pending.next()),
        };
        self.switch(Flow::Probe, next);
        self.commit_sent = self.commit_sent.min(self.next.before());
    }

    /// The snapshot never got there: whatever it would have brought is still missing.
    pub(crate) fn give_up_snapshot(&mut self) {
        self.switch(Flow::Probe, self.matched.next());
        self.commit_sent = self.commit_sent.min(self.next.before());
    }

    pub(crate) fn become_replicate(&mut self) {
        self.switch(Flow::Replicate, self.matched.next());
    }

    pub(crate) fn become_snapshot(&mut self, pending: Index) {
        self.switch(Flow::Snapshot { pending }, pending.next());
        self.commit_sent = pending;
    }

    fn switch(&mut self, flow: Flow, next: Index) {
        self.flow = flow;
        self.next = next;
        self.paused = false;
        self.window.clear();
    }

    pub(crate) fn n_in_flight(&self) -> usize {
        self.window.sent.len()
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.matched < self.next, "{}: {} of {}", self.node, self.matched, self.next);
        assert!(self.window.sent.len() <= self.window.n_max);
    }
}

impl Window {
    fn is_full(&self) -> bool {
        self.sent.len() >= self.n_max || self.bytes >= self.bytes_max
    }

    fn add(&mut self, last: Index, bytes: u64) {
        assert!(!self.is_full(), "an append beyond the window");
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free(&mut self, upto: Index) {
        while let Some(&(last, bytes)) = self.sent.front() {
            if last > upto {
                break;
            }
            self.bytes -= bytes;
            self.sent.pop_front();
        }
    }

    fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
