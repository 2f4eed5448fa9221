//! Readers, a committer and a collector beside the writer, on the machine's own disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use stdx::Generator;

use super::model::{Record, record};
use crate::disk::RealDisk;
use crate::revlog::{
    Config, DEAD_PERCENT_USUAL, Hurry, Mark, Pinned, Place, Revision, Revlog, Size,
};

const CONFIG: Config = Config { segment_size_max: 200 << 10, ledger_size_min: 16 << 10 };
const REVISIONS: i64 = 8000;
/// Of a key's revisions all but the newest die once they are so old.
const KEPT: i64 = 500;
/// So many revisions after each other are not written without a read meanwhile.
const READ_EVERY: i64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is gone when the test is.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

/// The log and the key index it is used with, under one lock.
struct State {
    log: Revlog,
    index: BTreeMap<Revision, (Place, Record)>,
    head: i64,
}

struct World {
    state: RwLock<State>,
    done: AtomicBool,
    reads: AtomicU64,
}

impl World {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic elsewhere")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no panic elsewhere")
    }

    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }
}

#[test]
fn readers_see_every_record_while_others_append_commit_and_collect() {
    let scratch = Scratch(env::temp_dir().join(format!("retcd-revlog-{}", process::id())));
    let (log, _) = open(&scratch.0);
    let state = RwLock::new(State { log, index: BTreeMap::new(), head: 0 });
    let world = World { state, done: AtomicBool::new(false), reads: AtomicU64::new(0) };
    thread::scope(|scope| {
        scope.spawn(|| read(&world, 1));
        scope.spawn(|| read(&world, 2));
        scope.spawn(|| {
            while world.goes_on() {
                commit(&world);
                collect(&world);
            }
        });
        write(&world);
        world.done.store(true, Ordering::Relaxed);
    });
    commit(&world);
    while collect(&world) {}
    commit(&world);
    let State { log, index, .. } = world.state.into_inner().expect("no panic elsewhere");
    let Size { on_disk, live, .. } = log.size();
    assert!(on_disk < live + u64::try_from(REVISIONS).expect("few") * 100, "{on_disk} for {live}");
    drop(log);
    check(&scratch.0, &index);
}

fn open(dir: &Path) -> (Revlog, crate::revlog::Recovered) {
    Revlog::open(Arc::new(RealDisk), dir, CONFIG).map_err(|e| e.to_string()).expect("a log")
}

fn mark(head: i64) -> Mark {
    let consistent_index = u64::try_from(head).expect("positive");
    Mark { consistent_index, term: 1, compacted: -1, scheduled: -1, head }
}

fn write(world: &World) {
    let mut g = Generator::new(1);
    for main in 1..=REVISIONS {
        if main % READ_EVERY == 0 {
            readers_get_on(world);
        }
        let record = record(&mut g, Revision { main, sub: 0 }, 600);
        let mut state = world.write();
        let State { log, index, head } = &mut *state;
        let place = log.append(&record.meta, &record.key, &record.key_value).expect("room");
        index.insert(record.meta.revision, (place, record));
        *head = main;
        let old = Revision { main: main - KEPT, sub: 0 };
        if main % 10 != 0
            && let Some((place, record)) = index.remove(&old)
        {
            log.dead(place, record.key_value.len() as u32);
        }
    }
}

/// On a machine with one processor, or a busy one, all might be written before anybody reads.
fn readers_get_on(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    let before = world.reads.load(Ordering::Relaxed);
    while world.reads.load(Ordering::Relaxed) == before {
        assert!(Instant::now() < deadline, "nobody reads");
        thread::yield_now();
    }
}

/// Under the lock, and without it through a pin.
fn read(world: &World, seed: u64) {
    let mut g = Generator::new(seed);
    while world.goes_on() {
        let mut pinned: Vec<(Pinned, Place, Record)> = Vec::new();
        {
            let state = world.read();
            // The newest are still in memory, and on their way to the file.
            let newest = (state.head - 20).max(0);
            let main = if g.chance(50) { newest } else { g.below(1 + state.head as u64) as i64 };
            let from = Revision { main, sub: 0 };
            for (place, record) in state.index.range(from..).map(|(_, found)| found).take(20) {
                let mut out = Vec::new();
                state.log.read(*place, &mut out).expect("readable");
                assert_eq!(out, record.key_value);
                pinned.push((state.log.pin(), *place, record.clone()));
            }
        }
        for (pin, place, record) in pinned {
            let mut out = Vec::new();
            pin.read(place, &mut out).expect("readable");
            assert_eq!(out, record.key_value);
            world.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn commit(world: &World) {
    let checkpoint = {
        let mut state = world.write();
        let mark = mark(state.head);
        state.log.checkpoint(mark)
    };
    checkpoint.commit(&mut Hurry).expect("committed");
}

/// False if there was nothing to collect.
fn collect(world: &World) -> bool {
    let victim = world.write().log.victim(DEAD_PERCENT_USUAL);
    let Some(victim) = victim else { return false };
    let mut collected = victim.run(&mut Hurry).expect("copied");
    world.write().log.adopt(&collected);
    loop {
        let relocations = collected.next(50).expect("told");
        if relocations.is_empty() {
            break;
        }
        let mut state = world.write();
        for relocation in relocations {
            if let Some((place, _)) = state.index.get_mut(&relocation.revision) {
                *place = relocation.to;
            }
        }
    }
    world.write().log.release(collected);
    true
}

fn check(dir: &Path, index: &BTreeMap<Revision, (Place, Record)>) {
    let (log, mut recovered) = open(dir);
    let mut expected = index.iter();
    while let Some(entry) = recovered.entries.next().expect("whole") {
        let (revision, (_, record)) = expected.next().expect("no more than there were");
        assert_eq!((entry.key, entry.meta.revision), (record.key.as_slice(), *revision));
        let mut out = Vec::new();
        log.read(entry.place, &mut out).expect("readable");
        assert_eq!(out, record.key_value);
    }
    assert!(expected.next().is_none(), "some are missing");
}
