//! Requests at random: few keys, so that they meet; some that make no sense, so that errors do, too.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use stdx::Generator;

use super::request::{Answer, Request};

const KEYS: &[&str] = &["a", "a/1", "a/2", "b", "b/1", "c", "c\0", "d", "\u{ff}"];
/// Ends of ranges; "\0" is the end of all keys.
const ENDS: &[&str] = &["\0", "a/2", "a0", "b", "c", "c\0", "e"];
pub(super) const LEASES: std::ops::RangeInclusive<i64> = 1..=5;
/// Longer than any test takes.
const TTL: i64 = 100_000;
const DEPTH_MAX: usize = 2;
const VALUE_SIZE_MAX: usize = 200;
const LARGE_VALUE: usize = 50_000;

/// What is known of both servers, and so makes requests meaningful.
#[derive(Debug)]
pub(super) struct Inventor {
    head: i64,
    /// −1 before any compaction.
    compacted: i64,
    /// A hash up to here may be one that was remembered from a compaction, and a restart forgets those.
    forgotten: i64,
    /// One of the two may have gone down before its last compaction was done. Then it doesn't remember
    /// the next one's hash either; which therefore is waited for.
    unfinished: bool,
    n_values: u64,
}

impl Inventor {
    pub(super) fn new() -> Self {
        Self { head: 1, compacted: -1, forgotten: -1, unfinished: false, n_values: 0 }
    }

    /// Takes in what came of a request.
    pub(super) fn learn(&mut self, request: &Request, answer: &Answer) {
        self.head = self.head.max(answer.revision);
        if let Request::Compact(compaction) = request
            && answer.revision > 0
        {
            self.compacted = compaction.revision;
            if std::mem::take(&mut self.unfinished) {
                self.forgotten = compaction.revision;
            }
        }
    }

    pub(super) fn head(&self) -> i64 {
        self.head
    }

    /// The first revision that may be read.
    pub(super) fn oldest(&self) -> i64 {
        self.compacted
    }

    /// One of the two forgets the hashes it remembered; or both do, and agree again.
    pub(super) fn note_restart(&mut self, of_both: bool) {
        self.unfinished = true;
        self.forgotten = if of_both { -1 } else { self.compacted };
    }

    /// Whether both remember the hash of the last compaction, or soon will.
    pub(super) fn is_hash_remembered(&self) -> bool {
        !self.unfinished && !self.may_hashes_differ(self.compacted)
    }

    pub(super) fn may_hashes_differ(&self, revision: i64) -> bool {
        (0..=self.forgotten).contains(&revision)
    }

    /// Mostly one that may be read.
    pub(super) fn some_revision(&self, g: &mut Generator) -> i64 {
        let lowest = (self.compacted - 2).max(0);
        lowest + g.below((self.head + 2 - lowest).max(1) as u64) as i64
    }

    /// A put that changes something for sure.
    pub(super) fn put_like_no_other(&mut self) -> PutRequest {
        PutRequest { key: "unlike".into(), value: self.value(0), ..PutRequest::default() }
    }

    pub(super) fn invent(&mut self, g: &mut Generator) -> Request {
        match g.below(100) {
            0..40 => Request::Put(self.put(g)),
            40..52 => Request::Delete(delete(g)),
            52..77 => Request::Txn(self.txn(g, DEPTH_MAX)),
            77..85 => Request::Range(self.range(g)),
            85..89 => self.compact(g),
            89..96 => Request::Grant(LeaseGrantRequest { ttl: TTL, id: lease(g) }),
            _ => Request::Revoke(LeaseRevokeRequest { id: lease(g) }),
        }
    }

    /// No two values are the same.
    fn value(&mut self, length: usize) -> Bytes {
        self.n_values += 1;
        format!("{}{}", self.n_values, ".".repeat(length)).into()
    }

    fn put(&mut self, g: &mut Generator) -> PutRequest {
        let length = if g.chance(2) { LARGE_VALUE } else { g.int(0..=VALUE_SIZE_MAX) };
        let ignore_value = g.chance(8);
        let ignore_lease = g.chance(8);
        PutRequest {
            key: key(g),
            value: if ignore_value { Bytes::new() } else { self.value(length) },
            lease: if g.chance(25) && !ignore_lease { lease(g) } else { 0 },
            prev_kv: g.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self, g: &mut Generator) -> RangeRequest {
        let (key, range_end) = interval(g);
        let past = g.chance(40);
        RangeRequest {
            key,
            range_end,
            limit: if g.chance(30) { g.below(4) as i64 } else { 0 },
            revision: if past { self.some_revision(g) } else { 0 },
            sort_order: if g.chance(20) { SortOrder::Descend.into() } else { 0 },
            sort_target: SortTarget::Key.into(),
            keys_only: g.chance(10),
            count_only: g.chance(10),
            serializable: g.chance(20),
            ..RangeRequest::default()
        }
    }

    fn compact(&self, g: &mut Generator) -> Request {
        let revision = self.some_revision(g);
        let physical = self.unfinished || g.chance(50);
        Request::Compact(CompactionRequest { revision, physical })
    }

    fn txn(&mut self, g: &mut Generator, depth: usize) -> TxnRequest {
        TxnRequest {
            compare: g.vec(0..3, |g| self.compare(g)),
            success: g.vec(0..4, |g| self.operation(g, depth)),
            failure: g.vec(0..3, |g| self.operation(g, depth)),
        }
    }

    fn operation(&mut self, g: &mut Generator, depth: usize) -> RequestOp {
        let request = match g.below(10) {
            0..5 => request_op::Request::RequestPut(self.put(g)),
            5..7 => request_op::Request::RequestDeleteRange(delete(g)),
            7..8 if depth > 0 => request_op::Request::RequestTxn(self.txn(g, depth - 1)),
            _ => request_op::Request::RequestRange(self.range(g)),
        };
        RequestOp { request: Some(request) }
    }

    fn compare(&mut self, g: &mut Generator) -> Compare {
        let revision = self.some_revision(g);
        let (target, operand) = match g.below(5) {
            0 => (CompareTarget::Version, TargetUnion::Version(g.below(4) as i64)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(revision)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
            3 => (CompareTarget::Lease, TargetUnion::Lease(lease(g))),
            _ => (CompareTarget::Value, TargetUnion::Value(format!("{}", g.below(400)).into())),
        };
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let (key, range_end) = interval(g);
        Compare {
            result: (*g.pick(&results)).into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(operand),
        }
    }
}

fn key(g: &mut Generator) -> Bytes {
    Bytes::from_static(g.pick(KEYS).as_bytes())
}

fn lease(g: &mut Generator) -> i64 {
    LEASES.start() + g.below((LEASES.end() + 1 - LEASES.start()) as u64) as i64
}

/// A key, or a range of them; it may be empty.
fn interval(g: &mut Generator) -> (Bytes, Bytes) {
    let end = if g.chance(40) { Bytes::from_static(g.pick(ENDS).as_bytes()) } else { Bytes::new() };
    (key(g), end)
}

fn delete(g: &mut Generator) -> DeleteRangeRequest {
    let (key, range_end) = interval(g);
    DeleteRangeRequest { key, range_end, prev_kv: g.chance(40) }
}
