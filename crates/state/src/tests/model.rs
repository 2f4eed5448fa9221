//! A store that is obviously right: a whole map per revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use proto::raft_request::Body;
use stdx::Generator;
use stdx::generate::each_seed_of;
use storage::revlog::Hurry;

use super::world::World;
use crate::{AtOnce, LongRead, Stop, Turn};

pub(super) type Map = BTreeMap<Bytes, KeyValue>;

/// All there ever was.
pub(super) struct Model {
    /// By revision, from 0.
    pub(super) maps: Vec<Map>,
    pub(super) compacted: i64,
    pub(super) leases: BTreeSet<i64>,
    /// Whether a txn may write a key twice. Only by way of an open end can it get so far, but the store
    /// has to stand it.
    doubles: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self { maps: vec![Map::new(); 2], compacted: -1, leases: BTreeSet::new(), doubles: false }
    }

    pub(super) fn head(&self) -> i64 {
        self.maps.len() as i64 - 1
    }

    fn commit(&mut self, map: Map, changed: bool) {
        if changed {
            self.maps.push(map);
        }
    }

    fn now(&self) -> Map {
        self.maps.last().expect("there is a first").clone()
    }
}

fn put(map: &mut Map, request: &PutRequest, main: i64) {
    let old = map.get(&request.key);
    let kv = KeyValue {
        key: request.key.clone(),
        create_revision: old.map_or(main, |old| old.create_revision),
        mod_revision: main,
        version: old.map_or(1, |old| old.version + 1),
        value: request.value.clone(),
        lease: request.lease,
    };
    map.insert(request.key.clone(), kv);
}

pub(super) fn contains(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => key <= candidate,
        end => key <= candidate && candidate < end,
    }
}

fn delete(map: &mut Map, request: &DeleteRangeRequest) -> bool {
    let before = map.len();
    map.retain(|key, _| !contains(&request.key, &request.range_end, key));
    map.len() < before
}

pub(super) fn some_key(g: &mut Generator) -> Bytes {
    vec![b'a' + g.below(3) as u8; g.int(1..=2)].into()
}

pub(super) fn some_end(g: &mut Generator) -> Bytes {
    match g.below(4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => some_key(g),
    }
}

fn some_put(g: &mut Generator, model: &Model) -> PutRequest {
    let leases: Vec<_> = model.leases.iter().copied().collect();
    let lease = if g.chance(30) && !leases.is_empty() { *g.pick(&leases) } else { 0 };
    PutRequest { key: some_key(g), value: g.bytes(0..300).into(), lease, ..PutRequest::default() }
}

fn some_txn(g: &mut Generator, model: &Model) -> TxnRequest {
    let mut txn = TxnRequest::default();
    let mut touched: Vec<(Bytes, Bytes)> = Vec::new();
    for _ in 0..g.int(1..=4) {
        let (key, range_end) = (some_key(g), some_end(g));
        let is_put = g.chance(70);
        let covers = |(start, end): &(Bytes, Bytes)| contains(start, end, &key);
        let begun = |(start, _): &(Bytes, Bytes)| contains(&key, &range_end, start);
        let twice = touched.iter().any(|t| covers(t) || (!is_put && begun(t)));
        if twice && !model.doubles {
            continue;
        }
        let request = if is_put {
            touched.push((key.clone(), Bytes::new()));
            Request::RequestPut(PutRequest { key, ..some_put(g, model) })
        } else {
            touched.push((key.clone(), range_end.clone()));
            Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false })
        };
        txn.success.push(RequestOp { request: Some(request) });
    }
    txn
}

/// Changes world and model alike. False if the world's disk failed meanwhile.
pub(super) fn change(g: &mut Generator, world: &mut World, model: &mut Model) -> bool {
    let main = model.head() + 1;
    let mut map = model.now();
    match g.below(10) {
        0..=4 => {
            let request = some_put(g, model);
            put(&mut map, &request, main);
            model.commit(map, true);
            world.apply_or_crash(Body::Put, &request).is_some()
        }
        5 => {
            let request =
                DeleteRangeRequest { key: some_key(g), range_end: some_end(g), prev_kv: false };
            let changed = delete(&mut map, &request);
            model.commit(map, changed);
            world.apply_or_crash(Body::DeleteRange, &request).is_some()
        }
        6 | 7 => {
            let txn = some_txn(g, model);
            let mut changed = false;
            for op in &txn.success {
                match op.request.as_ref().expect("an operation") {
                    Request::RequestPut(request) => {
                        put(&mut map, request, main);
                        changed = true;
                    }
                    Request::RequestDeleteRange(request) => changed |= delete(&mut map, request),
                    Request::RequestRange(_) | Request::RequestTxn(_) => {
                        panic!("only writes are made here")
                    }
                }
            }
            model.commit(map, changed);
            world.apply_or_crash(Body::Txn, &txn).is_some()
        }
        8 => {
            let id = g.below(3) as i64 + 1;
            model.leases.insert(id);
            world.apply_or_crash(Body::LeaseGrant, &LeaseGrantRequest { id, ttl: 10 }).is_some()
        }
        _ => {
            let id = g.below(3) as i64 + 1;
            let before = map.len();
            map.retain(|_, kv| kv.lease != id);
            let changed = map.len() < before;
            model.commit(map, changed);
            model.leases.remove(&id);
            world.apply_or_crash(Body::LeaseRevoke, &LeaseRevokeRequest { id }).is_some()
        }
    }
}

