//! Reads a turn has answered, counted together.
//!
//! The answers of a turn leave together at its end. So one look at the clock tells how long all of
//! them took, from the turn's beginning; what each cost is its share of that.

use std::time::{Duration, Instant};

use crate::metrics::{Metrics, Operation};

/// See the module. What was answered in turns is in `range_ops` and `larger_txns` only: it took a time of its own.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Ranges that failed, and that went well.
    pub(crate) ranges: [u64; 2],
    /// The same of txns that only read.
    pub(crate) txns: [u64; 2],
    /// Ranges, those within txns included.
    pub(crate) range_ops: u64,
    /// Txns of more than one range.
    pub(crate) larger_txns: u64,
    /// Questions about whether there is authentication.
    pub(crate) auth_statuses: u64,
    pub(crate) sent: Sent,
}

/// What a turn has sent to watchers.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Messages that answer a request, or tell of progress.
    pub(crate) replies: u64,
    /// Messages with events.
    pub(crate) messages: u64,
    pub(crate) events: u64,
}

impl Served {
    /// Counts what was answered since `began`.
    pub(crate) fn count(&self, metrics: &Metrics, began: Instant) {
        if self.range_ops > 0 {
            metrics.ranges.add(self.range_ops);
            metrics.txns.add(self.larger_txns);
        }
        let n: u64 = self.ranges.iter().chain(&self.txns).sum();
        if n + self.auth_statuses + self.sent.replies + self.sent.messages == 0 {
            return;
        }
        let took = began.elapsed();
        self.sent.count(metrics, took);
        if self.auth_statuses > 0 {
            let times = metrics.request.of(Operation::AuthStatus, true);
            times.observe_many(nanos(took), self.auth_statuses);
        }
        for success in [false, true] {
            let (ranges, txns) =
                (self.ranges[usize::from(success)], self.txns[usize::from(success)]);
            if ranges > 0 {
                metrics.request.of(Operation::Range, success).observe_many(nanos(took), ranges);
                metrics.range.of(success).observe_many(nanos(took) / n, ranges);
            }
            if txns > 0 {
                metrics.request.of(Operation::ReadonlyTxn, success).observe_many(nanos(took), txns);
            }
        }
    }
}

impl Sent {
    /// Each message has its share of the time.
    fn count(&self, metrics: &Metrics, took: Duration) {
        let &Self { replies, messages, events } = self;
        if replies > 0 {
            metrics.watch_control.observe_many(nanos(took) / (replies + messages), replies);
        }
        if messages > 0 {
            let each = nanos(took) / (replies + messages);
            metrics.events.add(events);
            metrics.watch_events.observe_many(each, messages);
            metrics.watch_event.observe_many(each * messages / events, messages);
        }
    }
}

pub(super) fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
