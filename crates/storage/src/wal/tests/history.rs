//! Random lives of a log, and the obviously right model of what it holds: all records ever
//! appended.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;

use super::super::{Entry, EntryRef, HardState, Recovered, Settings, SnapshotMark, Wal};
use bytes::Bytes;
use stdx::Generator;

pub(super) const DIR: &str = "member/wal";
pub(super) const METADATA: &[u8] = b"a member's and a cluster's id";
pub(super) const SETTINGS: Settings = Settings { segment_size: 2500 };

#[derive(Clone, Debug)]
enum Item {
    Entry(Entry),
    State(HardState),
    Mark(SnapshotMark),
}

/// What the items up to some point add up to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sum {
    entries: BTreeMap<u64, Entry>,
    state: HardState,
}

impl Sum {
    /// Adds an item, as one sees it who starts after `mark`, or after any if that is `None`.
    fn add(&mut self, item: &Item, after: Option<SnapshotMark>) {
        match item {
            Item::Entry(entry) => {
                self.entries.split_off(&entry.index);
                self.entries.insert(entry.index, entry.clone());
            }
            Item::State(state) => self.state = *state,
            Item::Mark(mark) if after.is_none_or(|after| after == *mark) => {
                // Of another history than the entries: they are all void.
                if self.entries.get(&mark.index).map(|e| e.term) != Some(mark.term) {
                    self.entries.clear();
                }
            }
            Item::Mark(_) => {}
        }
    }

    fn agrees(&self, mark: SnapshotMark, found: &Recovered) -> bool {
        self.state == found.hard_state
            && self.entries.range(mark.index + 1..).map(|(_, e)| e).eq(&found.entries)
    }
}

pub(super) struct History {
    items: Vec<Item>,
    /// How many of the items must survive.
    n_durable: usize,
    must_sync: bool,
    /// All of `items`.
    sum: Sum,
    last: u64,
    mark: SnapshotMark,
    durable_mark: SnapshotMark,
}

impl History {
    pub(super) fn new() -> Self {
        let mark = SnapshotMark::default();
        Self {
            items: Vec::new(),
            n_durable: 0,
            must_sync: false,
            sum: Sum::default(),
            last: 0,
            mark,
            durable_mark: mark,
        }
    }

    /// Lives for `steps`, or until the disk gives up.
    pub(super) fn run(&mut self, wal: &mut Wal, g: &mut Generator, steps: usize) -> io::Result<()> {
        for _ in 0..steps {
            match g.below(100) {
                0..50 => self.append(wal, g)?,
                50..75 => self.flush(wal)?,
                75..85 => self.snapshot(wal, g)?,
                85..90 => self.install(wal, g)?,
                90..95 => wal.prepare_next()?,
                _ => drop(wal.release(self.durable_mark.index)?),
            }
        }
        Ok(())
    }

    fn append(&mut self, wal: &mut Wal, g: &mut Generator) -> io::Result<()> {
        let commit = self.sum.state.commit.max(self.mark.index);
        let mut term = self.term();
        if g.chance(20) && self.last > commit {
            // A new leader knows better from here on.
            self.last = commit + g.below(self.last - commit);
            term += 1;
        }
        let n = g.int(0..=3);
        let from = self.items.len();
        for _ in 0..n {
            self.last += 1;
            let size = *g.pick(&[0, 10, 100, 700, 1500]);
            let data: Vec<u8> = (0..size).map(|_| g.int(1..=255) as u8).collect();
            let kind = u8::from(size == 10);
            let entry = Entry { kind, term, index: self.last, data: Bytes::from(data) };
            self.item(Item::Entry(entry));
        }
        let last = self.sum.entries.last_key_value().map_or(0, |(index, _)| *index);
        self.last = self.last.min(last.max(self.mark.index));
        let may_commit = self.last.max(commit) - commit;
        let state = HardState { term, vote: g.below(3), commit: commit + g.below(may_commit + 1) };
        let state = (term > self.sum.state.term || g.chance(60)).then_some(state);
        let entries: Vec<Entry> = self.items[from..].iter().filter_map(entry_of).collect();
        if let Some(state) = state {
            let old = self.sum.state;
            self.must_sync |= (state.term, state.vote) != (old.term, old.vote);
            self.item(Item::State(state));
        }
        self.must_sync |= n > 0;
        let refs = entries.iter().map(|e| EntryRef {
            kind: e.kind,
            term: e.term,
            index: e.index,
            data: &e.data,
        });
        wal.append(refs, state)
    }

    pub(super) fn flush(&mut self, wal: &mut Wal) -> io::Result<()> {
        wal.flush()?;
        if self.must_sync {
            self.n_durable = self.items.len();
            self.must_sync = false;
            self.durable_mark = self.mark;
        }
        Ok(())
    }

