//! What is read without an entry: ranges, and transactions that only read.
//!
//! What is short is answered at once. What is not is measured first, since a message begins with its
//! length, and then written piece by piece; between turns the caller lets go of the state:
//!
//! ```text
//! range_within ─── Fit::Whole
//! read_txn_within └ Fit::TooLong ─► long_range, long_txn ─► measure … ─► length ─► write_piece … ─► Last
//! ```
//!
//! # Invariants
//!
//! - All rows of an answer are of the revision its header tells, or of the one the client named.
//! - As many bytes are written as were measured.   (asserted by `LongRange`)

use std::collections::VecDeque;

use proto::error::Error;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{RangeRequest, RequestOp, ResponseHeader, TxnRequest};

use crate::State;
use crate::apply::txn::{RESPONSE_RANGE, RESPONSES, SUCCEEDED};
use crate::encode;
use crate::fault::Stop;
use crate::mvcc::Mvcc;
use crate::mvcc::long::LongRange;
use crate::mvcc::range::{AtOnce, Fit};
use crate::mvcc::stream::Turn;

/// An answer too long to be made at once.
pub struct LongRead {
    /// What stands before the ranges.
    head: Vec<u8>,
    /// Whether each range is one of a txn's responses.
    in_txn: bool,
    /// Those that are not written yet.
    ranges: VecDeque<LongRange>,
    n_measured: usize,
    /// Bytes of the answer that are measured, and not written yet.
    len: u64,
}

impl LongRead {
    fn new(head: Vec<u8>, in_txn: bool, ranges: VecDeque<LongRange>) -> Self {
        let len = head.len() as u64;
        Self { head, in_txn, ranges, n_measured: 0, len }
    }

    /// Bytes of the answer that are not written yet, once it is measured.
    pub fn bytes_left(&self) -> u64 {
        self.len
    }

    fn measure(&mut self, mvcc: &Mvcc) -> Result<Option<u64>, Stop> {
        if let Some(range) = self.ranges.get_mut(self.n_measured) {
            let Some(len) = range.measure(mvcc)? else { return Ok(None) };
            if self.in_txn {
                range.wrap(&as_response(len));
            }
            self.len += range.bytes_left();
            self.n_measured += 1;
        }
        Ok((self.n_measured == self.ranges.len()).then_some(self.len))
    }

    fn write(&mut self, mvcc: &Mvcc, size: usize, out: &mut Vec<u8>) -> Result<Turn, Stop> {
        let before = out.len();
        out.append(&mut self.head);
        if let Some(range) = self.ranges.front_mut()
            && range.write(mvcc, size, out)? == Turn::Last
        {
            self.ranges.pop_front();
        }
        self.len -= (out.len() - before) as u64;
        Ok(if self.ranges.is_empty() { Turn::Last } else { Turn::More })
    }
}

/// What stands before a range of `len` bytes among the responses of a txn.
fn as_response(len: u64) -> Vec<u8> {
    let prefix = |field, len| {
        let mut prefix = Vec::new();
        encode::prefix(&mut prefix, field, len);
        prefix
    };
    let len = usize::try_from(len).expect("what is measured fits into an address space");
    let inner = prefix(RESPONSE_RANGE, len);
    [prefix(RESPONSES, inner.len() + len), inner].concat()
}

impl State {
    /// Appends the encoded `RangeResponse`. `request` has passed [`crate::check::range`].
    pub fn range(&self, request: &RangeRequest, out: &mut Vec<u8>) -> Result<(), Stop> {
        self.range_within(request, AtOnce::ALL, out).map(drop)
    }

    /// As [`State::range`]; gives up when that is too much for one go.
    pub fn range_within(
        &self,
        request: &RangeRequest,
        most: AtOnce,
        out: &mut Vec<u8>,
    ) -> Result<Fit, Stop> {
        self.mvcc.range_within(request, self.header(), most, out)
    }

    /// Begins a range that was too long.
    pub fn long_range(&self, request: RangeRequest) -> LongRead {
        let range = LongRange::new(request, self.header(), self.mvcc.now());
        LongRead::new(Vec::new(), false, VecDeque::from([range]))
    }

    /// Appends the encoded `TxnResponse`; gives up when that is too much for one go. `request` has passed
    /// [`crate::check::txn`] and [`crate::check::is_read_only`].
    pub fn read_txn_within(
        &self,
        request: &TxnRequest,
        most: AtOnce,
        out: &mut Vec<u8>,
    ) -> Result<Fit, Stop> {
        let (ops, succeeded) = self.chosen(request)?;
        encode::header(out, &self.header());
        encode::flag(out, SUCCEEDED, succeeded);
        let full_at = out.len().saturating_add(most.bytes);
        let keys = (most.keys / ops.len().max(1)).max(1);
        for op in ops {
            let most = AtOnce { bytes: full_at.saturating_sub(out.len()), keys };
            let fit = encode::nested(out, RESPONSES, |out| {
                encode::nested(out, RESPONSE_RANGE, |out| {
                    self.mvcc.range_within(range_of(op)?, ResponseHeader::default(), most, out)
                })
            })?;
            if fit == Fit::TooLong {
                return Ok(fit);
            }
        }
        Ok(Fit::Whole)
    }

    /// Begins a txn that only reads, and was too long.
    pub fn long_txn(&self, request: &TxnRequest) -> Result<LongRead, Stop> {
        let (ops, succeeded) = self.chosen(request)?;
        let mut head = Vec::new();
        encode::header(&mut head, &self.header());
        encode::flag(&mut head, SUCCEEDED, succeeded);
        let now = self.mvcc.now();
        let header = ResponseHeader { revision: now, ..ResponseHeader::default() };
        let range = |op| Ok(LongRange::new(range_of(op)?.clone(), header, now));
        let ranges = ops.iter().map(range).collect::<Result<_, Error>>()?;
        Ok(LongRead::new(head, true, ranges))
    }

    /// Brings the measuring of a long answer further; what comes of it is its length, at the end.
    pub fn measure(&self, read: &mut LongRead) -> Result<Option<u64>, Stop> {
        read.measure(&self.mvcc)
    }

    /// Appends the next piece of a long answer, once it is measured: about `size` bytes.
    pub fn write_piece(
        &self,
        read: &mut LongRead,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Stop> {
        read.write(&self.mvcc, size, out)
    }
}

/// A write is not for here.
fn range_of(op: &RequestOp) -> Result<&RangeRequest, Error> {
    match &op.request {
        Some(Request::RequestRange(range)) => Ok(range),
        Some(_) | None => Err(Error::KeyNotFound),
    }
}
