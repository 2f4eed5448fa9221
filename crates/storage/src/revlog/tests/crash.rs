//! Power fails, at every single operation of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use stdx::generate::each_seed_of;
use stdx::{Generator, each_seed};

use super::history::{History, Promised, Seen, run};
use super::model::{Reopened, check_files, check_lengths, open};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::is_crash;
use crate::revlog::{Fatal, Hurry, OpenError};

const NEW: fn() -> Promised = || Promised { measures: true, ..Promised::default() };

/// Opens the log and checks that it holds what was promised; that becomes the promise.
pub(super) fn found(disk: &SimulatedDisk, promised: &mut Promised) -> Result<Reopened, Fatal> {
    let reopened = match open(disk) {
        Ok(reopened) => reopened,
        Err(OpenError::Fatal(fatal)) => return Err(fatal),
        Err(locked @ OpenError::Locked(_)) => panic!("{locked}"),
    };
    if let Some(in_flight) = promised.in_flight.take()
        && reopened.model == in_flight
    {
        promised.committed = in_flight;
    }
    assert_eq!(reopened.model, promised.committed, "not what was last committed");
    check_files(disk, &reopened.log);
    check_lengths(disk, &reopened.log);
    Ok(reopened)
}

fn assert_crash(fatal: &Fatal) {
    assert!(fatal.io().is_some_and(is_crash), "took a crash for something else: {fatal}");
}

#[test]
fn a_crash_at_any_operation_brings_back_the_last_commit_and_nothing_else() {
    let mut seen = Seen::default();
    each_seed_of(60, |g| {
        let (seed, disk_seed) = (g.number(), g.number());
        let disk = SimulatedDisk::new(disk_seed);
        let whole = run(&disk, &mut Generator::new(seed), &mut NEW()).expect("no crash yet");
        seen.collections += whole.collections;
        seen.rolls += whole.rolls;
        for k in 1..=disk.counts().operations {
            let check = || crash_at(k, seed, disk_seed);
            if let Err(failure) = catch_unwind(AssertUnwindSafe(check)) {
                resume_unwind(Box::new(format!("operation {k}: {}", text_of(&*failure))));
            }
        }
    });
    assert!(seen.collections > 5 && seen.rolls > 50, "{seen:?}");
}

fn crash_at(k: u64, seed: u64, disk_seed: u64) {
    let disk = SimulatedDisk::new(disk_seed);
    disk.crash_at(k);
    let mut promised = NEW();
    let fatal = run(&disk, &mut Generator::new(seed), &mut promised).map(|_| ());
    assert_crash(&fatal.expect_err("the power failed"));
    drop(found(&disk.crash(), &mut promised).expect("what a crash leaves can be opened"));
}

fn text_of(failure: &(dyn std::any::Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().cloned();
    text.or(failure.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

#[test]
fn a_log_outlives_one_crash_after_the_other() {
    let mut seen = Seen::default();
    each_seed(|g| {
        let mut disk = SimulatedDisk::new(g.number());
        let mut promised = Promised { measures: g.chance(50), ..NEW() };
        for _ in 0..6 {
            if g.chance(80) {
                disk.crash_at(1 + g.below(120));
            }
            match run(&disk, g, &mut promised) {
                Ok(whole) => {
                    seen.late_deaths += whole.late_deaths;
                    seen.rewrites += whole.rewrites;
                    seen.collections += whole.collections;
                }
                Err(fatal) => assert_crash(&fatal),
            }
            disk = disk.crash();
        }
        drop(found(&disk, &mut promised).expect("what a crash leaves can be opened"));
    });
    assert!(seen.late_deaths > 100 && seen.rewrites > 20 && seen.collections > 100, "{seen:?}");
}

#[test]
fn a_full_disk_and_a_failed_sync_are_final_and_cost_no_commit() {
    each_seed(|g| {
        let disk = SimulatedDisk::new(g.number());
        let mut promised = NEW();
        if g.chance(50) {
            disk.limit_space(Some(g.below(20_000)));
        } else {
            disk.fail_sync_at(1 + g.below(20));
        }
        // Whether it was met or not: after the crash the log is as promised.
        drop(run(&disk, g, &mut promised));
        drop(found(&disk.crash(), &mut promised).expect("what a crash leaves can be opened"));
    });
}

/// What a crash leaves of a long transaction must not be mistaken for a part of the next one.
#[test]
fn the_rests_of_torn_transactions_do_not_add_up() {
    each_seed(|g| {
        let mut disk = SimulatedDisk::new(g.number());
        let mut promised = NEW();
        for _ in 0..8 {
            let mut reopened = found(&disk, &mut promised).expect("what a crash leaves is whole");
            let row = g.bytes(600..4000);
            reopened.log.table_set(1, b"row", Some(&row));
            let checkpoint = reopened.log.checkpoint(reopened.model.mark);
            let mut next = reopened.model;
            next.tables.insert((1, b"row".to_vec()), row);
            promised.in_flight = Some(next);
            disk.crash_at(1 + g.below(6));
            drop(checkpoint.commit(&mut Hurry));
            disk = disk.crash();
            // Sometimes even the restart gets no further than the cut.
            disk.crash_at(1 + g.below(8));
            drop(open(&disk));
            disk = disk.crash();
        }
    });
}

#[test]
fn after_any_length_of_work_the_folder_holds_no_more_than_the_log() {
    each_seed(|g| {
        let disk = SimulatedDisk::new(g.number());
        let mut history = History::new(found(&disk, &mut NEW()).expect("empty"), true);
        history.run(g, &mut NEW()).expect("no fault was planned");
        // What is committed now brings nothing that is new but the collector's work.
        let mut promised = history.settle(g).expect("no fault was planned");
        check_files(&disk, &history.log);
        drop(history);
        drop(found(&disk.crash(), &mut promised).expect("what a crash leaves can be opened"));
    });
}
