//! What the threads of a member share.
//!
//! Each thing has one owner who changes it; the others read, or leave work in its inbox:
//!
//! | what | changed by | read by |
//! |---|---|---|
//! | [`State`] | apply thread | ports, chores (read lock) |
//! | [`Shown`] | member thread | everybody (atomics) |
//! | inboxes | anybody pushes | the thread they are named for |

use std::fmt::Display;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use member::inbox::Inbox;
use member::{Event, View};
use state::State;

use crate::api::port::PortWork;
use crate::api::waiting::Origin;
use crate::drive::apply::ApplyWork;
use crate::drive::chores::Chore;
use crate::drive::log::LogWork;
use crate::log::error;
use crate::metrics::Metrics;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub name: String,
}

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an encoded proposal.
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    /// Concurrent streams of one connection.
    pub streams_max: u32,
    /// After which a proposal or read is given up.
    pub request_timeout_ms: u64,
    /// The shortest lease that is granted, in seconds.
    pub lease_ttl_min: i64,
}

/// The member thread's view of raft, for everybody to read.
#[derive(Debug, Default)]
pub struct Shown {
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    last: AtomicU64,
    applied: AtomicU64,
    is_leader: AtomicBool,
    is_learner: AtomicBool,
    lone: AtomicBool,
}

impl Shown {
    pub(crate) fn show(&self, view: &View) {
        // `lone` guards reads: it falls before anything else tells of what made it fall.
        if !view.lone {
            self.lone.store(false, Ordering::SeqCst);
        }
        self.term.store(view.term, Ordering::Relaxed);
        self.leader.store(view.leader, Ordering::Relaxed);
        self.commit.store(view.commit, Ordering::Relaxed);
        self.last.store(view.last, Ordering::Relaxed);
        self.is_leader.store(view.is_leader, Ordering::Relaxed);
        self.is_learner.store(view.is_learner, Ordering::Relaxed);
        if view.lone {
            self.lone.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn show_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
    }

    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// 0 when there is none.
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    pub fn commit(&self) -> u64 {
        self.commit.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    pub fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// Whether what is applied here is all that anybody was told of.
    pub fn lone(&self) -> bool {
        self.lone.load(Ordering::SeqCst)
    }
}

/// What the threads of a member share.
pub struct Engine {
    pub identity: Identity,
    pub limits: Limits,
    pub origin: Origin,
    pub shown: Shown,
    pub metrics: Metrics,
    pub ports: Vec<Arc<Inbox<PortWork>>>,
    pub member: Inbox<Event>,
    pub log: Inbox<LogWork>,
    pub apply: Inbox<ApplyWork>,
    pub chores: Inbox<Chore>,
    pub started: Instant,
    state: RwLock<State>,
    stopping: AtomicBool,
}

impl Engine {
    /// Milliseconds since this member started: the clock of leases and deadlines.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("584 million years have passed")
    }

    /// The state, to read. Held for one turn at most.
    ///
    /// A thread that panicked under the lock has left the state halfway: nobody may look at it.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|_| self.die("the state was left halfway by a panic"))
    }

    /// The state, to change: for the apply thread, and for chores in short steps.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|_| self.die("the state was left halfway by a panic"))
    }

    /// Tells the member thread what came of work it has given out.
    pub(crate) fn tell_member(&self, event: Event) {
        self.member.push_admitted([event]);
    }

    /// Whether the process is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Unwraps what the disk answered. A member whose disk fails says so and ends: going on could
    /// acknowledge what is lost.
    pub(crate) fn or_die<T, E: Display>(&self, part: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|e| self.die(&format!("{part}: {e}")))
    }

    /// Ends the process with one clear line.
    pub(crate) fn die(&self, what: &str) -> ! {
        error!("this member cannot go on", error = what);
        process::exit(1)
    }
}
