//! What is not a rate: starting, memory at rest, and disk space that comes back.
//!
//! Each of these has a server of its own, on a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FILL_BATCH, VALUE_SIZE, fill_family, space};
use crate::failure::{Failure, system};
use crate::fleet::{Fleet, Silence};
use crate::machine::{Cores, raise_open_files};
use crate::process::Server;

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

pub(super) const MILLION: u64 = 1_000_000;
const IDLE_CONNECTIONS: usize = 10_000;
/// Files this process needs beside its connections.
const FILES_SPARED: u64 = 100;
/// How long a server is left alone before its memory or its disk is looked at.
pub(super) const REST: Duration = Duration::from_secs(2);

/// Who is looked at: what is run where, on what core.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) cores: Cores,
}

impl Subject<'_> {
    /// Makes its folder.
    pub(crate) fn create(self) -> Result<(), Failure> {
        let doing = format!("creating {}", self.folder.display());
        fs::create_dir_all(self.folder).map_err(system(doing))
    }

    pub(super) fn start(self, data: &Path) -> Result<(Server, Duration), Failure> {
        let mut server = Server::start(self.program, data, self.cores.server)?;
        let took = server.wait_ready()?;
        Ok((server, took))
    }

    pub(super) fn data(self, name: &str) -> PathBuf {
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
            Self::Space => space::run(subject, window),
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

pub(super) fn milliseconds(what: &str, time: Duration) -> Fact {
    Fact { what: what.to_owned(), unit: "ms", value: time.as_secs_f64() * 1e3 }
}

pub(super) fn mebibytes(what: &str, bytes: u64) -> Fact {
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

/// Leaves a server alone but for one connection.
fn rest(server: &Server, time: Duration) -> Result<(), Failure> {
    wait(&mut Fleet::connect(server.address, 1)?, time)
}

/// Answers pings and nothing else.
pub(super) fn wait(fleet: &mut Fleet, time: Duration) -> Result<(), Failure> {
    let end = fleet.clock.now() + time.as_nanos() as u64;
    while fleet.clock.now() < end {
        let left = Duration::from_nanos(end.saturating_sub(fleet.clock.now()));
        fleet.turn(left, &mut Silence)?;
    }
    Ok(())
}
