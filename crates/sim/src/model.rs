//! The store as it ought to be: a plain map of all that ever was.
//!
//! Entries are applied once, in the order in which the first member applied them. Since every write has
//! a revision of its own, a client's history is judged in linear time: an answer must be what the map
//! says of its revision, and no older than what anybody had been told before it was asked for.

mod leasing;

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseCheckpointResponse, LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    compare::TargetUnion,
};
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use proto::raft_request::{self, Body};
use state::{Outcome, State};

use self::leasing::Leases;
pub(crate) use self::leasing::{LeaseNews, NOT_FOUND, TTL_MIN};

/// What an entry comes to: its answer without the words that differ between members, or a refusal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    Checkpoint(LeaseCheckpointResponse),
    Refused(&'static str),
}

/// What a revision did to a key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    pub(crate) after: Option<KeyValue>,
    pub(crate) before: Option<KeyValue>,
}

/// All revisions of a key; `None` where it was deleted.
type Chain = BTreeMap<i64, Option<KeyValue>>;

pub(crate) struct Model {
    pub(crate) head: i64,
    pub(crate) compacted: i64,
    keys: BTreeMap<Bytes, Chain>,
    /// What each revision did, in its order.
    pub(crate) changes: BTreeMap<i64, Vec<Change>>,
    pub(crate) leases: Leases,
    /// What the last entry meant for leases.
    news: Vec<LeaseNews>,
    outcomes: BTreeMap<u64, Expected>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            head: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            changes: BTreeMap::new(),
            leases: Leases::default(),
            news: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// A header without what differs between members.
fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    }
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("an answer of the right kind")
}

impl Model {
    /// The answer says what it meant for leases.
    pub(crate) fn apply(&mut self, id: u64, data: &Bytes) -> Vec<LeaseNews> {
        let request = raft_request::split(data).expect("a request");
        let body = &request.body[..];
        let expected = if request.kind == Body::Put {
            let put: PutRequest = decoded(body);
            if self.can_put(&put) {
                self.transact(|model, revision| (Expected::Put(model.put(&put, revision)), true))
            } else {
                Expected::Refused(NOT_FOUND)
            }
        } else if request.kind == Body::DeleteRange {
            self.transact(|model, revision| {
                let response = model.delete(&decoded(body), revision);
                let changed = response.deleted > 0;
                (Expected::Delete(response), changed)
            })
        } else if request.kind == Body::Txn {
            self.transact(|model, revision| model.txn(&decoded(body), revision))
        } else if request.kind == Body::LeaseGrant {
            self.grant(&decoded(body))
        } else if request.kind == Body::LeaseRevoke {
            self.revoke(&decoded(body))
        } else if request.kind == Body::LeaseCheckpoint {
            self.checkpoint(&decoded(body))
        } else {
            assert_eq!(request.kind, Body::Compaction, "clients ask for nothing else");
            self.compact(&decoded(body))
        };
        self.outcomes.insert(id, expected);
        std::mem::take(&mut self.news)
    }

    /// Makes one revision of all that `change` does, if it does anything.
    fn transact(&mut self, change: impl FnOnce(&mut Self, i64) -> (Expected, bool)) -> Expected {
        let (mut expected, changed) = change(self, self.head + 1);
        self.head += i64::from(changed);
        let header = header(self.head);
        match &mut expected {
            Expected::Put(response) => response.header = header,
            Expected::Delete(response) => response.header = header,
            Expected::Txn(response) => response.header = header,
            Expected::Compact(_)
            | Expected::Grant(_)
            | Expected::Revoke(_)
            | Expected::Checkpoint(_)
            | Expected::Refused(_) => {}
        }
        expected
    }

