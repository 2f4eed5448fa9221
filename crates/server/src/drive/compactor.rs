//! Automatic compaction: the revisions nobody will ask for any more.
//!
//! Periodic: with a retention of R, history older than R goes. The revision is sampled ten times an
//! interval (R, or an hour if that is shorter), and each interval the store is compacted to what it was R
//! ago. By revision: every five minutes all but the newest N revisions go. Only a leader compacts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::etcdserverpb::CompactionRequest;

use crate::config::AutoCompaction;
use crate::engine::Engine;
use crate::log;

const INTERVAL_MAX: Duration = Duration::from_hours(1);
const SAMPLES_PER_INTERVAL: u32 = 10;
const REVISION_INTERVAL: Duration = Duration::from_mins(5);

pub(super) struct Compactor {
    mode: AutoCompaction,
    /// When the revision was what, oldest first.
    samples: VecDeque<(Instant, i64)>,
    last: Instant,
}

impl Compactor {
    pub(super) fn new(mode: AutoCompaction) -> Self {
        Self { mode, samples: VecDeque::new(), last: Instant::now() }
    }

    /// The compaction to propose now, if one is due.
    pub(super) fn due(&mut self, engine: &Engine) -> Option<CompactionRequest> {
        let (head, compacted) = {
            let state = engine.state();
            (state.head(), state.compacted())
        };
        let now = Instant::now();
        let revision = match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(retention) => self.periodic(retention, now, head),
            AutoCompaction::Revision(keep) => self.by_revision(keep, now, head),
        }?;
        if !engine.shown.is_leader() || revision <= compacted.max(0) {
            return None;
        }
        log::info!(engine.logger, "starting auto compaction", "revision" = revision);
        Some(CompactionRequest { revision, physical: false })
    }

    fn periodic(&mut self, retention: Duration, now: Instant, head: i64) -> Option<i64> {
        let interval = retention.min(INTERVAL_MAX);
        let sampled = self.samples.back().map(|(at, _)| *at);
        if sampled.is_none_or(|at| now - at >= interval / SAMPLES_PER_INTERVAL) {
            self.samples.push_back((now, head));
        }
        if now - self.last < interval {
            return None;
        }
        let mut revision = None;
        while let Some((at, sample)) = self.samples.front().copied()
            && now - at >= retention
        {
            revision = Some(sample);
            self.samples.pop_front();
        }
        if revision.is_some() {
            self.last = now;
        }
        revision
    }

    fn by_revision(&mut self, keep: u64, now: Instant, head: i64) -> Option<i64> {
        if now - self.last < REVISION_INTERVAL {
            return None;
        }
        self.last = now;
        Some(head - i64::try_from(keep).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_compaction_keeps_what_is_younger_than_the_retention() {
        let retention = Duration::from_secs(100);
        let mut compactor = Compactor::new(AutoCompaction::Periodic(retention));
        let start = compactor.last;
        let mut compactions = Vec::new();
        for second in 0..=250 {
            let now = start + Duration::from_secs(second);
            if let Some(revision) = compactor.periodic(retention, now, second as i64) {
                compactions.push((second, revision));
            }
        }
        assert_eq!(compactions, [(100, 0), (200, 100)]);
    }

    #[test]
    fn compaction_by_revision_keeps_the_newest() {
        let mut compactor = Compactor::new(AutoCompaction::Revision(10));
        let later = compactor.last + REVISION_INTERVAL;
        assert_eq!(compactor.by_revision(10, later, 1000), Some(990));
        assert_eq!(compactor.by_revision(10, later, 1001), None);
    }
}
