//! The rows a client gets that has an order or filters of its own.
//!
//! Rows are offered one after the other, in the order of their keys. Kept are the first of the client's
//! order: their keys and what they are ordered by, not what is stored.
//!
//! # Invariants
//!
//! - Rows that are equal in the client's order stay in the order of their keys.
//! - No more rows are kept than the client wants.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::Mvcc;
use super::index::Point;
use super::range::{is_filtered, is_key_ordered, limit, row_len};
use super::stream::Turn;
use crate::fault::Fatal;

/// See the module.
pub(super) struct Picks {
    target: SortTarget,
    descending: bool,
    /// How many rows the client wants.
    limit: usize,
    /// How many rows are looked at: what comes later in the order of keys is passed over.
    passed_max: usize,
    n_passed: usize,
    /// With the length of each in the response.
    rows: BTreeMap<Rank, u64>,
    len: u64,
    scratch: Vec<u8>,
}

impl Picks {
    pub(super) fn new(request: &RangeRequest) -> Self {
        // The numbers have been checked before anything was proposed; a txn of a stranger's log may still
        // hold others, which then mean nothing.
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        let limit = limit(request);
        // Told a target but no order, etcd sorts only what a walk by key would have shown.
        let as_walked = is_key_ordered(request) && !is_filtered(request);
        Self {
            target,
            descending: request.sort_order == SortOrder::Descend as i32,
            limit,
            passed_max: if as_walked { limit.saturating_add(1) } else { usize::MAX },
            n_passed: 0,
            rows: BTreeMap::new(),
            len: 0,
            scratch: Vec::new(),
        }
    }

    /// Looks at the next row.
    pub(super) fn offer(
        &mut self,
        mvcc: &Mvcc,
        request: &RangeRequest,
        key: &[u8],
        point: &Point,
    ) -> Result<(), Fatal> {
        if self.n_passed == self.passed_max || !passes(request, point) {
            return Ok(());
        }
        self.n_passed += 1;
        let by = match self.target {
            SortTarget::Key => By::Key,
            SortTarget::Version => By::Number(point.version),
            SortTarget::Create => By::Number(point.create_revision),
            SortTarget::Mod => By::Number(point.main),
            SortTarget::Value => By::Value(mvcc.key_value(point)?.value),
        };
        let rank = Rank { descending: self.descending, by, key: key.into() };
        if self.rows.len() == self.limit
            && self.rows.last_key_value().is_some_and(|(l, _)| *l < rank)
        {
            return Ok(());
        }
        let len = row_len(mvcc, request, key, point, &mut self.scratch)?;
        self.len += len;
        self.rows.insert(rank, len);
        if self.rows.len() > self.limit
            && let Some((_, len)) = self.rows.pop_last()
        {
            self.len -= len;
        }
        Ok(())
    }

    /// How many bytes the rows take in the response.
    pub(super) fn bytes(&self) -> u64 {
        self.len
    }

    /// Whether there are rows beyond those the client wants.
    pub(super) fn has_more(&self) -> bool {
        self.n_passed > self.limit
    }

    /// Appends rows as of revision `at`, up to `rows_max` of them, until `out` is so full.
    pub(super) fn write(
        &mut self,
        mvcc: &Mvcc,
        request: &RangeRequest,
        at: i64,
        rows_max: usize,
        full_at: usize,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Fatal> {
        for _ in 0..rows_max {
            if out.len() >= full_at {
                break;
            }
            let Some((Rank { key, .. }, _)) = self.rows.pop_first() else { break };
            let point = mvcc.index.at(&key, at).expect("no compaction has passed");
            mvcc.row_for(request, &key, &point, out)?;
        }
        Ok(if self.rows.is_empty() { Turn::Last } else { Turn::More })
    }
}

fn passes(request: &RangeRequest, point: &Point) -> bool {
    let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
    within(point.main, request.min_mod_revision, request.max_mod_revision)
        && within(point.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Where a row stands.
#[derive(PartialEq, Eq)]
struct Rank {
    descending: bool,
    by: By,
    key: Box<[u8]>,
}

/// What rows are ordered by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Key,
    Number(i64),
    Value(Bytes),
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let ordering = match self.by {
            By::Key => self.key.cmp(&other.key),
            By::Number(_) | By::Value(_) => self.by.cmp(&other.by),
        };
        let ordering = if self.descending { ordering.reverse() } else { ordering };
        ordering.then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
