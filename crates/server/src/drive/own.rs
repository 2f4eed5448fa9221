//! What this member proposes by itself: ids for it, and how long it takes.
//!
//! Nobody waits for the answer of such a proposal: leases that end, the member's name, the cluster's
//! version. How long each takes to be applied is counted as that of a client's request is. One that is
//! neither applied nor refused within the time a request has came to nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::waiting::{Origin, PORTS_MAX};
use crate::metrics::{ByOperation, Operation};

/// The port in the ids of such proposals: never a real one's.
pub(crate) const PORT: usize = PORTS_MAX - 1;

/// More of them than this are not timed: what is left out are the oldest.
const TIMED_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Own {
    next: AtomicU64,
    /// In the order in which they were proposed, and so, mostly, are applied.
    under_way: Mutex<VecDeque<UnderWay>>,
}

#[derive(Debug)]
struct UnderWay {
    id: u64,
    operation: Operation,
    since: Instant,
}

impl Own {
    /// An id for a proposal that is made now. Those made before `patience` ago are given up.
    pub(crate) fn begin(
        &self,
        origin: Origin,
        operation: Operation,
        patience: Duration,
        times: &ByOperation,
    ) -> u64 {
        let id = origin.id(PORT as u16, self.next.fetch_add(1, Ordering::Relaxed));
        let since = Instant::now();
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = |oldest: &mut UnderWay| since - oldest.since >= patience;
        while let Some(late) = under_way.pop_front_if(is_late) {
            times.of(late.operation, false).observe(since - late.since);
        }
        if under_way.len() == TIMED_MAX {
            under_way.pop_front();
        }
        under_way.push_back(UnderWay { id, operation, since });
        id
    }

    /// Proposal `id` was applied, or else refused.
    pub(crate) fn end(&self, id: u64, applied: bool, times: &ByOperation) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = under_way.iter().position(|one| one.id == id) else { return };
        let ended = under_way.remove(at).expect("it was just found");
        times.of(ended.operation, applied).observe(ended.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn each_is_counted_once_and_those_that_are_lost_as_failures() {
        let (own, metrics, origin) = (Own::default(), Metrics::new(false), Origin::new(7, 0));
        let times = &metrics.request;
        let begin = |patience| own.begin(origin, Operation::LeaseRevoke, patience, times);
        let counts =
            || [false, true].map(|applied| times.of(Operation::LeaseRevoke, applied).count());
        let hour = Duration::from_secs(3600);
        let ids: Vec<u64> = (0..3).map(|_| begin(hour)).collect();
        assert!(ids.iter().all(|&id| origin.port_of(id) == Some(PORT)));
        own.end(ids[1], true, times);
        own.end(ids[1], true, times);
        assert_eq!(counts(), [0, 1]);
        own.end(ids[0], false, times);
        assert_eq!(counts(), [1, 1]);
        begin(Duration::ZERO);
        assert_eq!(counts(), [2, 1], "the third was given up");
    }
}
