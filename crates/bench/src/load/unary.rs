//! Requests with one answer each.
//!
//! In the *closed loop* every connection has so many requests under way, and an answer brings about
//! the next: the server is as busy as it can be, and latency is what the queue makes it. In the
//! *open loop* requests fall due at a fixed rate, whatever the server does, and latency counts from
//! when a request was due: a server that stalls is charged for all who would have come meanwhile.
//!
//! # Invariants
//!
//! - Each answer belongs to a request under way, and is counted once.   (asserted)

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::failure::Failure;
use crate::fleet::Load;
use crate::histogram::Histogram;
use crate::http2::{Event, MESSAGE_HEAD_SIZE, Outcome, Session, StreamId};
use crate::measure::{Measured, Pace};
use crate::request::Requests;

/// Requests of one connection that fell due and can't be sent: more than the longest window brings.
const OVERDUE_MAX: usize = 1 << 20;

/// An open loop comes back at least so often.
const COME_BACK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// So many requests under way on each connection.
    Closed { in_flight: usize },
    /// So many requests a second, on all connections in turn.
    Open { per_second: u64 },
}

/// A request whose answer is awaited, or one that younger ones have overtaken.
#[derive(Clone, Copy)]
struct Flight {
    due: u64,
    answered: usize,
    is_done: bool,
}

/// One connection's requests under way, in the order of their streams.
#[derive(Default)]
struct Lane {
    first: u32,
    flights: VecDeque<Flight>,
    n_under_way: usize,
    /// The open loop's: when each was due that has not been sent.
    overdue: VecDeque<u64>,
}

impl Lane {
    fn begin(&mut self, stream: StreamId, due: u64) {
        if self.flights.is_empty() {
            self.first = stream.0;
        }
        assert_eq!(stream.0 as usize, self.first as usize + 2 * self.flights.len());
        self.flights.push_back(Flight { due, answered: 0, is_done: false });
        self.n_under_way += 1;
    }

    fn flight(&mut self, stream: StreamId) -> Option<&mut Flight> {
        let at = stream.0.checked_sub(self.first)? / 2;
        self.flights.get_mut(at as usize).filter(|flight| !flight.is_done)
    }

    /// Forgets what is answered; says when it was due and how long the answer was.
    fn end(&mut self, stream: StreamId) -> Option<Flight> {
        let flight = self.flight(stream)?;
        flight.is_done = true;
        let ended = *flight;
        self.n_under_way -= 1;
        while self.flights.front().is_some_and(|f| f.is_done) {
            self.flights.pop_front();
            self.first += 2;
        }
        Some(ended)
    }
}

/// When an answered request was due, and when its answer came, in nanoseconds of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) due: u64,
    pub(crate) at: u64,
}

pub(crate) struct Unary {
    requests: Requests,
    form: Loop,
    lanes: Vec<Lane>,
    /// What may still be asked.
    left: u64,
    next_due: Option<u64>,
    next_lane: usize,
    latency: Histogram,
    /// Each by itself, for who wants to know that.
    kept: Option<Vec<Answered>>,
    /// What an answer's data may take: a range that misses rows is no success.
    answers: RangeInclusive<usize>,
}

impl Unary {
    pub(crate) fn new(requests: Requests, form: Loop, n_connections: usize) -> Self {
        Self {
            requests,
            form,
            lanes: (0..n_connections).map(|_| Lane::default()).collect(),
            left: u64::MAX,
            next_due: None,
            next_lane: 0,
            latency: Histogram::new(),
            kept: None,
            answers: MESSAGE_HEAD_SIZE..=usize::MAX,
        }
    }

    /// Ends after so many requests.
    pub(crate) fn limited(mut self, n_requests: u64) -> Self {
        self.left = n_requests;
        self
    }

    /// Remembers each answer by itself, until it is taken.
    pub(crate) fn keeping_each(mut self) -> Self {
        self.kept = Some(Vec::new());
        self
    }

    /// What was answered since the last time.
    pub(crate) fn take_kept(&mut self) -> Vec<Answered> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn record(&mut self, due: u64, at: u64) {
        self.latency.record(at.saturating_sub(due));
        if let Some(kept) = &mut self.kept {
            kept.push(Answered { due, at });
        }
    }

