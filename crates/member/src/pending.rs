//! What waits for a leader.
//!
//! An election takes less time than a client's patience, so nobody is refused for want of a leader:
//! proposals are held until somebody takes them in, reads are asked again until somebody answers.
//! Both are given up once their callers have gone; time is counted in ticks.
//!
//! # Invariants
//!
//! - Held proposals go in the order in which they came, and each goes once: what was handed to raft
//!   is never handed over again, for it may have been taken in.
//! - What waits is bounded: [`HELD_MAX`], [`HELD_BYTES_MAX`], and one read a port.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::EntryKind;

use crate::member::ReadTicket;

/// Proposals that may wait for a leader.
pub const HELD_MAX: usize = 65_536;
/// Bytes of them.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// How long, in ticks, things are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A read that was not answered is asked again after this long; etcd waits for 500 ms.
    pub retry_ticks: u64,
    /// Whoever asked is gone after this long.
    pub give_up_ticks: u64,
}

/// A proposal on its way into the log.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: u64,
    pub(crate) kind: EntryKind,
    pub(crate) data: Bytes,
    until: u64,
}

/// Proposals that found nobody to take them in, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HeldProposals {
    queue: VecDeque<Held>,
    bytes: usize,
}

impl HeldProposals {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Holds a proposal until the tick `until`; false if there is no room for it.
    pub(crate) fn hold(&mut self, id: u64, kind: EntryKind, data: Bytes, until: u64) -> bool {
        if self.queue.len() >= HELD_MAX || self.bytes + data.len() > HELD_BYTES_MAX {
            return false;
        }
        self.bytes += data.len();
        self.queue.push_back(Held { id, kind, data, until });
        true
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// Forgets those whose callers have gone by now.
    pub(crate) fn give_up(&mut self, now: u64) {
        while self.queue.front().is_some_and(|held| held.until <= now) {
            let held = self.queue.pop_front().expect("there is a first");
            self.bytes -= held.data.len();
        }
    }
}

/// A question for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) ticket: ReadTicket,
    /// When whoever asked will be gone.
    pub(crate) until: u64,
}

/// Questions by the context raft knows them by, each asked again until it is answered.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    asked: BTreeMap<u64, (Question, u64)>,
    unasked: VecDeque<Question>,
}

impl Questions {
    pub(crate) fn ask(&mut self, context: u64, question: Question, now: u64) {
        self.asked.insert(context, (question, now));
    }

    /// Takes out the question known by `context`; `None` if it was asked again under another, or
    /// given up.
    pub(crate) fn take(&mut self, context: u64) -> Option<Question> {
        self.asked.remove(&context).map(|(question, _)| question)
    }

    /// Nobody can answer now: to be asked again by and by.
    pub(crate) fn put_off(&mut self, question: Question) {
        self.unasked.push_back(question);
    }

    /// Those to be asked (again) at tick `now`.
    pub(crate) fn due(&mut self, now: u64, retry_ticks: u64) -> Vec<Question> {
        let mut due: Vec<Question> = self.unasked.drain(..).collect();
        self.asked.retain(|_, (question, since)| {
            let late = *since + retry_ticks <= now;
            if late {
                due.push(*question);
            }
            !late
        });
        due.retain(|question| question.until > now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(round: u64, until: u64) -> Question {
        Question { ticket: ReadTicket { port: 1, round }, until }
    }

    #[test]
    fn a_question_is_asked_again_until_it_is_answered_or_its_asker_gone() {
        let mut questions = Questions::default();
        questions.ask(7, question(1, 20), 0);
        assert!(questions.due(4, 5).is_empty(), "it has time to be answered");
        assert_eq!(questions.due(5, 5), [question(1, 20)]);
        assert_eq!(questions.take(7), None, "it goes by another context from now on");
        questions.ask(8, question(1, 20), 5);
        assert_eq!(questions.take(8), Some(question(1, 20)));
        questions.put_off(question(1, 20));
        assert!(questions.due(20, 5).is_empty(), "its asker has gone");
    }

    #[test]
    fn what_is_held_is_bounded_and_given_up_in_time() {
        let mut held = HeldProposals::default();
        let data = Bytes::from(vec![0; HELD_BYTES_MAX / 2]);
        assert!(held.hold(1, EntryKind::Normal, data.clone(), 10));
        assert!(held.hold(2, EntryKind::Normal, data.clone(), 11));
        assert!(!held.hold(3, EntryKind::Normal, Bytes::from_static(b"x"), 12), "no room");
        held.give_up(10);
        assert!(held.hold(3, EntryKind::Normal, data, 12), "the first has made room");
        let ids: Vec<u64> = held.take_all().iter().map(|held| held.id).collect();
        assert_eq!(ids, [2, 3]);
    }
}