    /// A snapshot of our own, of something committed.
    fn snapshot(&mut self, wal: &mut Wal, g: &mut Generator) -> io::Result<()> {
        self.flush(wal)?;
        let (commit, marked) = (self.sum.state.commit, self.highest_mark().index);
        if commit <= marked {
            return Ok(());
        }
        let index = marked + 1 + g.below(commit - marked);
        self.mark_at(wal, SnapshotMark { index, term: self.sum.entries[&index].term })
    }

    /// A crash may have spared a mark and not the commit index that followed it: then it is not the
    /// one we started from, but what it stands for was committed all the same.
    fn highest_mark(&self) -> SnapshotMark {
        let mark_of = |item: &Item| match item {
            Item::Mark(mark) => Some(*mark),
            Item::Entry(_) | Item::State(_) => None,
        };
        self.items.iter().filter_map(mark_of).chain([self.mark]).max().expect("at least ours")
    }

    /// A crash may have spared entries of a term and not the state that followed them.
    fn term(&self) -> u64 {
        let entry_term = self.sum.entries.last_key_value().map_or(1, |(_, e)| e.term);
        self.sum.state.term.max(entry_term).max(self.mark.term)
    }

    /// A snapshot from the leader, beyond what is committed here: what we have may be of another
    /// history.
    fn install(&mut self, wal: &mut Wal, g: &mut Generator) -> io::Result<()> {
        self.flush(wal)?;
        let highest = self.highest_mark();
        let term = self.term().max(highest.term) + g.below(2);
        let index = self.sum.state.commit.max(highest.index) + 1 + g.below(20);
        let mark = SnapshotMark { index, term };
        let state = HardState { term, vote: 0, commit: mark.index };
        self.item(Item::Mark(mark));
        self.last = self.sum.entries.last_key_value().map_or(index, |(last, _)| *last);
        self.item(Item::State(state));
        self.must_sync = true;
        self.mark = mark;
        wal.mark_snapshot(mark, b"")?;
        wal.append(std::iter::empty(), Some(state))?;
        self.flush(wal)
    }

    fn mark_at(&mut self, wal: &mut Wal, mark: SnapshotMark) -> io::Result<()> {
        self.item(Item::Mark(mark));
        self.must_sync = true;
        self.mark = mark;
        wal.mark_snapshot(mark, b"conf state")?;
        self.flush(wal)
    }

    fn item(&mut self, item: Item) {
        self.sum.add(&item, None);
        self.items.push(item);
    }

    /// The snapshot that who has only what `mark` stands for must get before the log leads on.
    pub(super) fn needed_after(&self, mark: SnapshotMark) -> Option<SnapshotMark> {
        let mut sum = Sum::default();
        let mut needed: Vec<SnapshotMark> = Vec::new();
        for item in &self.items {
            match item {
                Item::Mark(new) if new.index > mark.index => {
                    if sum.entries.get(&new.index).map(|e| e.term) != Some(new.term) {
                        needed.push(*new);
                    }
                }
                Item::Entry(entry) => needed.retain(|needed| needed.index < entry.index),
                Item::Mark(_) | Item::State(_) => {}
            }
            sum.add(item, None);
        }
        needed.into_iter().rfind(|needed| needed.index <= sum.state.commit)
    }

    /// What is found after `mark` is what all items add up to.
    pub(super) fn agrees(&self, mark: SnapshotMark, found: &Recovered) -> bool {
        let mut sum = Sum::default();
        self.items.iter().for_each(|item| sum.add(item, Some(mark)));
        sum.agrees(mark, found)
    }

    /// After a crash: what was found must be some prefix of all items, not shorter than what is
    /// durable. The history goes on from the shortest one that fits.
    pub(super) fn settle(&mut self, mark: SnapshotMark, found: &Recovered) {
        assert_eq!(found.metadata, METADATA);
        assert!(mark >= self.durable_mark, "{mark:?} is older than {:?}", self.durable_mark);
        let mut sum = Sum::default();
        for n in 0..=self.items.len() {
            if n >= self.n_durable && sum.agrees(mark, found) {
                self.items.truncate(n);
                (self.n_durable, self.must_sync) = (n, false);
                let last = found.entries.last().map_or(0, |e| e.index);
                self.last = last.max(mark.index);
                (self.mark, self.durable_mark, self.sum) = (mark, mark, sum);
                return;
            }
            if let Some(item) = self.items.get(n) {
                sum.add(item, Some(mark));
            }
        }
        panic!("found what was never there: {found:?}");
    }
}

fn entry_of(item: &Item) -> Option<Entry> {
    match item {
        Item::Entry(entry) => Some(entry.clone()),
        Item::State(_) | Item::Mark(_) => None,
    }
}

/// The entries found are those of `indexes`, each once.
pub(super) fn assert_found(entries: &[Entry], indexes: RangeInclusive<u64>) {
    assert!(entries.iter().map(|e| e.index).eq(indexes));
}
