mod history;
mod scripts;

use std::path::Path;
use std::sync::Arc;

use super::{EntryRef, HardState, OpenError, Settings, SnapshotMark, Wal};
use crate::disk::simulated::is_crash;
use crate::disk::{Disk, RealDisk, SimulatedDisk};
use history::{DIR, History, METADATA, SETTINGS, assert_found};
use stdx::generate::each_seed_of;
use stdx::{Generator, each_seed};

/// A store that is older than the newest mark finds what leads on from it, or is told the snapshot it
/// needs. Returns how often it was told so.
fn reopen_behind(disk: &SimulatedDisk, history: &History) -> usize {
    let dir = Path::new(DIR);
    let mut n_needed = 0;
    for mark in Wal::marks(disk, dir).expect("marks") {
        let opened = Wal::open_with(Arc::new(disk.clone()), dir, mark, SETTINGS);
        match (opened, history.needed_after(mark)) {
            (Ok((_, found)), None) => assert!(history.agrees(mark, &found), "{found:?}"),
            (Err(OpenError::SnapshotNeeded { mark: told, .. }), Some(needed)) => {
                assert_eq!(told, needed, "after {mark:?}");
                n_needed += 1;
            }
            // Released: nobody is that far behind.
            (Err(OpenError::SegmentMissing { .. } | OpenError::MarkMissing { .. }), _) => {}
            (Ok(_), Some(needed)) => panic!("{needed:?} was passed over after {mark:?}"),
            (Err(error), needed) => panic!("{error} after {mark:?}, not {needed:?}"),
        }
    }
    n_needed
}

/// The newest mark of the log on `disk`, and what is found after it, agree with `history`.
fn reopen(disk: &SimulatedDisk, history: &mut History) -> Wal {
    let dir = Path::new(DIR);
    let marks = Wal::marks(disk, dir).expect("marks after a crash");
    let mark = marks.last().copied().expect("a mark");
    let opened = Wal::open_with(Arc::new(disk.clone()), dir, mark, SETTINGS);
    let (wal, found) = opened.unwrap_or_else(|e| panic!("refused after a crash: {e}"));
    assert_eq!(found.last_snapshot, mark);
    history.settle(mark, &found);
    wal
}

fn create(disk: &SimulatedDisk) -> Wal {
    Wal::create_with(Arc::new(disk.clone()), Path::new(DIR), METADATA, SETTINGS).expect("a new log")
}

/// Of a batch longer than the buffer the first part is written before its last is taken.
#[test]
fn a_batch_of_any_size_is_written_and_found() {
    let disk = SimulatedDisk::new(1);
    let mut wal = create(&disk);
    let data = vec![7; 3 << 20];
    let entries = (1..=4).map(|index| EntryRef { kind: 0, term: 1, index, data: &data });
    let state = HardState { term: 1, vote: 1, commit: 4 };
    wal.append(entries, Some(state)).expect("taken");
    wal.write().expect("written");
    wal.flush().expect("durable");
    drop(wal);
    let (mut wal, found) =
        Wal::open_with(Arc::new(disk.crash()), Path::new(DIR), SnapshotMark::default(), SETTINGS)
            .expect("a log");
    assert_eq!(found.entries.iter().map(|e| e.data.len()).collect::<Vec<_>>(), [3 << 20; 4]);
    wal.flush().expect("it goes on");
}

/// The power fails at every operation of a history in turn; what follows is as random as what came
/// before.
#[test]
fn a_crash_at_any_operation_loses_nothing_flushed_and_invents_nothing() {
    let mut n_crashes = 0;
    each_seed_of(24, |g| {
        let seed = g.number();
        let mut k = 1;
        loop {
            let mut g = Generator::new(seed);
            let disk = SimulatedDisk::new(g.number() ^ k);
            let mut wal = create(&disk);
            let mut history = History::new();
            disk.crash_at(k);
            let Err(error) = history.run(&mut wal, &mut g, 30) else { break };
            assert!(is_crash(&error), "{error}");
            let disk = disk.crash();
            let mut wal = reopen(&disk, &mut history);
            // Life goes on, and the next crash finds a log with a repaired end.
            disk.crash_at(g.int(1..=40) as u64);
            drop(history.run(&mut wal, &mut g, 15));
            reopen(&disk.crash(), &mut history);
            k += 1;
        }
        n_crashes += k - 1;
    });
    assert!(n_crashes > 20, "histories worth the name");
}

