//! How much of the time the keeper works: a quarter, so that three quarters belong to clients.
//!
//! ```text
//! work ≈0.2 ms │ rest, three times as long │ work │ rest …
//! ```
//!
//! Each bit of work is measured, whatever it waited for: a disk or a processor that is slow, or busy with
//! other things, is left alone for longer. Only if garbage grows though it is being collected the rests
//! get shorter, down to none.

use std::thread;
use std::time::{Duration, Instant};

use storage::pace::Pace;

use crate::engine::Engine;

/// Rest for each bit of work, in times of what it took.
const RESTS_USUAL: u32 = 3;
/// What took less is not worth falling asleep for.
const WORK_MIN: Duration = Duration::from_micros(200);
/// However long the disk took, compaction goes on.
const REST_MAX: Duration = Duration::from_millis(100);

pub(super) struct Pacer<'a> {
    engine: &'a Engine,
    /// When the last rest ended.
    since: Instant,
    rests: u32,
}

impl<'a> Pacer<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, since: Instant::now(), rests: RESTS_USUAL }
    }

    /// Work begins: what came before it was none.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// While garbage grows there is less and less rest.
    pub(super) fn adapt(&mut self, is_growing: bool) {
        self.rests = if is_growing { self.rests / 2 } else { RESTS_USUAL };
    }
}

impl Pace for Pacer<'_> {
    fn rest(&mut self) {
        let worked = self.since.elapsed();
        if worked < WORK_MIN {
            return;
        }
        // Who ends the process waits for the work, not for the rest.
        if self.rests > 0 && !self.engine.is_stopping() {
            thread::park_timeout((worked * self.rests).min(REST_MAX));
        }
        self.since = Instant::now();
    }
}
