//! Proposals under way: which call each one answers.
//!
//! A proposal carries a request id through log and apply; the id names the member, its start, the
//! port and the proposal's place in that port's window. So an answer finds its call without a map,
//! and an entry left over from an earlier life of this member finds none.
//!
//! ```text
//! 63          48 47                22 21    18 17            0
//! ├─ member id ─┼─ start, in 64 ms ─┼─ port ─┼─ sequence ────┤
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::ReplyTo;
use crate::metrics::Operation;

const SEQUENCE_BITS: u32 = 18;
const PORT_BITS: u32 = 4;
const START_BITS: u32 = 26;
/// More ports than these would not fit into a request id.
pub const PORTS_MAX: usize = 1 << PORT_BITS;
/// Proposals one port may have under way: half of what a sequence can tell apart.
pub const WAITING_MAX: usize = 1 << (SEQUENCE_BITS - 1);

/// What all request ids of one process have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// `started_ms` is wall-clock time: two starts within 64 ms, or 49 days apart to the tick, would
    /// share ids; answers to entries from before the start are dropped for that case.
    ///
    /// Two members may agree in their low bits and start together. So that neither takes the other's
    /// answers for its own, their starts are counted from different moments.
    pub fn new(member_id: u64, started_ms: u64) -> Self {
        let member = member_id & 0xffff;
        let start = (started_ms >> 6).wrapping_add(member_id >> 16) & ((1 << START_BITS) - 1);
        Self(member << 48 | start << (PORT_BITS + SEQUENCE_BITS))
    }

    pub(crate) fn id(self, port: u16, sequence: u64) -> u64 {
        self.0 | u64::from(port) << SEQUENCE_BITS | (sequence & ((1 << SEQUENCE_BITS) - 1))
    }

    /// The port that proposed under `id`, if it was one of this process.
    pub fn port_of(self, id: u64) -> Option<usize> {
        let low = PORT_BITS + SEQUENCE_BITS;
        let port = (id >> SEQUENCE_BITS) & (PORTS_MAX as u64 - 1);
        (id >> low == self.0 >> low).then_some(port as usize)
    }
}

/// The window of a port's unanswered proposals, oldest first.
#[derive(Debug)]
pub struct Waiting {
    origin: Origin,
    port: u16,
    /// Sequence of the window's first slot.
    first: u64,
    window: VecDeque<Slot>,
    unanswered: usize,
    /// How many of them have been told of.
    told: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    waiter: Option<Waiter>,
    deadline_ms: u64,
}

/// A call that waits for its proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub to: ReplyTo,
    /// What its time is counted as, if it is.
    pub operation: Option<Operation>,
    /// When its turn began.
    pub since: Instant,
}

impl Waiting {
    pub fn new(origin: Origin, port: u16) -> Self {
        assert!((port as usize) < PORTS_MAX, "a port has a place in the request id");
        Self { origin, port, first: 1, window: VecDeque::new(), unanswered: 0, told: 0 }
    }

    /// Opens a place for a proposal and returns its request id; `None` when too many are under way.
    pub fn add(&mut self, waiter: Waiter, deadline_ms: u64) -> Option<u64> {
        if self.window.len() >= WAITING_MAX {
            return None;
        }
        let sequence = self.first + self.window.len() as u64;
        self.window.push_back(Slot { waiter: Some(waiter), deadline_ms });
        self.unanswered += 1;
        Some(self.origin.id(self.port, sequence))
    }

    /// Closes the place of `id`; `None` if its call has been answered or given up.
    pub fn take(&mut self, id: u64) -> Option<Waiter> {
        let mask = (1 << SEQUENCE_BITS) - 1;
        let offset = (id.wrapping_sub(self.first)) & mask;
        let waiter = self.window.get_mut(offset as usize)?.waiter.take()?;
        self.unanswered -= 1;
        self.trim();
        Some(waiter)
    }

    /// Gives up one call whose deadline is past; ask again until there is none.
    pub fn expire(&mut self, now_ms: u64) -> Option<Waiter> {
        let oldest = self.window.front_mut()?;
        if oldest.deadline_ms > now_ms {
            return None;
        }
        let waiter = oldest.waiter.take();
        self.unanswered -= usize::from(waiter.is_some());
        self.trim();
        waiter
    }

    /// When the oldest call is to be given up.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.window.front().map(|slot| slot.deadline_ms)
    }

    pub fn n_unanswered(&self) -> usize {
        self.unanswered
    }

    /// How many more are unanswered than when this was last asked.
    pub fn n_more(&mut self) -> i64 {
        let told = std::mem::replace(&mut self.told, self.unanswered);
        self.unanswered as i64 - told as i64
    }

    fn trim(&mut self) {
        while self.window.front().is_some_and(|slot| slot.waiter.is_none()) {
            self.window.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn call(stream: u32) -> Waiter {
        let to = ReplyTo { connection: 0, stream, generation: 0 };
        Waiter { to, operation: Some(Operation::Put), since: *START }
    }

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    #[test]
    fn each_answer_finds_its_call_once_in_any_order() {
        let mut waiting = Waiting::new(Origin::new(7, 1_000_000), 3);
        let ids: Vec<u64> = (0..4).map(|n| waiting.add(call(n), 10).expect("room")).collect();
        assert_eq!((waiting.n_more(), waiting.n_more()), (4, 0));
        for n in [2, 0, 1, 3] {
            assert_eq!(waiting.take(ids[n as usize]), Some(call(n)));
            assert_eq!(waiting.take(ids[n as usize]), None);
        }
        assert_eq!(waiting.n_unanswered(), 0);
        assert_eq!(waiting.n_more(), -4);
    }

    #[test]
    fn sequences_wrap_around_without_mixing_calls_up() {
        let mut waiting = Waiting::new(Origin::new(7, 1_000_000), 3);
        let mut previous = waiting.add(call(0), 10).expect("room");
        for n in 1..(1 << (SEQUENCE_BITS + 1)) {
            let id = waiting.add(call(n), 10).expect("room");
            assert_eq!(waiting.take(previous), Some(call(n - 1)));
            previous = id;
        }
    }

    #[test]
    fn a_port_knows_its_own_ids_and_no_others() {
        let origin = Origin::new(0xabcd, 1 << 20);
        let id = Waiting::new(origin, 5).add(call(1), 10).expect("room");
        assert_eq!(origin.port_of(id), Some(5));
        assert_eq!(Origin::new(0xabcd, 2 << 20).port_of(id), None);
        assert_eq!(Origin::new(0xabce, 1 << 20).port_of(id), None);
        assert_eq!(Origin::new(0x1_abcd, 1 << 20).port_of(id), None, "alike, and started together");
    }

    #[test]
    fn calls_past_their_deadline_are_given_up_and_late_answers_dropped() {
        let mut waiting = Waiting::new(Origin::new(7, 0), 0);
        let late = waiting.add(call(1), 10).expect("room");
        waiting.add(call(2), 20).expect("room");
        assert_eq!(waiting.expire(9), None);
        assert_eq!(waiting.expire(10), Some(call(1)));
        assert_eq!(waiting.expire(10), None);
        assert_eq!(waiting.take(late), None);
        assert_eq!(waiting.next_deadline_ms(), Some(20));
    }
}
