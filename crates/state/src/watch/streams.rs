//! All watch streams of one shard: which deliveries are whose, and who reads history when.
//!
//! A shard's thread hands in what its clients ask and what the hub has made for it, in order; the
//! server's ports and the simulator's do so alike. Streams that read history get their turns one after
//! the other, a bounded step each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};

use super::hub::{Delivery, Notice, Target};
use super::outbox::{Opening, Outbox};
use super::stream::{Pump, Stream, StreamConfig};
use super::{ShardId, StreamId, Token};
use crate::State;
use crate::fault::Fatal;

/// What the streams of a shard need around them. The state is asked for only where it is needed: to get
/// at it may mean to wait.
pub trait Shore {
    /// The way to the caller of a stream.
    type Outbox<'a>: Outbox
    where
        Self: 'a;

    fn state(&mut self) -> &State;

    /// A response header but for its revision.
    fn header(&self) -> ResponseHeader;

    fn outbox(&mut self, stream: StreamId) -> Self::Outbox<'_>;

    fn state_and_outbox(&mut self, stream: StreamId) -> (&State, Self::Outbox<'_>);
}

/// Who waits for a turn, in order: once each, however often it was woken.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<StreamId>,
    queued: BTreeSet<StreamId>,
}

impl Queue {
    fn push(&mut self, id: StreamId) {
        if self.queued.insert(id) {
            self.waiting.push_back(id);
        }
    }

    fn pop(&mut self) -> Option<StreamId> {
        let id = self.waiting.pop_front()?;
        self.queued.remove(&id);
        Some(id)
    }
}

/// How many watchers there are, and how many of them read history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub watchers: usize,
    pub behind: usize,
}

impl Census {
    /// Counts anew those of `stream`, with which `work` may do what it likes.
    fn follow<R>(&mut self, stream: &mut Stream, work: impl FnOnce(&mut Stream) -> R) -> R {
        let before = stream.census();
        let result = work(stream);
        let after = stream.census();
        self.watchers = self.watchers - before.watchers + after.watchers;
        self.behind = self.behind - before.behind + after.behind;
        result
    }
}

/// See the module.
pub struct Streams {
    shard: ShardId,
    fragment_size: usize,
    streams: BTreeMap<StreamId, Stream>,
    next: u32,
    /// Watchers of all streams.
    census: Census,
    /// Streams that read history, in turns.
    behind: Queue,
    /// The last delivery that was passed on.
    processed: u64,
}

impl Streams {
    /// From `fragment_size` on a response is cut in fragments, if the client asked for it.
    pub fn new(shard: ShardId, fragment_size: usize) -> Self {
        Self {
            shard,
            fragment_size,
            streams: BTreeMap::new(),
            next: 0,
            census: Census::default(),
            behind: Queue::default(),
            processed: 0,
        }
    }

