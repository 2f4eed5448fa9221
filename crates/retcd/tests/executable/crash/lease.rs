//! The leases there should be.

use std::collections::BTreeMap;

use proto::Method;
use proto::etcdserverpb::{
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use stdx::Generator;

use super::history::History;
use super::operation::{Answer, Operation, number_of};
use super::writer::Done;
use crate::support::client::Client;

/// Seconds: as short as etcd allows.
pub(super) const LEASE_SHORT: i64 = 2;
/// Longer than any test.
pub(super) const LEASE_LONG: i64 = 100_000;

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: i64,
    granted: bool,
    revoke_asked: bool,
    revoked: bool,
}

/// All that were ever asked for.
#[derive(Default)]
pub(super) struct Leases {
    all: BTreeMap<i64, Lease>,
}

impl Leases {
    pub(super) fn note(&mut self, done: &[Done]) {
        for Done { operation, answer } in done {
            let answered = matches!(answer, Answer::At { .. });
            if let Operation::Grant { id, ttl } = operation {
                let lease =
                    Lease { ttl: *ttl, granted: answered, revoke_asked: false, revoked: false };
                self.all.insert(*id, lease);
            }
        }
        for Done { operation, answer } in done {
            if let Operation::Revoke { id } = operation {
                let lease = self.all.get_mut(id).expect("leases are asked for first");
                lease.revoke_asked = true;
                lease.revoked |= matches!(answer, Answer::At { .. });
            }
        }
    }

    /// Leases that were granted, and not known to be gone.
    pub(super) fn alive(&self) -> Vec<i64> {
        let alive = self.all.iter().filter(|(_, lease)| lease.granted && !lease.revoked);
        alive.map(|(id, _)| *id).collect()
    }

    /// Leases whose end nobody may wonder at.
    pub(super) fn may_end(&self) -> impl Iterator<Item = i64> {
        let may_end = |lease: &Lease| lease.ttl == LEASE_SHORT || lease.revoke_asked;
        self.all.iter().filter(move |(_, lease)| may_end(lease)).map(|(id, _)| *id)
    }

    /// Only who named a lease that may be gone may hear that it is not there.
    pub(super) fn check_refusal(&self, operation: &Operation) {
        if let Operation::Put { lease: id, .. } | Operation::Revoke { id } = operation {
            let lease = self.all[id];
            assert!(
                lease.ttl == LEASE_SHORT || lease.revoke_asked,
                "refused for want of a lease that should be there: {operation:?}"
            );
        }
    }

    pub(super) async fn check(&self, client: &Client, history: &History, g: &mut Generator) {
        let found = ids(client).await;
        for id in &found {
            let known = self.all.get(id);
            assert!(known.is_some_and(|lease| !lease.revoked), "lease {id} is there: {known:?}");
        }
        let mut long = Vec::new();
        for (id, lease) in &self.all {
            if lease.granted && lease.ttl == LEASE_LONG && !lease.revoke_asked {
                assert!(found.contains(id), "lease {id} is gone");
                long.push(*id);
            }
        }
        if !long.is_empty() {
            let id = *g.pick(&long);
            let request = LeaseTimeToLiveRequest { id, keys: true };
            let answered = client.call(Method::LeaseTimeToLive, &request).await;
            let lease: LeaseTimeToLiveResponse = answered.expect("a lease");
            assert_eq!(lease.granted_ttl, LEASE_LONG);
            let mut keys: Vec<u16> = lease.keys.iter().map(|key| number_of(key)).collect();
            keys.sort_unstable();
            assert!(keys.iter().eq(&history.attached(id, history.head())), "{id}: {keys:?}");
        }
    }

    pub(super) async fn only_long_ones(&self, client: &Client) -> bool {
        ids(client).await.iter().all(|id| self.all[id].ttl == LEASE_LONG)
    }
}

async fn ids(client: &Client) -> Vec<i64> {
    let answered = client.call(Method::LeaseLeases, &LeaseLeasesRequest {}).await;
    let answer: LeaseLeasesResponse = answered.expect("the leases");
    answer.leases.iter().map(|lease| lease.id).collect()
}