#[test]
fn a_store_from_before_a_leaders_snapshot_is_told_which_one_it_needs() {
    let mut n_needed = 0;
    each_seed_of(400, |g| {
        let disk = SimulatedDisk::new(g.number());
        let mut wal = create(&disk);
        let mut history = History::new();
        disk.crash_at(g.int(5..=100) as u64);
        drop(history.run(&mut wal, g, 40));
        let disk = disk.crash();
        let mut wal = reopen(&disk, &mut history);
        drop(history.run(&mut wal, g, 10));
        let disk = disk.crash();
        drop(reopen(&disk, &mut history));
        n_needed += reopen_behind(&disk, &history);
    });
    assert!(n_needed > 100, "only {n_needed} stores were behind a snapshot");
}

/// The process dies and finds its writes again, synced or not; from then on they are promises.
#[test]
fn what_was_once_found_is_found_after_a_later_crash() {
    each_seed_of(12, |g| {
        let seed = g.number();
        for k in 1.. {
            let mut g = Generator::new(seed);
            let disk = SimulatedDisk::new(g.number() ^ k);
            let mut wal = create(&disk);
            let mut history = History::new();
            disk.crash_at(k);
            let ended = history.run(&mut wal, &mut g, 30).is_ok();
            let disk = disk.kill();
            let mut wal = reopen(&disk, &mut history);
            let steps = g.int(0..=3);
            history.run(&mut wal, &mut g, steps).expect("no fault was planned");
            history.flush(&mut wal).expect("no fault was planned");
            reopen(&disk.crash(), &mut history);
            if ended {
                break;
            }
        }
    });
}

#[test]
fn a_crash_while_the_log_is_opened_changes_nothing() {
    each_seed(|g| {
        let mut disk = SimulatedDisk::new(g.number());
        let mut wal = create(&disk);
        let mut history = History::new();
        disk.crash_at(g.int(5..=80) as u64);
        drop(history.run(&mut wal, g, 30));
        disk = disk.crash();
        for k in 1..4 {
            disk.crash_at(k);
            let mark = Wal::marks(&disk, Path::new(DIR)).expect("marks").pop().expect("one");
            let opened = Wal::open_with(Arc::new(disk.clone()), Path::new(DIR), mark, SETTINGS);
            drop(opened.map(|(wal, _)| wal));
            disk = disk.crash();
        }
        reopen(&disk, &mut history);
    });
}

#[test]
fn a_crash_while_the_log_is_created_leaves_none_or_a_whole_one() {
    for k in 1..12 {
        for seed in 0..8 {
            let disk = SimulatedDisk::new(seed);
            disk.crash_at(k);
            let dir = Path::new(DIR);
            let done = Wal::create_with(Arc::new(disk.clone()), dir, METADATA, SETTINGS).is_ok();
            let disk = disk.crash();
            match Wal::open_with(Arc::new(disk.clone()), dir, SnapshotMark::default(), SETTINGS) {
                Ok((_, found)) => assert_eq!(found.metadata, METADATA),
                Err(error) => {
                    assert!(!done, "at {k}: {error}");
                    assert!(matches!(error, super::OpenError::Missing { .. }), "at {k}: {error}");
                    drop(create(&disk));
                }
            }
        }
    }
}

/// Damage to what was written and synced is refused, or harmless: it lies where nobody needs to
/// read.
#[test]
fn a_flipped_bit_is_never_believed() {
    let mut refused = 0;
    each_seed_of(600, |g| {
        let disk = SimulatedDisk::new(g.number());
        let mut wal = create(&disk);
        let mut history = History::new();
        history.run(&mut wal, g, 12).expect("no fault was planned");
        history.flush(&mut wal).expect("no fault was planned");
        drop(wal);
        let dir = Path::new(DIR);
        let mark = Wal::marks(&disk, dir).expect("marks").pop().expect("one");

        let names = disk.list(dir).expect("names");
        let names: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).collect();
        let path = dir.join(g.pick(&names));
        let len = disk.open(&path).expect("there").len().expect("a length");
        let (offset, bit) = (g.below(len), g.below(8) as u8);
        disk.flip_bit(&path, offset, bit);

        match Wal::open_with(Arc::new(disk), dir, mark, SETTINGS) {
            Ok((_, found)) => history.settle(mark, &found),
            Err(_) => refused += 1,
        }
    });
    assert!(refused > 200, "only {refused} refused: the test flips the wrong bits");
}