    /// Begins a stream.
    pub fn open(&mut self, shore: &mut impl Shore) -> StreamId {
        while self.streams.contains_key(&StreamId(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let id = StreamId(self.next);
        self.next = self.next.wrapping_add(1);
        let (shard, fragment_size) = (self.shard, self.fragment_size);
        let config = StreamConfig { shard, stream: id, fragment_size };
        self.streams.insert(id, Stream::new(config, shore.state()));
        id
    }

    /// Ends a stream: its caller is gone.
    pub fn close(&mut self, id: StreamId, shore: &mut impl Shore) {
        if let Some(mut stream) = self.streams.remove(&id) {
            self.census.follow(&mut stream, |stream| stream.close(shore.state()));
        }
    }

    pub fn census(&self) -> Census {
        self.census
    }

    pub fn n_streams(&self) -> usize {
        self.streams.len()
    }

    /// See [`Stream::request`].
    pub fn request(
        &mut self,
        id: StreamId,
        request: WatchRequest,
        permit: impl FnOnce(&WatchCreateRequest) -> Result<(), String>,
        shore: &mut impl Shore,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(RequestUnion::ProgressRequest(_)) = request.request_union {
            stream.processed(self.processed, &shore.header(), &mut shore.outbox(id));
        }
        let (state, mut outbox) = shore.state_and_outbox(id);
        let work = |stream: &mut Stream| stream.request(state, request, permit, &mut outbox);
        self.census.follow(stream, work);
        self.wake(id);
    }

    /// Gives a stream a turn to read history: it may have something to read, or room again.
    pub fn wake(&mut self, id: StreamId) {
        self.behind.push(id);
    }

    /// Whether another turn of [`Streams::pump`] has something to do.
    pub fn is_behind(&self) -> bool {
        !self.behind.waiting.is_empty()
    }

    /// Lets streams that are behind catch up, by so many steps of all of them together.
    pub fn pump(&mut self, steps_max: usize, shore: &mut impl Shore) -> Result<(), Fatal> {
        for _ in 0..steps_max {
            let Some(id) = self.behind.pop() else { return Ok(()) };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let (state, mut outbox) = shore.state_and_outbox(id);
            match self.census.follow(stream, |stream| stream.pump(state, &mut outbox))? {
                // One that is full is woken when its caller has room again.
                Pump::Idle | Pump::Full => {}
                Pump::More => self.behind.push(id),
            }
        }
        Ok(())
    }

    /// Passes a batch of events on to the watchers they are for.
    pub fn deliver(&mut self, delivery: &Delivery, shore: &mut impl Shore) {
        let header = shore.header();
        for notice in &delivery.notices {
            let mut opening = Opening::new(ResponseHeader { revision: notice.revision, ..header });
            for target in &notice.targets {
                for tokens in target.tokens.chunk_by(|a, b| a.stream() == b.stream()) {
                    self.deliver_to_stream(tokens, notice, target, &mut opening, shore);
                }
            }
        }
        self.processed = delivery.sequence;
        for (&id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.has_promises()) {
            stream.processed(delivery.sequence, &header, &mut shore.outbox(id));
        }
    }

    /// Passes a notice on to watchers of one stream.
    fn deliver_to_stream(
        &mut self,
        tokens: &[Token],
        notice: &Notice,
        target: &Target,
        opening: &mut Opening,
        shore: &mut impl Shore,
    ) {
        let id = tokens[0].stream();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut rest = tokens.iter();
        loop {
            let mut outbox = shore.outbox(id);
            let refused =
                rest.find(|&&token| !stream.deliver(token, notice, target, opening, &mut outbox));
            drop(outbox);
            let Some(&token) = refused else { return };
            let work = |stream: &mut Stream| stream.detach(shore.state(), token, notice.revision);
            self.census.follow(stream, work);
            self.behind.push(id);
        }
    }

    /// The delivery `sequence` was thrown away: all watchers read from `revision` on instead.
    pub fn lost(&mut self, sequence: u64, revision: i64, shore: &mut impl Shore) {
        self.processed = sequence;
        for (&id, stream) in &mut self.streams {
            let work = |stream: &mut Stream| stream.lost(shore.state(), sequence, revision);
            self.census.follow(stream, work);
            self.behind.push(id);
        }
    }

    /// The time between two progress notifications is over.
    pub fn tick(&mut self, shore: &mut impl Shore) {
        let header = shore.header();
        for (&id, stream) in &mut self.streams {
            let (state, mut outbox) = shore.state_and_outbox(id);
            stream.processed(self.processed, &header, &mut outbox);
            stream.tick(state, &mut outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_woken_often_waits_for_one_turn() {
        let mut queue = Queue::default();
        for id in [1, 2, 1, 1, 2] {
            queue.push(StreamId(id));
        }
        assert_eq!(queue.pop(), Some(StreamId(1)));
        queue.push(StreamId(1));
        assert_eq!(queue.pop(), Some(StreamId(2)));
        assert_eq!(queue.pop(), Some(StreamId(1)));
        assert_eq!(queue.pop(), None);
    }
}