pub(super) fn compact(g: &mut Generator, world: &mut World, model: &mut Model) -> bool {
    let revision = g.int(0..=model.head() as usize + 1) as i64;
    let possible = revision > model.compacted && revision <= model.head();
    if possible {
        model.compacted = revision;
    }
    let request = CompactionRequest { revision, physical: false };
    match world.apply_or_crash(Body::Compaction, &request) {
        Some((outcome, _)) => {
            assert_eq!(outcome.result.is_ok(), possible);
            true
        }
        None => false,
    }
}

fn some_range(g: &mut Generator, model: &Model) -> RangeRequest {
    let revision = |g: &mut Generator| g.int(0..=model.head() as usize + 1) as i64;
    let filter = |g: &mut Generator| if g.chance(10) { revision(g) } else { 0 };
    RangeRequest {
        key: some_key(g),
        range_end: some_end(g),
        limit: g.below(5) as i64 - 1,
        revision: revision(g),
        sort_order: if g.chance(50) { g.below(3) as i32 } else { 0 },
        sort_target: if g.chance(50) { g.below(5) as i32 } else { 0 },
        serializable: false,
        keys_only: g.chance(30),
        count_only: g.chance(10),
        min_mod_revision: filter(g),
        max_mod_revision: filter(g),
        min_create_revision: filter(g),
        max_create_revision: filter(g),
    }
}

