//! What an append, a read and a restart cost the processor, on the machine's own disk.
//!
//! `cargo run --release -p storage --example revlog_speed -- FOLDER [RECORDS]`; the folder must be empty.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::disk::RealDisk;
use storage::revlog::{Config, Hurry, Mark, Meta, OpenError, Place, Revision, Revlog};

const VALUE_SIZE: usize = 256;
const RECORDS_DEFAULT: usize = 1_000_000;
const RECORDS_MAX: usize = 20_000_000;
/// Records between two checkpoints.
const CHECKPOINT_INTERVAL: usize = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let n = arguments.next().map_or(Ok(RECORDS_DEFAULT), |n| n.parse())?.min(RECORDS_MAX);
    let folder = Path::new(&folder);

    let (mut log, _) = open(folder)?;
    let places = append(&mut log, n)?;
    read(&log, &places)?;
    collect(&mut log, places)?;
    drop(log);

    let start = Processor::now();
    let (log, mut recovered) = open(folder)?;
    let mut n_found = 0;
    while recovered.entries.next()?.is_some() {
        n_found += 1;
    }
    report("restart", start, n_found)?;
    writeln!(io::stdout(), "{:?}, {}", log.size(), memory())?;
    Ok(())
}

fn open(folder: &Path) -> Result<(Revlog, storage::revlog::Recovered), OpenError> {
    Revlog::open(Arc::new(RealDisk), folder, Config::default())
}

fn append(log: &mut Revlog, n: usize) -> Result<Vec<(Place, u32)>, Box<dyn std::error::Error>> {
    let mut places = Vec::with_capacity(n);
    let (mut key, mut key_value) = (Vec::new(), Vec::new());
    let mut in_checkpoints = Duration::ZERO;
    let start = Processor::now();
    for i in 0..n {
        let main = i as i64 + 2;
        encode(i, main, &mut key, &mut key_value);
        let revision = Revision { main, sub: 0 };
        let meta = Meta { revision, tombstone: false, create_revision: main, version: 1, lease: 0 };
        places.push((log.append(&meta, &key, &key_value)?, key_value.len() as u32));
        if i % CHECKPOINT_INTERVAL == CHECKPOINT_INTERVAL - 1 {
            let pause = Processor::now();
            log.checkpoint(mark(main)).commit(&mut Hurry)?;
            in_checkpoints += pause.elapsed();
        }
    }
    report("append, encoding and checkpoints included", start, n)?;
    report("append and encoding", Processor(start.0 + in_checkpoints), n)?;
    log.checkpoint(mark(n as i64 + 1)).commit(&mut Hurry)?;
    Ok(places)
}

fn mark(head: i64) -> Mark {
    Mark { consistent_index: head as u64, term: 1, compacted: -1, scheduled: -1, head }
}

/// A KeyValue of about 350 bytes with a key of 60.
fn encode(i: usize, main: i64, key: &mut Vec<u8>, out: &mut Vec<u8>) {
    key.clear();
    key.resize(40, b'k');
    let digits = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    key.extend(digits.iter().flat_map(|b| [b'a' + (b >> 4), b'a' + (b & 15)]));
    key.extend_from_slice(b"/end");
    out.clear();
    out.extend([0x0a, key.len() as u8]);
    out.extend_from_slice(key);
    for tag in [0x10, 0x18] {
        out.push(tag);
        varint(main as u64, out);
    }
    out.extend([0x20, 1, 0x2a]);
    varint(VALUE_SIZE as u64, out);
    out.resize(out.len() + VALUE_SIZE, b'v');
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read(log: &Revlog, places: &[(Place, u32)]) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = Vec::with_capacity(4096);
    for name in ["read at random, first time", "read at random"] {
        let start = Processor::now();
        let mut at = 0;
        for _ in 0..places.len() {
            at = (at + 7_919_191) % places.len();
            out.clear();
            log.read(places[at].0, &mut out)?;
        }
        report(name, start, places.len())?;
    }
    let start = Processor::now();
    for (place, _) in places {
        out.clear();
        log.read(*place, &mut out)?;
    }
    report("read in order", start, places.len())
}

/// Two of three records die; then the collector has its way.
fn collect(log: &mut Revlog, places: Vec<(Place, u32)>) -> Result<(), Box<dyn std::error::Error>> {
    let start = Processor::now();
    let n = places.len() as i64;
    for (i, (place, len)) in places.into_iter().enumerate() {
        if i % 3 != 0 {
            log.dead(place, len);
        }
    }
    report("dead", start, n as usize)?;
    log.roll()?;
    log.checkpoint(mark(n + 1)).commit(&mut Hurry)?;
    let start = Processor::now();
    let mut n_copied = 0;
    while let Some(victim) = log.victim(storage::revlog::DEAD_PERCENT_USUAL) {
        let mut collected = victim.run(&mut Hurry)?;
        log.adopt(&collected);
        loop {
            let relocations = collected.next(1000)?;
            n_copied += relocations.len();
            if relocations.is_empty() {
                break;
            }
        }
        log.release(collected);
        log.checkpoint(mark(n + 1)).commit(&mut Hurry)?;
    }
    report("collect, for each copy", start, n_copied)
}

fn report(what: &str, start: Processor, n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let each = start.elapsed().as_nanos() as f64 / n.max(1) as f64;
    Ok(writeln!(io::stdout(), "{what}: {each:.0} ns each of {n}; {}", memory())?)
}

/// The time this thread has had a processor, in the kernel too: others on the machine don't count.
#[derive(Clone, Copy)]
struct Processor(Duration);

impl Processor {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self(Duration::from_nanos(nanoseconds))
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// What the process holds in memory of its own, and of files.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("Rss"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
