//! What watchers see, whatever comes in between: ordered, unique, whole, complete, with the right past.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};
use stdx::Generator;
use stdx::generate::each_seed_of;

use super::model::{Model, change, compact, contains, some_end, some_key};
use super::world::World;

const STREAMS: u32 = 3;

/// What a client knows of one of its watchers.
struct Tracked {
    create: WatchCreateRequest,
    /// The first revision it is owed.
    from: i64,
    seen: Vec<Event>,
    /// Fragments of a response that isn't whole yet.
    is_fragment: bool,
    last: i64,
    over: bool,
}

#[derive(Default)]
struct Client {
    /// Sent and not yet answered.
    creating: VecDeque<WatchCreateRequest>,
    watchers: BTreeMap<i64, Tracked>,
}

/// The changes that made `revision`, by key.
fn events_of(model: &Model, revision: i64) -> Vec<Event> {
    let (before, after) = (&model.maps[revision as usize - 1], &model.maps[revision as usize]);
    let mut events = Vec::new();
    for (key, old) in before {
        if !after.contains_key(key) {
            let kv = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
            let r#type = EventType::Delete as i32;
            events.push(Event { r#type, kv: Some(kv), prev_kv: Some(old.clone()) });
        }
    }
    for (key, new) in after {
        if new.mod_revision == revision {
            let prev_kv = before.get(key).filter(|_| new.create_revision != revision).cloned();
            events.push(Event { r#type: 0, kv: Some(new.clone()), prev_kv });
        }
    }
    events
}

impl Tracked {
    fn owed(&self, model: &Model, to: i64) -> Vec<Event> {
        let mut owed = Vec::new();
        for revision in self.from.max(2)..=to.min(model.head()) {
            let mut of_this = events_of(model, revision);
            of_this.retain(|e| {
                let key = &e.kv.as_ref().expect("a key").key;
                contains(&self.create.key, &self.create.range_end, key)
            });
            of_this.retain(|e| !self.create.filters.contains(&e.r#type));
            owed.extend(of_this);
        }
        owed
    }

    /// What was seen up to a revision is what is owed. Within a revision the order is the store's own.
    fn check(&self, model: &Model, to: i64) {
        let order = |e: &Event| {
            let kv = e.kv.as_ref().expect("a key");
            (kv.mod_revision, kv.key.clone())
        };
        let mut owed = self.owed(model, to);
        owed.sort_by_key(order);
        let mut seen: Vec<Event> = self.seen.iter().filter(|e| order(e).0 <= to).cloned().collect();
        let revisions: Vec<_> = seen.iter().map(|e| order(e).0).collect();
        assert!(revisions.is_sorted(), "out of order: {revisions:?}");
        seen.sort_by_key(order);
        assert_eq!(seen.len(), owed.len(), "{:?}: saw {seen:?}", self.create);
        for (seen, owed) in seen.iter().zip(&owed) {
            assert_eq!((seen.r#type, &seen.kv), (owed.r#type, &owed.kv));
            let (main, _) = order(owed);
            match (&seen.prev_kv, &owed.prev_kv) {
                (Some(seen), owed) => assert_eq!(Some(seen), owed.as_ref()),
                (None, None) => {}
                (None, Some(_)) => assert!(!self.create.prev_kv || main <= model.compacted),
            }
        }
    }
}

impl Client {
    fn read(&mut self, model: &Model, response: WatchResponse) {
        let revision = response.header.expect("a header").revision;
        if response.created {
            let create = self.creating.pop_front().expect("only what was asked for is created");
            if response.canceled {
                assert_eq!(response.watch_id, -1);
                return;
            }
            let from =
                if create.start_revision == 0 { revision + 1 } else { create.start_revision };
            let tracked = Tracked {
                create,
                from,
                seen: Vec::new(),
                is_fragment: false,
                last: 0,
                over: false,
            };
            let old = self.watchers.insert(response.watch_id, tracked);
            assert!(old.is_none_or(|old| old.over), "no id is given out twice");
            return;
        }
        if response.watch_id == -1 {
            for watcher in self.watchers.values().filter(|w| !w.over) {
                watcher.check(model, revision);
            }
            return;
        }
        let watcher =
            self.watchers.get_mut(&response.watch_id).expect("a watcher that was created");
        assert!(!watcher.over, "nothing follows a cancellation");
        if response.canceled {
            watcher.over = true;
            if response.compact_revision != 0 {
                assert!(watcher.last < response.compact_revision);
            }
            return;
        }
        if response.events.is_empty() {
            watcher.check(model, revision);
            return;
        }
        watcher.take(response);
    }
}

impl Tracked {
    fn take(&mut self, response: WatchResponse) {
        let first = response.events[0].kv.as_ref().expect("a key").mod_revision;
        if self.is_fragment {
            assert!(first >= self.last, "a fragment goes on where the one before ended");
        } else {
            assert!(first > self.last, "a revision comes in one response");
        }
        assert!(!response.fragment || self.create.fragment, "only those who asked get fragments");
        self.is_fragment = response.fragment;
        let last = response.events.last().expect("not empty");
        self.last = last.kv.as_ref().expect("a key").mod_revision;
        self.seen.extend(response.events);
    }
}

fn some_create(g: &mut Generator, model: &Model) -> WatchCreateRequest {
    let start_revision = if g.chance(50) { 0 } else { g.int(1..=model.head() as usize + 3) as i64 };
    WatchCreateRequest {
        key: some_key(g),
        range_end: some_end(g),
        start_revision,
        progress_notify: g.chance(30),
        filters: if g.chance(20) { vec![g.below(2) as i32] } else { Vec::new() },
        prev_kv: g.chance(40),
        watch_id: if g.chance(20) { g.below(4) as i64 } else { 0 },
        fragment: g.chance(30),
    }
}

fn read(world: &mut World, clients: &mut [Client], model: &Model) {
    for (id, client) in clients.iter_mut().enumerate() {
        for response in world.read(id as u32) {
            client.read(model, response);
        }
    }
}

fn act(g: &mut Generator, world: &mut World, clients: &mut [Client], model: &mut Model) {
    let id = g.below(u64::from(STREAMS)) as u32;
    let request = |union| WatchRequest { request_union: Some(union) };
    match g.below(24) {
        0..=2 => {
            let create = some_create(g, model);
            clients[id as usize].creating.push_back(create.clone());
            world.watch(id, request(RequestUnion::CreateRequest(create)), Ok(()));
        }
        3 => {
            let cancel = WatchCancelRequest { watch_id: g.below(4) as i64 };
            world.watch(id, request(RequestUnion::CancelRequest(cancel)), Ok(()));
        }
        4 => {
            let ask = WatchProgressRequest {};
            world.watch(id, request(RequestUnion::ProgressRequest(ask)), Ok(()));
        }
        5 => {
            world.stream(id);
            let id = crate::watch::StreamId(id);
            let (stream, client) = world.streams.get_mut(&id).expect("just made");
            stream.tick(&world.state, client);
        }
        6..=8 => drop(world.deliver()),
        9..=11 => drop(world.pump(id)),
        12 => {
            let room = g.chance(70).then(|| g.int(0..=2));
            world.stream(id).1.room = room;
        }
        13 if g.chance(20) => world.overflow(),
        14 => drop(compact(g, world, model)),
        15 => world.prune(),
        16 => {
            world.checkpoint();
            world.collect();
        }
        17 => read(world, clients, model),
        18 if g.chance(10) => world.state.mvcc.forget_recent(),
        _ => assert!(change(g, world, model)),
    }
}

#[test]
fn a_watcher_sees_each_change_once_in_order_and_whole() {
    each_seed_of(250, |g| {
        let mut world = World::new(g.number());
        let mut model = Model::new();
        let mut clients: Vec<_> = (0..STREAMS).map(|_| Client::default()).collect();
        for _ in 0..g.int(20..=150) {
            act(g, &mut world, &mut clients, &mut model);
        }
        // Everybody reads all there is: now nothing may be missing.
        for id in 0..STREAMS {
            world.stream(id).1.room = None;
        }
        world.settle();
        read(&mut world, &mut clients, &model);
        for client in &clients {
            assert!(client.creating.is_empty());
            for watcher in client.watchers.values().filter(|w| !w.over) {
                watcher.check(&model, model.head());
            }
        }
    });
}

#[test]
fn a_client_that_comes_and_goes_leaves_nothing_behind() {
    let mut world = World::new(1);
    let key = Bytes::from_static(b"a");
    for n in 0..100 {
        let create = WatchCreateRequest { key: key.clone(), ..WatchCreateRequest::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        world.watch(n, WatchRequest { request_union }, Ok(()));
        let (mut stream, _) = world.streams.remove(&crate::watch::StreamId(n)).expect("just made");
        stream.close(&world.state);
    }
    assert_eq!(world.state.hub.n_waiting(), 0, "joins and leaves have met");
    assert!(world.state.hub.is_idle());
}
