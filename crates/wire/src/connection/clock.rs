//! Time, as the caller tells it: deadlines, keepalive, ping policing, and rest for the idle.
//!
//! # Invariants
//!
//! - Nothing here looks at a clock: `tick` brings the time, and it never runs backwards.
//! - A tick with nothing due costs a comparison.

use super::{Connection, Event, Phase};
use crate::frame::{self, ErrorCode, StreamId};
use crate::limits::Limits;

/// How often a connection is looked after, at most.
const ROUND_MS: u64 = 1000;

/// Strikes a client has: grpc-go's number.
const STRIKES_MAX: u32 = 2;

/// How far apart pings must be while no call is open: grpc-go's number.
const IDLE_PING_INTERVAL_MS: u64 = 2 * 60 * 60 * 1000;

/// What the ping of a keepalive carries.
const KEEPALIVE_PING: frame::PingData = *b"you live";

/// How a ping of the client is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// We sent something since the last one: clients measure the way with such pings.
    Forgiven,
    Counted,
    TooFast,
}

#[derive(Debug)]
pub(super) struct Clock {
    pub(super) now_ms: u64,
    born_ms: u64,
    next_round_ms: u64,
    /// No deadline is earlier than this.
    deadline_ms: u64,
    heard_ms: u64,
    pinged_ms: Option<u64>,
    drain_ms: u64,
    settings_acknowledged: bool,
    /// Whether anything came since the last round.
    busy: bool,
    last_ping_ms: Option<u64>,
    strikes: u32,
    /// Headers or data were sent since the client's last ping: the next is forgiven.
    forgiving: bool,
}

impl Clock {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            born_ms: now_ms,
            next_round_ms: now_ms + ROUND_MS,
            deadline_ms: u64::MAX,
            heard_ms: now_ms,
            pinged_ms: None,
            drain_ms: now_ms,
            settings_acknowledged: false,
            busy: true,
            last_ping_ms: None,
            strikes: 0,
            forgiving: false,
        }
    }

    pub(super) fn heard(&mut self) {
        self.heard_ms = self.now_ms;
        self.pinged_ms = None;
        self.busy = true;
    }

    /// Headers or data were sent.
    #[inline]
    pub(super) fn sent(&mut self) {
        self.forgiving = true;
    }

    /// True if they had not been before.
    pub(super) fn settings_acknowledged(&mut self) -> bool {
        !std::mem::replace(&mut self.settings_acknowledged, true)
    }

    pub(super) fn drain_began(&mut self) {
        self.drain_ms = self.now_ms;
    }

    /// When a call that begins now and may take `timeout_ms` must be done.
    pub(super) fn deadline(&mut self, timeout_ms: Option<u64>) -> u64 {
        let Some(timeout_ms) = timeout_ms else { return u64::MAX };
        let deadline_ms = self.now_ms.saturating_add(timeout_ms);
        self.deadline_ms = self.deadline_ms.min(deadline_ms);
        deadline_ms
    }

    /// Notes a ping of the client, as grpc-go's enforcement does.
    pub(super) fn on_ping(&mut self, limits: &Limits, no_streams: bool) -> Pace {
        let last_ms = self.last_ping_ms.replace(self.now_ms);
        if std::mem::take(&mut self.forgiving) {
            self.strikes = 0;
            return Pace::Forgiven;
        }
        let apart_ms = if no_streams { IDLE_PING_INTERVAL_MS } else { limits.ping_interval_min_ms };
        if last_ms.is_some_and(|last_ms| last_ms + apart_ms > self.now_ms) {
            self.strikes += 1;
        }
        if self.strikes > STRIKES_MAX { Pace::TooFast } else { Pace::Counted }
    }
}

impl Connection {
    /// Tells the time, which may stand still but not run backwards. To be called before `receive`
    /// (deadlines count from here) and about once a second besides.
    #[inline]
    pub fn tick(&mut self, now_ms: u64) {
        self.clock.now_ms = self.clock.now_ms.max(now_ms);
        if self.clock.now_ms >= self.clock.deadline_ms.min(self.clock.next_round_ms) {
            self.due();
        }
    }

    fn due(&mut self) {
        let now_ms = self.clock.now_ms;
        if now_ms >= self.clock.deadline_ms {
            self.expire(now_ms);
        }
        if now_ms >= self.clock.next_round_ms && self.phase != Phase::Closed {
            self.clock.next_round_ms = now_ms + ROUND_MS;
            self.budget.renew();
            self.look_after(now_ms);
            if !std::mem::replace(&mut self.clock.busy, false) {
                self.release();
            }
        }
    }

    /// Reports the calls whose time is up, each once.
    fn expire(&mut self, now_ms: u64) {
        for id in self.streams.ids(|stream| stream.deadline_ms <= now_ms) {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.deadline_ms = u64::MAX;
            if stream.announced {
                self.events.push_back(Event::DeadlineExceeded { stream: id });
            } else {
                self.reset(id, ErrorCode::Cancel);
            }
        }
        let deadlines = self.streams.iter_mut().map(|stream| stream.deadline_ms);
        self.clock.deadline_ms = deadlines.min().unwrap_or(u64::MAX);
    }

    fn look_after(&mut self, now_ms: u64) {
        let (clock, limits) = (&mut self.clock, &self.limits);
        match self.phase {
            Phase::Preface { .. } | Phase::Settings => {
                if now_ms >= clock.born_ms + limits.handshake_timeout_ms {
                    self.end(ErrorCode::SettingsTimeout, "");
                }
                return;
            }
            Phase::Draining if now_ms >= clock.drain_ms + limits.drain_grace_ms => {
                self.name_last_stream();
                return;
            }
            Phase::Open | Phase::Draining | Phase::Drained | Phase::Closed => {}
        }
        let handshake_over_ms = clock.born_ms + limits.handshake_timeout_ms;
        if !clock.settings_acknowledged && now_ms >= handshake_over_ms {
            return self.end(ErrorCode::SettingsTimeout, "settings_unacknowledged");
        }
        if let Some(pinged_ms) = clock.pinged_ms {
            if now_ms >= pinged_ms + limits.keepalive_timeout_ms {
                self.close();
            }
        } else if limits.keepalive_ms > 0 && now_ms >= clock.heard_ms + limits.keepalive_ms {
            clock.pinged_ms = Some(now_ms);
            frame::put_ping(self.output.buffer(), 0, KEEPALIVE_PING);
        }
    }

    /// Bytes the connection holds, give or take what its streams have in their outboxes.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.partial.capacity()
            + self.block.as_ref().map_or(0, |block| block.bytes.capacity())
            + self.buffered
            + self.decoder.memory()
            + self.memo.memory()
            + self.streams.memory()
            + self.output.memory()
            + self.events.capacity() * size_of::<Event>()
            + self.ready.capacity() * size_of::<StreamId>()
    }

    /// Gives back the buffers of a connection that has nothing to do.
    fn release(&mut self) {
        self.decoder.release();
        self.output.release();
        self.streams.release();
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.events.is_empty() {
            self.events = std::collections::VecDeque::new();
        }
        if self.ready.is_empty() {
            self.ready = std::collections::VecDeque::new();
        }
    }
}
