//! The collector: neighbours that are mostly dead become one segment of what is alive.
//!
//! ```text
//! Revlog::victim      writer     chooses neighbours, notes which of their records are dead so far
//! Victim::run         any thread copies the others into a new segment, seals and syncs it
//! Revlog::adopt       writer     makes the copies readable
//! Collected::next     any thread names the copies, a few at a time …
//! (the caller)        writer     … and the key index takes their places for the old ones, where it still has them
//! Revlog::release     writer     forgets the victims: their removal goes into the next checkpoint
//! Checkpoint::commit             replaces them in the ledger, and unlinks them
//! ```
//!
//! Until the last step is committed a restart knows nothing of the copies, and unlinks them. So what may be
//! discarded needs no further rule: the transaction that removes the victims also holds, or follows, the
//! deaths of all that was left out of the copies.
//!
//! # Invariants
//!
//! - Until `release` deaths are noted in the victims, whichever place they are reported by, since that is where
//!   a restart will find the record. `release` carries over those that came too late for `run`.
//! - The copies keep their order, and take the victims' place among the segments.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Context, Fatal};
use super::ledger::item::Dead;
use super::record::{self, HEADER_SIZE, Place, Revision, SegmentId};
use super::recover::{Skip, Walk};
use super::segment::{self, Segment};
use super::{Collection, Revlog, Shared};

/// How dead segments have to be before copying the rest is worth it, in percent of their bytes.
pub const DEAD_PERCENT_USUAL: u64 = 50;

/// Segments collected at a time.
const VICTIMS_MAX: usize = 16;

/// So many neighbours that fit into one segment are joined however alive they are.
const SMALL_NEIGHBOURS: usize = 8;

/// What is copied at a time. Single records may be longer.
const COPY_SIZE: usize = 1 << 20;

/// Neighbouring segments to be collected.
pub struct Victim {
    shared: Arc<Shared>,
    victims: Vec<Source>,
    output: SegmentId,
}

struct Source {
    segment: Arc<Segment>,
    /// Offsets of what is left out, ascending.
    dead: Vec<u32>,
    dead_bytes: u64,
}

/// Copies that take the place of their originals.
pub struct Collected {
    victims: Vec<Source>,
    output: Option<Arc<Segment>>,
    moves: Arc<Moves>,
    /// How far `next` has come.
    walk: Option<Walk>,
    n_told: usize,
}

/// A record that lies at `to` as well as at `from`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relocation {
    pub key: Vec<u8>,
    pub revision: Revision,
    pub from: Place,
    pub to: Place,
}

/// Which record went where. Both sides of it ascend within a victim, and the new offsets throughout.
#[derive(Default)]
pub(super) struct Moves {
    output: Option<SegmentId>,
    /// (victim, old offset, new offset)
    pairs: Vec<(SegmentId, u32, u32)>,
}

impl Moves {
    /// Where the record at `place` lies in a victim, if it is a copy; else `place`.
    pub(super) fn original_of(&self, place: Place) -> Place {
        if Some(place.segment()) != self.output {
            return place;
        }
        let found = self.pairs.binary_search_by_key(&place.offset(), |(_, _, new)| *new);
        let (victim, old, _) = self.pairs[found.expect("a copy has an original")];
        Place::new(victim, old)
    }

    /// The new offsets of a victim's records, ascending by the old ones.
    fn of(&self, victim: SegmentId) -> impl Fn(u32) -> u32 {
        let from = self.pairs.iter().position(|(of, ..)| *of == victim).unwrap_or(0);
        let n = self.pairs[from..].iter().take_while(|(of, ..)| *of == victim).count();
        let pairs = &self.pairs[from..from + n];
        move |old| {
            let found = pairs.binary_search_by_key(&old, |(_, old, _)| *old);
            pairs[found.expect("what was alive was copied")].2
        }
    }
}

