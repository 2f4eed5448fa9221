//! States made of snapshots' files: the same as those the snapshots were taken of, whatever crashes.

use std::path::Path;
use std::sync::Arc;

use proto::etcdserverpb::{CompactionRequest, Member, PutRequest, RangeRequest, RangeResponse};
use proto::membershippb::ClusterVersionSetRequest;
use proto::prost::Message;
use proto::raft_request::Body;
use stdx::Generator;
use stdx::generate::each_seed_of;
use storage::disk::Disk;
use storage::disk::simulated::SimulatedDisk;
use storage::revlog::Hurry;

use super::model::{Model, change, compact};
use super::world::{SHARD, World, config};
use crate::membership::MemberChange;
use crate::restore::{self, RestoreError};
use crate::{HashTurn, KvHash, State};

const HOME: &str = "/data/member";
const FILE: &str = "/data/snap.db";

/// Writes a snapshot of the state as a file of `disk`.
fn save(state: &State, disk: &SimulatedDisk) {
    let mut run = state.snapshot("3.7.0");
    let gathered = loop {
        if let Some(gathered) = state.snapshot_turn(&mut run) {
            break gathered;
        }
    };
    let snapshot = gathered.measure().expect("a disk that works");
    disk.create_dir(Path::new("/data")).expect("a folder");
    let file = disk.create(Path::new(FILE)).expect("a file");
    let mut at = 0;
    let written = snapshot.file().write(&mut |piece| {
        file.write_at(at, piece)?;
        at += piece.len() as u64;
        Ok(())
    });
    written.expect("a disk that works");
    file.sync().expect("durable");
    disk.sync_dir(Path::new("/data")).expect("durable");
}

fn history(g: &mut Generator, n: usize) -> World {
    let mut world = World::new(g.number());
    let mut model = Model::new();
    let member = |id: u64, is_learner| Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("http://{id}:2380")],
        is_learner,
        ..Member::default()
    };
    for change in [
        MemberChange::Add(member(0xa1, false)),
        MemberChange::Add(member(0xb2, true)),
        MemberChange::Remove { id: 0xb2 },
    ] {
        let index = world.next_index();
        world.state.conf_change(index, 1, Some(change));
    }
    world.apply(Body::ClusterVersionSet, &ClusterVersionSetRequest { ver: "3.7.0".into() });
    for _ in 0..n {
        match g.below(15) {
            0 => drop(compact(g, &mut world, &mut model)),
            1 => world.prune(),
            _ => assert!(change(g, &mut world, &mut model)),
        }
    }
    world
}

fn hash_of(state: &State, revision: i64) -> KvHash {
    let mut run = state.hash(revision);
    loop {
        match state.hash_turn(&mut run).expect("a revision that is there") {
            HashTurn::More => {}
            HashTurn::Known(hash) => return hash,
            HashTurn::Job(job) => return job.run(&mut Hurry).expect("a disk that works"),
        }
    }
}

/// All that can be seen of a state.
fn shown(state: &State) -> String {
    let mut shown = format!("{:?} {} {}\n", state.applied(), state.head(), state.compacted());
    for revision in state.compacted().max(1)..=state.head() {
        let request = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            revision,
            ..Default::default()
        };
        let mut out = Vec::new();
        state.range(&request, &mut out).expect("readable");
        let range = RangeResponse::decode(out.as_slice()).expect("a response");
        let keys: Vec<_> = range.kvs.iter().map(|kv| (&kv.key, kv.mod_revision)).collect();
        shown += &format!("{revision}: {keys:?}\n");
        // Of a compaction's own revision a hash is remembered that a snapshot does not hold.
        if revision > state.compacted() {
            shown += &format!("{:?}\n", hash_of(state, revision));
        }
    }
    shown += &format!("{:?}\n", state.leases().stored(true).collect::<Vec<_>>());
    shown += &format!("{:?}\n", state.membership().members().collect::<Vec<_>>());
    shown +=
        &format!("{:?} {}\n", state.membership().version(), state.membership().is_removed(0xb2));
    shown
}

fn open(disk: &SimulatedDisk) -> Result<State, RestoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore::open(&disk, Path::new(HOME), config())
}

fn build(disk: &SimulatedDisk) -> Result<State, RestoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore::build(&disk, Path::new(FILE), Path::new(HOME), config(), &mut Hurry)
}

