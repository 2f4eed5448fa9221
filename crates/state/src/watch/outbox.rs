//! Where a stream's messages go, and how they look.

use proto::etcdserverpb::ResponseHeader;

use crate::encode;

/// What a stream needs of its transport.
pub trait Outbox {
    /// Whether another message may be queued. A message that is one of several may be sent regardless,
    /// so what waits is bounded by the transport's bound and one turn's messages.
    fn has_room(&mut self) -> bool;

    /// Queues one message, given in pieces to be copied one after the other.
    fn send(&mut self, pieces: &[&[u8]]);
}

/// The bytes that a response without a reason takes before its events, or a few more.
const HEAD: usize = 48;

/// The field of a `WatchResponse`.
const WATCH_ID: u32 = 2;

/// A `WatchResponse` but for its events.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) header: ResponseHeader,
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    pub(super) fragment: bool,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD);
        encode::header(&mut out, &self.header);
        encode::signed(&mut out, WATCH_ID, self.watch_id);
        encode::flag(&mut out, 3, self.created);
        encode::flag(&mut out, 4, self.canceled);
        encode::signed(&mut out, 5, self.compact_revision);
        encode::bytes(&mut out, 6, self.cancel_reason.as_bytes());
        encode::flag(&mut out, 7, self.fragment);
        out
    }

    pub(super) fn send(&self, out: &mut impl Outbox) {
        out.send(&[&self.encode()]);
    }
}

/// What the responses of one revision begin with: all with the same header, each with its watcher's id.
#[derive(Debug)]
pub struct Opening {
    pub(super) header: ResponseHeader,
    /// The header, and the id of the last watcher that was asked for.
    bytes: Vec<u8>,
    header_len: usize,
}

impl Opening {
    pub fn new(header: ResponseHeader) -> Self {
        let mut bytes = Vec::with_capacity(HEAD);
        encode::header(&mut bytes, &header);
        Self { header, header_len: bytes.len(), bytes }
    }

    /// What a response to this watcher begins with.
    fn of(&mut self, watch_id: i64) -> &[u8] {
        self.bytes.truncate(self.header_len);
        encode::signed(&mut self.bytes, WATCH_ID, watch_id);
        &self.bytes
    }
}

/// Sends a single event: the same bytes for every watcher but for its id.
pub(super) fn send_event(
    opening: &mut Opening,
    watch_id: i64,
    event: &[u8],
    out: &mut impl Outbox,
) {
    out.send(&[opening.of(watch_id), event]);
}

/// Sends events in one message, or, if that would be `size_max` bytes or more and the client can put
/// them together again, in several.
pub(super) fn send_events(
    head: &Head,
    events: &[&[u8]],
    size_max: Option<usize>,
    out: &mut impl Outbox,
) {
    let whole = head.encode();
    let total = whole.len() + events.iter().map(|event| event.len()).sum::<usize>();
    let Some(size_max) = size_max.filter(|&max| total >= max && events.len() > 1) else {
        return send_message(&whole, events, out);
    };
    let part = Head { fragment: true, ..head.clone() }.encode();
    let mut rest = events;
    while !rest.is_empty() {
        let n = fitting(rest, size_max.saturating_sub(part.len()));
        let (now, later) = rest.split_at(n);
        send_message(if later.is_empty() { &whole } else { &part }, now, out);
        rest = later;
    }
}

/// How many of `events` stay below `size` together; one in any case.
fn fitting(events: &[&[u8]], size: usize) -> usize {
    let mut total = 0;
    let fits = |event: &&&[u8]| {
        total += event.len();
        total < size
    };
    events.iter().take_while(fits).count().max(1)
}

fn send_message(head: &[u8], events: &[&[u8]], out: &mut impl Outbox) {
    if let [event] = events {
        return out.send(&[head, event]);
    }
    let mut pieces = Vec::with_capacity(1 + events.len());
    pieces.push(head);
    pieces.extend_from_slice(events);
    out.send(&pieces);
}