impl Revlog {
    /// Chooses what to collect: of the neighbours at least `dead_percent_min` dead those that give back
    /// most. `None` if there are no such, or a collection is under way. Takes a moment for each dead record.
    pub fn victim(&mut self, dead_percent_min: u64) -> Option<Victim> {
        if !matches!(self.collection, Collection::None) {
            return None;
        }
        let chosen = self.choose(dead_percent_min)?.to_vec();
        let victims = chosen.into_iter().map(|id| {
            let account = self.shelf.account(id);
            let mut dead = account.dead.offsets.clone();
            dead.sort_unstable();
            let segment = Arc::clone(&self.segments[&id]);
            Source { segment, dead, dead_bytes: account.dead.bytes }
        });
        let victims = victims.collect();
        self.collection = Collection::Copying;
        let output = self.take_segment_id();
        Some(Victim { shared: Arc::clone(&self.shared), victims, output })
    }

    fn choose(&self, dead_percent_min: u64) -> Option<&[SegmentId]> {
        let order = self.shelf.order();
        let mut best: Option<(u64, &[SegmentId])> = None;
        for from in 0..order.len() {
            let (mut bytes, mut dead) = (0, 0);
            for to in from..order.len().min(from + VICTIMS_MAX) {
                let account = self.shelf.account(order[to]);
                bytes += account.bytes;
                dead += account.dead.bytes;
                let fits = bytes - dead <= self.config.segment_size_max - segment::FIRST_OFFSET;
                if self.segments[&order[to]].sealed().is_none() || (!fits && to > from) {
                    break;
                }
                let is_dead = dead > 0 && dead * 100 >= bytes * dead_percent_min;
                let is_small = to - from + 1 >= SMALL_NEIGHBOURS;
                if (is_dead || is_small) && best.is_none_or(|(most, _)| dead > most) {
                    best = Some((dead, &order[from..=to]));
                }
            }
        }
        best.map(|(_, chosen)| chosen)
    }

    /// Makes the copies readable. From now on places may be replaced.
    pub fn adopt(&mut self, collected: &Collected) {
        assert!(matches!(self.collection, Collection::Copying), "`victim` comes before `adopt`");
        if let Some(output) = &collected.output {
            Arc::make_mut(&mut self.segments).insert(output.id, Arc::clone(output));
        }
        self.collection = Collection::Moving(Arc::clone(&collected.moves));
    }

    /// Forgets the victims: no place in them is asked for any more but through a `Pinned`. They are
    /// unlinked by the next checkpoint.
    pub fn release(&mut self, collected: Collected) {
        assert!(matches!(self.collection, Collection::Moving(_)), "`adopt` comes before `release`");
        assert_eq!(collected.n_told, collected.moves.pairs.len(), "every copy was told of");
        self.collection = Collection::None;
        let dead = self.late_deaths(&collected);
        let Collected { victims, output, .. } = collected;
        let ids: Vec<SegmentId> = victims.iter().map(|victim| victim.segment.id).collect();
        let footers = &self.shared.overhead.footers;
        let mut added = None;
        if let Some(output) = output {
            let sealed = output.sealed().expect("`run` sealed it");
            footers.fetch_add(sealed.footer_end - sealed.records_end, Ordering::Relaxed);
            self.pending.added.push((output.id, sealed));
            added = Some((output.id, sealed.records_end - segment::FIRST_OFFSET, dead));
        }
        self.shelf.replace(&ids, added);
        let segments = Arc::make_mut(&mut self.segments);
        for Source { segment, .. } in victims {
            let sealed = segment.sealed().expect("a victim is sealed");
            footers.fetch_sub(sealed.footer_end - sealed.records_end, Ordering::Relaxed);
            segments.remove(&segment.id);
            self.pending.removed.push(segment);
        }
        // `run` made the name durable; this is for the mind's peace alone.
        self.pending.files_created = true;
    }