    /// An answer of another size is a wrong one.
    pub(crate) fn with_answers_of(mut self, bytes: RangeInclusive<usize>) -> Self {
        self.answers = bytes;
        self
    }
}

impl Load for Unary {
    fn on_event(&mut self, at: usize, event: Event<'_>, now: u64) -> Result<(), Failure> {
        let lane = &mut self.lanes[at];
        match event {
            Event::Data { stream, bytes } => {
                let flight = lane.flight(stream).ok_or(Failure::Wrong("data for nobody"))?;
                flight.answered += bytes.len();
            }
            Event::Ended { stream, outcome } => {
                let flight = lane.end(stream).ok_or(Failure::Wrong("an answer for nobody"))?;
                match outcome {
                    Outcome::Done if !self.answers.contains(&flight.answered) => {
                        return Err(Failure::Wrong("an answer of another size than it must have"));
                    }
                    Outcome::Done => self.record(flight.due, now),
                    Outcome::Refused { .. } | Outcome::Reset { .. } => {
                        let doing = self.requests.method.path();
                        return Err(Failure::Refused { doing, outcome });
                    }
                }
            }
        }
        Ok(())
    }

    fn on_settled(&mut self, at: usize, session: &mut Session, now: u64) {
        let lane = &mut self.lanes[at];
        while self.left > 0 && session.may_request(self.requests.any()) {
            let due = match self.form {
                Loop::Closed { in_flight } if lane.n_under_way < in_flight => now,
                Loop::Closed { .. } => return,
                Loop::Open { .. } => match lane.overdue.pop_front() {
                    Some(due) => due,
                    None => return,
                },
            };
            let stream = session.request(self.requests.method, self.requests.next());
            lane.begin(stream, due);
            self.left -= 1;
        }
    }
}

impl Measured for Unary {
    fn latency(&mut self) -> &mut Histogram {
        &mut self.latency
    }

    fn pace(&mut self, now: u64) -> Pace {
        let Loop::Open { per_second } = self.form else { return Pace::Answers };
        let every = 1_000_000_000 / per_second;
        let mut due = self.next_due.unwrap_or(now);
        while due <= now {
            let lane = &mut self.lanes[self.next_lane];
            assert!(lane.overdue.len() < OVERDUE_MAX, "no window is long enough for so many");
            lane.overdue.push_back(due);
            self.next_lane = (self.next_lane + 1) % self.lanes.len();
            due += every;
        }
        self.next_due = Some(due);
        Pace::Due(Duration::from_nanos(due - now).min(COME_BACK))
    }

    fn stop(&mut self) {
        self.left = 0;
    }

    fn is_idle(&self) -> bool {
        self.left == 0 && self.lanes.iter().all(|lane| lane.n_under_way == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_come_in_any_order() {
        let mut lane = Lane::default();
        for n in 0..4 {
            lane.begin(StreamId(1 + 2 * n), u64::from(n));
        }
        let mut end = |n| lane.end(StreamId(n)).map(|flight| flight.due);
        assert_eq!(end(3), Some(1));
        assert_eq!(end(3), None, "an answer counts once");
        assert_eq!(end(1), Some(0));
        assert_eq!(end(7), Some(3));
        assert_eq!(end(5), Some(2));
        assert_eq!(end(9), None, "nobody asked that");
        assert_eq!((lane.n_under_way, lane.flights.len()), (0, 0));
    }

    #[test]
    fn an_open_loop_counts_from_when_a_request_was_due() {
        let requests = crate::request::Requests::new(
            proto::Method::Put,
            &crate::request::put("put", crate::request::value(1)),
            crate::request::Order::random(10),
        );
        let mut load = Unary::new(requests, Loop::Open { per_second: 1000 }, 2);
        assert!(matches!(load.pace(0), Pace::Due(wait) if wait == COME_BACK));
        load.pace(3_500_000);
        assert_eq!(load.lanes[0].overdue, [0, 2_000_000]);
        assert_eq!(load.lanes[1].overdue, [1_000_000, 3_000_000]);
    }
}
