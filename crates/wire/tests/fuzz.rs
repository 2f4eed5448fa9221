//! The fuzz targets on their corpus, and on mutants of it: a second of what cargo-fuzz does for hours.
//!
//! A finding of cargo-fuzz goes into `fuzz/corpus/<target>/`, and is tried with every run from then on.

use std::fs;
use std::path::{Path, PathBuf};

use stdx::Generator;
use stdx::generate::each_seed_of;

#[expect(unreachable_pub, reason = "to cargo-fuzz it is a library")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 4] = [
    ("connection", fuzz::connection::run),
    ("hpack", fuzz::hpack::run),
    ("message", fuzz::message::run),
    ("request", fuzz::request::run),
];
const MUTANTS_DEFAULT: u64 = 100_000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Every file of a target's corpus, in order.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).expect("a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

#[test]
fn every_target_takes_all_of_its_corpus() {
    for (name, run) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 10, "{name} has no corpus");
        for (path, data) in corpus {
            // On its way: a panic is to name the file.
            let run = std::panic::catch_unwind(|| run(&data));
            assert!(run.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_target_takes_mutants_of_its_corpus() {
    let corpora = TARGETS.map(|(name, run)| (corpus(name), run));
    each_seed_of(MUTANTS_DEFAULT, |g| {
        let (corpus, run) = g.pick(&corpora);
        let mut data = g.pick(corpus).1.clone();
        for _ in 0..g.int(1..=4) {
            mutate(g, &mut data, &g.clone().pick(corpus).1);
        }
        run(&data);
    });
}

fn mutate(g: &mut Generator, data: &mut Vec<u8>, other: &[u8]) {
    let at = g.int(0..=data.len());
    match g.below(6) {
        0 if at < data.len() => data[at] ^= 1 << g.below(8),
        1 if at < data.len() => data[at] = g.number() as u8,
        2 => data.truncate(at),
        3 => data.insert(at, g.number() as u8),
        4 => drop(data.drain(at..data.len().min(at + g.int(0..=8)))),
        _ => data.extend_from_slice(&other[g.int(0..=other.len())..]),
    }
}
