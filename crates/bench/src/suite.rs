//! All loads on all servers, in turns.
//!
//! ```text
//! load ─► round 1: etcd, retcd ─► round 2: etcd, retcd ─► … ─► medians
//! ```
//!
//! What disturbs the machine for a while then disturbs both. The server whose turn it isn't is up
//! and idle. A load that fails on a server is told so, and that server is started anew.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::load::whole::{Fact, Subject, Whole};
use crate::load::{Named, Rate, What, fill};
use crate::machine::Cores;
use crate::measure::{Sample, Setting};
use crate::process::{Cast, Folder, Server};
use crate::report::{Row, Who, median_facts, median_sample};

/// One of those compared.
pub(crate) struct Contestant {
    pub(crate) label: &'static str,
    pub(crate) program: PathBuf,
}

pub(crate) struct Suite<'a> {
    pub(crate) contestants: &'a [Contestant],
    pub(crate) cores: Cores,
    pub(crate) folder: &'a Folder,
    pub(crate) window: Duration,
    pub(crate) rounds: usize,
    pub(crate) cast: Cast,
}

/// Tells whoever is waiting.
pub(crate) fn say(what: &str) {
    // Nobody need be listening.
    let _ = writeln!(stderr(), "{what}");
}

impl Suite<'_> {
    /// Starts each server once, to learn that it works and what it is.
    pub(crate) fn who(&self) -> Result<Vec<Who>, Failure> {
        let who = |contestant: &Contestant| {
            let data = self.data(contestant, "version");
            let mut server = Server::start(&contestant.program, &data, self.cores.server)?;
            server.wait_ready()?;
            Ok(Who { label: contestant.label, version: server.version()? })
        };
        self.contestants.iter().map(who).collect()
    }

    pub(crate) fn rates(&self, loads: &[&'static Named]) -> Vec<Row<Sample>> {
        let loads = loads.iter().filter_map(|load| match load.what {
            What::Rate(rate) => Some((*load, rate)),
            What::Whole(_) => None,
        });
        let mut servers: Vec<Option<Server>> = self.contestants.iter().map(|_| None).collect();
        loads.map(|(load, rate)| self.rate(load, rate, &mut servers)).collect()
    }

    fn rate(
        &self,
        load: &'static Named,
        rate: Rate,
        servers: &mut [Option<Server>],
    ) -> Row<Sample> {
        let mut outcomes: Vec<Result<Vec<Sample>, String>> =
            servers.iter().map(|_| Ok(Vec::new())).collect();
        for _ in 0..self.rounds {
            for (n, outcome) in outcomes.iter_mut().enumerate() {
                let Ok(samples) = outcome else { continue };
                match self.round(rate, &mut servers[n], n) {
                    Ok(sample) => {
                        self.tell(load, n, &sample);
                        samples.push(sample);
                    }
                    Err(why) => {
                        say(&format!("{:<24}{:<6} {why}", load.name, self.contestants[n].label));
                        *outcome = Err(why.to_string());
                    }
                }
            }
        }
        let outcomes = outcomes.into_iter().map(|o| o.map(|s| median_sample(&s))).collect();
        Row { name: load.name, doc: load.doc, outcomes }
    }

    /// One load on one server, once. A server that fails it is not used again.
    fn round(&self, rate: Rate, slot: &mut Option<Server>, n: usize) -> Result<Sample, Failure> {
        let mut server = match slot.take() {
            Some(server) => server,
            None => self.start(&self.contestants[n])?,
        };
        let setting = Setting { window: self.window, cores: self.cores };
        match rate.run(&mut server, setting) {
            Ok(sample) => {
                *slot = Some(server);
                Ok(sample)
            }
            Err(failure) => {
                server.check_alive()?; // Its death says more than what we noticed of it.
                Err(failure)
            }
        }
    }

    fn tell(&self, load: &Named, n: usize, sample: &Sample) {
        say(&format!(
            "{:<24}{:<6}{:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  server {:>7.2} µs  client {:>5.2} µs",
            load.name,
            self.contestants[n].label,
            sample.per_second,
            sample.p50.as_secs_f64() * 1e3,
            sample.p99.as_secs_f64() * 1e3,
            sample.server_cpu.as_secs_f64() * 1e6,
            sample.client_cpu.as_secs_f64() * 1e6,
        ));
    }

    /// A server with all that the loads read, on a fresh folder.
    fn start(&self, contestant: &Contestant) -> Result<Server, Failure> {
        let data = self.data(contestant, "rates");
        // A server that failed may have left its own.
        let _ = std::fs::remove_dir_all(&data);
        let members = self.cast.members;
        let mut server = Server::start_all(&contestant.program, &data, self.cores.server, members)?;
        server.wait_ready()?;
        server.ask(self.cast)?;
        fill(&server)?;
        Ok(server)
    }

    pub(crate) fn facts(&self, loads: &[&'static Named]) -> Vec<Row<Vec<Fact>>> {
        let wholes = loads.iter().filter_map(|load| match load.what {
            What::Whole(whole) => Some((*load, whole)),
            What::Rate(_) => None,
        });
        wholes.map(|(load, whole)| self.fact(load, whole)).collect()
    }

    fn fact(&self, load: &'static Named, whole: Whole) -> Row<Vec<Fact>> {
        let folders: Vec<PathBuf> =
            self.contestants.iter().map(|c| self.data(c, "whole")).collect();
        let subjects = self.contestants.iter().zip(&folders).map(|(contestant, folder)| Subject {
            program: &contestant.program,
            folder,
            cores: self.cores,
        });
        let subjects: Vec<Subject<'_>> = subjects.collect();
        let mut outcomes: Vec<Result<Vec<Vec<Fact>>, String>> = subjects
            .iter()
            .map(|s| s.create().and_then(|()| whole.prepare(*s)))
            .map(|prepared| prepared.map(|()| Vec::new()).map_err(|why| why.to_string()))
            .collect();
        for _ in 0..whole.rounds(self.rounds) {
            for (n, outcome) in outcomes.iter_mut().enumerate() {
                let Ok(rounds) = outcome else { continue };
                match whole.run(subjects[n], self.window) {
                    Ok(facts) => rounds.push(facts),
                    Err(failure) => *outcome = Err(failure.to_string()),
                }
            }
        }
        for (n, outcome) in outcomes.iter().enumerate() {
            let told = match outcome {
                Ok(rounds) => median_facts(rounds)
                    .iter()
                    .map(|fact| format!("{}: {:.2} {}", fact.what, fact.value, fact.unit))
                    .collect::<Vec<_>>()
                    .join("; "),
                Err(why) => why.clone(),
            };
            say(&format!("{:<24}{:<6} {told}", load.name, self.contestants[n].label));
            whole.clean(subjects[n]);
        }
        let outcomes =
            outcomes.into_iter().map(|o| o.map(|rounds| median_facts(&rounds))).collect();
        Row { name: load.name, doc: load.doc, outcomes }
    }

    fn data(&self, contestant: &Contestant, name: &str) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join(format!("{}-{name}", contestant.label))
    }
}
