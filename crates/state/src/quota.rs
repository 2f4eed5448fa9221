//! The quota: how much a request would add to the store, by etcd's reckoning.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// What applies where none was configured.
pub const QUOTA_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

/// What a lease is taken to cost.
pub const LEASE_COST: u64 = 64;

/// What a key's revision is taken to cost beside key and value.
const KEY_COST: u64 = 256;

/// The bound on the store's size, as configured: 0 stands for the default, less for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota(Option<u64>);

impl Quota {
    pub fn from_bytes(configured: i64) -> Self {
        Self(match configured {
            0 => Some(QUOTA_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        })
    }

    /// Whether a request of this cost fits a store of this size. What costs nothing always does.
    pub fn admits(self, cost: u64, size: u64) -> bool {
        match self.0 {
            Some(quota) => cost == 0 || size.saturating_add(cost) < quota,
            None => true,
        }
    }

    /// The bound in bytes, if there is one.
    pub fn bytes(self) -> Option<u64> {
        self.0
    }
}

pub fn put_cost(put: &PutRequest) -> u64 {
    KEY_COST + put.key.len() as u64 + put.value.len() as u64
}

/// The dearer of both branches, nested ones included: which is taken isn't known before.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

fn branch_cost(ops: &[RequestOp]) -> u64 {
    let cost = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    };
    ops.iter().map(cost).sum()
}
