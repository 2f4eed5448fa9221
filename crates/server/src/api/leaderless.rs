//! Streams whose callers want no member that knows no leader (`hasleader` metadata).
//!
//! They are not ended by an election: only when there has been no leader for several times as long.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use super::ReplyTo;

/// The streams of one port that want a leader, and since when there is none.
#[derive(Debug, Default)]
pub(crate) struct Leaderless {
    streams: BTreeSet<ReplyTo>,
    since: Option<Instant>,
}

impl Leaderless {
    pub(crate) fn watch(&mut self, to: ReplyTo) {
        self.streams.insert(to);
    }

    pub(crate) fn forget(&mut self, to: ReplyTo) {
        self.streams.remove(&to);
    }

    /// Takes out the streams to be ended now.
    pub(crate) fn overdue(
        &mut self,
        has_leader: bool,
        now: Instant,
        patience: Duration,
    ) -> BTreeSet<ReplyTo> {
        if has_leader {
            self.since = None;
            return BTreeSet::new();
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < patience {
            return BTreeSet::new();
        }
        mem::take(&mut self.streams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_outlives_an_election_and_no_more() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let patience = Duration::from_millis(300);
        let to = ReplyTo { connection: 1, stream: 3, generation: 0 };
        let mut leaderless = Leaderless::default();
        leaderless.watch(to);
        assert!(leaderless.overdue(false, at(0), patience).is_empty());
        assert!(leaderless.overdue(false, at(299), patience).is_empty());
        assert!(leaderless.overdue(true, at(300), patience).is_empty(), "somebody leads again");
        assert!(leaderless.overdue(false, at(301), patience).is_empty(), "it begins anew");
        assert_eq!(leaderless.overdue(false, at(601), patience), BTreeSet::from([to]));
        assert!(leaderless.overdue(false, at(602), patience).is_empty(), "each is ended once");
    }
}