/// What etcd answers, in the plainest words; `None` if it refuses.
fn naive_range(model: &Model, r: &RangeRequest) -> Option<(Vec<KeyValue>, bool, i64)> {
    let at = if r.revision <= 0 { model.head() } else { r.revision };
    if at > model.head() || at < model.compacted {
        return None;
    }
    let map = &model.maps[at as usize];
    let all = map.values().filter(|kv| contains(&r.key, &r.range_end, &kv.key));
    let mut rows: Vec<KeyValue> = all.cloned().collect();
    let count = rows.len() as i64;
    if r.count_only {
        return Some((Vec::new(), false, count));
    }
    let limit = if r.limit > 0 { r.limit as usize } else { usize::MAX };
    let filtered =
        [r.min_mod_revision, r.max_mod_revision, r.min_create_revision, r.max_create_revision];
    let is_plain = r.sort_order == 0 || (r.sort_order == 1 && r.sort_target == 0);
    if is_plain && filtered == [0; 4] {
        rows.truncate(limit.saturating_add(1));
    }
    rows.retain(|kv| r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision);
    rows.retain(|kv| r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision);
    rows.retain(|kv| r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision);
    rows.retain(|kv| r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision);
    if r.sort_target != 0 || r.sort_order != 0 {
        rows.sort_by(|a, b| {
            let ordering = match r.sort_target {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if r.sort_order == 2 { ordering.reverse() } else { ordering }
        });
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    for kv in &mut rows {
        if r.keys_only {
            kv.value = Bytes::new();
            kv.lease = if r.sort_target == 4 { kv.lease } else { 0 };
        }
    }
    Some((rows, more, count))
}

fn check_range(world: &World, model: &Model, request: &RangeRequest) {
    let mut out = Vec::new();
    match (world.state.range(request, &mut out), naive_range(model, request)) {
        (Ok(()), Some((kvs, more, count))) => {
            let found = RangeResponse::decode(out.as_slice()).expect("a response");
            assert_eq!(found.header.expect("a header").revision, model.head());
            assert_eq!((found.kvs, found.more, found.count), (kvs, more, count), "{request:?}");
        }
        (Err(Stop::Refused(_)), None) => {}
        (found, expected) => panic!("{request:?}: {found:?}, not {expected:?}"),
    }
    check_in_turns(world, Ok(world.state.long_range(request.clone())), &out);
}

/// In turns, the answer is the same to the byte, and as long as was measured.
fn check_in_turns(world: &World, begun: Result<LongRead, Stop>, expected: &[u8]) {
    let measured = begun.and_then(|mut read| {
        loop {
            if let Some(len) = world.state.measure(&mut read)? {
                return Ok((read, len));
            }
        }
    });
    let (mut read, len) = match measured {
        Ok(measured) => measured,
        Err(Stop::Refused(_)) => return assert!(expected.is_empty()),
        Err(fatal) => panic!("{fatal:?}"),
    };
    let mut out = Vec::new();
    while world.state.write_piece(&mut read, 100, &mut out).expect("rows") == Turn::More {}
    assert!(out == expected);
    assert_eq!(len, expected.len() as u64);
}

fn check_reading_txn(world: &World, ranges: Vec<RangeRequest>) {
    let op = |range| RequestOp { request: Some(Request::RequestRange(range)) };
    let txn = TxnRequest { success: ranges.into_iter().map(op).collect(), ..TxnRequest::default() };
    let mut out = Vec::new();
    if world.state.read_txn_within(&txn, AtOnce::ALL, &mut out).is_err() {
        out.clear();
    }
    check_in_turns(world, world.state.long_txn(&txn), &out);
}

/// What is written between the turns is not seen.
#[test]
fn a_long_answer_is_of_the_revision_its_header_tells() {
    let mut world = World::new(1);
    let put = |value: &'static str| PutRequest {
        key: "a".into(),
        value: value.into(),
        ..PutRequest::default()
    };
    world.ask::<PutResponse>(Body::Put, &put("before")).expect("put");
    let request = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let mut expected = Vec::new();
    world.state.range(&request, &mut expected).expect("a range");
    let begun = world.state.long_range(request);
    world.ask::<PutResponse>(Body::Put, &put("between")).expect("put");
    check_in_turns(&world, Ok(begun), &expected);
}

#[test]
fn the_store_is_a_whole_map_per_revision() {
    each_seed_of(100, |g| {
        let mut world = World::new(g.number());
        let mut model = Model { doubles: g.chance(50), ..Model::new() };
        for _ in 0..80 {
            match g.below(20) {
                0 => drop(compact(g, &mut world, &mut model)),
                1 => world.prune(),
                2 => drop(world.state.prune_turn()),
                3 => world.checkpoint(),
                4 => drop(world.collect()),
                5 => world.crash(),
                _ => assert!(change(g, &mut world, &mut model)),
            }
            assert_eq!(world.state.head(), model.head());
            assert_eq!(world.state.compacted(), model.compacted);
            assert_eq!(world.state.n_live_keys(), model.maps[model.head() as usize].len());
            world.state.leases.check();
            for _ in 0..4 {
                check_range(&world, &model, &some_range(g, &model));
            }
            check_reading_txn(&world, g.vec(0..4, |g| some_range(g, &model)));
        }
    });
}

/// The disk dies in the middle of anything; the log is applied again from what was kept.
#[test]
fn whatever_the_disk_forgets_the_log_brings_back() {
    each_seed_of(150, |g| {
        let mut world = World::new(g.number());
        let mut model = Model { doubles: g.chance(50), ..Model::new() };
        for _ in 0..60 {
            if g.chance(10) {
                world.disk.crash_at(g.below(20) + 1);
            }
            match g.below(12) {
                0 => drop(compact(g, &mut world, &mut model)),
                1 => {
                    while !world.state.is_pruned() {
                        world.state.prune_turn();
                    }
                }
                2 | 3 => {
                    if world.state.checkpoint().commit(&mut Hurry).is_err() {
                        world.crash();
                    }
                }
                4 => {
                    if !collect(&mut world) {
                        world.crash();
                    }
                }
                _ => drop(change(g, &mut world, &mut model)),
            }
        }
        world.crash();
        assert_eq!(world.state.head(), model.head());
        assert_eq!(world.state.compacted(), model.compacted);
        for _ in 0..20 {
            check_range(&world, &model, &some_range(g, &model));
        }
    });
}

/// False if the disk failed.
fn collect(world: &mut World) -> bool {
    let Some(victim) = world.state.victim(1) else { return true };
    let Ok(mut collected) = victim.run(&mut Hurry) else { return false };
    world.state.adopt(&collected);
    loop {
        match collected.next(3) {
            Ok(moved) if moved.is_empty() => break,
            Ok(moved) => world.state.relocate(&moved),
            Err(_) => return false,
        }
    }
    world.state.release(collected);
    true
}

#[test]
fn a_hash_does_not_tell_who_has_pruned_collected_or_crashed() {
    each_seed_of(60, |g| {
        let mut world = World::new(g.number());
        let mut twin = World::new(g.number());
        let mut model = Model::new();
        for _ in 0..60 {
            let seed = g.number();
            let both = |act: fn(&mut Generator, &mut World, &mut Model) -> bool,
                        world: &mut World,
                        twin: &mut World,
                        model: &mut Model| {
                let mut shadow = Model {
                    maps: model.maps.clone(),
                    compacted: model.compacted,
                    leases: model.leases.clone(),
                    doubles: false,
                };
                act(&mut Generator::new(seed), world, model);
                act(&mut Generator::new(seed), twin, &mut shadow);
            };
            match g.below(10) {
                0 => both(compact, &mut world, &mut twin, &mut model),
                1 => {
                    while !world.state.is_pruned() {
                        world.state.prune_turn();
                    }
                }
                2 => world.checkpoint(),
                3 => drop(world.collect()),
                4 => world.crash(),
                _ => both(change, &mut world, &mut twin, &mut model),
            }
            let revision = g.int(0..=model.head() as usize) as i64;
            // Of a revision at which nothing was left, etcd's hash covers what a member hasn't forgotten yet.
            if !model.maps[revision as usize].is_empty() {
                assert_eq!(world.hash(revision), twin.hash(revision));
            }
        }
    });
}
