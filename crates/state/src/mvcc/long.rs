//! A range too long to be answered at once: measured first, then written piece by piece.
//!
//! A message begins with its length, so its rows are walked twice. Between turns the caller lets go of
//! the state; all rows are of one revision nevertheless.
//!
//! ```text
//! measure ─ measure ─ … ─► length ─► rows ─ rows ─ … ─► Last
//! a thousand keys a turn             a piece a turn, the bytes of the whole answer
//! ```
//!
//! # Invariants
//!
//! - As many bytes are written as were measured.   (asserted by `write`)
//! - A range that a compaction has passed since its last turn fails: the rows may be gone.
//!
//! # Not here
//!
//! Orders and filters of the client's own: those need all rows at once, see `range`.

use proto::etcdserverpb::{RangeRequest, ResponseHeader};

use super::Mvcc;
use super::index::{Point, Span};
use super::range::{COUNT, KVS, MORE, is_plain, limit};
use super::stream::Turn;
use crate::encode;
use crate::fault::{Fatal, Stop};

/// Keys looked at under one lock. Few in tests, so that there are turns.
const KEYS_PER_TURN: usize = if cfg!(test) { 2 } else { 1_000 };

/// See the module.
pub struct LongRange {
    request: RangeRequest,
    span: Span,
    /// What is read. 0 before the first turn.
    at: i64,
    /// Where the walk goes on, and how many rows it may still show.
    rest: Span,
    left: usize,
    /// What stands before the rows, and behind them.
    head: Vec<u8>,
    tail: Vec<u8>,
    total: i64,
    /// Bytes of the answer: measured so far, then those not written yet.
    len: u64,
    scratch: Vec<u8>,
}

impl LongRange {
    /// `None` if `request` can't be answered in turns.
    pub(crate) fn new(request: RangeRequest, header: ResponseHeader) -> Option<Self> {
        if request.count_only || !is_plain(&request) {
            return None;
        }
        let span = Span::new(&request.key, &request.range_end);
        let mut head = Vec::new();
        encode::header(&mut head, &header);
        Some(Self {
            rest: span.clone(),
            left: limit(&request),
            at: request.revision.max(0),
            len: head.len() as u64,
            head,
            tail: Vec::new(),
            total: 0,
            scratch: Vec::new(),
            span,
            request,
        })
    }

    /// Bytes of the response that are not written yet, once it is measured.
    pub fn bytes_left(&self) -> u64 {
        self.len
    }

    /// Looks at some keys. The answer is the length of the whole response, once it is known.
    pub(crate) fn measure(&mut self, mvcc: &Mvcc) -> Result<Option<u64>, Stop> {
        self.at = mvcc.readable(self.at)?;
        let mut chains = mvcc.index.chains(&self.rest);
        for (key, chain) in chains.by_ref().take(KEYS_PER_TURN) {
            let Some(point) = chain.at(self.at) else { continue };
            self.total += 1;
            if self.left > 0 {
                self.left -= 1;
                self.len += row_len(mvcc, &self.request, key, &point, &mut self.scratch)?;
            } else {
                self.tail.clear();
                encode::flag(&mut self.tail, MORE, true);
            }
        }
        if let Some((key, _)) = chains.next() {
            self.rest = self.span.resume(key);
            return Ok(None);
        }
        encode::signed(&mut self.tail, COUNT, self.total);
        self.len += self.tail.len() as u64;
        (self.rest, self.left) = (self.span.clone(), limit(&self.request));
        Ok(Some(self.len))
    }

    /// Appends the next bytes of the response, about `size` of them.
    pub(crate) fn write(
        &mut self,
        mvcc: &Mvcc,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Stop> {
        let at = mvcc.readable(self.at)?;
        let before = out.len();
        out.append(&mut self.head);
        let mut chains = mvcc.index.chains(&self.rest);
        let mut seen = 0;
        let next = loop {
            if self.left == 0 {
                break None;
            }
            let Some((key, chain)) = chains.next() else { break None };
            if out.len() - before >= size || seen == KEYS_PER_TURN {
                break Some(key);
            }
            seen += 1;
            let Some(point) = chain.at(at) else { continue };
            mvcc.row(self.request.keys_only, key, &point, out)?;
            self.left -= 1;
        };
        if let Some(key) = next {
            self.rest = self.span.resume(key);
        } else {
            out.append(&mut self.tail);
        }
        let written = (out.len() - before) as u64;
        self.len = self.len.checked_sub(written).expect("no more is written than was measured");
        if next.is_some() {
            return Ok(Turn::More);
        }
        assert_eq!(self.len, 0, "as much is written as was measured");
        Ok(Turn::Last)
    }
}

/// The length of a row, with what stands before it.
fn row_len(
    mvcc: &Mvcc,
    request: &RangeRequest,
    key: &[u8],
    point: &Point,
    scratch: &mut Vec<u8>,
) -> Result<u64, Fatal> {
    scratch.clear();
    if request.keys_only {
        mvcc.row(true, key, point, scratch)?;
        return Ok(scratch.len() as u64);
    }
    let len = mvcc.len_of(point.place)?;
    encode::prefix(scratch, KVS, len);
    Ok((scratch.len() + len) as u64)
}
