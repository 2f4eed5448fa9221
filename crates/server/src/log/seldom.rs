//! Warnings that would repeat themselves: said now and then, with how often they were not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lets one through per interval, from any thread, and counts the others.
///
/// ```ignore
/// static SLOW: Seldom = Seldom::every(Duration::from_secs(10));
/// if let Some(unsaid) = SLOW.due(now) {
///     log::warn!(logger, "apply request took too long", "took" = took, "unsaid" = unsaid);
/// }
/// ```
#[derive(Debug)]
pub struct Seldom {
    interval_ms: u64,
    /// When the next one is due, in milliseconds since the caller's clock began.
    due_at_ms: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    pub const fn every(interval: Duration) -> Self {
        let interval_ms = interval.as_millis() as u64;
        Self { interval_ms, due_at_ms: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// How many were held back since the last, if it is time for one again. `now` is monotonic.
    pub fn due(&self, now: Duration) -> Option<u64> {
        let now_ms = now.as_millis() as u64;
        let due_at_ms = self.due_at_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(self.interval_ms);
        let mine = now_ms >= due_at_ms
            && self
                .due_at_ms
                .compare_exchange(due_at_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_per_interval_with_the_number_of_the_others() {
        let seldom = Seldom::every(Duration::from_secs(10));
        let at = |s| Duration::from_secs(s);
        assert_eq!(seldom.due(at(3)), Some(0));
        assert_eq!(seldom.due(at(3)), None);
        assert_eq!(seldom.due(at(12)), None);
        assert_eq!(seldom.due(at(13)), Some(2));
        assert_eq!(seldom.due(at(99)), Some(0));
    }
}
