//! Leases as they ought to be: whose keys die with them, and in which revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::etcdserverpb::{
    LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseRevokeRequest, LeaseRevokeResponse,
};
use state::State;
use state::lease::LeaseId;

use super::{Expected, Model, header};

pub(crate) const NOT_FOUND: &str = "etcdserver: requested lease not found";
const EXISTS: &str = "etcdserver: lease already exists";
/// Shorter TTLs are raised to this, in seconds.
pub(crate) const TTL_MIN: i64 = 2;

/// What an entry meant for a lease.
#[derive(Clone, Debug)]
pub(crate) enum LeaseNews {
    Granted { id: i64, ttl: i64 },
    Revoked { id: i64 },
    Remains { id: i64, seconds: i64 },
}

/// The leases there are, and their keys; and those that were.
#[derive(Default)]
pub(crate) struct Leases {
    keys: BTreeMap<i64, BTreeSet<Bytes>>,
    owners: BTreeMap<Bytes, i64>,
}

impl Leases {
    pub(super) fn exists(&self, id: i64) -> bool {
        self.keys.contains_key(&id)
    }

    /// A key was written or deleted: it belongs to `id` now, or to none if that is 0.
    pub(super) fn attach(&mut self, key: &Bytes, id: i64) {
        if let Some(before) = self.owners.remove(key) {
            self.keys.get_mut(&before).expect("an owner exists").remove(key);
        }
        if id != 0 {
            self.owners.insert(key.clone(), id);
            self.keys.get_mut(&id).expect("it was looked for").insert(key.clone());
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.keys.keys().copied()
    }
}

impl Model {
    pub(super) fn grant(&mut self, request: &LeaseGrantRequest) -> Expected {
        let LeaseGrantRequest { id, ttl } = *request;
        if self.leases.exists(id) {
            return Expected::Refused(EXISTS);
        }
        let ttl = ttl.max(TTL_MIN);
        self.leases.keys.insert(id, BTreeSet::new());
        self.news.push(LeaseNews::Granted { id, ttl });
        let (header, error) = (header(self.head), String::new());
        Expected::Grant(LeaseGrantResponse { header, id, ttl, error })
    }

    /// Its keys go in their order, in one revision, if there are any.
    pub(super) fn revoke(&mut self, request: &LeaseRevokeRequest) -> Expected {
        let id = request.id;
        let Some(keys) = self.leases.keys.get(&id).cloned() else {
            return Expected::Refused(NOT_FOUND);
        };
        let revision = self.head + 1;
        for key in &keys {
            self.set(key, revision, None);
        }
        self.head += i64::from(!keys.is_empty());
        self.leases.keys.remove(&id);
        self.news.push(LeaseNews::Revoked { id });
        Expected::Revoke(LeaseRevokeResponse { header: header(self.head) })
    }

    pub(super) fn checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Expected {
        for checkpoint in &request.checkpoints {
            let (id, seconds) = (checkpoint.id, checkpoint.remaining_ttl);
            if self.leases.exists(id) {
                self.news.push(LeaseNews::Remains { id, seconds });
            }
        }
        Expected::Checkpoint(LeaseCheckpointResponse { header: header(self.head) })
    }

    /// The keys attached to `id` as of a revision at which it was there.
    fn keys_of(&self, id: i64, revision: i64) -> Vec<Bytes> {
        let keys = self.keys.keys();
        let is_its = |key: &&Bytes| self.at(key, revision).is_some_and(|kv| kv.lease == id);
        keys.filter(is_its).cloned().collect()
    }

    /// What the leader says is attached to a lease is so.
    pub(crate) fn explain_keys(&self, id: i64, revision: i64, found: &[Bytes]) {
        assert_eq!(found, self.keys_of(id, revision), "the keys of lease {id} at {revision}");
    }

    /// In a member's state each key belongs to the lease with which it was written, and to no other.
    pub(crate) fn explain_owners(&self, state: &State) {
        for key in self.keys.keys() {
            let wanted = self.at(key, state.head()).map_or(0, |kv| kv.lease);
            let owner = state.leases().owner(key).map_or(0, |LeaseId(id)| id);
            assert_eq!(owner, wanted, "the lease of {key:?} at revision {}", state.head());
        }
    }
}
