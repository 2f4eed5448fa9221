//! One writer, many watchers of one key: how fast all of them hear of a put.
//!
//! The writer has a connection of its own and two puts whose news is under way: as soon as every
//! watcher has heard of one, it sends the next. Latency is from the sending of the put to the
//! arrival of each event; what is counted is events.
//!
//! # Invariants
//!
//! - Every watcher hears of every put, once.   (counted; the next put waits for it)

use std::collections::VecDeque;

use proto::Method;
use proto::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
};
use proto::prost::Message;

use super::messages::{Fields, Messages};
use crate::failure::Failure;
use crate::fleet::{Fleet, Load};
use crate::histogram::Histogram;
use crate::http2::{Event, Outcome, Session};
use crate::machine::Clock;
use crate::measure::{Measured, Pace, SETUP_MAX};
use crate::request::{Numbered, fixed_key, number_of, numbered_value};

/// Puts whose news is under way.
const PUTS_UNDER_WAY: usize = 2;

const VALUE_SIZE: usize = 256;

// Field numbers on the way from an answer to the value of its events.
const WATCH_RESPONSE_EVENTS: u64 = 11;
const EVENT_KV: u64 = 2;
const KEY_VALUE_VALUE: u64 = 5;

/// One connection's stream of watchers.
struct Lane {
    is_open: bool,
    /// Watchers still to be made, and those whose making is still to be confirmed.
    n_unasked: usize,
    answers: Messages,
}

/// A put of which some watchers have yet to hear.
struct News {
    sent: u64,
    n_unheard: usize,
}

pub(crate) struct Watch {
    /// The watchers' connections; the writer's comes after them.
    lanes: Vec<Lane>,
    create: Vec<u8>,
    put: Numbered,
    n_watchers: usize,
    n_uncreated: usize,
    /// The puts under way, of which the first has this number.
    first: u64,
    news: VecDeque<News>,
    latency: Histogram,
    is_stopped: bool,
}

impl Watch {
    /// Makes the watchers; the fleet has one connection more than is said here.
    pub(crate) fn prepare(
        fleet: &mut Fleet,
        n_connections: usize,
        watchers_each: usize,
    ) -> Result<Self, Failure> {
        assert_eq!(fleet.n_links(), n_connections + 1, "the writer has one of its own");
        let key = fixed_key("watch");
        let put = PutRequest {
            key: key.clone(),
            value: numbered_value(VALUE_SIZE),
            ..Default::default()
        };
        let create = WatchCreateRequest { key, ..Default::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let lane =
            || Lane { is_open: false, n_unasked: watchers_each, answers: Messages::default() };
        let n_watchers = n_connections * watchers_each;
        let mut watch = Self {
            lanes: (0..n_connections).map(|_| lane()).collect(),
            create: create.encode_to_vec(),
            put: Numbered::new(&put),
            n_watchers,
            n_uncreated: n_watchers,
            first: 0,
            news: VecDeque::new(),
            latency: Histogram::new(),
            is_stopped: false,
        };
        let clock = Clock::start();
        fleet.prompt_all(&mut watch)?;
        while watch.n_uncreated > 0 {
            if clock.now() > SETUP_MAX.as_nanos() as u64 {
                return Err(Failure::TooLate { doing: "creating watchers" });
            }
            fleet.turn(SETUP_MAX, &mut watch)?;
        }
        Ok(watch)
    }

    /// An answer confirms a watcher, or brings events.
    fn on_answer(&mut self, message: &[u8], now: u64) -> Result<(), Failure> {
        if self.n_uncreated > 0 {
            self.n_uncreated -= 1;
            return Ok(());
        }
        let mut fields = Fields(message).filter(|(number, _)| *number == WATCH_RESPONSE_EVENTS);
        fields.try_for_each(|(_, event)| self.on_news(event, now))
    }

    fn on_news(&mut self, event: &[u8], now: u64) -> Result<(), Failure> {
        let field = |bytes, number| Fields(bytes).find(|field| field.0 == number).map(|f| f.1);
        let number = field(event, EVENT_KV)
            .and_then(|kv| field(kv, KEY_VALUE_VALUE))
            .and_then(number_of)
            .ok_or(Failure::Wrong("an event without its number"))?;
        let news = number.checked_sub(self.first).and_then(|at| self.news.get_mut(at as usize));
        let news = news.ok_or(Failure::Wrong("news nobody sent, or old news"))?;
        news.n_unheard -= 1;
        self.latency.record(now.saturating_sub(news.sent));
        while self.news.front().is_some_and(|news| news.n_unheard == 0) {
            self.news.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    fn write(&mut self, session: &mut Session, now: u64) {
        while self.n_uncreated == 0 && !self.is_stopped && self.news.len() < PUTS_UNDER_WAY {
            let message = self.put.stamp(self.first + self.news.len() as u64);
            if !session.may_request(message) {
                return;
            }
            session.request(Method::Put, message);
            self.news.push_back(News { sent: now, n_unheard: self.n_watchers });
        }
    }
}

impl Load for Watch {
    fn on_event(&mut self, at: usize, event: Event<'_>, now: u64) -> Result<(), Failure> {
        match event {
            Event::Data { .. } if at == self.lanes.len() => Ok(()), // The writer's answers.
            Event::Ended { outcome: Outcome::Done, .. } if at == self.lanes.len() => Ok(()),
            Event::Ended { outcome, .. } => Err(Failure::Refused { doing: "watching", outcome }),
            Event::Data { bytes, .. } => {
                let mut answers = std::mem::take(&mut self.lanes[at].answers);
                let fed = answers.feed(bytes, |message| self.on_answer(message, now));
                self.lanes[at].answers = answers;
                fed
            }
        }
    }

    fn on_settled(&mut self, at: usize, session: &mut Session, now: u64) {
        let Some(lane) = self.lanes.get_mut(at) else { return self.write(session, now) };
        if !lane.is_open {
            session.open(Method::Watch);
            lane.is_open = true;
        }
        while lane.n_unasked > 0 && session.may_send(&self.create) {
            session.send(&self.create);
            lane.n_unasked -= 1;
        }
    }
}

impl Measured for Watch {
    fn latency(&mut self) -> &mut Histogram {
        &mut self.latency
    }

    fn pace(&mut self, _: u64) -> Pace {
        let may_write = !self.is_stopped && self.news.len() < PUTS_UNDER_WAY;
        if may_write { Pace::Ask(self.lanes.len()) } else { Pace::Answers }
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn is_idle(&self) -> bool {
        self.news.is_empty()
    }
}