#[test]
fn a_state_made_of_a_snapshot_is_the_state_it_was_taken_of() {
    each_seed_of(60, |g| {
        let n = g.below(80) as usize;
        let world = history(g, n);
        let disk = SimulatedDisk::new(g.number());
        save(&world.state, &disk);
        let mut restored = build(&disk).expect("a snapshot");
        restored.identify(config().cluster_id, config().member_id);
        assert_eq!(shown(&restored), shown(&world.state));
        drop(restored);
        let found = open(&disk.crash()).expect("a store");
        assert_eq!(found.applied(), world.state.applied(), "durable once it is built");
    });
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_store_or_the_new_one() {
    each_seed_of(6, |g| {
        let n = g.below(30) as usize;
        let world = history(g, n);
        let disk = SimulatedDisk::new(g.number());
        save(&world.state, &disk);
        let mut old = open(&disk).expect("a new store");
        old.checkpoint().commit(&mut Hurry).expect("durable");
        let before = shown(&old);
        drop(old);
        let mut crashes = 0;
        for k in 1.. {
            let trial = disk.kill();
            trial.crash_at(k);
            let built = build(&trial);
            let whole = built.is_ok();
            drop(built);
            if whole && !restore_finished(&trial) {
                continue;
            }
            let found = open(&trial.crash()).expect("one of them is whole");
            let is_old = shown(&found) == before;
            assert!(is_old || found.applied() == world.state.applied());
            assert!(!whole || !is_old, "it had been built");
            crashes += 1;
            if whole {
                break;
            }
        }
        assert!(crashes > 10, "{crashes} crashes");
    });
}

/// Removes what was replaced; false if the power fails meanwhile.
fn restore_finished(disk: &SimulatedDisk) -> bool {
    restore::remove_older(disk, Path::new(HOME)).is_ok()
}

#[test]
fn a_damaged_file_is_refused_or_harmless_and_never_a_panic() {
    each_seed_of(60, |g| {
        let world = history(g, 30);
        let disk = SimulatedDisk::new(g.number());
        save(&world.state, &disk);
        let file = disk.open(Path::new(FILE)).expect("a file");
        let size = file.len().expect("a length");
        for _ in 0..g.int(1..=3) {
            disk.flip_bit(Path::new(FILE), g.below(size), g.below(8) as u8);
        }
        drop(build(&disk));
    });
}

#[test]
fn watchers_of_a_replaced_state_are_sent_back_to_the_history() {
    let mut world = World::new(1);
    let put = |world: &mut World, value: &'static str| {
        let request = PutRequest { key: "k".into(), value: value.into(), ..Default::default() };
        world.apply(Body::Put, &request);
    };
    put(&mut world, "a");
    let mut ahead = World::new(2);
    for value in ["a", "b", "c"] {
        put(&mut ahead, value);
    }
    let disk = SimulatedDisk::new(3);
    save(&ahead.state, &disk);
    let restored = build(&disk).expect("a snapshot");
    let head = world.state.head();
    let lost = world.state.replace_by(restored, std::iter::once(SHARD));
    assert_eq!(lost, [(SHARD, 1, head + 1)]);
    assert_eq!(world.state.head(), ahead.state.head());
    assert_eq!(world.state.header().member_id, config().member_id);
    assert!(!world.state.leases().is_primary());
}

#[test]
fn a_hash_that_was_begun_before_a_replacement_reads_nothing_of_the_old_store() {
    let mut world = World::new(1);
    let put = |world: &mut World, key: String, value: &'static str| {
        let request = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        world.apply(Body::Put, &request);
    };
    let mut ahead = World::new(2);
    // What the compaction gives up is in the one store and not in the other: places differ.
    for n in [0].into_iter().chain(0..2_000) {
        put(&mut world, format!("{n}"), "some value");
        put(&mut ahead, format!("{n}"), "some value");
    }
    for _ in 0..10 {
        put(&mut ahead, "0".into(), "another");
    }
    ahead.apply(Body::Compaction, &CompactionRequest { revision: 3, physical: false });
    ahead.prune();
    world.apply(Body::Compaction, &CompactionRequest { revision: 3, physical: false });
    world.prune();
    let mut run = world.state.hash(0);
    let at = world.state.head();
    assert!(matches!(world.state.hash_turn(&mut run), Ok(HashTurn::More)), "many keys");
    let disk = SimulatedDisk::new(3);
    save(&ahead.state, &disk);
    let restored = build(&disk).expect("a snapshot");
    drop(world.state.replace_by(restored, std::iter::once(SHARD)));
    let hash = loop {
        match world.state.hash_turn(&mut run).expect("a revision that is there") {
            HashTurn::More => {}
            HashTurn::Known(hash) => break hash,
            HashTurn::Job(job) => break job.run(&mut Hurry).expect("a disk that works"),
        }
    };
    assert_eq!(hash, hash_of(&ahead.state, at));
}
