//! Scripts: `testdata/revlog/`. Each runs a log on a fresh simulated disk, with segments of 400 bytes.
//!
//! ```text
//! put KEY MAIN [LENGTH]    append a value of LENGTH bytes (20)     → SEGMENT:OFFSET
//! delete KEY MAIN          append a tombstone                      → SEGMENT:OFFSET
//! dead MAIN                say that a record is dead
//! set TABLE KEY VALUE      set a row; `unset TABLE KEY` removes it
//! roll                     end the active segment
//! capture INDEX            capture a checkpoint; `commit` commits the oldest; `checkpoint INDEX` does both
//! victim PERCENT           choose and copy; `move` replaces the places; `release` forgets the victims
//! files                    what lies in the folder
//! crash                    cut the power;  `crash_at K` at the K-th operation from now
//! flip FILE OFFSET         flip a bit;  `zero FILE OFFSET LENGTH` loses bytes
//! open                     what a restart finds: mark, rows, records
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use stdx::script::run_folder;

use super::model::{dir, key_value};
use crate::disk::{Disk, SimulatedDisk};
use crate::revlog::{
    Checkpoint, Collected, Config, Fatal, Hurry, Mark, Meta, OpenError, Place, Relocation,
    Revision, Revlog,
};

const CONFIG: Config = Config { segment_size_max: 400, ledger_size_min: 1 << 20 };

#[test]
fn the_scripts_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/revlog");
    run_folder(folder, || {
        let mut stage = Stage { disk: SimulatedDisk::new(1), play: None };
        let mut out = String::new();
        stage.open(&mut out);
        move |commands| {
            let mut out = String::new();
            for command in commands {
                if let Err(fatal) = stage.run(command, &mut out) {
                    writeln!(out, "{fatal}").expect("a string");
                }
            }
            out
        }
    });
}

struct Stage {
    disk: SimulatedDisk,
    /// The log, while it is open.
    play: Option<Play>,
}

struct Play {
    log: Revlog,
    head: i64,
    compacted: i64,
    index: BTreeMap<i64, (Place, u32)>,
    captured: VecDeque<Checkpoint>,
    collected: Option<Collected>,
}

impl Stage {
    fn run(&mut self, command: &str, out: &mut String) -> Result<(), Fatal> {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |n: usize| words[n].parse::<u64>().expect("a number");
        match words[0] {
            "open" => {
                self.play = None;
                self.open(out);
            }
            "crash" => {
                self.play = None;
                self.disk = self.disk.crash();
            }
            "crash_at" => self.disk.crash_at(number(1)),
            "flip" => self.disk.flip_bit(&dir().join(words[1]), number(2), 0),
            "zero" => {
                let zeros = vec![0; number(3) as usize];
                let file = self.disk.open(&dir().join(words[1])).expect("a file");
                file.write_at(number(2), &zeros).expect("written");
            }
            "files" => {
                let mut names = self.disk.list(&dir()).expect("a folder");
                names.sort();
                writeln!(out, "{}", names.join(" ")).expect("a string");
            }
            _ => self.play.as_mut().expect("an open log").run(&words, out)?,
        }
        Ok(())
    }

    fn open(&mut self, out: &mut String) {
        let (play, text) = match open(&self.disk) {
            Ok((play, text)) => (Some(play), text),
            Err(error) => (None, format!("{error}\n")),
        };
        self.play = play;
        out.push_str(&text);
    }
}

fn open(disk: &SimulatedDisk) -> Result<(Play, String), OpenError> {
    let (log, mut recovered) = Revlog::open(Arc::new(disk.clone()), &dir(), CONFIG)?;
    let Mark { consistent_index, compacted, head, .. } = recovered.mark;
    let mut text = format!("index {consistent_index} compacted {compacted} head {head}\n");
    for ((table, key), value) in &recovered.tables {
        let [key, value] = [key, value].map(|bytes| String::from_utf8_lossy(bytes));
        writeln!(text, "row {table} {key} {value}").expect("a string");
    }
    let mut index = BTreeMap::new();
    while let Some(entry) = recovered.entries.next()? {
        log.read(entry.place, &mut Vec::new())?;
        index.insert(entry.meta.revision.main, (entry.place, entry.len));
        let key = String::from_utf8_lossy(entry.key);
        let cross = if entry.meta.tombstone { "†" } else { "" };
        let main = entry.meta.revision.main;
        writeln!(text, "{key} {main}{cross} at {}", name(entry.place)).expect("a string");
    }
    let (captured, collected) = (VecDeque::new(), None);
    Ok((Play { log, head, compacted, index, captured, collected }, text))
}

