//! Leases: keys that live as long as somebody says so.
//!
//! Granting, revoking and checkpointing are entries of the log, alike on every member. Time is not: only
//! the leader's table (the *primary*) counts, the others hold every deadline at [`FOREVER`]. What has run
//! out is only reported ([`Leases::expired`]); it dies when the revocation the leader then proposes is applied.
//!
//! ```text
//!          grant            renew (leader, not in the log)          expired → proposed → revoke
//! ttl 10 ────●─────────────────●────────────────────────────────────────●────────────────●
//!            └ deadline = now + 10 s └ deadline moves                    └ keys die, sorted, in one revision
//! ```
//!
//! A renewal must not wait for anybody: it works through `&self`, on an atomic deadline. The queue of
//! deadlines is therefore lazy: it holds for each lease one moment *not after* its deadline, and the lease
//! is looked at again then.
//!
//! # Invariants
//!
//! - While primary, each lease has one queued moment, not later than its deadline or else the time at
//!   which it is reported again.
//! - A key belongs to one lease at most: `owners` and the leases' key sets mirror each other.   (`check`)
//! - No order of a hash map is visible: all tables are sorted.
//!
//! # Not here
//!
//! A clock (moments come in as milliseconds of one that never jumps back), the store the keys are
//! deleted from, and who may do what.

mod deadline;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::error::Error;
use proto::leasepb;

use self::deadline::Deadlines;

/// Longer TTLs are refused, as etcd refuses them.
pub const TTL_MAX: i64 = 9_000_000_000;

/// The deadline of every lease on a member that doesn't lead.
pub const FOREVER: u64 = u64::MAX;

/// How long what a lease needs of the log may take before it is asked for again.
const RETRY_MS: u64 = 3_000;

/// Leases with more than this left get their remaining time written to the log now and then, as in etcd.
pub const CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1_000;

/// Expiries a second a new leader plans for at most. Some room is left for those nobody planned.
const EXPIRIES_PER_SECOND: u64 = 750;

/// With fewer leases than this a pile-up can't happen.
const PILE_UP_MIN: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Shorter TTLs are raised to this, in seconds.
    pub ttl_min: i64,
    /// Whether remaining times are to be checkpointed (gate `LeaseCheckpoint`).
    pub checkpoint: bool,
    /// Whether checkpoints are kept on disk even where the cluster version is below 3.6.
    pub checkpoint_persist: bool,
    /// Leases with more than this left are checkpointed, this often.
    pub checkpoint_interval_ms: u64,
}

struct Lease {
    ttl: i64,
    /// What was left at the last checkpoint, in seconds; 0: none was taken since the last renewal.
    remaining: i64,
    deadline_ms: AtomicU64,
    /// Until when a checkpoint may be on its way to the log; 0: none is.
    noting_ms: AtomicU64,
    keys: BTreeSet<Arc<[u8]>>,
}

impl Lease {
    fn time_left(&self) -> i64 {
        if self.remaining > 0 { self.remaining } else { self.ttl }
    }

    fn deadline(&self) -> u64 {
        self.deadline_ms.load(Ordering::SeqCst)
    }

    fn new(ttl: i64, remaining: i64) -> Self {
        Self {
            ttl,
            remaining,
            deadline_ms: AtomicU64::new(FOREVER),
            noting_ms: AtomicU64::new(0),
            keys: BTreeSet::new(),
        }
    }

    fn restart(&self, now_ms: u64, extend_ms: u64) -> u64 {
        let left_ms = (self.time_left().max(0) as u64).saturating_mul(1_000);
        // Never the value that means "doesn't run".
        let deadline = now_ms.saturating_add(extend_ms).saturating_add(left_ms).min(FOREVER - 1);
        self.deadline_ms.store(deadline, Ordering::SeqCst);
        deadline
    }
}

/// What became of a request to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It runs again for so many seconds.
    Renewed {
        ttl: i64,
    },
    NotFound,
    /// This member doesn't count time: ask the leader.
    NotPrimary,
    /// Its time is over though its keys still live: wait until it is gone (then: not found) or the
    /// leader changes.
    Expired,
    /// A checkpoint would cut it short later: propose one with 0 left, and renew once it is applied.
    CheckpointFirst,
    /// Such a checkpoint is on its way, or one that was due before: ask again.
    CheckpointOnItsWay,
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive<'a> {
    /// Seconds left; negative once it is over.
    pub ttl: i64,
    pub granted: i64,
    pub keys: Vec<&'a [u8]>,
}

/// Leases, and the keys attached to them.
pub struct Leases {
    config: Config,
    leases: BTreeMap<LeaseId, Lease>,
    owners: BTreeMap<Arc<[u8]>, LeaseId>,
    /// The term this member leads in, while it counts.
    primary: Option<u64>,
    /// The moment grants and checkpoints count from.
    now_ms: u64,
    deadlines: Deadlines,
}

