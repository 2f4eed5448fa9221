use super::*;
use crate::disk::SECTOR_SIZE;
use stdx::each_seed;

fn at(name: &str) -> PathBuf {
    Path::new("d").join(name)
}

fn disk(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    disk.create_dir(Path::new("d")).expect("a folder");
    disk
}

fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&at(name)).ok()?;
    let mut bytes = Vec::new();
    file.copy_to(0, file.len().expect("a length") as usize, &mut bytes).expect("readable");
    Some(bytes)
}

#[test]
fn a_file_without_a_crash_is_an_array_of_bytes() {
    each_seed(|g| {
        let disk = disk(g.number());
        let file = disk.create(&at("a")).expect("a file");
        let mut model: Vec<u8> = Vec::new();
        for _ in 0..20 {
            let offset = g.int(0..=2000);
            if g.chance(20) {
                file.set_len(offset as u64).expect("resized");
                model.resize(offset, 0);
            } else {
                let bytes = g.bytes(1..1500);
                model.resize(model.len().max(offset + bytes.len()), 0);
                model[offset..offset + bytes.len()].copy_from_slice(&bytes);
                file.write_at(offset as u64, &bytes).expect("written");
            }
            if g.chance(20) {
                file.sync().expect("synced");
            }
            assert_eq!(content(&disk, "a").as_ref(), Some(&model));
        }
    });
}

#[test]
fn what_was_synced_survives_and_the_rest_is_old_or_new_by_sector() {
    each_seed(|g| {
        let old = disk(g.number());
        let file = old.create(&at("a")).expect("a file");
        old.sync_dir(Path::new("d")).expect("synced");
        let before = vec![1; SECTOR_SIZE * 4];
        file.write_at(0, &before).expect("written");
        file.sync().expect("synced");
        let (from, n) = (g.int(0..=1500), g.int(1..=400));
        file.write_at(from as u64, &vec![2; n]).expect("written");
        let mut after = before.clone();
        after[from..from + n].fill(2);

        let found = content(&old.crash(), "a").expect("its name was synced");
        for (i, sector) in found.chunks(SECTOR_SIZE).enumerate() {
            let range = i * SECTOR_SIZE..(i + 1) * SECTOR_SIZE;
            assert!(sector == &before[range.clone()] || sector == &after[range], "torn sector");
        }
        let error = file.read_at(0, &mut [0]).expect_err("an old handle");
        assert!(is_crash(&error));
    });
}

#[test]
fn both_fates_of_an_unsynced_change_come_to_pass() {
    let mut seen = [[0; 2]; 3];
    each_seed(|g| {
        let old = disk(g.number());
        let file = old.create(&at("a")).expect("a file");
        old.sync_dir(Path::new("d")).expect("synced");
        file.write_at(0, b"x").expect("written");
        old.create(&at("b")).expect("a file");
        old.rename(&at("a"), &at("c")).expect("renamed");
        let new = old.crash();
        let (a, b, c) = (content(&new, "a"), content(&new, "b"), content(&new, "c"));
        assert!(a.is_some() != c.is_some(), "a rename is one step");
        seen[0][usize::from(b.is_some())] += 1;
        seen[1][usize::from(c.is_some())] += 1;
        seen[2][a.or(c).expect("one of them").len()] += 1;
    });
    assert!(seen.iter().flatten().all(|n| *n > 50), "{seen:?}");
}

#[test]
fn a_crash_can_be_had_at_every_operation_and_nothing_works_after_it() {
    let history = |disk: &SimulatedDisk| -> io::Result<()> {
        let file = disk.create(&at("a"))?;
        file.write_at(0, b"one")?;
        file.sync()?;
        disk.rename(&at("a"), &at("b"))?;
        disk.sync_dir(Path::new("d"))?;
        disk.remove(&at("b"))
    };
    for k in 1..=6 {
        let disk = disk(k);
        disk.crash_at(k);
        assert!(is_crash(&history(&disk).expect_err("the power failed")), "at {k}");
        assert!(is_crash(&disk.list(Path::new("d")).expect_err("still off")), "at {k}");
        if k == 6 {
            assert_eq!(content(&disk.crash(), "b").unwrap_or(b"one".to_vec()), b"one");
        }
    }
    let disk = disk(0);
    disk.crash_at(7);
    history(&disk).expect("it has six operations");
    assert_eq!(disk.counts().operations, 1 + 6);
}

