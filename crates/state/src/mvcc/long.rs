//! A range too long to be answered at once: measured first, then written piece by piece.
//!
//! A message begins with its length, so its keys are walked twice; rows in an order of the client's own
//! are picked on the first walk, and looked up one by one then. Between turns the caller lets go of the
//! state; all rows are of one revision nevertheless.
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

use proto::etcdserverpb::{RangeRequest, ResponseHeader};

use super::Mvcc;
use super::index::{Point, Span};
use super::picks::Picks;
use super::range::{COUNT, MORE, is_plain, row_len, rows_max};
use super::stream::Turn;
use crate::encode;
use crate::fault::{Fatal, Stop};

/// Keys looked at under one lock. Few in tests, so that there are turns.
const KEYS_PER_TURN: usize = if cfg!(test) { 2 } else { 1_000 };

/// See the module.
pub(crate) struct LongRange {
    request: RangeRequest,
    span: Span,
    /// What is read.
    at: i64,
    /// Where the walk goes on, and how many rows it may still show.
    rest: Span,
    left: usize,
    /// The rows of an order of the client's own.
    picks: Option<Picks>,
    /// What stands before the rows, and behind them.
    head: Vec<u8>,
    tail: Vec<u8>,
    total: i64,
    /// Bytes of the answer: measured so far, then those not written yet.
    len: u64,
    scratch: Vec<u8>,
}

impl LongRange {
    /// `now` is read if `request` names no revision, whatever is written before the first turn.
    pub(crate) fn new(request: RangeRequest, header: ResponseHeader, now: i64) -> Self {
        let span = Span::new(&request.key, &request.range_end);
        let mut head = Vec::new();
        encode::header(&mut head, &header);
        Self {
            rest: span.clone(),
            left: rows_max(&request),
            picks: (!is_plain(&request)).then(|| Picks::new(&request)),
            at: if request.revision > 0 { request.revision } else { now },
            len: head.len() as u64,
            head,
            tail: Vec::new(),
            total: 0,
            scratch: Vec::new(),
            span,
            request,
        }
    }

    /// Bytes of the response that are not written yet, once it is measured.
    pub(crate) fn bytes_left(&self) -> u64 {
        self.len
    }

    /// Has `wrapping` written before the response.
    pub(crate) fn wrap(&mut self, wrapping: &[u8]) {
        self.head.splice(0..0, wrapping.iter().copied());
        self.len += wrapping.len() as u64;
    }

    /// Looks at some keys. The answer is the length of the whole response, once it is known.
    pub(crate) fn measure(&mut self, mvcc: &Mvcc) -> Result<Option<u64>, Stop> {
        self.measure_within(mvcc, KEYS_PER_TURN)
    }

    /// As `measure`, looking at up to `keys_max` keys.
    pub(super) fn measure_within(
        &mut self,
        mvcc: &Mvcc,
        keys_max: usize,
    ) -> Result<Option<u64>, Stop> {
        self.at = mvcc.readable(self.at)?;
        let mut chains = mvcc.index.chains(&self.rest);
        for (key, chain) in chains.by_ref().take(keys_max) {
            if let Some(point) = chain.at(self.at) {
                self.total += 1;
                self.see(mvcc, key, &point)?;
            }
        }
        if let Some((key, _)) = chains.next() {
            self.rest = self.span.resume(key);
            return Ok(None);
        }
        let rows_max = rows_max(&self.request);
        let more = match &self.picks {
            Some(picks) => {
                self.len += picks.bytes();
                picks.has_more()
            }
            None => !self.request.count_only && self.total as usize > rows_max,
        };
        encode::flag(&mut self.tail, MORE, more);
        encode::signed(&mut self.tail, COUNT, self.total);
        self.len += self.tail.len() as u64;
        (self.rest, self.left) = (self.span.clone(), rows_max);
        Ok(Some(self.len))
    }

    fn see(&mut self, mvcc: &Mvcc, key: &[u8], point: &Point) -> Result<(), Fatal> {
        if let Some(picks) = &mut self.picks {
            return picks.offer(mvcc, &self.request, key, point);
        }
        if self.left > 0 {
            self.left -= 1;
            self.len += row_len(mvcc, &self.request, key, point, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Appends the next bytes of the response, about `size` of them.
    pub(crate) fn write(
        &mut self,
        mvcc: &Mvcc,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Stop> {
        self.at = mvcc.readable(self.at)?;
        let before = out.len();
        let full_at = before.saturating_add(size);
        out.append(&mut self.head);
        let turn = match &mut self.picks {
            Some(picks) => {
                picks.write(mvcc, &self.request, self.at, KEYS_PER_TURN, full_at, out)?
            }
            None => self.write_walk(mvcc, full_at, out)?,
        };
        if turn == Turn::Last {
            out.append(&mut self.tail);
        }
        let written = (out.len() - before) as u64;
        self.len = self.len.checked_sub(written).expect("no more is written than was measured");
        assert!(turn == Turn::More || self.len == 0, "as much is written as was measured");
        Ok(turn)
    }

    fn write_walk(
        &mut self,
        mvcc: &Mvcc,
        full_at: usize,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Fatal> {
        let chains = mvcc.index.chains(&self.rest);
        for (n_seen, (key, chain)) in chains.enumerate() {
            if self.left == 0 {
                break;
            }
            if out.len() >= full_at || n_seen == KEYS_PER_TURN {
                self.rest = self.span.resume(key);
                return Ok(Turn::More);
            }
            if let Some(point) = chain.at(self.at) {
                mvcc.row(self.request.keys_only, key, &point, out)?;
                self.left -= 1;
            }
        }
        Ok(Turn::Last)
    }
}
