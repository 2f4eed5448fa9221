//! `sim`: lives through seeds, and says what it saw.
//!
//! ```text
//! sim --seed 7                          one seed, exactly as it was
//! sim --seeds 0..1000                   many; the first that fails ends it
//! sim --seed 7 --without kill,pause     the same but for some kinds of faults
//! sim --seed 7 --only 3,17              the same with these acts of the nemesis alone
//! sim --seed 7 --clients 1 --heal 4     the same with fewer clients, and healed after 4 s at the latest
//! ```
//!
//! A seed that fails is made as short as it gets in a while: it is tried again without some of what was
//! done to it, as long as it fails in the same way. What is left is printed as the line that replays it,
//! with what was done, what happened last in detail, and the end.

#![forbid(unsafe_code)]

use std::io::{Write, stderr, stdout};
use std::ops::Range;
use std::panic::{self, PanicHookInfo};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, process};

use sim::trace::{self, Detail};
use sim::{Plan, Summary, Verdict};

const USAGE: &str = "usage: sim (--seed N | --seeds A..B) [--without FAULT,…] [--only ACT,…] \
                     [--clients N] [--heal SECONDS] [--no-shrink]";

/// How long a failing seed is made shorter.
const SHRINKING: Duration = Duration::from_secs(20);

/// The seed that is being lived through, for whoever tells of its end.
static SEED: AtomicU64 = AtomicU64::new(0);

struct Arguments {
    seeds: Range<u64>,
    /// Of whichever seed.
    plan: Plan,
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
    let Arguments { seeds, plan, shrink } = arguments;
    let hooked = plan.clone();
    panic::set_hook(Box::new(move |info| {
        let plan = Plan { seed: SEED.load(Ordering::Relaxed), ..hooked.clone() };
        if shrink { fail(plan, info) } else { tell(info) }
    }));
    trace::keep(if shrink { Detail::Few } else { Detail::All });
    let started = Instant::now();
    let mut total = Summary::default();
    for seed in seeds.clone() {
        SEED.store(seed, Ordering::Relaxed);
        let summary = sim::run(&Plan { seed, ..plan.clone() });
        if seeds.end - seeds.start == 1 {
            return print(&summary.to_string());
        }
        total.add(&summary);
    }
    let seconds = started.elapsed().as_secs_f64();
    let pace = total.n_seeds as f64 / seconds;
    print(&format!("{total}; {seconds:.1} s, {pace:.0} seeds/s"))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 0..0, plan: Plan::default(), shrink: true };
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
            "--no-shrink" => arguments.shrink = false,
            _ => arguments.plan.take(&word, &value()?)?,
        }
    }
    if arguments.seeds.is_empty() { Err("no seeds".to_owned()) } else { Ok(arguments) }
}

fn verdict(info: &PanicHookInfo<'_>) -> Verdict {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    Verdict::new(&place, info.payload_as_str().unwrap_or_default())
}

/// Tells of a run's end: the kind of it on the first line.
fn tell(info: &PanicHookInfo<'_>) -> ! {
    say(verdict(info).text());
    say(&trace::last().join("\n"));
    say(&format!("seed {} failed: {info}", SEED.load(Ordering::Relaxed)));
    process::exit(1);
}

/// Tells of a seed's end as shortly as can be, and ends the process.
fn fail(plan: Plan, info: &PanicHookInfo<'_>) -> ! {
    say(&format!("seed {} failed: {info}", plan.seed));
    say(&format!("replay: {REPLAY} {plan}"));
    let (verdict, acts) = (verdict(info), trace::acts());
    let end = Instant::now() + SHRINKING;
    let fails = |plan: &Plan| {
        Instant::now() < end
            && lives(plan).is_some_and(|said| Verdict::said(first(&said)) == verdict)
    };
    let small = sim::shrink(plan, &acts, fails);
    say(&format!("shrunk from {} acts of the nemesis: {REPLAY} {small}", acts.len()));
    say(&lives(&small).unwrap_or_default());
    process::exit(1);
}

const REPLAY: &str = "cargo run --release -p sim --";

fn first(said: &str) -> &str {
    said.lines().next().unwrap_or_default()
}

/// What a process says that lives through this, if it fails.
fn lives(plan: &Plan) -> Option<String> {
    let mut command = Command::new(env::current_exe().ok()?);
    let output = command.args(plan.words()).arg("--no-shrink").output().ok()?;
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
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
