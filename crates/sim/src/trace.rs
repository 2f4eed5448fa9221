//! What happened last, for whoever has to find out why.
//!
//! Kept apart from the world, so that it is there whatever the world was doing when it ended.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const LINES_MAX: usize = 60;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

fn lines() -> MutexGuard<'static, VecDeque<String>> {
    // Lines are whole, whatever happened to who wrote them.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn clear() {
    lines().clear();
}

/// Notes what happens at `now`, in microseconds.
pub(crate) fn note(now: u64, text: impl FnOnce() -> String) {
    let mut lines = lines();
    if lines.len() == LINES_MAX {
        lines.pop_front();
    }
    let (seconds, rest) = (now / 1_000_000, now % 1_000_000);
    lines.push_back(format!("{seconds:>4}.{rest:06}  {}", text()));
}

/// The last lines, oldest first.
pub fn last() -> Vec<String> {
    lines().iter().cloned().collect()
}
