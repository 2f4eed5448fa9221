//! `cargo xtask faults [PART of a name …]`: would the simulator have seen it?
//!
//! Each file of `crates/sim/faults` is a fault: how it is written stands in [`fault`]. One after the other is
//! planted in a copy of the sources, never in the sources themselves, and the simulator lives through seeds
//! from 0 on until one fails. A fault that outlives its seeds shows where the simulator is weak; what kills it
//! instead may be named in its file, and is run in their place. In the end there is a table, as in
//! `docs/consistency.md`.
//!
//! What never ends has not been seen by the simulator: it counts as alive.

mod fault;
mod scratch;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::fault::Fault;
use self::scratch::{End, Scratch};

/// What became of a planted fault.
enum Fate {
    Seed { seed: u64, seen: String },
    Test { seen: String },
    Alive { why: String },
}

#[expect(clippy::print_stdout, reason = "a chore talks to whoever started it")]
pub(crate) fn run(parts: &[String]) -> Result<ExitCode> {
    let mut faults = fault::all()?;
    faults.retain(|fault| parts.is_empty() || parts.iter().any(|part| fault.name.contains(part)));
    ensure!(!faults.is_empty(), "no fault is called like that");
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    let mut n_alive = 0;
    for fault in &faults {
        let never_tried = |error| Fate::Alive { why: format!("not tried: {error:#}") };
        let fate = live_with(fault, &scratch).unwrap_or_else(never_tried);
        println!("{}: {fate}", fault.name);
        n_alive += usize::from(matches!(fate, Fate::Alive { .. }));
        rows.push(fate.row(fault));
    }
    println!("\n| fault | what | source | seed | seen as |\n|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    println!("\n{} faults, {n_alive} of them alive", rows.len());
    Ok(if n_alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn live_with(fault: &Fault, scratch: &Scratch) -> Result<Fate> {
    scratch.plant(fault)?;
    if let Some(test) = &fault.test {
        return Ok(match scratch.test(test)? {
            End::Failed(said) => Fate::Test { seen: failed_tests(&said) },
            End::Succeeded => Fate::Alive { why: format!("cargo test {test} sees nothing") },
            End::TimedOut => Fate::Alive { why: "the test does not end".to_owned() },
        });
    }
    Ok(match scratch.simulate(fault.seeds)? {
        End::Failed(said) => failed_seed(&said),
        End::Succeeded => Fate::Alive { why: format!("{} seeds see nothing", fault.seeds) },
        End::TimedOut => Fate::Alive { why: "a seed does not end".to_owned() },
    })
}

/// The simulator's last words are `seed N failed: panicked at PLACE:`, and on the next line why.
fn failed_seed(said: &str) -> Fate {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("seed "));
    let seed = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    match (seed, lines.next()) {
        (Some(seed), Some(why)) => Fate::Seed { seed, seen: sentence(why) },
        _ => Fate::Alive { why: format!("it ended without a word: {said}") },
    }
}

/// A panic without what the compiler says of it and without the values that follow.
fn sentence(why: &str) -> String {
    let why = why.strip_prefix("assertion `left == right` failed: ").unwrap_or(why);
    why.split('{').next().unwrap_or_default().trim_end().to_owned()
}

fn failed_tests(said: &str) -> String {
    let failed = said.lines().filter_map(|line| line.strip_suffix(" ... FAILED"));
    let names: Vec<&str> = failed.map(|line| line.trim_start_matches("test ")).collect();
    names.join(", ")
}

impl Fate {
    fn row(&self, fault: &Fault) -> String {
        let (place, seen) = match self {
            Self::Seed { seed, seen } => (format!("| {seed} |"), seen),
            Self::Test { seen } => ("| a test |".to_owned(), seen),
            Self::Alive { why } => ("| **alive** |".to_owned(), why),
        };
        let Fault { name, what, source, .. } = fault;
        format!("| `{name}` | {what} | {source} {place} {} |", seen.replace('|', "\\|"))
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seed { seed, seen } => write!(f, "seed {seed}: {seen}"),
            Self::Test { seen } => write!(f, "fails {seen}"),
            Self::Alive { why } => write!(f, "ALIVE: {why}"),
        }
    }
}
