//! Linearizable reads that wait: for a round that tells them an index, then for that index.
//!
//! All reads of one turn share a round; those that come while it is under way share the next. A
//! round asks the leader, once, how far one must have applied to see everything acknowledged
//! before the round began.
//!
//! ```text
//!   gathering ──next_round──► asked (round n) ──granted──► ready at an index ──applied──► served
//! ```
//!
//! # Invariants
//!
//! - A read is served by a round that began after the read arrived.

use std::collections::{HashMap, VecDeque};

use member::ReadTicket;
use proto::error::Error;

use super::ReplyTo;
use super::port::Call;

/// Reads one port may have waiting.
pub(crate) const READS_MAX: usize = 131_072;

#[derive(Debug)]
struct Read {
    call: Call,
    deadline_ms: u64,
}

/// The waiting reads of one port.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    gathering: VecDeque<Read>,
    asked: VecDeque<Read>,
    ready: VecDeque<(u64, Read)>,
    /// Reads whose answers found no room at their connection.
    parked: HashMap<ReplyTo, Call>,
    round: u64,
}

impl Reads {
    pub(crate) fn add(&mut self, call: Call, deadline_ms: u64) -> Result<(), Error> {
        if self.len() >= READS_MAX {
            return Err(Error::RequestTooManyRequests);
        }
        self.gathering.push_back(Read { call, deadline_ms });
        Ok(())
    }

    /// Keeps a read until its connection has room for the answer.
    pub(crate) fn park(&mut self, call: Call) -> Result<(), Error> {
        if self.len() >= READS_MAX {
            return Err(Error::RequestTooManyRequests);
        }
        self.parked.insert(call.to, call);
        Ok(())
    }

    pub(crate) fn unpark(&mut self, to: ReplyTo) -> Option<Call> {
        self.parked.remove(&to)
    }

    /// Begins a round, if reads wait for one and none is under way.
    pub(crate) fn next_round(&mut self, port: u16) -> Option<ReadTicket> {
        if self.gathering.is_empty() || !self.asked.is_empty() {
            return None;
        }
        self.round += 1;
        std::mem::swap(&mut self.gathering, &mut self.asked);
        Some(ReadTicket { port, round: self.round })
    }

    /// The round's index is known, or it failed: then these calls have to be told.
    pub(crate) fn granted(&mut self, round: u64, result: Result<u64, Error>) -> Vec<ReplyTo> {
        if round != self.round {
            return Vec::new();
        }
        let asked = std::mem::take(&mut self.asked);
        match result {
            Ok(index) => {
                self.ready.extend(asked.into_iter().map(|read| (index, read)));
                Vec::new()
            }
            Err(_) => asked.into_iter().map(|read| read.call.to).collect(),
        }
    }

    pub(crate) fn next_ready(&mut self, applied: u64) -> Option<Call> {
        let (index, _) = self.ready.front()?;
        if *index > applied {
            return None;
        }
        self.ready.pop_front().map(|(_, read)| read.call)
    }

    /// Gives up one read whose deadline is past; ask again until there is none.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Option<ReplyTo> {
        let late = |read: &Read| read.deadline_ms <= now_ms;
        if self.ready.front().is_some_and(|(_, read)| late(read)) {
            return self.ready.pop_front().map(|(_, read)| read.call.to);
        }
        for queue in [&mut self.asked, &mut self.gathering] {
            if queue.front().is_some_and(late) {
                return queue.pop_front().map(|read| read.call.to);
            }
        }
        None
    }

    pub(crate) fn drop_call(&mut self, to: ReplyTo) {
        self.parked.remove(&to);
    }

    fn len(&self) -> usize {
        self.gathering.len() + self.asked.len() + self.ready.len() + self.parked.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::method::Method;

    use super::*;
    use crate::api::Caller;

    fn call(stream: u32) -> Call {
        let to = ReplyTo { connection: 0, stream, generation: 0 };
        Call { to, method: Method::Range, caller: Caller::default(), body: Bytes::new() }
    }

    #[test]
    fn a_read_is_served_by_a_round_that_began_after_it_came() {
        let mut reads = Reads::default();
        reads.add(call(1), 100).expect("room");
        assert_eq!(reads.next_round(7), Some(ReadTicket { port: 7, round: 1 }));
        reads.add(call(2), 100).expect("room");
        assert_eq!(reads.next_round(7), None, "one round at a time");

        assert!(reads.granted(1, Ok(5)).is_empty());
        assert!(reads.next_ready(4).is_none(), "index 5 is not applied");
        assert_eq!(reads.next_ready(5).map(|call| call.to.stream), Some(1));
        assert!(reads.next_ready(9).is_none(), "the second read has no index yet");
        assert_eq!(reads.next_round(7), Some(ReadTicket { port: 7, round: 2 }));
    }

    #[test]
    fn a_failed_round_is_told_to_all_who_shared_it() {
        let mut reads = Reads::default();
        reads.add(call(1), 100).expect("room");
        reads.add(call(2), 100).expect("room");
        reads.next_round(0);
        assert_eq!(reads.granted(1, Err(Error::LeaderChanged)).len(), 2);
    }

    #[test]
    fn late_reads_are_given_up_in_whatever_state_they_are() {
        let mut reads = Reads::default();
        for stream in 1..=3 {
            reads.add(call(stream), 10 * u64::from(stream)).expect("room");
            if stream < 3 {
                reads.next_round(0);
            }
            if stream == 1 {
                reads.granted(1, Ok(5));
            }
        }
        let expired: Vec<_> = std::iter::from_fn(|| reads.expire(30)).map(|to| to.stream).collect();
        assert_eq!(expired, [1, 2, 3]);
    }
}
