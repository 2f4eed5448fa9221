//! Bits flip in what was durable; a second process comes along.

use std::sync::Arc;

use stdx::generate::each_seed_of;
use stdx::{Generator, each_seed};

use super::history::{Promised, run};
use super::model::{CONFIG, Model, dir, open};
use crate::disk::{Disk, SimulatedDisk};
use crate::revlog::{Hurry, OpenError, Revlog};

/// Most files have little but zeros past this.
const OFFSET_MAX: u64 = 4000;

fn written(g: &mut Generator) -> (SimulatedDisk, Model) {
    let disk = SimulatedDisk::new(g.number());
    let mut promised = Promised::default();
    run(&disk, g, &mut promised).expect("no fault was planned");
    (disk.crash(), promised.committed)
}

#[test]
fn a_flipped_bit_is_noticed_or_does_not_matter() {
    let mut n_noticed = 0;
    each_seed(|g| {
        let (disk, model) = written(g);
        let names = disk.list(&dir()).expect("a folder");
        let files: Vec<&String> = names.iter().filter(|name| *name != "lock").collect();
        let path = dir().join(g.pick(&files));
        let len = disk.open(&path).expect("a file").len().expect("a length");
        if len == 0 {
            return; // A segment that was made and never came to be part of a commit.
        }
        let offset = g.below(len.min(OFFSET_MAX));
        disk.flip_bit(&path, offset, g.below(8) as u8);
        match open(&disk) {
            Ok(reopened) => assert_eq!(reopened.model, model, "{}", path.display()),
            Err(error) => {
                n_noticed += 1;
                let text = error.to_string();
                let expected = format!("{}: damaged at byte ", path.display());
                assert!(text.starts_with(&expected), "{text}");
            }
        }
    });
    assert!(n_noticed > 50, "{n_noticed}");
}

#[test]
fn every_byte_of_the_ledger_is_watched() {
    each_seed_of(3, |g| {
        let (disk, _) = written(g);
        let names = disk.list(&dir()).expect("a folder");
        let path = dir().join(names.iter().filter(|n| n.ends_with(".ledger")).max().expect("one"));
        let end = open(&disk).expect("whole").log.shared.ledger().size();
        for offset in 0..end {
            let bit = g.below(8) as u8;
            disk.flip_bit(&path, offset, bit);
            let noticed = open(&disk).map(|_| ()).expect_err("a flipped bit");
            assert!(noticed.to_string().starts_with(&path.display().to_string()), "{noticed}");
            disk.flip_bit(&path, offset, bit);
        }
    });
}

/// A disk may lose a sector for zeros; that looks like a torn write, but for what comes after it.
#[test]
fn a_sector_lost_before_the_last_transaction_is_noticed() {
    each_seed(|g| {
        let (disk, _) = written(g);
        let mut log = open(&disk).expect("whole").log;
        let path = dir().join(
            disk.list(&dir())
                .expect("a folder")
                .iter()
                .find(|n| n.ends_with(".ledger"))
                .expect("one"),
        );
        let end = log.shared.ledger().size();
        let mark = log.mark;
        log.checkpoint(mark).commit(&mut Hurry).expect("committed");
        drop(log);
        let at = g.below(end / 512) * 512;
        disk.open(&path).expect("a file").write_at(at, &[0; 512]).expect("written");
        let error = open(&disk).map(|_| ()).expect_err("a lost sector");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    });
}

#[test]
fn any_scribble_is_noticed_or_does_not_matter() {
    each_seed(|g| {
        let (disk, model) = written(g);
        let names = disk.list(&dir()).expect("a folder");
        let file = disk.open(&dir().join(g.pick(&names))).expect("a file");
        let scribble = g.bytes(1..600);
        file.write_at(g.below(OFFSET_MAX), &scribble).expect("written");
        match open(&disk) {
            Ok(reopened) => assert_eq!(reopened.model, model),
            Err(error) => assert!(error.to_string().contains(": damaged at byte "), "{error}"),
        }
    });
}

#[test]
fn a_lost_file_is_noticed() {
    each_seed(|g| {
        let (disk, model) = written(g);
        // A start removes what a crash brought back: an older ledger, for one.
        drop(open(&disk).expect("whole"));
        let names = disk.list(&dir()).expect("a folder");
        let files: Vec<&String> = names.iter().filter(|name| *name != "lock").collect();
        disk.remove(&dir().join(g.pick(&files))).expect("removed");
        match open(&disk) {
            Ok(reopened) => assert_eq!(reopened.model, model),
            Err(error) => assert!(error.to_string().starts_with("member/store"), "{error}"),
        }
    });
}

#[test]
fn a_folder_in_use_is_refused() {
    let disk = SimulatedDisk::new(1);
    let first = open(&disk).map_err(|e| e.to_string());
    let second = Revlog::open(Arc::new(disk.clone()), &dir(), CONFIG);
    assert!(matches!(second.map(|_| ()), Err(OpenError::Locked(_))));
    drop(first);
    drop(open(&disk).map_err(|e| e.to_string()).expect("it is free again"));
}
