//! Transactions: compare, take a branch, do all of it in one revision.
//!
//! Which branches are taken, nested ones included, is settled before anything is written; then whether
//! every operation on that path can be carried out; then they are. So a txn happens as a whole or not at all.

use std::cmp::Ordering;

use proto::error::Error;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, RequestOp, ResponseHeader, TxnRequest};

use super::Reply;
use super::kv::reply_to_put;
use crate::State;
use crate::encode;
use crate::fault::{Fatal, Stop};
use crate::mvcc::index::{Point, Span};

// The fields of a TxnResponse and a ResponseOp.
pub(crate) const SUCCEEDED: u32 = 2;
pub(crate) const RESPONSES: u32 = 3;
pub(crate) const RESPONSE_RANGE: u32 = 1;
const RESPONSE_PUT: u32 = 2;
const RESPONSE_DELETE_RANGE: u32 = 3;
const RESPONSE_TXN: u32 = 4;

/// Which branch each txn takes, in the order they are met on the way.
type Path = Vec<bool>;

impl State {
    pub(super) fn txn(&mut self, request: &TxnRequest, reply: Reply<'_>) -> Result<(), Stop> {
        let mut path = Path::new();
        self.find_path(request, &mut path)?;
        self.check_path(request, &mut path.iter(), &mut Vec::new())?;
        let before = self.mvcc.tally.operations();
        self.execute_path(request, &path, reply)?;
        self.mvcc.tally.txns += u64::from(self.mvcc.tally.operations() - before > 1);
        Ok(())
    }

    /// Carries out a txn whose way is known and has been checked.
    fn execute_path(
        &mut self,
        request: &TxnRequest,
        path: &Path,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let header = self.header();
        let Some(out) = reply else {
            // Nobody reads the answer: what only reads need not be done.
            self.execute(request, &mut path.iter(), None)?;
            return Ok(self.finish()?);
        };
        let mut body = Vec::new();
        self.execute(request, &mut path.iter(), Some(&mut body))?;
        self.finish()?;
        encode::header(out, &ResponseHeader { revision: self.head(), ..header });
        out.extend_from_slice(&body);
        Ok(())
    }

