//! `bench`: retcd and Go etcd side by side, on the same loads, in turns.
//!
//! ```text
//!            ┌── core 0 ──────────┐       ┌── core 1 ─────────────────────────────┐
//!            │ etcd  (idle)       │       │ suite ─► load ─► fleet ─► http2       │
//!            │ retcd (measured)   │◄─────►│   │        ask,    sockets  frames    │
//!            └──────▲─────────────┘       │   │        count                      │
//!                   └ usage: CPU, memory ◄┼── measure ─► histogram ─► report      │
//!                                         └───────────────────────────────────────┘
//! ```
//!
//! The client is one thread on one core, and has to cost far less than what it measures: requests
//! are encoded once, answers are looked at no further than needed, and nothing is allocated for
//! either. What it does cost is told beside what the server does.
//!
//! # Not here
//!
//! TLS, authentication. Whether answers are right: `tests/` and `sim` see to that;
//! here a wrong count or a missing byte only ends the measurement.

#![forbid(unsafe_code)]

mod arguments;
mod call;
mod failure;
mod fleet;
mod histogram;
mod http2;
mod load;
mod machine;
mod measure;
mod process;
mod reference;
mod report;
mod request;
mod stalls;
mod suite;
mod usage;

use std::env;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Arguments, Wish, help};
use failure::{Failure, system};
use machine::Cores;
use process::{Cast, Folder};
use report::Report;
use suite::{Contestant, Suite, say};

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == process::LAUNCH).is_some() {
        say(&process::launch(args).to_string());
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("bench: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    match Wish::parse(env::args().skip(1))? {
        Wish::Help => print(&help()),
        Wish::Measure(arguments) => {
            let report = measure(&arguments)?;
            if arguments.write_docs {
                report.write_docs(&reference::root().join("docs/benchmarks.md"))?;
            }
            if arguments.json {
                print(&format!("{:#}\n", report.json()))
            } else {
                print(&report.markdown())
            }
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let cores = Cores::choose()?;
    let folder = Folder::create(&reference::root().join("target/bench"))?;
    machine::raise_open_files()?;
    if let Some(core) = cores.client {
        machine::pin(core)?;
    }
    let contestants = contestants(arguments)?;
    let (window, rounds) = (arguments.window, arguments.rounds);
    let cast = arguments.cast;
    let suite = Suite { contestants: &contestants, cores, folder: &folder, window, rounds, cast };
    let who = suite.who()?;
    Ok(Report {
        machine: machine::describe(cores),
        date: machine::date(),
        method: format!(
            "Medians of {rounds} rounds in turns, {} s each; keys 60 B, values 256 B. {}",
            window.as_secs_f64(),
            told(cast)
        ),
        who,
        rates: suite.rates(&arguments.loads),
        facts: suite.facts(&arguments.loads),
    })
}

fn told(cast: Cast) -> String {
    match cast {
        Cast { members: 1, .. } => "One member.".to_owned(),
        Cast { members, follower } => {
            let who = if follower { "a follower" } else { "the leader" };
            format!(
                "{members} members on one core, of which {who} is asked; CPU and memory of all."
            )
        }
    }
}

/// etcd first, so that what is told second is compared with it; either may be missing.
fn contestants(arguments: &Arguments) -> Result<Vec<Contestant>, Failure> {
    let mut found = Vec::new();
    match reference::find(arguments.etcd.clone()) {
        Ok(program) => found.push(Contestant { label: "etcd", program }),
        Err(why) => say(&format!("bench: no etcd to compare with: {why}")),
    }
    match retcd(arguments)? {
        Ok(program) => found.push(Contestant { label: "retcd", program }),
        Err(path) => say(&format!("bench: no retcd: {} is no file", path.display())),
    }
    if found.is_empty() {
        return Err(Failure::Usage("there is nothing to measure".to_owned()));
    }
    Ok(found)
}

/// The retcd that was named, or the one beside us; where it should be, if it isn't.
fn retcd(arguments: &Arguments) -> Result<Result<PathBuf, PathBuf>, Failure> {
    let path = match &arguments.retcd {
        Some(path) => path.clone(),
        None => env::current_exe().map_err(system("finding ourselves"))?.with_file_name("retcd"),
    };
    Ok(if path.is_file() { Ok(path) } else { Err(path) })
}

fn print(text: &str) -> Result<(), Failure> {
    stdout().write_all(text.as_bytes()).map_err(system("printing"))
}