    fn at(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        self.keys.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    fn set(&mut self, key: &Bytes, revision: i64, after: Option<KeyValue>) {
        let before = self.at(key, revision - 1).cloned();
        let change = Change { key: key.clone(), after: after.clone(), before };
        self.leases.attach(key, after.as_ref().map_or(0, |kv| kv.lease));
        self.changes.entry(revision).or_default().push(change);
        self.keys.entry(key.clone()).or_default().insert(revision, after);
    }

    fn can_put(&self, put: &PutRequest) -> bool {
        put.lease == 0 || self.leases.exists(put.lease)
    }

    fn put(&mut self, put: &PutRequest, revision: i64) -> PutResponse {
        let before = self.at(&put.key, revision).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            value: put.value.clone(),
            lease: put.lease,
        };
        self.set(&put.key, revision, Some(kv));
        PutResponse { header: None, prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest, revision: i64) -> DeleteRangeResponse {
        let before = self.range_at(&delete.key, &delete.range_end, revision);
        for kv in &before {
            self.set(&kv.key, revision, None);
        }
        let deleted = before.len() as i64;
        let prev_kvs = if delete.prev_kv { before } else { Vec::new() };
        DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    fn range_at(&self, key: &Bytes, end: &Bytes, revision: i64) -> Vec<KeyValue> {
        if end.is_empty() {
            return self.at(key, revision).into_iter().cloned().collect();
        }
        let keys = self.keys.range(key.clone()..end.clone());
        keys.filter_map(|(key, _)| self.at(key, revision).cloned()).collect()
    }

    fn txn(&mut self, txn: &TxnRequest, revision: i64) -> (Expected, bool) {
        let succeeded = txn.compare.iter().all(|compare| {
            let Some(TargetUnion::ModRevision(asked)) = compare.target_union else {
                panic!("the model compares revisions only");
            };
            self.at(&compare.key, self.head).map_or(0, |kv| kv.mod_revision) == asked
        });
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let can = |op: &RequestOp| match &op.request {
            Some(Op::RequestPut(put)) => self.can_put(put),
            _ => true,
        };
        if !ops.iter().all(can) {
            return (Expected::Refused(NOT_FOUND), false);
        }
        let mut changed = false;
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().expect("an operation") {
                Op::RequestPut(put) => {
                    changed = true;
                    Response::ResponsePut(self.put(put, revision))
                }
                Op::RequestDeleteRange(delete) => {
                    let response = self.delete(delete, revision);
                    changed |= response.deleted > 0;
                    Response::ResponseDeleteRange(response)
                }
                Op::RequestRange(range) => {
                    let kvs = self.range_at(&range.key, &range.range_end, revision);
                    let count = kvs.len() as i64;
                    let response = RangeResponse { header: None, kvs, more: false, count };
                    Response::ResponseRange(response)
                }
                Op::RequestTxn(_) => panic!("the model nests no transactions"),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        (Expected::Txn(TxnResponse { header: None, succeeded, responses }), changed)
    }

    fn compact(&mut self, request: &CompactionRequest) -> Expected {
        if request.revision <= self.compacted {
            return Expected::Refused(COMPACTED);
        }
        if request.revision > self.head {
            return Expected::Refused(FUTURE);
        }
        self.compacted = request.revision;
        Expected::Compact(CompactionResponse { header: header(self.head) })
    }

    /// What a member's entry came to is what it comes to everywhere.
    pub(crate) fn compare(&self, outcome: &Outcome, answer: &[u8], index: u64) {
        let expected = &self.outcomes[&outcome.request_id];
        let found = match (&outcome.result, expected) {
            (Err(status), Expected::Refused(text)) => {
                assert_eq!(status.message, *text, "entry {index}");
                return;
            }
            (Err(status), _) => panic!("entry {index}: {status:?} instead of {expected:?}"),
            (Ok(()), Expected::Put(_)) => Expected::Put(decoded(answer)),
            (Ok(()), Expected::Delete(_)) => Expected::Delete(decoded(answer)),
            (Ok(()), Expected::Txn(_)) => Expected::Txn(decoded(answer)),
            (Ok(()), Expected::Compact(_)) => Expected::Compact(decoded(answer)),
            (Ok(()), Expected::Grant(_)) => Expected::Grant(decoded(answer)),
            (Ok(()), Expected::Revoke(_)) => Expected::Revoke(decoded(answer)),
            (Ok(()), Expected::Checkpoint(_)) => Expected::Checkpoint(decoded(answer)),
            (Ok(()), Expected::Refused(text)) => panic!("entry {index} was not refused: {text}"),
        };
        assert_eq!(found.plain(), *expected, "entry {index} of request {}", outcome.request_id);
    }

    /// A read's answer is what its revision left; it says at which revision it was given.
    pub(crate) fn explain(&self, request: &RangeRequest, answer: &[u8]) -> i64 {
        let mut found: RangeResponse = decoded(answer);
        plain(&mut found.header);
        let revision = found.header.map_or(0, |header| header.revision);
        assert!(revision <= self.head, "revision {revision} is from the future");
        let at = if request.revision > 0 { request.revision } else { revision };
        let kvs = self.range_at(&request.key, &request.range_end, at);
        let count = kvs.len() as i64;
        let expected = RangeResponse { header: header(revision), kvs, more: false, count };
        assert_eq!(found, expected, "not as it was: {request:?}");
        revision
    }
}

pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

impl Expected {
    /// Without the words that differ between members.
    fn plain(mut self) -> Self {
        match &mut self {
            Self::Put(response) => plain(&mut response.header),
            Self::Delete(response) => plain(&mut response.header),
            Self::Compact(response) => plain(&mut response.header),
            Self::Grant(response) => plain(&mut response.header),
            Self::Revoke(response) => plain(&mut response.header),
            Self::Checkpoint(response) => plain(&mut response.header),
            Self::Txn(response) => {
                plain(&mut response.header);
                for op in &mut response.responses {
                    match op.response.as_mut().expect("a response") {
                        Response::ResponseRange(response) => response.header = None,
                        Response::ResponsePut(response) => response.header = None,
                        Response::ResponseDeleteRange(response) => response.header = None,
                        Response::ResponseTxn(_) => {}
                    }
                }
            }
            Self::Refused(_) => {}
        }
        self
    }

    /// The revision the answer speaks of, and whether it made it.
    pub(crate) fn revision(&self) -> Option<(i64, bool)> {
        let (header, changed) = match self {
            Self::Put(response) => (&response.header, true),
            Self::Delete(response) => (&response.header, response.deleted > 0),
            Self::Txn(response) => (&response.header, false),
            Self::Compact(response) => (&response.header, false),
            Self::Grant(response) => (&response.header, false),
            Self::Revoke(response) => (&response.header, false),
            Self::Checkpoint(response) => (&response.header, false),
            Self::Refused(_) => return None,
        };
        header.as_ref().map(|header| (header.revision, changed))
    }
}

impl Model {
    /// A member's state at its head is the model's.
    pub(crate) fn explain_all(&self, state: &State) {
        let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\xff"));
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let mut out = Vec::new();
        assert!(state.range(&request, &mut out).is_ok(), "all can be read");
        self.explain(&request, &out);
    }

    pub(crate) fn outcome(&self, id: u64) -> &Expected {
        &self.outcomes[&id]
    }
}
