//! The threads of connections, as far as they have watchers: each a shard of streams.
//!
//! A stream's messages wait until its client reads them, and there is not much room: so watchers fall
//! behind and catch up, and a shard that does not keep up with its deliveries loses them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::etcdserverpb::{ResponseHeader, WatchRequest};
use state::State;
use state::watch::{Delivery, Outbox, ShardId, Shore, StreamId, Streams};

use super::applying::ApplyWork;
use super::{Alive, Process, Step, Surroundings};

/// Threads that have connections.
pub(crate) const SHARDS: usize = 2;
/// Deliveries a shard may have waiting before they are thrown away.
const DELIVERIES_MAX: usize = 4;
/// Messages a client may leave unread before its watchers fall behind.
const MESSAGES_MAX: usize = 3;
/// Bytes from which a response is cut in fragments.
const FRAGMENT_SIZE: usize = 300;
/// Steps into history in one turn.
const PUMPS_PER_TURN: usize = 2;
/// Between two progress notifications, in microseconds.
const PROGRESS_INTERVAL: u64 = 700_000;

/// What a shard is given by other threads.
enum ShardWork {
    Delivery(Delivery),
    Lost { sequence: u64, revision: i64 },
}

pub(super) struct Shard {
    streams: Streams,
    unread: BTreeMap<StreamId, VecDeque<Bytes>>,
    inbox: VecDeque<ShardWork>,
    turning: bool,
}

impl Shard {
    fn new(n: usize) -> Self {
        Self {
            streams: Streams::new(ShardId(n as u16), FRAGMENT_SIZE),
            unread: BTreeMap::new(),
            inbox: VecDeque::new(),
            turning: false,
        }
    }
}

pub(super) fn shards() -> [Shard; SHARDS] {
    std::array::from_fn(Shard::new)
}

/// One client's unread messages.
struct Unread<'a>(&'a mut VecDeque<Bytes>);

impl Outbox for Unread<'_> {
    fn has_room(&mut self) -> bool {
        self.0.len() < MESSAGES_MAX
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        self.0.push_back(pieces.concat().into());
    }
}

struct Ashore<'a> {
    state: &'a State,
    unread: &'a mut BTreeMap<StreamId, VecDeque<Bytes>>,
}

impl Shore for Ashore<'_> {
    type Outbox<'a>
        = Unread<'a>
    where
        Self: 'a;

    fn state(&mut self) -> &State {
        self.state
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader { revision: 0, ..self.state.header() }
    }

    fn outbox(&mut self, stream: StreamId) -> Unread<'_> {
        Unread(self.unread.entry(stream).or_default())
    }

    fn state_and_outbox(&mut self, stream: StreamId) -> (&State, Unread<'_>) {
        (self.state, Unread(self.unread.entry(stream).or_default()))
    }
}

impl Process {
    fn at_work(&mut self, shard: usize) -> (&mut Streams, Ashore<'_>) {
        let Shard { streams, unread, .. } = &mut self.shards[shard];
        (streams, Ashore { state: &self.state, unread })
    }

    /// A client begins a stream.
    pub(crate) fn open_stream(&mut self, shard: usize) -> StreamId {
        let (streams, mut ashore) = self.at_work(shard);
        streams.open(&mut ashore)
    }

    pub(crate) fn close_stream(&mut self, shard: usize, stream: StreamId) {
        let (streams, mut ashore) = self.at_work(shard);
        streams.close(stream, &mut ashore);
        self.shards[shard].unread.remove(&stream);
    }

    pub(crate) fn watch(
        &mut self,
        (shard, stream): (usize, StreamId),
        request: WatchRequest,
        around: &mut Surroundings<'_>,
    ) {
        let (streams, mut ashore) = self.at_work(shard);
        streams.request(stream, request, |_| Ok(()), &mut ashore);
        self.wake_shard(shard, around);
    }

    /// What a client finds when it reads up to `max` messages.
    pub(crate) fn read_stream(
        &mut self,
        (shard, stream): (usize, StreamId),
        max: usize,
        around: &mut Surroundings<'_>,
    ) -> Vec<Bytes> {
        let Shard { streams, unread, .. } = &mut self.shards[shard];
        let unread = unread.entry(stream).or_default();
        let read: Vec<Bytes> = unread.drain(..max.min(unread.len())).collect();
        if !read.is_empty() {
            streams.wake(stream);
            self.wake_shard(shard, around);
        }
        read
    }

    pub(super) fn wake_shard(&mut self, shard: usize, around: &mut Surroundings<'_>) {
        if !self.shards[shard].turning {
            self.shards[shard].turning = true;
            around.after(20, 6_000, Step::Shard(shard));
        }
    }

    pub(super) fn shard_turn(&mut self, shard: usize, around: &mut Surroundings<'_>) -> Alive {
        self.shards[shard].turning = false;
        for work in std::mem::take(&mut self.shards[shard].inbox) {
            let (streams, mut ashore) = self.at_work(shard);
            match work {
                ShardWork::Delivery(delivery) => streams.deliver(&delivery, &mut ashore),
                ShardWork::Lost { sequence, revision } => {
                    streams.lost(sequence, revision, &mut ashore);
                }
            }
        }
        let (streams, mut ashore) = self.at_work(shard);
        streams.pump(PUMPS_PER_TURN, &mut ashore)?;
        if streams.is_behind() {
            self.wake_shard(shard, around);
        }
        Ok(())
    }

    /// The time between two progress notifications is over.
    pub(super) fn notify_progress(&mut self, shard: usize, around: &mut Surroundings<'_>) {
        let (streams, mut ashore) = self.at_work(shard);
        streams.tick(&mut ashore);
        around.after(PROGRESS_INTERVAL, PROGRESS_INTERVAL + 1_000, Step::Progress(shard));
    }

    /// What a batch has made is handed over once the state is let go.
    pub(super) fn take_deliveries(&mut self) {
        let deliveries = self.state.hub.take_deliveries();
        if !deliveries.is_empty() {
            self.apply.push_front(ApplyWork::Deliver(deliveries));
        }
    }

    pub(super) fn hand_over(
        &mut self,
        deliveries: Vec<(ShardId, Delivery)>,
        around: &mut Surroundings<'_>,
    ) {
        for (ShardId(n), delivery) in deliveries {
            let shard = usize::from(n);
            let work = if self.shards[shard].inbox.len() < DELIVERIES_MAX {
                ShardWork::Delivery(delivery)
            } else {
                self.state.hub.drop_shard(ShardId(n));
                let revision = delivery.first_revision();
                ShardWork::Lost { sequence: delivery.sequence, revision }
            };
            self.shards[shard].inbox.push_back(work);
            self.wake_shard(shard, around);
        }
    }

    /// Deliveries that never come: the state was replaced.
    pub(super) fn lose(&mut self, lost: Vec<(ShardId, u64, i64)>, around: &mut Surroundings<'_>) {
        for (ShardId(n), sequence, revision) in lost {
            let shard = usize::from(n);
            self.shards[shard].inbox.push_back(ShardWork::Lost { sequence, revision });
            self.wake_shard(shard, around);
        }
    }
}
