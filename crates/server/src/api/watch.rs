//! The Watch service: how deliveries and calls get to the streams of a port, and messages to callers.
//!
//! The rules are `state::watch`'s, and so is which stream has its turn when.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use proto::error::Status;
use proto::etcdserverpb::{ResponseHeader, WatchRequest};
use state::State;
use state::watch::{Census, Delivery, Outbox, ShardId, Shore, StreamId, Streams};

use super::port::{Handler, Port, Turn, decode};
use super::served::{Sent, nanos};
use super::{Outlet, ReplyTo};
use crate::engine::Engine;

/// Steps into history all streams of a port may make in one turn.
const PUMPS_PER_TURN_MAX: usize = 64;

/// What a response may have beyond a request's bytes before it is cut, as in etcd.
const FRAGMENT_OVERHEAD: usize = 512 * 1024;

/// A port's watch streams.
pub(crate) struct Watches {
    streams: Streams,
    calls: BTreeMap<StreamId, ReplyTo>,
    /// The watchers that the metrics show.
    shown: Census,
    /// When the next progress notifications are due.
    notify_ms: u64,
}

impl Watches {
    pub(crate) fn new(engine: &Engine, port: u16) -> Self {
        let fragment_size = engine.limits.request_bytes_max + FRAGMENT_OVERHEAD;
        let streams = Streams::new(ShardId(port), fragment_size);
        Self { streams, calls: BTreeMap::new(), shown: Census::default(), notify_ms: 0 }
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.streams.is_behind()
    }

    /// Has the metrics show how many watchers there are.
    fn show(&mut self, engine: &Engine) {
        let now = self.streams.census();
        let before = std::mem::replace(&mut self.shown, now);
        if now != before {
            let more = |now: usize, before: usize| now as i64 - before as i64;
            engine.metrics.watchers.add(more(now.watchers, before.watchers));
            engine.metrics.slow_watchers.add(more(now.behind, before.behind));
        }
    }
}

/// A stream's way to its caller.
struct Out<'a> {
    outlet: &'a mut dyn Outlet,
    to: ReplyTo,
    sent: &'a mut Sent,
}

impl Outbox for Out<'_> {
    fn has_room(&mut self) -> bool {
        self.outlet.room(self.to) > 0
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        // What follows the first piece are events.
        match pieces.len() as u64 - 1 {
            0 => self.sent.replies += 1,
            n_events => {
                self.sent.messages += 1;
                self.sent.events += n_events;
            }
        }
        self.outlet.pieces(self.to, pieces);
    }
}

/// What a turn of the port lets streams do.
struct Ashore<'a, 't> {
    turn: &'a mut Turn<'t>,
    calls: &'a BTreeMap<StreamId, ReplyTo>,
}

impl Shore for Ashore<'_, '_> {
    type Outbox<'a>
        = Out<'a>
    where
        Self: 'a;

    fn state(&mut self) -> &State {
        self.turn.state()
    }

    fn header(&self) -> ResponseHeader {
        self.turn.engine.header()
    }

    fn outbox(&mut self, stream: StreamId) -> Out<'_> {
        let turn = &mut *self.turn;
        Out { outlet: &mut *turn.outlet, to: self.calls[&stream], sent: &mut turn.served.sent }
    }

    fn state_and_outbox(&mut self, stream: StreamId) -> (&State, Out<'_>) {
        let (state, outlet, sent) = self.turn.state_and_watch();
        (state, Out { outlet, to: self.calls[&stream], sent })
    }
}

/// The streams, and what they may do in this turn.
fn at_work<'a, 't>(
    port: &'a mut Port,
    turn: &'a mut Turn<'t>,
) -> (&'a mut Streams, Ashore<'a, 't>) {
    let Watches { streams, calls, .. } = &mut port.watches;
    (streams, Ashore { turn, calls })
}

pub(super) fn open(port: &mut Port, turn: &mut Turn<'_>, to: ReplyTo) -> StreamId {
    turn.engine.metrics.watch_streams.inc();
    let (streams, mut ashore) = at_work(port, turn);
    let id = streams.open(&mut ashore);
    port.watches.calls.insert(id, to);
    id
}

pub(super) fn message(
    port: &mut Port,
    turn: &mut Turn<'_>,
    to: ReplyTo,
    body: &Bytes,
) -> Result<(), Status> {
    let request: WatchRequest = decode(body)?;
    let Some(&Handler::Watch(id)) = port.handlers.get(&to) else { return Ok(()) };
    let (streams, mut ashore) = at_work(port, turn);
    streams.request(id, request, |_| Ok(()), &mut ashore);
    Ok(())
}

/// The caller is gone.
pub(super) fn close(port: &mut Port, turn: &mut Turn<'_>, id: StreamId) {
    turn.engine.metrics.watch_streams.dec();
    let (streams, mut ashore) = at_work(port, turn);
    streams.close(id, &mut ashore);
    port.watches.calls.remove(&id);
}

/// Gives a stream its turn to read history.
pub(super) fn wake(port: &mut Port, id: StreamId) {
    port.watches.streams.wake(id);
}

/// Lets streams that are behind catch up, a little.
pub(super) fn pump(port: &mut Port, turn: &mut Turn<'_>) {
    let engine = turn.engine;
    let (streams, mut ashore) = at_work(port, turn);
    engine.or_die("watch", streams.pump(PUMPS_PER_TURN_MAX, &mut ashore));
    port.watches.show(engine);
}

/// Passes a batch of events on to the watchers they are for.
pub(super) fn deliver(port: &mut Port, turn: &mut Turn<'_>, delivery: &Delivery) {
    let (streams, mut ashore) = at_work(port, turn);
    streams.deliver(delivery, &mut ashore);
}

/// A delivery did not fit this port's inbox: all its watchers read from `revision` on instead.
pub(super) fn lost(port: &mut Port, turn: &mut Turn<'_>, sequence: u64, revision: i64) {
    let (streams, mut ashore) = at_work(port, turn);
    streams.lost(sequence, revision, &mut ashore);
}

/// Sends progress notifications when they are due.
pub(super) fn tick(port: &mut Port, turn: &mut Turn<'_>) {
    if turn.now_ms < port.watches.notify_ms {
        return;
    }
    let first = port.watches.notify_ms == 0;
    port.watches.notify_ms = turn.now_ms + turn.engine.limits.progress_notify_ms;
    if !first {
        let (began, replies) = (Instant::now(), turn.served.sent.replies);
        let (streams, mut ashore) = at_work(port, turn);
        streams.tick(&mut ashore);
        let n_streams = streams.n_streams() as u64;
        turn.served.sent.replies = replies;
        if let Some(each) = nanos(began.elapsed()).checked_div(n_streams) {
            turn.engine.metrics.watch_progress.observe_many(each, n_streams);
        }
    }
}