fn name(place: Place) -> String {
    format!("{}:{}", place.segment().0, place.offset())
}

impl Play {
    fn run(&mut self, words: &[&str], out: &mut String) -> Result<(), Fatal> {
        let number = |n: usize| words[n].parse::<i64>().expect("a number");
        match words[0] {
            "put" => {
                let length = words.get(3).map_or(20, |n| n.parse().expect("a length"));
                self.append(words[1], number(2), Some(length), out)?;
            }
            "delete" => self.append(words[1], number(2), None, out)?,
            "dead" => {
                let (place, len) = self.index.remove(&number(1)).expect("alive");
                self.log.dead(place, len);
                self.compacted = self.compacted.max(number(1));
            }
            "set" => {
                let value = Some(words[3].as_bytes());
                self.log.table_set(number(1) as u8, words[2].as_bytes(), value);
            }
            "unset" => self.log.table_set(number(1) as u8, words[2].as_bytes(), None),
            "roll" => self.log.roll()?,
            "capture" => self.capture(number(1)),
            "commit" => self.commit()?,
            "checkpoint" => {
                self.capture(number(1));
                self.commit()?;
            }
            "victim" => self.victim(number(1) as u64, out)?,
            "move" => self.relocate(out)?,
            "release" => self.log.release(self.collected.take().expect("a collection")),
            other => panic!("no such command: {other}"),
        }
        Ok(())
    }

    fn append(
        &mut self,
        key: &str,
        main: i64,
        length: Option<usize>,
        out: &mut String,
    ) -> Result<(), Fatal> {
        let tombstone = length.is_none();
        let (create_revision, version) = if tombstone { (0, 0) } else { (main, 1) };
        let revision = Revision { main, sub: 0 };
        let meta = Meta { revision, tombstone, create_revision, version, lease: 0 };
        let bytes = key_value(key.as_bytes(), &meta, &vec![b'v'; length.unwrap_or(0)]);
        let place = self.log.append(&meta, key.as_bytes(), &bytes)?;
        self.index.insert(main, (place, bytes.len() as u32));
        self.head = main;
        writeln!(out, "{}", name(place)).expect("a string");
        Ok(())
    }

    fn capture(&mut self, index: i64) {
        let (compacted, head) = (self.compacted, self.head);
        let consistent_index = index as u64;
        let mark = Mark { consistent_index, term: 1, compacted, scheduled: compacted, head };
        self.captured.push_back(self.log.checkpoint(mark));
    }

    fn commit(&mut self) -> Result<(), Fatal> {
        self.captured.pop_front().expect("a captured checkpoint").commit(&mut Hurry).map(drop)
    }

    fn victim(&mut self, percent: u64, out: &mut String) -> Result<(), Fatal> {
        let Some(victim) = self.log.victim(percent) else {
            out.push_str("none\n");
            return Ok(());
        };
        self.collected = Some(victim.run(&mut Hurry)?);
        Ok(())
    }

    fn relocate(&mut self, out: &mut String) -> Result<(), Fatal> {
        let collected = self.collected.as_mut().expect("a collection");
        self.log.adopt(collected);
        for Relocation { key, revision, from, to } in collected.next(usize::MAX)? {
            let key = String::from_utf8_lossy(&key);
            let main = revision.main;
            writeln!(out, "{key} {main} {} → {}", name(from), name(to)).expect("a string");
            if let Some((place, _)) = self.index.get_mut(&main) {
                *place = to;
            }
        }
        Ok(())
    }
}
