//! The Watch service: streams of watchers, between the hub's deliveries and the caller's room.
//!
//! The rules are `state::watch`'s. Here deliveries find their streams, and streams that read
//! history get their turns: a bounded number each turn of the port, one after the other.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::error::Status;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{ResponseHeader, WatchRequest};
use state::watch::{Delivery, Outbox, Pump, ShardId, Stream, StreamConfig, StreamId};

use super::port::{Handler, Port, Turn, decode};
use super::{Outlet, ReplyTo};

/// Steps into history all streams of a port may make in one turn.
const PUMPS_PER_TURN_MAX: usize = 64;

/// What a response may have beyond a request's bytes before it is cut, as in etcd.
const FRAGMENT_OVERHEAD: usize = 512 * 1024;

/// One stream of watchers.
pub(crate) struct WatchStream {
    id: StreamId,
    stream: Stream,
}

/// What a port knows of its watch streams together.
#[derive(Default)]
pub(crate) struct Watches {
    calls: BTreeMap<StreamId, ReplyTo>,
    next: u32,
    /// Streams that read history, in turns.
    behind: VecDeque<ReplyTo>,
    /// The last delivery that was passed on.
    processed: u64,
    /// When the next progress notifications are due.
    notify_ms: u64,
}

impl Watches {
    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }
}

/// A stream's way to its caller.
struct Out<'a> {
    outlet: &'a mut dyn Outlet,
    to: ReplyTo,
}

impl Outbox for Out<'_> {
    fn has_room(&mut self) -> bool {
        self.outlet.room(self.to) > 0
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        self.outlet.message(self.to, Bytes::from(pieces.concat()));
    }
}

pub(super) fn open(port: &mut Port, turn: &mut Turn<'_>, to: ReplyTo) -> WatchStream {
    let watches = &mut port.watches;
    while watches.calls.contains_key(&StreamId(watches.next)) {
        watches.next = watches.next.wrapping_add(1);
    }
    let id = StreamId(watches.next);
    watches.next = watches.next.wrapping_add(1);
    watches.calls.insert(id, to);
    turn.engine.metrics.watch_streams.inc();
    let config = StreamConfig {
        shard: ShardId(port.index),
        stream: id,
        fragment_size: turn.engine.limits.request_bytes_max + FRAGMENT_OVERHEAD,
    };
    WatchStream { id, stream: Stream::new(config, turn.state()) }
}

pub(super) fn message(
    port: &mut Port,
    turn: &mut Turn<'_>,
    to: ReplyTo,
    body: &Bytes,
) -> Result<(), Status> {
    let request: WatchRequest = decode(body)?;
    let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to) else { return Ok(()) };
    if let Some(RequestUnion::ProgressRequest(_)) = request.request_union {
        let header = turn.engine.header();
        let outlet = &mut *turn.outlet;
        watch.stream.processed(port.watches.processed, &header, &mut Out { outlet, to });
    }
    let (state, outlet) = turn.state_and_outlet();
    watch.stream.request(state, request, |_| Ok(()), &mut Out { outlet, to });
    wake(port, to);
    Ok(())
}

/// The caller is gone.
pub(super) fn close(port: &mut Port, turn: &mut Turn<'_>, mut watch: WatchStream) {
    port.watches.calls.remove(&watch.id);
    turn.engine.metrics.watch_streams.dec();
    watch.stream.close(turn.state());
}

/// Gives a stream its turn to read history.
pub(super) fn wake(port: &mut Port, to: ReplyTo) {
    port.watches.behind.push_back(to);
}

/// Lets streams that are behind catch up, a little.
pub(super) fn pump(port: &mut Port, turn: &mut Turn<'_>) {
    for _ in 0..PUMPS_PER_TURN_MAX {
        let Some(to) = port.watches.behind.pop_front() else { return };
        let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to) else { continue };
        let engine = turn.engine;
        let (state, outlet) = turn.state_and_outlet();
        let pumped = watch.stream.pump(state, &mut Out { outlet, to });
        match engine.or_die("watch", pumped) {
            // One that is full is woken when its caller has room again.
            Pump::Idle | Pump::Full => {}
            Pump::More => port.watches.behind.push_back(to),
        }
    }
}

/// Passes a batch of events on to the watchers they are for.
pub(super) fn deliver(port: &mut Port, turn: &mut Turn<'_>, delivery: &Delivery) {
    let header = turn.engine.header();
    for notice in &delivery.notices {
        for target in &notice.targets {
            for &token in target.tokens.iter() {
                let Some(&to) = port.watches.calls.get(&token.stream()) else { continue };
                let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to) else { continue };
                let outlet = &mut *turn.outlet;
                let mut out = Out { outlet, to };
                if !watch.stream.deliver(token, notice, target, &header, &mut out) {
                    watch.stream.detach(turn.state(), token, notice.revision);
                    port.watches.behind.push_back(to);
                }
            }
        }
    }
    processed(port, turn, delivery.sequence, &header);
}

fn processed(port: &mut Port, turn: &mut Turn<'_>, sequence: u64, header: &ResponseHeader) {
    port.watches.processed = sequence;
    for &to in port.watches.calls.values() {
        if let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to)
            && watch.stream.has_promises()
        {
            let outlet = &mut *turn.outlet;
            watch.stream.processed(sequence, header, &mut Out { outlet, to });
        }
    }
}

/// A delivery did not fit this port's inbox: all its watchers read from `revision` on instead.
pub(super) fn lost(port: &mut Port, turn: &mut Turn<'_>, sequence: u64, revision: i64) {
    port.watches.processed = sequence;
    for &to in port.watches.calls.values() {
        if let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to) {
            watch.stream.lost(turn.state(), sequence, revision);
            port.watches.behind.push_back(to);
        }
    }
}

/// Sends progress notifications when they are due.
pub(super) fn tick(port: &mut Port, turn: &mut Turn<'_>) {
    if turn.now_ms < port.watches.notify_ms {
        return;
    }
    let first = port.watches.notify_ms == 0;
    port.watches.notify_ms = turn.now_ms + turn.engine.limits.progress_notify_ms;
    if first {
        return;
    }
    let header = turn.engine.header();
    for &to in port.watches.calls.values() {
        if let Some(Handler::Watch(watch)) = port.handlers.get_mut(&to) {
            let (state, outlet) = turn.state_and_outlet();
            let mut out = Out { outlet, to };
            watch.stream.processed(port.watches.processed, &header, &mut out);
            watch.stream.tick(state, &mut out);
        }
    }
}