    /// Those who died after `victim`, in their new places.
    fn late_deaths(&self, collected: &Collected) -> Dead {
        let mut all = Dead::default();
        for victim in &collected.victims {
            let dead = &self.shelf.account(victim.segment.id).dead;
            let late = &dead.offsets[victim.dead.len()..];
            if !late.is_empty() {
                all.offsets.extend(late.iter().copied().map(collected.moves.of(victim.segment.id)));
                all.bytes += dead.bytes - victim.dead_bytes;
            }
        }
        all
    }
}

impl Victim {
    /// Copies what is alive. Reads and writes a lot; call it where nobody waits.
    pub fn run(self) -> Result<Collected, Fatal> {
        let Self { shared, victims, output } = self;
        let mut copier = Copier { shared: &shared, id: output, output: None, run: Run::default() };
        let mut moves = Moves { output: Some(output), pairs: Vec::new() };
        for victim in &victims {
            copier.copy(victim, &mut moves)?;
        }
        let output = copier.output;
        if let Some(output) = &output {
            output.seal()?;
            shared.disk.sync_dir(&shared.dir).context(&shared.dir)?;
            output.map()?;
        }
        let walk =
            output.as_ref().map(|output| Walk::sealed(Arc::clone(output), Skip::new(Vec::new())));
        Ok(Collected { victims, output, moves: Arc::new(moves), walk, n_told: 0 })
    }
}

struct Copier<'a> {
    shared: &'a Shared,
    id: SegmentId,
    /// Made when there is something to copy.
    output: Option<Arc<Segment>>,
    run: Run,
}

/// Live records back to back, to be copied at once.
#[derive(Default)]
struct Run {
    from: u32,
    length: usize,
    bytes: Vec<u8>,
}

impl Copier<'_> {
    fn copy(&mut self, victim: &Source, moves: &mut Moves) -> Result<(), Fatal> {
        let mut walk = Walk::sealed(Arc::clone(&victim.segment), Skip::new(victim.dead.clone()));
        while walk.advance()? {
            let entry = walk.entry();
            let offset = entry.place.offset();
            let length = entry.len as usize + HEADER_SIZE;
            let follows = self.run.from as usize + self.run.length == offset as usize;
            if !follows || self.run.length + length > COPY_SIZE {
                self.close_run(victim, moves)?;
                self.run.from = offset;
            }
            self.run.length += length;
        }
        self.close_run(victim, moves)
    }

    /// Checks the records of the run and appends them to the output.
    fn close_run(&mut self, victim: &Source, moves: &mut Moves) -> Result<(), Fatal> {
        let Run { from, length, bytes } = &mut self.run;
        if *length == 0 {
            return Ok(());
        }
        bytes.resize(std::mem::take(length), 0);
        victim.segment.read_records(*from, bytes)?;
        let output = match &mut self.output {
            Some(output) => output,
            slot => {
                let Shared { disk, dir, .. } = self.shared;
                slot.insert(Arc::new(Segment::create(&**disk, dir, self.id)?))
            }
        };
        let to = u32::try_from(output.flushed()).expect("a segment ends long before 4 GiB");
        let mut at = 0;
        while at < bytes.len() {
            let old = *from + at as u32;
            let record = record::split(&bytes[at..], u64::from(old));
            let (header, _) = record.context(&victim.segment.path)?;
            moves.pairs.push((victim.segment.id, old, to + at as u32));
            at += header.length as usize;
        }
        output.append_copies(bytes)
    }
}

impl Collected {
    /// The next copies, at most `n_max`; none after the last.
    pub fn next(&mut self, n_max: usize) -> Result<Vec<Relocation>, Fatal> {
        let mut told = Vec::new();
        let Some(walk) = &mut self.walk else { return Ok(told) };
        while told.len() < n_max && walk.advance()? {
            let entry = walk.entry();
            let (victim, old, new) = self.moves.pairs[self.n_told];
            assert_eq!(new, entry.place.offset(), "copies are told of in their order");
            let (key, revision) = (entry.key.to_vec(), entry.meta.revision);
            told.push(Relocation { key, revision, from: Place::new(victim, old), to: entry.place });
            self.n_told += 1;
        }
        Ok(told)
    }
}
