//! Snapshots, read back and compared with the model of the moment they were taken at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, Member};
use proto::leasepb;
use proto::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest};
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use proto::raft_request::Body;
use stdx::generate::each_seed_of;
use storage::bolt::reader::Reader;
use storage::disk::Disk;
use storage::disk::simulated::SimulatedDisk;

use super::model::{Map, Model, change, compact};
use super::world::World;
use crate::membership::MemberChange;
use crate::{Snapshot, SnapshotRun};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows of all buckets of the snapshot's file.
fn buckets(snapshot: &Snapshot) -> BTreeMap<String, Rows> {
    let file = snapshot.file();
    let mut bytes = Vec::new();
    let written = file.write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.expect("a disk that works");
    assert_eq!(bytes.len() as u64, file.size());

    let copy = SimulatedDisk::new(0).create(Path::new("db")).expect("a file");
    copy.write_at(0, &bytes).expect("written");
    let reader = Reader::open(Arc::clone(&copy)).expect("a bbolt file");
    let mut buckets = BTreeMap::new();
    for name in reader.bucket_names().expect("readable") {
        let bucket = reader.bucket(&name).expect("readable").expect("a bucket of that name");
        let mut cursor = bucket.cursor().expect("readable");
        let mut rows = Rows::new();
        while let Some(row) = cursor.next().expect("readable") {
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
        buckets.insert(String::from_utf8(name).expect("a name"), rows);
    }
    buckets
}

fn finish(world: &World, run: &mut SnapshotRun) -> Snapshot {
    loop {
        if let Some(gathered) = world.state.snapshot_turn(run) {
            return gathered.measure().expect("a disk that works");
        }
    }
}

/// All keys as of `revision`, by the records of the bucket of keys.
fn map_at(keys: &Rows, revision: i64) -> Map {
    let mut map = Map::new();
    for (key, value) in keys {
        let main = i64::from_be_bytes(key[..8].try_into().expect("8 bytes"));
        if main > revision {
            break;
        }
        let kv = KeyValue::decode(value.as_slice()).expect("a KeyValue");
        if key.len() == 18 {
            map.remove(&kv.key);
        } else {
            assert_eq!(kv.mod_revision, main);
            map.insert(kv.key.clone(), kv);
        }
    }
    map
}

/// What the model was when an entry was applied.
#[derive(Clone)]
struct Moment {
    head: i64,
    compacted: i64,
    leases: BTreeSet<i64>,
}

fn moment(model: &Model) -> Moment {
    Moment { head: model.head(), compacted: model.compacted, leases: model.leases.clone() }
}

fn check(snapshot: &Snapshot, model: &Model, moment: &Moment) {
    let buckets = buckets(snapshot);
    assert_eq!(snapshot.revision(), moment.head);
    let newest = buckets["key"].keys().next_back();
    assert!(newest.is_none_or(|key| key[..8] <= moment.head.to_be_bytes()[..]));
    for revision in moment.compacted.max(1)..=moment.head {
        let at_revision = map_at(&buckets["key"], revision);
        assert_eq!(at_revision, model.maps[revision as usize], "at {revision}");
    }
    let lease = |row: (&Vec<u8>, &Vec<u8>)| {
        let lease = leasepb::Lease::decode(row.1.as_slice()).expect("a lease");
        assert_eq!(row.0[..], lease.id.to_be_bytes());
        lease.id
    };
    assert_eq!(buckets["lease"].iter().map(lease).collect::<BTreeSet<_>>(), moment.leases);
    let meta = &buckets["meta"];
    assert_eq!(meta[&b"consistent_index"[..]], snapshot.applied().0.to_be_bytes());
    let scheduled = meta.get(&b"scheduledCompactRev"[..]);
    let compacted = scheduled
        .map_or(-1, |revision| i64::from_be_bytes(revision[..8].try_into().expect("8 bytes")));
    assert_eq!(compacted.max(0), moment.compacted.max(0));
}

#[test]
fn a_snapshot_holds_one_moment_whatever_happens_while_it_is_gathered() {
    each_seed_of(100, |g| {
        let mut world = World::new(g.number());
        let mut model = Model::new();
        let mut moments = BTreeMap::from([(0, moment(&model))]);
        let mut run: Option<SnapshotRun> = None;
        let mut taken = None;
        for _ in 0..120 {
            match g.below(20) {
                0 => drop(compact(g, &mut world, &mut model)),
                1 => world.prune(),
                2 => drop(world.state.prune_turn()),
                3 => world.checkpoint(),
                4 => drop(world.collect()),
                5..=9 => {
                    let run = run.get_or_insert_with(|| {
                        let mut run = world.state.snapshot("3.7.0");
                        run.keys_per_turn = 1;
                        run
                    });
                    if taken.is_none() {
                        taken = world.state.snapshot_turn(run);
                    }
                }
                _ => assert!(change(g, &mut world, &mut model)),
            }
            moments.insert(world.state.applied().0, moment(&model));
            // Often read only when its records have died and their segments are gone.
            if let Some(gathered) = taken.take_if(|_| g.chance(20)) {
                run = None;
                let snapshot = gathered.measure().expect("a disk that works");
                check(&snapshot, &model, &moments[&snapshot.applied().0]);
            }
        }
        let snapshot = finish(&world, &mut world.state.snapshot("3.7.0"));
        check(&snapshot, &model, &moment(&model));
    });
}

#[test]
fn a_snapshot_that_is_interrupted_again_and_again_comes_to_an_end() {
    let mut world = World::new(1);
    let put = |world: &mut World, key: String| {
        let request = proto::etcdserverpb::PutRequest { key: key.into(), ..Default::default() };
        world.apply(Body::Put, &request);
    };
    for n in 0..100 {
        put(&mut world, format!("key {n}"));
    }
    let mut run = world.state.snapshot("3.7.0");
    run.keys_per_turn = 1;
    let mut n_turns = 0;
    while world.state.snapshot_turn(&mut run).is_none() {
        n_turns += 1;
        put(&mut world, "key 0".into());
        let revision = world.state.head();
        let request = proto::etcdserverpb::CompactionRequest { revision, physical: false };
        world.apply(Body::Compaction, &request);
        world.prune();
    }
    assert!((2..10).contains(&n_turns), "{n_turns} turns");
}

#[test]
fn the_small_buckets_say_what_etcd_would() {
    let mut world = World::new(1);
    let member = |id: u64, is_learner| Member {
        id,
        peer_urls: vec![format!("http://{id}:2380")],
        is_learner,
        ..Member::default()
    };
    for change in [
        MemberChange::Add(member(0xa1, false)),
        MemberChange::Add(member(0xb2, false)),
        MemberChange::Add(member(0xc3, true)),
        MemberChange::Remove { id: 0xb2 },
    ] {
        let index = world.next_index();
        world.state.conf_change(index, 1, Some(change));
    }
    let version = ClusterVersionSetRequest { ver: "3.7.0".into() };
    world.apply(Body::ClusterVersionSet, &version);
    let downgrade = DowngradeInfoSetRequest { enabled: true, ver: "3.6.0".into() };
    world.apply(Body::DowngradeInfoSet, &downgrade);
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 0xa1,
        alarm: AlarmType::Nospace as i32,
    };
    world.apply(Body::Alarm, &alarm);

    let snapshot = finish(&world, &mut world.state.snapshot("3.7.0"));
    let mut shown = String::new();
    for (bucket, rows) in buckets(&snapshot) {
        shown += &format!("{bucket}\n");
        for (key, value) in rows {
            shown += &format!("  {} = {}\n", key.escape_ascii(), value.escape_ascii());
        }
    }
    assert_eq!(
        shown.replace("\\\"", "\""),
        r#"alarm
  \x08\xa1\x01\x10\x01 = 
auth
  authRevision = \x00\x00\x00\x00\x00\x00\x00\x01
authRoles
authUsers
cluster
  clusterVersion = 3.7.0
  downgrade = {"target-version":"3.6.0","enabled":true}
key
lease
members
  a1 = {"id":161,"peerURLs":["http://161:2380"]}
  c3 = {"id":195,"peerURLs":["http://195:2380"],"isLearner":true}
members_removed
  b2 = removed
meta
  confState = {"voters":[161],"learners":[195],"auto_leave":false}
  consistent_index = \x00\x00\x00\x00\x00\x00\x00\x07
  storageVersion = 3.7.0
  term = \x00\x00\x00\x00\x00\x00\x00\x01
"#
    );
}
