//! A random history of a log, beside its model.

use std::collections::{BTreeMap, VecDeque};

use stdx::Generator;

use super::model::{Model, Record, Reopened, read, record};
use crate::disk::SimulatedDisk;
use crate::revlog::{Checkpoint, Collected, Fatal, Hurry, Pinned, Place, Revision, Revlog};

/// A log at work.
pub(super) struct History {
    pub log: Revlog,
    pub now: Model,
    places: BTreeMap<Revision, Place>,
    /// Checkpoints captured and not committed, with what they should bring back.
    captured: VecDeque<(Checkpoint, Model)>,
    collected: Option<Collected>,
    pinned: Option<(Pinned, Vec<(Place, Record)>)>,
    /// Whether it says how long the dead are.
    measures: bool,
    pub seen: Seen,
}

/// What a restart may find.
#[derive(Clone, Default, Debug)]
pub(super) struct Promised {
    pub committed: Model,
    /// The checkpoint whose commit was cut off: it may have happened.
    pub in_flight: Option<Model>,
    /// How deaths are reported from the first to the last.
    pub measures: bool,
}

/// How often the rarer things happened, so that the test can say it met them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Seen {
    pub collections: u32,
    pub late_deaths: u32,
    pub rewrites: u32,
    pub rolls: u32,
}

const STEPS: usize = 60;

impl History {
    pub(super) fn new(reopened: Reopened, measures: bool) -> Self {
        Self {
            log: reopened.log,
            now: reopened.model,
            places: reopened.places,
            captured: VecDeque::new(),
            collected: None,
            pinned: None,
            measures,
            seen: Seen::default(),
        }
    }

    /// Goes on until the end or the first failure; `promised` is kept up to date.
    pub(super) fn run(&mut self, g: &mut Generator, promised: &mut Promised) -> Result<(), Fatal> {
        for _ in 0..STEPS {
            match g.below(16) {
                0..5 => self.append(g)?,
                5 => self.set_row(g),
                6..9 => self.die(g),
                9 => self.capture(g),
                10 | 11 => self.commit(promised)?,
                12 => self.read_some(g)?,
                13 if g.chance(20) => self.log.roll()?,
                13 => self.pin(g)?,
                _ => self.collect(g)?,
            }
        }
        while !self.captured.is_empty() {
            self.commit(promised)?;
        }
        self.read_all()
    }

    /// Carries a collection through, and commits everything.
    pub(super) fn settle(&mut self, g: &mut Generator) -> Result<Promised, Fatal> {
        while self.collected.is_some() {
            self.collect(g)?;
        }
        self.capture(g);
        let mut promised = Promised { measures: self.measures, ..Promised::default() };
        self.commit(&mut promised)?;
        Ok(promised)
    }

    fn append(&mut self, g: &mut Generator) -> Result<(), Fatal> {
        let main = self.now.mark.head + 1 + g.below(3) as i64;
        for sub in 0..1 + g.below(4) as i64 {
            let value_max = if g.chance(3) { 3000 } else { 300 };
            let record = record(g, Revision { main, sub }, value_max);
            let before = self.log.segments.len();
            let place = self.log.append(&record.meta, &record.key, &record.key_value)?;
            self.seen.rolls += u32::from(self.log.segments.len() > before);
            self.places.insert(record.meta.revision, place);
            self.now.records.insert(record.meta.revision, record);
        }
        self.now.mark.head = main;
        self.now.mark.consistent_index += 1;
        Ok(())
    }

    fn set_row(&mut self, g: &mut Generator) {
        let key = (g.below(3) as u8, vec![g.below(4) as u8]);
        let length_max = if g.chance(10) { 2000 } else { 30 };
        let value = g.chance(80).then(|| g.bytes(0..length_max));
        self.log.table_set(key.0, &key.1, value.as_deref());
        match value {
            Some(value) => self.now.tables.insert(key, value),
            None => self.now.tables.remove(&key),
        };
    }

