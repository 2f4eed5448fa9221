//! Reads a turn has answered, counted together.
//!
//! The answers of a turn leave together at its end. So one look at the clock tells how long all of
//! them took, from the turn's beginning; what each cost is its share of that.

use std::time::{Duration, Instant};

use crate::metrics::{Metrics, Operation};

/// See the module. What was answered in turns is in the last two numbers only: it took a time of its own.
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
}

impl Served {
    /// Counts what was answered since `began`.
    pub(crate) fn count(&self, metrics: &Metrics, began: Instant) {
        metrics.ranges.add(self.range_ops);
        metrics.txns.add(self.larger_txns);
        let n: u64 = self.ranges.iter().chain(&self.txns).sum();
        if n == 0 {
            return;
        }
        let took = began.elapsed();
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

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
