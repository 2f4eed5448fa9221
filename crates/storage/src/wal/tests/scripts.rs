//! The interpreter of `testdata/wal/`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{EntryRef, HardState, OpenError, Recovered, Settings, SnapshotMark, Wal};
use crate::disk::{Disk, SimulatedDisk};

#[test]
fn the_scripts_say_what_the_log_does() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wal");
    stdx::script::run_folder(folder, || {
        let mut bench = Bench { disk: SimulatedDisk::new(1), wal: None };
        move |lines: &[&str]| {
            let mut out = String::new();
            for line in lines {
                let words: Vec<&str> = line.split(' ').collect();
                bench.run(words[0], &words[1..], &mut out);
            }
            out
        }
    });
}

const DIR: &str = "member/wal";

struct Bench {
    disk: SimulatedDisk,
    wal: Option<Wal>,
}

impl Bench {
    fn run(&mut self, command: &str, words: &[&str], out: &mut String) {
        let number = |i: usize| words.get(i).map_or(0, |w| w.parse::<u64>().expect("a number"));
        match command {
            // create <segment size>
            "create" => {
                let settings = Settings { segment_size: number(0) };
                let disk = Arc::new(self.disk.clone());
                let wal = Wal::create_with(disk, Path::new(DIR), b"meta", settings);
                self.wal = Some(wal.expect("a new log"));
            }
            // put <index>@<term> [<bytes of data>], which are not zero; zeros <index>@<term>
            // <bytes>: which are
            "put" | "zeros" => {
                let (index, term) = at(words[0]);
                let data = vec![if command == "put" { 0xaa } else { 0 }; number(1) as usize];
                let entry = EntryRef { kind: 0, term, index, data: &data };
                self.wal().append([entry].into_iter(), None).expect("buffered");
            }
            // state <term> <vote> <commit>
            "state" => {
                let state = HardState { term: number(0), vote: number(1), commit: number(2) };
                self.wal().append(std::iter::empty(), Some(state)).expect("buffered");
            }
            // mark <index>@<term>
            "mark" => {
                let (index, term) = at(words[0]);
                self.wal().mark_snapshot(SnapshotMark { index, term }, b"").expect("buffered");
            }
            "flush" => self.wal().flush().expect("flushed"),
            "release" => drop(self.wal().release(number(0)).expect("released")),
            "segments" => self.segments(out),
            // wipe <segment> <offset> <bytes>: zeros, as a sector that never arrived
            "wipe" => {
                let file = self.disk.open(&self.path(number(0))).expect("a segment");
                file.write_at(number(1), &vec![0; number(2) as usize]).expect("written");
            }
            // flip <segment> <offset> <bit>
            "flip" => self.disk.flip_bit(&self.path(number(0)), number(1), number(2) as u8),
            // shorten <segment> <len>
            "shorten" => {
                let file = self.disk.open(&self.path(number(0))).expect("a segment");
                file.set_len(number(1)).expect("cut");
            }
            "lose" => self.disk.remove(&self.path(number(0))).expect("removed"),
            // open [<index>@<term>]
            "open" => {
                let (index, term) = words.first().map_or((0, 0), |word| at(word));
                self.open(SnapshotMark { index, term }, out);
            }
            "marks" => {
                let marks = Wal::marks(&self.disk, Path::new(DIR)).expect("marks");
                let marks: Vec<String> =
                    marks.iter().map(|m| format!("{}@{}", m.index, m.term)).collect();
                writeln!(out, "marks {}", marks.join(" ")).expect("a string");
            }
            _ => panic!("no command {command}"),
        }
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("an open log")
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.disk.list(Path::new(DIR)).expect("names");
        names.sort();
        names
    }

    /// The path of the segment with that sequence number.
    fn path(&self, sequence: u64) -> PathBuf {
        let start = format!("{sequence:016x}-");
        let found = self.names().into_iter().find(|name| name.starts_with(&start));
        Path::new(DIR).join(found.expect("a segment of that number"))
    }

    fn segments(&self, out: &mut String) {
        for name in self.names() {
            let file = self.disk.open(&Path::new(DIR).join(&name)).expect("there");
            let mut bytes = Vec::new();
            let len = file.len().expect("a length");
            file.copy_to(0, len as usize, &mut bytes).expect("read");
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            writeln!(out, "{name} {len} bytes, {used} used").expect("a string");
        }
    }

    fn open(&mut self, after: SnapshotMark, out: &mut String) {
        self.wal = None;
        let settings = Settings { segment_size: 4096 };
        match Wal::open_with(Arc::new(self.disk.clone()), Path::new(DIR), after, settings) {
            Ok((wal, found)) => {
                self.wal = Some(wal);
                describe(&found, out);
            }
            Err(error) => {
                let _: &OpenError = &error;
                writeln!(out, "refused: {error}").expect("a string");
            }
        }
    }
}

/// `7@2` is index 7 in term 2.
fn at(word: &str) -> (u64, u64) {
    let (index, term) = word.split_once('@').expect("index@term");
    (index.parse().expect("an index"), term.parse().expect("a term"))
}

fn describe(found: &Recovered, out: &mut String) {
    let HardState { term, vote, commit } = found.hard_state;
    let entries: Vec<String> =
        found.entries.iter().map(|e| format!("{}@{}", e.index, e.term)).collect();
    writeln!(out, "term {term} vote {vote} commit {commit}").expect("a string");
    writeln!(out, "entries [{}]", entries.join(" ")).expect("a string");
    let mark = found.last_snapshot;
    writeln!(out, "last snapshot {}@{}", mark.index, mark.term).expect("a string");
    if let Some(torn) = &found.torn {
        writeln!(out, "torn: {torn}").expect("a string");
    }
}