    /// A compaction reaches some records, older ones rather than newer.
    fn die(&mut self, g: &mut Generator) {
        let n = self.now.records.len();
        let mut doomed = Vec::new();
        for revision in self.now.records.keys().take(n - n / 4) {
            if g.chance(15) {
                doomed.push(*revision);
            }
        }
        let late = self.collected.is_some() as u32;
        for revision in doomed {
            let record = self.now.records.remove(&revision).expect("alive");
            let place = self.places.remove(&revision).expect("a place");
            if self.measures {
                self.log.dead(place, record.key_value.len() as u32);
            } else {
                self.log.dead_unmeasured(place);
            }
            self.now.mark.compacted = self.now.mark.compacted.max(revision.main);
            self.seen.late_deaths += late;
        }
    }

    fn capture(&mut self, g: &mut Generator) {
        self.now.mark.term += g.below(2);
        self.now.mark.scheduled = self.now.mark.compacted;
        self.captured.push_back((self.log.checkpoint(self.now.mark), self.now.clone()));
    }

    fn commit(&mut self, promised: &mut Promised) -> Result<(), Fatal> {
        let Some((checkpoint, model)) = self.captured.pop_front() else { return Ok(()) };
        let before = self.log.shared.ledger().size();
        promised.in_flight = Some(model);
        let committed = checkpoint.commit(&mut Hurry)?;
        promised.committed = promised.in_flight.take().expect("just set");
        assert_eq!(committed.mark, promised.committed.mark);
        committed.free(&mut Hurry)?;
        self.seen.rewrites += u32::from(self.log.shared.ledger().size() <= before);
        Ok(())
    }

    /// One step of the collector, wherever it is.
    fn collect(&mut self, g: &mut Generator) -> Result<(), Fatal> {
        if let Some(collected) = &mut self.collected {
            let relocations = collected.next(g.int(1..=5))?;
            if relocations.is_empty() {
                let collected = self.collected.take().expect("just seen");
                self.log.release(collected);
                self.seen.collections += 1;
            }
            for relocation in relocations {
                if let Some(place) = self.places.get_mut(&relocation.revision) {
                    assert_eq!(*place, relocation.from);
                    assert_eq!(relocation.key, self.now.records[&relocation.revision].key);
                    *place = relocation.to;
                }
            }
        } else if let Some(victim) = self.log.victim(30) {
            if g.chance(50) {
                self.die(g);
            }
            let collected = victim.run(&mut Hurry)?;
            self.log.adopt(&collected);
            self.collected = Some(collected);
        }
        Ok(())
    }

    fn read_some(&mut self, g: &mut Generator) -> Result<(), Fatal> {
        for (revision, place) in &self.places {
            if g.chance(20) {
                assert_eq!(read(&self.log, *place)?, self.now.records[revision].key_value);
            }
        }
        Ok(())
    }

    /// Looks into what was pinned before, whatever was collected meanwhile, and pins anew.
    fn pin(&mut self, g: &mut Generator) -> Result<(), Fatal> {
        if let Some((pinned, places)) = &self.pinned {
            for (place, record) in places.iter().filter(|_| g.chance(50)) {
                let mut out = Vec::new();
                pinned.read(*place, &mut out)?;
                assert_eq!(out, record.key_value);
            }
        }
        let places = self.places.iter();
        let places = places.map(|(revision, place)| (*place, self.now.records[revision].clone()));
        self.pinned = Some((self.log.pin(), places.collect()));
        Ok(())
    }

    fn read_all(&self) -> Result<(), Fatal> {
        for (revision, record) in &self.now.records {
            assert_eq!(read(&self.log, self.places[revision])?, record.key_value);
        }
        let live: usize = self.now.records.values().map(|r| r.key_value.len() + 24).sum();
        assert!(!self.measures || self.log.size().live == live as u64);
        assert!(self.log.size().on_disk > self.log.size().live);
        Ok(())
    }
}

/// Runs a history on `disk` from what lies on it, until its end or a crash.
pub(super) fn run(
    disk: &SimulatedDisk,
    g: &mut Generator,
    promised: &mut Promised,
) -> Result<Seen, Fatal> {
    let reopened = super::crash::found(disk, promised)?;
    let mut history = History::new(reopened, promised.measures);
    history.run(g, promised)?;
    Ok(history.seen)
}
