//! `sim`: lives through seeds, and says what it saw.
//!
//! ```text
//! sim --seed 7                          one seed, exactly as it was
//! sim --seeds 0..1000                   many; the first that fails ends it
//! sim --seed 7 --without kill,pause     the same but for some kinds of faults
//! ```
//!
//! A seed that fails is tried again without each kind of fault, as long as it still fails; what is left
//! is printed as the line that replays it, and with it what happened last.

#![forbid(unsafe_code)]

use std::io::{Write, stderr, stdout};
use std::ops::Range;
use std::panic;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{env, process};

use sim::{Fault, Summary, trace};

const USAGE: &str = "usage: sim (--seed N | --seeds A..B) [--without FAULT,…] [--no-shrink]";

/// The seed that is being lived through, for whoever tells of its end.
static SEED: AtomicU64 = AtomicU64::new(0);

struct Arguments {
    seeds: Range<u64>,
    without: Vec<Fault>,
    shrink: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&format!("{error}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    let (without, shrink) = (arguments.without.clone(), arguments.shrink);
    panic::set_hook(Box::new(move |info| {
        let seed = SEED.load(Ordering::Relaxed);
        fail(seed, &without, shrink, &info.to_string());
    }));
    let started = Instant::now();
    let mut total = Summary::default();
    for seed in arguments.seeds.clone() {
        SEED.store(seed, Ordering::Relaxed);
        let summary = sim::run(seed, &arguments.without);
        if arguments.seeds.end - arguments.seeds.start == 1 {
            return print(&summary.to_string());
        }
        total.add(&summary);
    }
    let seconds = started.elapsed().as_secs_f64();
    let pace = total.n_seeds as f64 / seconds;
    print(&format!("{total}; {seconds:.1} s, {pace:.0} seeds/s"))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 0..0, without: Vec::new(), shrink: true };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no seed"));
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                arguments.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let value = value()?;
                let (from, to) = value.split_once("..").ok_or("seeds are given as A..B")?;
                arguments.seeds = number(from)?..number(to)?;
            }
            "--without" => {
                let faults: Result<_, String> = value()?.split(',').map(str::parse).collect();
                arguments.without = faults?;
            }
            "--no-shrink" => arguments.shrink = false,
            other => return Err(format!("{other} is unknown")),
        }
    }
    if arguments.seeds.is_empty() { Err("no seeds".to_owned()) } else { Ok(arguments) }
}

/// Tells of a seed's end, and ends the process.
fn fail(seed: u64, without: &[Fault], shrink: bool, why: &str) -> ! {
    let mut without = without.to_vec();
    say(&format!("seed {seed} failed: {why}"));
    if !shrink {
        say(&trace::last().join("\n"));
        process::exit(1);
    }
    for &fault in Fault::ALL {
        let tried = [&without[..], &[fault]].concat();
        if !without.contains(&fault) && again(seed, &tried, Stdio::null()) {
            without.push(fault);
        }
    }
    say(&format!("replay: cargo run --release -p sim -- {}", words(seed, &without).join(" ")));
    again(seed, &without, Stdio::inherit());
    process::exit(1);
}

fn words(seed: u64, without: &[Fault]) -> Vec<String> {
    let mut words = vec!["--seed".to_owned(), seed.to_string()];
    if !without.is_empty() {
        let kinds: Vec<String> = without.iter().map(ToString::to_string).collect();
        words.extend(["--without".to_owned(), kinds.join(",")]);
    }
    words
}

/// Whether the seed still fails.
fn again(seed: u64, without: &[Fault], output: Stdio) -> bool {
    let Ok(own) = env::current_exe() else { return false };
    let mut command = Command::new(own);
    command.args(words(seed, without)).arg("--no-shrink").stdout(Stdio::null()).stderr(output);
    command.status().is_ok_and(|status| !status.success())
}

fn print(line: &str) -> ExitCode {
    match writeln!(stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(line: &str) {
    // Who doesn't listen can't be told that either.
    drop(writeln!(stderr(), "{line}"));
}
