//! What can be refused of a request without looking at the state.
//!
//! These checks run on the thread that took the request off the wire, before it costs anyone anything:
//! what doesn't pass is never proposed. Order and outcome are etcd's.

use std::collections::{BTreeMap, BTreeSet};

use proto::error::{Code, Error, Status};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// How many operations a txn may have unless configured otherwise.
pub const TXN_OPS_MAX_DEFAULT: usize = 128;

pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() { Err(Error::InvalidSortOption) } else { Ok(()) }
}

/// A stream can only go through the keys once, in their order.
pub fn range_stream(request: &RangeRequest) -> Result<(), Status> {
    range(request)?;
    let unimplemented =
        |message: &'static str| Err(Status { code: Code::Unimplemented, message: message.into() });
    if !super::range::is_key_ordered(request) {
        return unimplemented("RangeStream does not support custom sort orders");
    }
    if super::range::is_filtered(request) {
        return unimplemented("RangeStream does not support revision filters");
    }
    Ok(())
}

pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// A txn of at most `ops_max` comparisons, and operations of either branch; what is nested may use what
/// its parent has left. No key may be put twice, or put and deleted, by one way through it.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    shape(request, ops_max)?;
    // Only now: the shape bounds what the following has to look at.
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn shape(txn: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let n_ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = ops_max.checked_sub(n_ops).ok_or(Error::TooManyOps)?;
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => shape(request, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Whether a txn needs no entry: it has ranges and nothing else.
pub fn is_read_only(txn: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    txn.success.iter().chain(&txn.failure).all(reads)
}

/// Whether a txn that only reads may be answered by a member that lags.
pub fn is_serializable(txn: &TxnRequest) -> bool {
    let serializable = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(_) | None => false,
    };
    txn.success.iter().chain(&txn.failure).all(serializable)
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// Collects what `ops` write, or refuses two writes of one key. A put is held against the deletions
/// beside it and in what is nested beside it before; the branches of a nested txn exclude each other.
fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, Error> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else { continue };
        let success = writes(&txn.success)?;
        let failure = writes(&txn.failure)?;
        for key in &success.puts {
            all.put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            all.put(key)?;
        }
        all.deletes.merge(success.deletes);
        all.deletes.merge(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

/// Deleted keys: single ones, and ranges by where they start, none touching another.
#[derive(Default)]
struct Deletes<'a> {
    keys: BTreeSet<&'a [u8]>,
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// A range is taken literally here: one that ends at `"\0"`, though it deletes all keys from its start
    /// on, covers none. That is etcd's reading, and a txn it lets pass must pass.
    fn insert(&mut self, start: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            self.keys.insert(start);
        } else if start < end {
            self.insert_range(start, end);
        }
    }

    fn insert_range(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        // All ranges that begin at or before `end`, from the last one back, while they reach `start`.
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.ranges.remove(s);
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.ranges.range(..=key).next_back();
        self.keys.contains(key) || before.is_some_and(|(_, end)| key < *end)
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (start, end) in other.ranges {
            self.insert_range(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use stdx::each_seed;

    use super::*;

    #[test]
    fn merged_deletions_cover_what_their_ranges_cover() {
        each_seed(|g| {
            let ranges = g.vec(0..12, |g| (g.bytes(0..3), g.bytes(0..3)));
            let mut deletes = Deletes::default();
            for (start, end) in &ranges {
                deletes.insert(start, end);
            }
            for _ in 0..100 {
                let key = g.bytes(0..3);
                let covered = ranges.iter().any(|(start, end)| {
                    if end.is_empty() { *start == key } else { *start <= key && key < *end }
                });
                assert_eq!(deletes.contains(&key), covered, "{key:?} in {ranges:?}");
            }
        });
    }
}
