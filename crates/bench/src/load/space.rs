//! Disk space that comes back after a compaction, and what those who write meanwhile notice.
//!
//! ```text
//! 1 M puts over 100 k keys ─► disk at rest ─► puts, 1000/s ─► compaction ─► puts, 1000/s ─► disk again
//!                                             p99 before it                p99 during it
//! ```
//!
//! p99 is told of all puts, and of those that met no stall of the machine itself (`stalls`): by these
//! the two can be compared on a machine that others use, too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use proto::Method;
use proto::etcdserverpb::{CompactionRequest, CompactionResponse, RangeRequest, RangeResponse};

use super::unary::{Answered, Loop, Unary};
use super::whole::{Fact, MILLION, REST, Subject, mebibytes, milliseconds, wait};
use super::{FILL_BATCH, VALUE_SIZE, fill_family};
use crate::call::call;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::histogram::Histogram;
use crate::measure::{Measured, SETUP_MAX, drain, drive_for};
use crate::process::Server;
use crate::request::{Order, Requests, put, value};
use crate::stalls::{Stall, Witnesses};

const KEYS: u64 = 100_000;
/// What arrives while the history is compacted: little enough for any server.
const PUTS_PER_SECOND: u64 = 1000;
const CONNECTIONS: usize = 10;
/// The longest a compaction may take.
const COMPACTION_MAX: Duration = Duration::from_secs(300);
/// How long after a compaction space may still come back.
const RETURN: Duration = Duration::from_secs(15);

pub(super) fn run(subject: Subject<'_>, window: Duration) -> Result<Vec<Fact>, Failure> {
    let data = subject.data("space");
    // The last round's, if there was one.
    let _ = fs::remove_dir_all(&data);
    let (mut server, _) = subject.start(&data)?;
    fill_family(&server, "space", VALUE_SIZE, FILL_BATCH, MILLION, KEYS)?;
    let before = settle(&server, &data)?;

    let mut fleet = Fleet::connect(server.address, CONNECTIONS)?;
    let message = put("space", value(VALUE_SIZE));
    let requests = Requests::new(Method::Put, &message, Order::random(KEYS));
    let form = Loop::Open { per_second: PUTS_PER_SECOND };
    let mut load = Unary::new(requests, form, CONNECTIONS).keeping_each();
    let witnesses = Witnesses::call(subject.cores, server.pids(), fleet.clock);
    drive_for(&mut fleet, &mut load, window)?;
    let quiet = load.take_kept();

    let started = fleet.clock.now();
    let compaction = compact(&server)?;
    while !compaction.is_finished() {
        drive_for(&mut fleet, &mut load, REST.min(window) / 10)?;
    }
    compaction.join().map_err(|_| Failure::Wrong("the compaction was cut short"))??;
    let took = Duration::from_nanos(fleet.clock.now() - started);
    // A compaction that only says what shall be forgotten does its work after it was answered.
    drive_for(&mut fleet, &mut load, window)?;
    let busy = load.take_kept();
    let stalls = witnesses.ask()?;
    load.stop();
    drain(&mut fleet, &mut load, SETUP_MAX)?;

    wait(&mut fleet, RETURN)?;
    server.check_alive()?;
    let mut facts = vec![
        mebibytes("disk after 1 M puts over 100 k keys", before),
        mebibytes("disk after compacting them", on_disk(&data)),
        milliseconds("compaction, until answered", took),
    ];
    facts.extend(noticed(&quiet, &busy, &stalls));
    Ok(facts)
}

/// What those who wrote before and during the compaction noticed of it.
fn noticed(quiet: &[Answered], busy: &[Answered], stalls: &[Stall]) -> [Fact; 7] {
    let p99 = |puts: &[Answered]| Duration::from_nanos(histogram(puts).quantile(0.99));
    let undisturbed = |puts: &[Answered]| -> Vec<Answered> {
        let is_met = |put: &Answered| stalls.iter().any(|stall| stall.meets(put.due, put.at));
        puts.iter().filter(|put| !is_met(put)).copied().collect()
    };
    let (quiet_only, busy_only) = (undisturbed(quiet), undisturbed(busy));
    let times = p99(&busy_only).as_secs_f64() / p99(&quiet_only).as_secs_f64();
    let all = (quiet.len() + busy.len()) as f64;
    let met = 1.0 - (quiet_only.len() + busy_only.len()) as f64 / all;
    let slowest = Duration::from_nanos(histogram(busy).quantile(1.0));
    let number = |what: &str, unit, value| Fact { what: what.to_owned(), unit, value };
    [
        milliseconds("put p99 at 1000/s before it", p99(quiet)),
        milliseconds("put p99 at 1000/s during it", p99(busy)),
        milliseconds("slowest put during it", slowest),
        number("puts that met a stall of the machine", "%", met * 100.0),
        milliseconds("put p99 before it, without those", p99(&quiet_only)),
        milliseconds("put p99 during it, without those", p99(&busy_only)),
        number("as many times the one before", "×", times),
    ]
}

fn histogram(puts: &[Answered]) -> Histogram {
    let mut histogram = Histogram::new();
    puts.iter().for_each(|put| histogram.record(put.at.saturating_sub(put.due)));
    histogram
}

/// Compacts all history but the newest revision, from a thread that waits for it.
fn compact(server: &Server) -> Result<thread::JoinHandle<Result<(), Failure>>, Failure> {
    let address = server.address;
    let probe = RangeRequest { key: "revision?".into(), ..Default::default() };
    let answer: RangeResponse = call(address, Method::Range, &probe, SETUP_MAX)?;
    let revision = answer.header.ok_or(Failure::Wrong("an answer without a header"))?.revision;
    let request = CompactionRequest { revision, physical: true };
    Ok(thread::spawn(move || {
        call(address, Method::Compact, &request, COMPACTION_MAX).map(|_: CompactionResponse| ())
    }))
}

/// Leaves a server alone until its disk has stayed the same for a while, and says how much that is.
fn settle(server: &Server, data: &Path) -> Result<u64, Failure> {
    let mut fleet = Fleet::connect(server.address, 1)?;
    let start = fleet.clock.now();
    let mut size = on_disk(data);
    while fleet.clock.now() - start < SETUP_MAX.as_nanos() as u64 {
        wait(&mut fleet, REST)?;
        let before = std::mem::replace(&mut size, on_disk(data));
        if size == before {
            return Ok(size);
        }
    }
    Err(Failure::Wrong("the disk did not come to rest"))
}

/// What a folder occupies: blocks, not lengths, for files may have holes.
fn on_disk(folder: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let inside = if metadata.is_dir() { on_disk(&entry.path()) } else { 0 };
        Some(metadata.blocks() * BLOCK + inside)
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_for_the_machine_is_told_of_apart() {
        const MS: u64 = 1_000_000;
        let put = |due: u64, took: u64| Answered { due: due * MS, at: (due + took) * MS };
        let quiet: Vec<Answered> = (0..100).map(|n| put(n, 1)).collect();
        let mut busy: Vec<Answered> = (200..300).map(|n| put(n, 2)).collect();
        busy.extend((400..410).map(|n| put(n, 410 - n)));
        let stall = Stall { from: 400 * MS, to: 410 * MS };
        let facts = noticed(&quiet, &busy, &[stall]);
        let rounded = facts.map(|fact| (fact.value * 10.0).round() / 10.0);
        assert_eq!(rounded, [1.0, 9.0, 10.0, 4.8, 1.0, 2.0, 2.0]);
    }
}