#[test]
fn a_full_disk_takes_what_fits_and_lets_allocated_space_be_overwritten() {
    let disk = disk(1);
    let file = disk.create(&at("a")).expect("a file");
    file.write_at(0, &[1; 1024]).expect("written");
    disk.limit_space(Some(512));
    file.write_at(0, &[2; 1024]).expect("takes no space");
    let error = file.write_at(1000, &[3; 1024]).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().expect("a length"), 1536);
    file.set_len(1 << 30).expect("a hole takes no space");
    file.write_at(4096, &[4]).expect_err("full");
}

#[test]
fn after_a_failed_sync_the_data_looks_well_until_the_crash() {
    let mut lost = 0;
    each_seed(|g| {
        let disk = disk(g.number());
        let file = disk.create(&at("a")).expect("a file");
        disk.sync_dir(Path::new("d")).expect("synced");
        file.write_at(0, b"old").expect("written");
        file.sync().expect("synced");
        disk.fail_sync_at(1);
        file.write_at(0, b"new").expect("written");
        file.sync().expect_err("planned");
        file.sync().expect("and says nothing of it later");
        assert_eq!(content(&disk, "a").expect("there"), b"new");
        lost += u32::from(content(&disk.crash(), "a").expect("there") == b"old");
    });
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_flipped_bit_is_seen_at_once_and_after_a_crash() {
    let old = disk(1);
    let file = old.create(&at("a")).expect("a file");
    file.write_at(0, &[0; 700]).expect("written");
    file.sync().expect("synced");
    old.sync_dir(Path::new("d")).expect("synced");
    old.flip_bit(&at("a"), 600, 3);
    assert_eq!(content(&old, "a").expect("there")[600], 8);
    assert_eq!(content(&old.crash(), "a").expect("there")[600], 8);
}

#[test]
fn a_killed_process_leaves_unsynced_writes_that_a_crash_may_still_take() {
    let mut survived = [0; 2];
    each_seed(|g| {
        let old = disk(g.number());
        let file = old.create(&at("a")).expect("a file");
        old.sync_dir(Path::new("d")).expect("synced");
        file.write_at(0, b"x").expect("written");
        let killed = old.kill();
        assert!(is_crash(&file.sync().expect_err("a dead process's handle")));
        assert_eq!(content(&killed, "a").expect("there"), b"x");
        survived[content(&killed.crash(), "a").expect("there").len()] += 1;
    });
    assert!(survived.iter().all(|n| *n > 50), "{survived:?}");
}

#[test]
fn at_rest_is_what_was_synced_and_the_disk_goes_on() {
    each_seed(|g| {
        let disk = disk(g.number());
        let file = disk.create(&at("a")).expect("a file");
        disk.sync_dir(Path::new("d")).expect("synced");
        let synced = g.bytes(1..1500);
        file.write_at(0, &synced).expect("written");
        file.sync().expect("synced");
        file.write_at(g.below(2000), &g.bytes(1..1500)).expect("written");
        disk.create(&at("b")).expect("a file");
        let written = content(&disk, "a");
        assert_eq!(content(&disk.at_rest(), "a"), Some(synced));
        assert_eq!(content(&disk.at_rest(), "b"), None);
        assert_eq!(content(&disk, "a"), written);
        file.sync().expect("the disk goes on");
        assert_eq!(content(&disk.at_rest(), "a"), written);
    });
}

#[test]
fn a_lock_dies_with_its_guard_or_with_the_power() {
    let old = disk(1);
    let guard = old.lock(&at("lock")).expect("free");
    assert_eq!(old.lock(&at("lock")).err().map(|e| e.kind()), Some(ErrorKind::WouldBlock));
    let new = old.crash();
    new.lock(&at("lock")).expect("free after the crash");
    drop(guard);
}
