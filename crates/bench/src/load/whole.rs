//! What is not a rate: starting, memory at rest, and disk space that comes back.
//!
//! Each of these has a server of its own, on a folder of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use proto::Method;
use proto::etcdserverpb::{CompactionRequest, CompactionResponse, RangeRequest, RangeResponse};

use super::unary::{Loop, Unary};
use super::{FILL_BATCH, VALUE_SIZE, fill_family};
use crate::call::call;
use crate::failure::{Failure, system};
use crate::fleet::{Fleet, Silence};
use crate::machine::{Core, raise_open_files};
use crate::measure::{Measured, SETUP_MAX, drain, drive_for};
use crate::process::Server;
use crate::request::{Order, Requests, put, value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    StartEmpty,
    StartMillion,
    Idle,
    Space,
}

/// One number that came of it; less is better, always.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

const MILLION: u64 = 1_000_000;
const IDLE_CONNECTIONS: usize = 10_000;
/// Files this process needs beside its connections.
const FILES_SPARED: u64 = 100;
const SPACE_KEYS: u64 = 100_000;
/// What arrives while the history is compacted: little enough for any server.
const SPACE_PUTS_PER_SECOND: u64 = 1000;
const SPACE_CONNECTIONS: usize = 10;
/// The longest a compaction may take.
const COMPACTION_MAX: Duration = Duration::from_secs(300);
/// How long a server is left alone before its memory or its disk is looked at.
const REST: Duration = Duration::from_secs(2);
/// How long after a compaction space may still come back.
const RETURN: Duration = Duration::from_secs(15);

/// Who is looked at: what is run where, on what core.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) core: Option<Core>,
}

