//! What this member proposes by itself: ids for it, and how long it takes.
//!
//! Nobody waits for the answer of such a proposal: leases that end, the member's name, the cluster's
//! version. How long each takes to be applied is counted as that of a client's request is. One that is
//! neither applied nor refused within the time a request has came to nothing.

use std::collections::VecDeque;
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
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// In the order of their ids, and so of their beginning.
    under_way: VecDeque<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    id: u64,
    since: Instant,
    /// `None` once it has ended.
    operation: Option<Operation>,
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
        let since = Instant::now();
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let id = origin.id(PORT as u16, list.next);
        list.next += 1;
        let under_way = &mut list.under_way;
        let is_late = |oldest: &mut UnderWay| since - oldest.since >= patience;
        while let Some(late) = under_way.pop_front_if(is_late) {
            if let Some(operation) = late.operation {
                times.of(operation, false).observe(since - late.since);
            }
        }
        if under_way.len() == TIMED_MAX {
            under_way.pop_front();
        }
        under_way.push_back(UnderWay { id, since, operation: Some(operation) });
        id
    }

    /// Proposal `id` was applied, or else refused.
    pub(crate) fn end(&self, id: u64, applied: bool, times: &ByOperation) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = &mut list.under_way;
        let Ok(at) = under_way.binary_search_by_key(&id, |one| one.id) else { return };
        let ended = &mut under_way[at];
        if let Some(operation) = ended.operation.take() {
            times.of(operation, applied).observe(ended.since.elapsed());
        }
        while under_way.pop_front_if(|oldest| oldest.operation.is_none()).is_some() {}
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
