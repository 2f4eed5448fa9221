//! A range as a stream of messages, in turns.
//!
//! All messages show the keys as of one revision, though the head moves on and the caller lets go of the
//! state between them. The first is small; what follows grows until a message is about as big as a
//! request may be. Only the last has a header, `more` and `count`.

use proto::etcdserverpb::{RangeRequest, ResponseHeader};

use super::Mvcc;
use super::index::Span;
use super::range::{COUNT, MORE, limit};
use crate::encode;
use crate::fault::Stop;

/// Rows in the first message.
const ROWS_FIRST: usize = 10;

// The only field of a RangeStreamResponse.
const RANGE_RESPONSE: u32 = 1;

/// A range being streamed.
pub struct RangeStream {
    request: RangeRequest,
    header: ResponseHeader,
    span: Span,
    /// What is read, and what the header says: set by the first message.
    at: Option<(i64, i64)>,
    /// Rows in the next message.
    rows: usize,
    /// Rows that may still be sent.
    left: usize,
    sent: i64,
    /// The size a message should have.
    size_target: usize,
}

/// Whether there is another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    More,
    Last,
}

impl RangeStream {
    /// `request` has passed [`super::check::range_stream`].
    pub(crate) fn new(request: RangeRequest, header: ResponseHeader, size_target: usize) -> Self {
        Self {
            span: Span::new(&request.key, &request.range_end),
            left: limit(&request),
            request,
            header,
            at: None,
            rows: ROWS_FIRST,
            sent: 0,
            size_target,
        }
    }

    /// Appends the next message, a `RangeStreamResponse`.
    ///
    /// # Errors
    ///
    /// As of a range; also `Compacted` if a compaction has passed the stream since its last turn.
    pub(crate) fn step(&mut self, mvcc: &Mvcc, out: &mut Vec<u8>) -> Result<Turn, Stop> {
        let (at, head) = match self.at {
            Some((at, head)) => (mvcc.readable(at)?, head),
            None => (mvcc.readable(self.request.revision)?, mvcc.head()),
        };
        self.at = Some((at, head));
        encode::nested(out, RANGE_RESPONSE, |out| self.message(mvcc, at, head, out))
    }

    fn message(
        &mut self,
        mvcc: &Mvcc,
        at: i64,
        head: i64,
        out: &mut Vec<u8>,
    ) -> Result<Turn, Stop> {
        // The header comes first on the wire, but only the last message has one, and that it is the last
        // is known after its rows: they wait for a moment.
        let mut body = Vec::new();
        let take = if self.request.count_only { 0 } else { self.rows.min(self.left) };
        let mut rows = mvcc.index.scan(&self.span, at);
        let mut last = None;
        let mut n = 0;
        for (key, point) in rows.by_ref().take(take) {
            mvcc.row(self.request.keys_only, key, &point, &mut body)?;
            last = Some(key);
            n += 1;
        }
        self.sent += n as i64;
        self.left -= n;
        let next = rows.next();
        if next.is_some() && self.left > 0 && !self.request.count_only {
            out.extend_from_slice(&body);
            let mut from = last.expect("at least one row was taken").to_vec();
            from.push(0);
            self.span = self.span.resume(&from);
            self.adapt(body.len());
            return Ok(Turn::More);
        }
        let beyond = i64::from(next.is_some()) + rows.count() as i64;
        encode::header(out, &ResponseHeader { revision: head, ..self.header });
        out.extend_from_slice(&body);
        encode::flag(out, MORE, beyond > 0 && !self.request.count_only);
        encode::signed(out, COUNT, self.sent + beyond);
        Ok(Turn::Last)
    }

    /// Twice the rows, or half, if the message was far from the size it should have.
    fn adapt(&mut self, size: usize) {
        if size < self.size_target / 2 {
            self.rows = self.rows.saturating_mul(2);
        } else if size > self.size_target.saturating_mul(2) {
            self.rows = (self.rows / 2).max(1);
        }
    }
}