impl Subject<'_> {
    /// Makes its folder.
    pub(crate) fn create(self) -> Result<(), Failure> {
        let doing = format!("creating {}", self.folder.display());
        fs::create_dir_all(self.folder).map_err(system(doing))
    }

    fn start(self, data: &Path) -> Result<(Server, Duration), Failure> {
        let mut server = Server::start(self.program, data, self.core)?;
        let took = server.wait_ready()?;
        Ok((server, took))
    }

    fn data(self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Whole {
    /// How often it is worth repeating.
    pub(crate) fn rounds(self, wanted: usize) -> usize {
        match self {
            Self::StartEmpty | Self::StartMillion | Self::Space => wanted,
            Self::Idle => 1,
        }
    }

    /// What all rounds share.
    pub(crate) fn prepare(self, subject: Subject<'_>) -> Result<(), Failure> {
        match self {
            Self::StartMillion => {
                let (server, _) = subject.start(&subject.data("million"))?;
                fill_family(&server, "million", VALUE_SIZE, FILL_BATCH, MILLION, MILLION)?;
                server.stop()
            }
            Self::StartEmpty | Self::Idle | Self::Space => Ok(()),
        }
    }

    pub(crate) fn run(self, subject: Subject<'_>, window: Duration) -> Result<Vec<Fact>, Failure> {
        match self {
            Self::StartEmpty => start_empty(subject),
            Self::StartMillion => start_million(subject),
            Self::Idle => idle(subject),
            Self::Space => space(subject, window),
        }
    }

    /// Removes what the rounds left.
    pub(crate) fn clean(self, subject: Subject<'_>) {
        for name in ["million", "empty", "idle", "space"] {
            // What is not there needs no removing; what can't be removed goes with the folder.
            let _ = fs::remove_dir_all(subject.data(name));
        }
    }
}

fn milliseconds(what: &str, time: Duration) -> Fact {
    Fact { what: what.to_owned(), unit: "ms", value: time.as_secs_f64() * 1e3 }
}

fn mebibytes(what: &str, bytes: u64) -> Fact {
    Fact { what: what.to_owned(), unit: "MiB", value: bytes as f64 / f64::from(1 << 20) }
}

fn start_empty(subject: Subject<'_>) -> Result<Vec<Fact>, Failure> {
    let data = subject.data("empty");
    // The last round's, if there was one.
    let _ = fs::remove_dir_all(&data);
    let (server, took) = subject.start(&data)?;
    rest(&server, REST)?;
    let memory = server.memory();
    server.stop()?;
    Ok(vec![
        milliseconds("start to first answer, empty", took),
        mebibytes("RSS, empty", memory.resident),
    ])
}

fn start_million(subject: Subject<'_>) -> Result<Vec<Fact>, Failure> {
    let (server, took) = subject.start(&subject.data("million"))?;
    rest(&server, REST)?;
    let memory = server.memory();
    server.stop()?;
    Ok(vec![
        milliseconds("start to first answer, 1 M keys", took),
        mebibytes("RSS with 1 M keys after a restart", memory.resident),
        mebibytes("of it anonymous", memory.anonymous),
    ])
}

fn idle(subject: Subject<'_>) -> Result<Vec<Fact>, Failure> {
    let files = raise_open_files()?.saturating_sub(FILES_SPARED);
    let n = IDLE_CONNECTIONS.min(usize::try_from(files).unwrap_or(usize::MAX));
    let (server, _) = subject.start(&subject.data("idle"))?;
    rest(&server, REST)?;
    let before = server.memory().resident;
    let mut fleet = Fleet::connect(server.address, n)?;
    wait(&mut fleet, REST)?;
    let after = server.memory().resident;
    let each = after.saturating_sub(before) as f64 / n as f64 / 1024.0;
    Ok(vec![
        mebibytes(&format!("RSS with {n} idle connections"), after),
        Fact { what: "of it for each connection".to_owned(), unit: "KiB", value: each },
    ])
}

fn space(subject: Subject<'_>, window: Duration) -> Result<Vec<Fact>, Failure> {
    let data = subject.data("space");
    // The last round's, if there was one.
    let _ = fs::remove_dir_all(&data);
    let (mut server, _) = subject.start(&data)?;
    fill_family(&server, "space", VALUE_SIZE, FILL_BATCH, MILLION, SPACE_KEYS)?;
    let before = settle(&server, &data)?;

    let mut fleet = Fleet::connect(server.address, SPACE_CONNECTIONS)?;
    let message = put("space", value(VALUE_SIZE));
    let requests = Requests::new(Method::Put, &message, Order::random(SPACE_KEYS));
    let form = Loop::Open { per_second: SPACE_PUTS_PER_SECOND };
    let mut load = Unary::new(requests, form, SPACE_CONNECTIONS);
    drive_for(&mut fleet, &mut load, window)?;
    let quiet = quantile(&mut load, 0.99);

    load.latency().clear();
    let started = fleet.clock.now();
    let compaction = compact(&server)?;
    while !compaction.is_finished() {
        drive_for(&mut fleet, &mut load, REST.min(window) / 10)?;
    }
    compaction.join().map_err(|_| Failure::Wrong("the compaction was cut short"))??;
    let took = Duration::from_nanos(fleet.clock.now() - started);
    // A compaction that only says what shall be forgotten does its work after it was answered.
    drive_for(&mut fleet, &mut load, window)?;
    let (busy, worst) = (quantile(&mut load, 0.99), quantile(&mut load, 1.0));
    load.stop();
    drain(&mut fleet, &mut load, SETUP_MAX)?;

    wait(&mut fleet, RETURN)?;
    server.check_alive()?;
    let after = on_disk(&data);
    Ok(vec![
        mebibytes("disk after 1 M puts over 100 k keys", before),
        mebibytes("disk after compacting them", after),
        milliseconds("compaction, until answered", took),
        milliseconds("put p99 at 1000/s before it", quiet),
        milliseconds("put p99 at 1000/s during it", busy),
        Fact {
            what: "put p99 during it, as many times that before it".to_owned(),
            unit: "×",
            value: busy.as_secs_f64() / quiet.as_secs_f64(),
        },
        milliseconds("slowest put during it", worst),
    ])
}

fn quantile(load: &mut Unary, share: f64) -> Duration {
    Duration::from_nanos(load.latency().quantile(share))
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

/// Leaves a server alone but for one connection.
fn rest(server: &Server, time: Duration) -> Result<(), Failure> {
    wait(&mut Fleet::connect(server.address, 1)?, time)
}

/// Answers pings and nothing else.
fn wait(fleet: &mut Fleet, time: Duration) -> Result<(), Failure> {
    let end = fleet.clock.now() + time.as_nanos() as u64;
    while fleet.clock.now() < end {
        let left = Duration::from_nanos(end.saturating_sub(fleet.clock.now()));
        fleet.turn(left, &mut Silence)?;
    }
    Ok(())
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
