//! How much of the time the keeper works: a quarter, so that three quarters belong to clients.
//!
//! Only if garbage grows though it is being collected the rests get shorter, down to none.

use storage::pace::{Leisure, Pace};

use crate::engine::Engine;

/// Rest for each bit of work, in times of what it took.
const RESTS_USUAL: u32 = 3;

pub(super) struct Pacer<'a> {
    /// Who ends the process waits for the work, not for the rest.
    leisure: Leisure<Box<dyn Fn() -> bool + 'a>>,
}

impl<'a> Pacer<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        let is_stopping = Box::new(|| engine.is_stopping());
        Self { leisure: Leisure::new(RESTS_USUAL, is_stopping) }
    }

    /// Work begins: what came before it was none.
    pub(super) fn begin(&mut self) {
        self.leisure.begin();
    }

    /// While garbage grows there is less and less rest.
    pub(super) fn adapt(&mut self, is_growing: bool) {
        let rests = if is_growing { self.leisure.rests() / 2 } else { RESTS_USUAL };
        self.leisure.set_rests(rests);
    }
}

impl Pace for Pacer<'_> {
    fn rest(&mut self) {
        self.leisure.rest();
    }
}
