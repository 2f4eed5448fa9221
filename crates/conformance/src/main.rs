//! `conformance record|replay PROGRAM [--only PART]`: scripts against a server, from a terminal.
//!
//! `cargo xtask record` and `cargo xtask replay` are the usual way here.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use conformance::{Mode, Program, run};

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [verb, program] => start(verb, program, ""),
        [verb, program, "--only", part] => start(verb, program, part),
        _ => Err(anyhow::anyhow!("usage: conformance record|replay PROGRAM [--only PART]")),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn start(verb: &str, program: &str, only: &str) -> anyhow::Result<ExitCode> {
    let (mode, version) = match verb {
        "record" => (Mode::Record, version(program)?),
        "replay" => (Mode::Compare, String::new()),
        _ => bail!("{verb}? record or replay"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let started = Instant::now();
    let report = run(&folder, &Program(vec![program.to_owned()]), only, mode, &version);
    for failure in &report.failures {
        println!("{failure}\n");
    }
    for file in &report.changed {
        println!("rewritten: {}", file.display());
    }
    println!(
        "{} scripts, {} cases, {} scripts failed, {:.1} s",
        report.scripts,
        report.cases,
        report.failures.len(),
        started.elapsed().as_secs_f64(),
    );
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The version of the etcd to record from: only etcd's own answers are worth recording.
fn version(program: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output().context(program.to_owned())?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    ensure!(text.contains("Go Version"), "{program} is not Go's etcd; record nothing from it");
    Ok(version.context("a version")?.to_owned())
}