impl Leases {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            leases: BTreeMap::new(),
            owners: BTreeMap::new(),
            primary: None,
            now_ms: 0,
            deadlines: Deadlines::default(),
        }
    }

    /// Puts back a lease found on the disk; its keys follow by [`Leases::attach`].
    pub(crate) fn restore(&mut self, stored: &leasepb::Lease) {
        let lease = Lease::new(stored.ttl.max(self.config.ttl_min), stored.remaining_ttl);
        self.leases.insert(LeaseId(stored.id), lease);
    }

    /// Tells the time. It never goes back.
    pub(crate) fn tell(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The time it was told last.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Grants a lease, and says what to store of it. Its TTL may be more than was asked for.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<leasepb::Lease, Error> {
        if id.0 == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > TTL_MAX {
            return Err(Error::LeaseTTLTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExist);
        }
        let ttl = ttl.max(self.config.ttl_min);
        let lease = Lease::new(ttl, 0);
        if self.primary.is_some() {
            self.deadlines.expire_at(lease.restart(self.now_ms, 0), id);
            self.plan_checkpoint(id, &lease);
        }
        self.leases.insert(id, lease);
        Ok(leasepb::Lease { id: id.0, ttl, remaining_ttl: 0 })
    }

    /// The keys a revocation of `id` deletes, sorted.
    pub(crate) fn keys_of(&self, id: LeaseId) -> Option<Vec<Arc<[u8]>>> {
        Some(self.leases.get(&id)?.keys.iter().cloned().collect())
    }

    /// Forgets a lease whose keys are gone.
    ///
    /// # Panics
    ///
    /// If it has keys, or doesn't exist.
    pub(crate) fn remove(&mut self, id: LeaseId) {
        let lease = self.leases.remove(&id).expect("only a lease that exists is revoked");
        assert!(lease.keys.is_empty(), "a lease goes after its keys");
        self.deadlines.remove(id);
    }

    /// Notes how much of a lease was left. Returns what to store; `None` if there is no such lease.
    pub(crate) fn checkpoint(&mut self, id: LeaseId, remaining: i64) -> Option<leasepb::Lease> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining = remaining;
        *lease.noting_ms.get_mut() = 0;
        let stored = leasepb::Lease { id: id.0, ttl: lease.ttl, remaining_ttl: remaining };
        if self.primary.is_some() {
            let lease = &self.leases[&id];
            self.plan_checkpoint(id, lease);
        }
        Some(stored)
    }

    pub(crate) fn persists_checkpoints(&self) -> bool {
        self.config.checkpoint_persist
    }

    fn plan_checkpoint(&self, id: LeaseId, lease: &Lease) {
        let interval_ms = self.config.checkpoint_interval_ms;
        let long = lease.time_left() > (interval_ms / 1_000) as i64;
        if self.config.checkpoint && long {
            self.deadlines.checkpoint_at(self.now_ms + interval_ms, id);
        }
    }

    /// Attaches `key` to `id` instead of to whatever it was attached to. 0 attaches it to nothing.
    ///
    /// # Panics
    ///
    /// If there is no such lease: the caller has looked.
    pub(crate) fn attach(&mut self, key: &[u8], id: LeaseId) {
        if self.owner(key) == Some(id) {
            return;
        }
        self.detach(key);
        if id.0 == 0 {
            return;
        }
        let key: Arc<[u8]> = key.into();
        let lease = self.leases.get_mut(&id).expect("keys are attached to leases that exist");
        lease.keys.insert(key.clone());
        self.owners.insert(key, id);
    }

    pub(crate) fn detach(&mut self, key: &[u8]) {
        if let Some(id) = self.owners.remove(key) {
            let lease = self.leases.get_mut(&id).expect("an owner exists");
            lease.keys.remove(key);
        }
    }

    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The lease `key` is attached to.
    pub fn owner(&self, key: &[u8]) -> Option<LeaseId> {
        self.owners.get(key).copied()
    }

    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// The term in which this member, leading it, has begun to count.
    pub fn reign(&self) -> Option<u64> {
        self.primary
    }

    /// All leases, the one that ends first in front, as far as this member knows.
    pub fn list(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> = self.leases.iter().map(|(id, l)| (l.deadline(), *id)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// All leases as they are stored, by id; without what is left of them unless that is kept.
    pub(crate) fn stored(&self, keep_remaining: bool) -> impl Iterator<Item = leasepb::Lease> {
        self.leases.iter().map(move |(id, lease)| leasepb::Lease {
            id: id.0,
            ttl: lease.ttl,
            remaining_ttl: if keep_remaining { lease.remaining } else { 0 },
        })
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Lets a lease run anew. Meant for any thread that may read.
    pub fn renew(&self, id: LeaseId, now_ms: u64) -> Renewal {
        if !self.is_primary() {
            return Renewal::NotPrimary;
        }
        let Some(lease) = self.leases.get(&id) else { return Renewal::NotFound };
        if lease.deadline() <= now_ms {
            return Renewal::Expired;
        }
        if !self.config.checkpoint {
            lease.restart(now_ms, 0);
            return Renewal::Renewed { ttl: lease.ttl };
        }
        if lease.remaining == 0 {
            // Either whoever notes what is left sees this deadline, or this sees that it is noted.
            lease.restart(now_ms, 0);
        }
        let noting = lease.noting_ms.load(Ordering::SeqCst);
        if lease.remaining == 0 && noting == 0 {
            return Renewal::Renewed { ttl: lease.ttl };
        }
        if noting > now_ms {
            return Renewal::CheckpointOnItsWay;
        }
        lease.noting_ms.store(now_ms + RETRY_MS, Ordering::SeqCst);
        Renewal::CheckpointFirst
    }

    /// What is known of a lease; `None` if there is none. Only the primary knows what is left.
    pub fn time_to_live(&self, id: LeaseId, now_ms: u64) -> Result<Option<TimeToLive<'_>>, Error> {
        if !self.is_primary() {
            return Err(Error::LeaderChanged);
        }
        Ok(self.leases.get(&id).map(|lease| {
            let left_ms = i128::from(lease.deadline()) - i128::from(now_ms);
            TimeToLive {
                ttl: (left_ms / 1_000) as i64,
                granted: lease.ttl,
                keys: lease.keys.iter().map(AsRef::as_ref).collect(),
            }
        }))
    }

    /// Up to `max` leases whose time is over, the longest over first. One that is reported is reported
    /// again only after a while, should it still be there.
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        while expired.len() < max {
            let Some(id) = self.deadlines.next_due(now_ms) else { break };
            let Some(lease) = self.leases.get(&id) else { continue };
            let deadline = lease.deadline();
            if deadline <= now_ms {
                expired.push(id);
                self.deadlines.expire_at(now_ms + RETRY_MS, id);
            } else {
                self.deadlines.expire_at(deadline, id);
            }
        }
        expired
    }

    /// Up to `max` leases whose remaining time (in seconds) should be written to the log now.
    pub fn due_checkpoints(&self, now_ms: u64, max: usize) -> Vec<(LeaseId, i64)> {
        let mut due = Vec::new();
        while due.len() < max {
            let Some(id) = self.deadlines.next_checkpoint(now_ms) else { break };
            let Some(lease) = self.leases.get(&id) else { continue };
            let noting = lease.noting_ms.swap(now_ms + RETRY_MS, Ordering::SeqCst);
            let left_ms = lease.deadline().saturating_sub(now_ms);
            let remaining = left_ms.div_ceil(1_000) as i64;
            if noting <= now_ms && left_ms > 0 && remaining < lease.ttl {
                due.push((id, remaining));
            } else {
                lease.noting_ms.store(noting, Ordering::SeqCst);
            }
        }
        due
    }

    /// This member leads `term` now: every lease runs anew, for what was left at its last checkpoint or all of
    /// its TTL, and `extend_ms` more, since nobody could renew while there was no leader.
    pub(crate) fn promote(&mut self, term: u64, now_ms: u64, extend_ms: u64) {
        self.tell(now_ms);
        self.primary = Some(term);
        self.deadlines.clear();
        for (&id, lease) in &self.leases {
            lease.restart(now_ms, extend_ms);
            self.plan_checkpoint(id, lease);
        }
        if self.leases.len() >= PILE_UP_MIN {
            self.spread();
        }
        for (&id, lease) in &self.leases {
            self.deadlines.expire_at(lease.deadline(), id);
        }
    }

    /// Many leases granted over hours would now all run out in the same moment. They queue up instead;
    /// none gets less time than it had.
    fn spread(&self) {
        let mut queue: Vec<_> = self.leases.iter().map(|(&id, l)| (l.deadline(), id)).collect();
        queue.sort_unstable();
        // In units that one expiry takes, so that nothing is lost by rounding.
        let mut slot = 0;
        for (deadline, id) in queue {
            slot = (slot + 1_000).max(deadline.saturating_mul(EXPIRIES_PER_SECOND));
            if slot == u64::MAX {
                return; // All that follow are centuries away.
            }
            let deadline = slot.div_ceil(EXPIRIES_PER_SECOND);
            self.leases[&id].deadline_ms.store(deadline, Ordering::Relaxed);
        }
    }

    /// This member leads no longer: time stands still.
    pub(crate) fn demote(&mut self) {
        self.primary = None;
        self.deadlines.clear();
        for lease in self.leases.values_mut() {
            *lease.deadline_ms.get_mut() = FOREVER;
            *lease.noting_ms.get_mut() = 0;
        }
    }

    /// # Panics
    ///
    /// If owners and key sets differ.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut mirrored = 0;
        for (id, lease) in &self.leases {
            for key in &lease.keys {
                assert_eq!(self.owner(key), Some(*id));
                mirrored += 1;
            }
        }
        assert_eq!(mirrored, self.owners.len());
    }
}

#[cfg(test)]
mod tests;