    /// Which of its operations a txn is to carry out, and whether its comparisons hold. They are checked.
    pub(crate) fn chosen<'t>(
        &self,
        request: &'t TxnRequest,
    ) -> Result<(&'t [RequestOp], bool), Stop> {
        let mut path = Path::new();
        self.find_path(request, &mut path)?;
        self.check_path(request, &mut path.iter(), &mut Vec::new())?;
        Ok(branch(request, path[0]))
    }

    fn find_path(&self, txn: &TxnRequest, path: &mut Path) -> Result<(), Fatal> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        path.push(succeeded);
        for op in branch(txn, succeeded).0 {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                self.find_path(nested, path)?;
            }
        }
        Ok(())
    }

    /// Whether a comparison holds for every key it is about. If there is none, it is held against a key
    /// that has nothing, but for values: a missing value compares to nothing.
    fn holds(&self, compare: &Compare) -> Result<bool, Fatal> {
        let span = Span::new(&compare.key, &compare.range_end);
        let mut any = false;
        for (key, point) in self.mvcc.index.scan(&span, self.mvcc.now()) {
            any = true;
            let ordering = self.compare(compare, key, &point)?;
            if !is_met(compare, ordering) {
                return Ok(false);
            }
        }
        if any {
            return Ok(true);
        }
        let ordering = match CompareTarget::try_from(compare.target) {
            Ok(CompareTarget::Value) => return Ok(false),
            Ok(target) => 0.cmp(&operand(compare, target)),
            Err(_) => Ordering::Equal,
        };
        Ok(is_met(compare, ordering))
    }

    fn compare(&self, compare: &Compare, key: &[u8], point: &Point) -> Result<Ordering, Fatal> {
        // A target nobody knows compares equal, as in etcd.
        let Ok(target) = CompareTarget::try_from(compare.target) else {
            return Ok(Ordering::Equal);
        };
        let number = match target {
            CompareTarget::Value => {
                let value = self.mvcc.key_value(point)?.value;
                return Ok(match &compare.target_union {
                    Some(TargetUnion::Value(other)) => value.cmp(other),
                    Some(_) | None => value.as_ref().cmp(&[]),
                });
            }
            CompareTarget::Version => point.version,
            CompareTarget::Create => point.create_revision,
            CompareTarget::Mod => point.main,
            CompareTarget::Lease => self.leases.owner(key).map_or(0, |lease| lease.0),
        };
        Ok(number.cmp(&operand(compare, target)))
    }

    /// Whether all that is on the path can be done. `deleted` is what was deleted before on it: an open
    /// range passes the check for duplicate keys, and what it deletes a later put can't keep.
    fn check_path<'p>(
        &self,
        txn: &TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
        deleted: &mut Vec<Span>,
    ) -> Result<(), Error> {
        let (ops, _) = branch(txn, *path.next().expect("every txn on the path has its turn"));
        for op in ops {
            match &op.request {
                // A negative revision is checked as it is here, though it would be read as the head.
                Some(Request::RequestRange(range)) if range.revision != 0 => {
                    if range.revision > self.mvcc.now() {
                        return Err(Error::FutureRev);
                    }
                    if range.revision < self.mvcc.compacted() {
                        return Err(Error::Compacted);
                    }
                }
                Some(Request::RequestPut(put)) => {
                    self.check_put(put)?;
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && deleted.iter().any(|span| span.contains(&put.key)) {
                        return Err(Error::KeyNotFound);
                    }
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    deleted.push(Span::new(&delete.key, &delete.range_end));
                }
                Some(Request::RequestTxn(nested)) => self.check_path(nested, path, deleted)?,
                Some(Request::RequestRange(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Does what is on the path. Appends all of a `TxnResponse` but its header.
    fn execute<'p>(
        &mut self,
        txn: &TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
        mut reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let (ops, succeeded) = branch(txn, *path.next().expect("as when it was checked"));
        if let Some(out) = reply.as_deref_mut() {
            encode::flag(out, SUCCEEDED, succeeded);
        }
        for op in ops {
            match reply.as_deref_mut() {
                None => self.execute_op(op, path, None)?,
                Some(out) => {
                    let field = field_of(op);
                    encode::nested(out, RESPONSES, |out| match field {
                        Some(field) => {
                            encode::nested(out, field, |out| self.execute_op(op, path, Some(out)))
                        }
                        None => Ok(()),
                    })?;
                }
            }
        }
        Ok(())
    }

    fn execute_op<'p>(
        &mut self,
        op: &RequestOp,
        path: &mut impl Iterator<Item = &'p bool>,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let nested_header = ResponseHeader::default();
        match &op.request {
            Some(Request::RequestRange(range)) => {
                self.mvcc.tally.ranges += 1;
                if let Some(out) = reply {
                    self.mvcc.range(range, nested_header, out)?;
                }
            }
            Some(Request::RequestPut(put)) => {
                let before = self.write_put(put)?;
                if let Some(out) = reply {
                    let revision = self.mvcc.now();
                    let header = ResponseHeader { revision, ..nested_header };
                    reply_to_put(&header, before.as_ref(), out);
                }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                self.write_delete(delete, nested_header, reply)?;
            }
            Some(Request::RequestTxn(txn)) => self.execute_nested(txn, path, reply)?,
            None => {}
        }
        Ok(())
    }

    /// A nested txn's header is there, and empty.
    fn execute_nested<'p>(
        &mut self,
        txn: &TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let mut reply = reply;
        if let Some(out) = &mut reply {
            encode::header(out, &ResponseHeader::default());
        }
        // By its trait, for else its type would be that of a reference to a reference, without end.
        let path: &mut dyn Iterator<Item = &'p bool> = path;
        self.execute(txn, &mut { path }, reply)
    }
}

fn branch(txn: &TxnRequest, succeeded: bool) -> (&[RequestOp], bool) {
    (if succeeded { &txn.success } else { &txn.failure }, succeeded)
}

fn field_of(op: &RequestOp) -> Option<u32> {
    Some(match op.request.as_ref()? {
        Request::RequestRange(_) => RESPONSE_RANGE,
        Request::RequestPut(_) => RESPONSE_PUT,
        Request::RequestDeleteRange(_) => RESPONSE_DELETE_RANGE,
        Request::RequestTxn(_) => RESPONSE_TXN,
    })
}

/// The number to compare with; 0 if the client sent one of another kind.
fn operand(compare: &Compare, target: CompareTarget) -> i64 {
    match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        (
            CompareTarget::Version
            | CompareTarget::Create
            | CompareTarget::Mod
            | CompareTarget::Value
            | CompareTarget::Lease,
            _,
        ) => 0,
    }
}

fn is_met(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Err(_) => true, // As in etcd.
    }
}
