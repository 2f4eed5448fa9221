//! What is on its way to the disk, and what may not be said before it is there.
//!
//! The disk is slow and works in order; many writes may be under way. Each hand-out attests, once
//! it is durable, a prefix of the log. When the log is cut later, entries beyond the cut are no
//! longer what the earlier write wrote, so what it attests shrinks with the cut:
//!
//! ```text
//! hand out 1   5@2 6@2 7@2           attests 7
//! cut at 6     the next leader's 6@3
//! hand out 2   6@3                   1 attests 5 from now on, 2 attests 6
//! cut at 6     the first one's 6@2 7@2 once more (its term is over, its entries are not)
//! hand out 3   6@2 7@2               2 attests 5, 3 attests 7
//! "1 is durable"                     5, although 7@2 looks just like what 1 wrote
//! ```
//!
//! # Invariants
//!
//! - A message that rests on something not yet durable waits for the newest hand-out, which has
//!   everything before it behind it.
//! - Ids grow; acknowledgements of later ones include earlier ones.

use std::collections::VecDeque;

use crate::message::Message;
use crate::number::{Index, PersistId, Term};

/// How many hand-outs are told apart; of more, the oldest are taken as part of the next.
const IN_FLIGHT_MAX: usize = 16_384;

/// How many messages wait; of more, the oldest are lost, as messages may be.
const WITHHELD_MAX: usize = 65_536;

/// Said or done when all that went to the disk before it is durable.
#[derive(Debug)]
pub(crate) enum Withheld {
    Send(Message),
    /// A candidate's vote for itself.
    OwnVote(Term),
}

#[derive(Debug)]
struct HandOut {
    id: PersistId,
    /// It attests the log up to here.
    last: Index,
}

#[derive(Debug, Default)]
pub(crate) struct Persist {
    newest: PersistId,
    durable: PersistId,
    in_flight: VecDeque<HandOut>,
    withheld: VecDeque<(PersistId, Withheld)>,
}

impl Persist {
    /// Something is handed out, and the log now ends at `last`. `open` is the hand-out that the
    /// caller has not acted on yet, which this one then joins.
    pub(crate) fn hand_out(&mut self, open: Option<PersistId>, last: Index) -> PersistId {
        match self.in_flight.back_mut() {
            Some(newest) if open == Some(newest.id) => newest.last = last,
            Some(_) | None => {
                self.newest = self.newest.next();
                self.in_flight.push_back(HandOut { id: self.newest, last });
            }
        }
        if self.in_flight.len() > IN_FLIGHT_MAX {
            self.in_flight.pop_front();
        }
        self.newest
    }

    /// The log was cut: from here on it is no longer what was handed out.
    pub(crate) fn cut(&mut self, from: Index) {
        for hand_out in &mut self.in_flight {
            hand_out.last = hand_out.last.min(from.before());
        }
    }

    /// Keeps `what` back until the newest hand-out is durable.
    pub(crate) fn withhold(&mut self, what: Withheld) {
        self.withheld.push_back((self.newest, what));
        if self.withheld.len() > WITHHELD_MAX {
            self.withheld.pop_front();
        }
    }

    /// Everything up to `id` is durable. Returns how far that attests the log.
    pub(crate) fn on_persisted(&mut self, id: PersistId) -> Option<Index> {
        assert!(id <= self.newest, "durable before it was handed out: {id:?}");
        self.durable = self.durable.max(id);
        let mut attested = None;
        while self.in_flight.front().is_some_and(|hand_out| hand_out.id <= id) {
            attested = self.in_flight.pop_front().map(|hand_out| hand_out.last);
        }
        attested
    }

    /// The next of what was kept back and need be no longer.
    pub(crate) fn release(&mut self) -> Option<Withheld> {
        let (rests_on, _) = self.withheld.front()?;
        if *rests_on > self.durable {
            return None;
        }
        self.withheld.pop_front().map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests;