#[test]
fn any_bytes_in_a_segment_are_read_or_refused() {
    each_seed(|g| {
        let disk = SimulatedDisk::new(g.number());
        drop(create(&disk));
        let path = Path::new(DIR).join("0000000000000000-0000000000000000.wal");
        let file = disk.open(&path).expect("the first segment");
        let (at, bytes) = (g.int(0..=200), g.bytes(1..1200));
        file.write_at(at as u64, &bytes).expect("written");
        let mark = SnapshotMark::default();
        drop(Wal::open(Arc::new(disk), Path::new(DIR), mark).map(|(_, found)| found));
    });
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_acknowledged() {
    each_seed(|g| {
        let disk = SimulatedDisk::new(g.number());
        let mut wal = create(&disk);
        let mut history = History::new();
        disk.limit_space(Some(g.below(20_000)));
        let error = history.run(&mut wal, g, 1000).expect_err("the space is used up");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        drop(wal);
        disk.limit_space(None);
        reopen(&disk.crash(), &mut history);
    });
}

#[test]
fn after_a_failed_sync_the_log_takes_no_more() {
    let disk = SimulatedDisk::new(1);
    let mut wal = create(&disk);
    disk.fail_sync_at(1);
    let entry = EntryRef { kind: 0, term: 1, index: 1, data: b"x" };
    wal.append([entry].into_iter(), None).expect("buffered");
    wal.flush().expect_err("planned");
    wal.append([entry].into_iter(), None).expect_err("done for");
    wal.flush().expect_err("done for");
    wal.mark_snapshot(SnapshotMark { index: 1, term: 1 }, b"").expect_err("done for");
}

/// As when a snapshot comes: it is marked, and only then known to be committed.
#[test]
fn the_commit_index_that_makes_a_mark_count_survives_with_it() {
    let term_1 = |commit| Some(HardState { term: 1, vote: 0, commit });
    let mark = SnapshotMark { index: 51, term: 1 };
    each_seed(|g| {
        let disk = SimulatedDisk::new(g.number());
        let mut wal = create(&disk);
        wal.append(std::iter::empty(), term_1(1)).expect("buffered");
        wal.flush().expect("flushed");
        wal.mark_snapshot(mark, b"").expect("buffered");
        wal.flush().expect("flushed");
        wal.append(std::iter::empty(), term_1(51)).expect("buffered");
        wal.flush().expect("flushed");
        let marks = Wal::marks(&disk.crash(), Path::new(DIR)).expect("a log");
        assert_eq!(marks.last(), Some(&mark));
    });
}

#[test]
fn a_batch_costs_one_write_and_one_sync_and_a_commit_index_no_sync() {
    let disk = SimulatedDisk::new(1);
    let mut wal = Wal::create_with(
        Arc::new(disk.clone()),
        Path::new(DIR),
        b"",
        Settings { segment_size: 1 << 20 },
    )
    .expect("a log");
    let before = disk.counts();
    let entries = (1..=100).map(|index| EntryRef { kind: 0, term: 1, index, data: b"data" });
    wal.append(entries, Some(HardState { term: 1, vote: 1, commit: 0 })).expect("buffered");
    wal.flush().expect("flushed");
    let batch = disk.counts();
    assert_eq!((batch.writes - before.writes, batch.syncs - before.syncs), (1, 1));
    let state = HardState { term: 1, vote: 1, commit: 100 };
    wal.append(std::iter::empty(), Some(state)).expect("buffered");
    wal.flush().expect("flushed");
    let commit = disk.counts();
    assert_eq!((commit.writes - batch.writes, commit.syncs - batch.syncs), (1, 0));
    wal.flush().expect("nothing to do");
    assert_eq!(disk.counts(), commit);
}

#[test]
fn the_machines_disk_prepares_segments_in_the_background_and_keeps_them_locked() {
    let dir = std::env::temp_dir().join(format!("retcd-wal-{}", std::process::id()));
    let mark = SnapshotMark::default();
    let disk = || Arc::new(RealDisk) as Arc<dyn Disk>;
    let mut wal = Wal::create_with(disk(), &dir, METADATA, SETTINGS).expect("a log");
    wal.prepare_in_background();
    for index in 1..=100 {
        let entry = EntryRef { kind: 0, term: 1, index, data: &[7; 500] };
        wal.append([entry].into_iter(), None).expect("buffered");
        wal.flush().expect("flushed");
    }
    assert!(wal.n_segments() > 10);
    let refused = Wal::open(disk(), &dir, mark).err().expect("in use");
    assert!(matches!(refused, super::OpenError::Locked { .. }), "{refused}");
    drop(wal);
    assert!(!RealDisk.list(&dir).expect("names").iter().any(|name| name.ends_with(".tmp")));
    let (wal, found) = Wal::open_with(disk(), &dir, mark, SETTINGS).expect("free again");
    assert_found(&found.entries, 1..=100);
    drop(wal);
    std::fs::remove_dir_all(&dir).expect("removed");
}
