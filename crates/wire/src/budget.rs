//! What a peer may do that costs us and gains nobody, counted per second.
//!
//! Each known flood (rapid reset, MadeYouReset, pings, settings, empty frames, …) is a frame that
//! is cheap to send and has to be answered or looked at. Past its bound the connection ends with
//! `ENHANCE_YOUR_CALM`. `tick` renews the budget.

use crate::limits::Limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expense {
    /// A stream reset, no matter by whom: a peer can make us do it (MadeYouReset).
    Reset,
    Ping,
    Settings,
    EmptyFrame,
    WindowUpdate,
    IdleFrame,
}

const N_EXPENSES: usize = 6;

impl Expense {
    /// What a client is told that did too much of it.
    pub(crate) fn excess(self) -> &'static str {
        match self {
            Self::Reset => "too_many_resets",
            Self::Ping => "too_many_pings",
            Self::Settings => "too_many_settings",
            Self::EmptyFrame => "too_many_empty_frames",
            Self::WindowUpdate => "too_many_window_updates",
            Self::IdleFrame => "too_many_idle_frames",
        }
    }
}

/// A client may answer each DATA frame with so many WINDOW_UPDATEs, on any day.
pub(crate) const WINDOW_UPDATES_PER_FRAME: u32 = 4;

#[derive(Debug, Default)]
pub(crate) struct Budget {
    spent: [u32; N_EXPENSES],
    /// DATA frames we sent since the budget was renewed.
    pub(crate) frames_sent: u32,
}

impl Budget {
    /// Counts one more; false when that is too many.
    pub(crate) fn spend(&mut self, expense: Expense, limits: &Limits) -> bool {
        let max = match expense {
            Expense::Reset => limits.resets_per_second_max,
            Expense::Ping => limits.pings_per_second_max,
            Expense::Settings => limits.settings_per_second_max,
            Expense::EmptyFrame => limits.empty_frames_per_second_max,
            Expense::WindowUpdate => limits
                .window_updates_per_second_max
                .saturating_add(self.frames_sent.saturating_mul(WINDOW_UPDATES_PER_FRAME)),
            Expense::IdleFrame => limits.idle_frames_per_second_max,
        };
        let spent = &mut self.spent[expense as usize];
        *spent = spent.saturating_add(1);
        *spent <= max
    }

    pub(crate) fn renew(&mut self) {
        *self = Self::default();
    }
}
