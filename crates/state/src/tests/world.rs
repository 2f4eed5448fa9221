//! A member's worth of state, with its log, its disk, and clients that watch.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::{RequestHeader, ResponseHeader, WatchRequest, WatchResponse};
use proto::prost::Message;
use proto::raft_request::{self, Body};
use storage::disk::Disk;
use storage::disk::simulated::SimulatedDisk;
use storage::revlog::{self, Hurry};

use crate::watch::{Delivery, Opening, Outbox, Pump, ShardId, Stream, StreamConfig, StreamId};
use crate::{Config, HashTurn, KvHash, Outcome, State, lease};

pub(super) const SHARD: ShardId = ShardId(0);

/// A response bigger than this is cut in fragments.
pub(super) const FRAGMENT_SIZE: usize = 200;

pub(super) fn config() -> Config {
    Config {
        cluster_id: 0xc1,
        member_id: 0xa1,
        quota_bytes: -1,
        lease: lease::Config {
            ttl_min: 2,
            checkpoint: true,
            checkpoint_persist: false,
            checkpoint_interval_ms: lease::CHECKPOINT_INTERVAL_MS,
        },
        learners_max: 1,
        store: revlog::Config { segment_size_max: 4_096, ledger_size_min: 1_024 },
    }
}

/// Messages a client has not read yet, with room for so many.
#[derive(Default)]
pub(super) struct Client {
    pub(super) messages: VecDeque<Bytes>,
    pub(super) room: Option<usize>,
}

impl Outbox for Client {
    fn has_room(&mut self) -> bool {
        self.room.is_none_or(|room| self.messages.len() < room)
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        self.messages.push_back(pieces.concat().into());
    }
}

pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) state: State,
    pub(super) config: Config,
    /// All that was ever applied: what a restart replays.
    log: Vec<Bytes>,
    pub(super) now_ms: u64,
    pub(super) streams: BTreeMap<StreamId, (Stream, Client)>,
    /// Deliveries on their way to the shard.
    pub(super) inbox: VecDeque<Delivery>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, config())
    }

    pub(super) fn with(seed: u64, config: Config) -> Self {
        let disk = SimulatedDisk::new(seed);
        let state = open(&disk, config);
        Self {
            disk,
            state,
            config,
            log: Vec::new(),
            now_ms: 0,
            streams: BTreeMap::new(),
            inbox: VecDeque::new(),
        }
    }

    /// Applies a request as the next entry; what it answers.
    pub(super) fn apply(&mut self, kind: Body, request: &impl Message) -> (Outcome, Vec<u8>) {
        self.apply_or_crash(kind, request).expect("a disk that works")
    }

    /// Applies and decodes the answer.
    pub(super) fn ask<R: Message + Default>(
        &mut self,
        kind: Body,
        request: &impl Message,
    ) -> Result<R, String> {
        let (outcome, out) = self.apply(kind, request);
        match outcome.result {
            Ok(()) => Ok(R::decode(out.as_slice()).expect("a response that can be decoded")),
            Err(status) => {
                assert!(out.is_empty(), "a refusal has no response");
                Err(status.message.into_owned())
            }
        }
    }

    pub(super) fn next_index(&mut self) -> u64 {
        self.log.push(Bytes::new());
        self.log.len() as u64
    }

    pub(super) fn checkpoint(&mut self) {
        self.state.checkpoint().commit(&mut Hurry).expect("a disk that works");
    }

    /// Applies as [`World::apply`] does; if the disk fails meanwhile, the power does. `None` then.
    pub(super) fn apply_or_crash(
        &mut self,
        kind: Body,
        request: &impl Message,
    ) -> Option<(Outcome, Vec<u8>)> {
        let header = RequestHeader { id: 7, ..RequestHeader::default() };
        let mut entry = BytesMut::new();
        raft_request::frame_message(kind, &header, request, &mut entry);
        self.log.push(entry.freeze());
        let mut out = Vec::new();
        let index = self.log.len() as u64;
        let entry = &self.log[index as usize - 1];
        let Ok(outcome) = self.state.apply(index, 1, entry, true, &mut out) else {
            self.crash();
            return None;
        };
        let deliveries = self.state.hub.take_deliveries();
        self.inbox.extend(deliveries.into_iter().map(|(_, delivery)| delivery));
        Some((outcome.expect("an entry that was not applied before"), out))
    }

    /// The power fails; the log's entries are applied again from the last checkpoint on.
    pub(super) fn crash(&mut self) {
        let disk = self.disk.crash();
        self.disk = disk;
        self.state = open(&self.disk, self.config);
        self.replay();
    }

    pub(super) fn replay(&mut self) {
        for (i, entry) in self.log.iter().enumerate() {
            let replayed = self.state.apply(i as u64 + 1, 1, entry, false, &mut Vec::new());
            replayed.expect("a disk that works");
        }
        self.state.hub.take_deliveries();
        self.streams.clear();
        self.inbox.clear();
    }

    pub(super) fn prune(&mut self) {
        while !self.state.is_pruned() {
            if let Some(job) = self.state.prune_turn() {
                let hash = job.run(&mut Hurry).expect("a disk that works");
                self.state.remember_hash(hash);
            }
        }
    }

    /// Collects one victim, if there is any. True if there was.
    pub(super) fn collect(&mut self) -> bool {
        let Some(victim) = self.state.victim(1) else { return false };
        let mut collected = victim.run(&mut Hurry).expect("a disk that works");
        self.state.adopt(&collected);
        loop {
            let moved = collected.next(3).expect("a disk that works");
            if moved.is_empty() {
                break;
            }
            self.state.relocate(&moved);
        }
        self.state.release(collected);
        true
    }

    pub(super) fn hash(&self, revision: i64) -> Result<KvHash, String> {
        let mut run = self.state.hash(revision);
        loop {
            match self.state.hash_turn(&mut run).map_err(|e| e.text().to_owned())? {
                HashTurn::More => {}
                HashTurn::Known(hash) => return Ok(hash),
                HashTurn::Job(job) => return Ok(job.run(&mut Hurry).expect("a disk that works")),
            }
        }
    }

    pub(super) fn stream(&mut self, id: u32) -> &mut (Stream, Client) {
        let id = StreamId(id);
        let config = StreamConfig { shard: SHARD, stream: id, fragment_size: FRAGMENT_SIZE };
        let state = &self.state;
        self.streams.entry(id).or_insert_with(|| (Stream::new(config, state), Client::default()))
    }

    pub(super) fn watch(&mut self, stream: u32, request: WatchRequest, permit: Result<(), String>) {
        self.stream(stream);
        let (stream, client) = self.streams.get_mut(&StreamId(stream)).expect("just made");
        stream.request(&self.state, request, |_| permit, client);
    }

    /// Processes the next delivery, as a shard does.
    pub(super) fn deliver(&mut self) -> bool {
        let Some(delivery) = self.inbox.pop_front() else { return false };
        let header = self.state.header();
        for notice in &delivery.notices {
            let mut opening = Opening::new(ResponseHeader { revision: notice.revision, ..header });
            for target in &notice.targets {
                for &token in target.tokens.iter() {
                    let Some((stream, client)) = self.streams.get_mut(&token.stream()) else {
                        continue;
                    };
                    if !stream.deliver(token, notice, target, &mut opening, client) {
                        stream.detach(&self.state, token, notice.revision);
                    }
                }
            }
        }
        for (stream, client) in self.streams.values_mut() {
            stream.processed(delivery.sequence, &header, client);
        }
        true
    }

    /// The next delivery doesn't fit the shard's inbox: it, and all that follow, are thrown away.
    pub(super) fn overflow(&mut self) {
        let Some(first) = self.inbox.front() else { return };
        let (sequence, revision) = (first.sequence, first.notices[0].revision);
        let last = self.inbox.back().expect("there is a first").sequence;
        self.state.hub.drop_shard(SHARD);
        self.inbox.clear();
        assert!(sequence <= last);
        for (stream, _) in self.streams.values_mut() {
            stream.lost(&self.state, last, revision);
        }
    }

    pub(super) fn pump(&mut self, stream: u32) -> Option<Pump> {
        let (stream, client) = self.streams.get_mut(&StreamId(stream))?;
        Some(stream.pump(&self.state, client).expect("a disk that works"))
    }

    /// Delivers and pumps until nothing is left to do that there is room for.
    pub(super) fn settle(&mut self) {
        while self.deliver() {}
        let ids: Vec<_> = self.streams.keys().map(|id| id.0).collect();
        for id in ids {
            while self.pump(id) == Some(Pump::More) {}
        }
    }

    /// What a client finds when it reads.
    pub(super) fn read(&mut self, stream: u32) -> Vec<WatchResponse> {
        let (_, client) = self.stream(stream);
        let decode = |message| WatchResponse::decode(message).expect("a response");
        client.messages.drain(..).map(decode).collect()
    }
}

pub(super) fn open(disk: &SimulatedDisk, config: Config) -> State {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    State::open(disk, Path::new("store"), config).expect("a store that can be opened")
}
