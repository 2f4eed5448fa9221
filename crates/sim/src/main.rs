//! `sim --seed N` runs one seed and prints what it has seen; `sim --seeds A..B` runs many.
//!
//! A seed that fails says so, with the line that replays it, and ends the process.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

static RUNNING: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a command's output")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((seeds, verbose)) = seeds(&words) else {
        eprintln!("usage: sim --seed N | --seeds A..B");
        return ExitCode::from(2);
    };
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |failure| {
        sim::world::take_trace().iter().for_each(|line| eprintln!("{line}"));
        usual(failure);
        let seed = RUNNING.load(Ordering::Relaxed);
        eprintln!("replay: cargo run --release -p sim -- --seed {seed}");
    }));
    let (mut steps, mut ms, mut applied, mut checked, mut n) = (0, 0, 0, 0, 0_u64);
    for seed in seeds {
        RUNNING.store(seed, Ordering::Relaxed);
        let summary = sim::run(seed);
        if verbose {
            println!("{summary}");
        }
        n += 1;
        steps += summary.steps;
        ms += summary.virtual_ms;
        applied += summary.applied;
        checked += summary.checked;
    }
    let hours = ms as f64 / 3_600_000.0;
    println!(
        "{n} seeds: {steps} steps, {hours:.1} virtual hours, {applied} entries, {checked} answers checked"
    );
    ExitCode::SUCCESS
}

fn seeds(words: &[&str]) -> Option<(std::ops::Range<u64>, bool)> {
    match words {
        ["--seed", seed] => {
            let seed: u64 = seed.parse().ok()?;
            Some((seed..seed + 1, true))
        }
        ["--seeds", range] => {
            let (from, to) = range.split_once("..")?;
            Some((from.parse().ok()?..to.parse().ok()?, false))
        }
        _ => None,
    }
}
