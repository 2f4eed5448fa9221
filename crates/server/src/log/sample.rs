//! How much one message may say: a hundred lines a second, and each hundredth of the rest.
//!
//! Counters are found by a hash of the message, so two messages may share one and get less. That
//! bounds the memory, and a flood of lines can't drown the disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Level;

const COUNTERS: usize = 1024;
const FIRST: u64 = 100;
const THEREAFTER: u64 = 100;

/// In a counter: the second it counts in above, the lines of that second below.
const COUNT_BITS: u32 = 32;

pub(super) struct Sampler {
    counters: Box<[AtomicU64]>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Sampler {
    /// Whether a line may be written so long after the start. A last line always may.
    pub(super) fn admits(&self, level: Level, message: &str, now: Duration) -> bool {
        if level == Level::Fatal {
            return true;
        }
        let counter = &self.counters[hash(level, message) as usize % COUNTERS];
        let second = now.as_secs() << COUNT_BITS;
        let count = |packed: u64| {
            if packed & !u64::from(u32::MAX) == second { packed + 1 } else { second + 1 }
        };
        let counted =
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| Some(count(p)));
        let n = count(counted.unwrap_or_else(|same| same)) & u64::from(u32::MAX);
        n <= FIRST || (n - FIRST).is_multiple_of(THEREAFTER)
    }
}

/// FNV-1a.
fn hash(level: Level, message: &str) -> u64 {
    let bytes = [level as u8].into_iter().chain(message.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(sampler: &Sampler, level: Level, message: &str, second: u64, lines: u64) -> usize {
        let now = Duration::from_secs(second);
        (0..lines).filter(|_| sampler.admits(level, message, now)).count()
    }

    #[test]
    fn a_flood_is_thinned_out_and_forgotten_with_the_next_second() {
        let sampler = Sampler::default();
        assert_eq!(admitted(&sampler, Level::Info, "a", 0, 1000), 109);
        assert_eq!(admitted(&sampler, Level::Info, "b", 0, 1), 1);
        assert_eq!(admitted(&sampler, Level::Warn, "a", 0, 1), 1);
        assert_eq!(admitted(&sampler, Level::Info, "a", 1, 99), 99);
        assert_eq!(admitted(&sampler, Level::Fatal, "a", 1, 500), 500);
    }
}
