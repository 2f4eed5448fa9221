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

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Context, Fatal};
use super::ledger::item::Dead;
use super::record::{self, HEADER_SIZE, Place, Revision, SegmentId};
use super::recover::{Skip, Walk};
use super::segment::{self, Segment};
use super::shelf::Holding;
use super::{Collection, Revlog, Shared};
use crate::pace::{self, PORTION, Pace, Portions};

/// How dead segments have to be before copying the rest is worth it, in percent of their bytes.
pub const DEAD_PERCENT_USUAL: u64 = 50;

/// Segments collected at a time.
const VICTIMS_MAX: usize = 16;

/// Dead records of the segments collected at a time: listing them is all that holds up the writer.
const DEAD_RECORDS_MAX: usize = 1 << 20;

/// So many neighbours that fit into one segment are joined however alive they are.
const SMALL_NEIGHBOURS: usize = 8;

/// What is written at a time. Single records may be longer.
const COPY_SIZE: usize = PORTION as usize;

/// Neighbouring segments to be collected.
pub struct Victim {
    shared: Arc<Shared>,
    victims: Vec<Source>,
    output: SegmentId,
}

struct Source {
    segment: Arc<Segment>,
    /// Offsets of what is left out.
    dead: Vec<u32>,
}

impl Source {
    fn n_alive(&self) -> usize {
        let sealed = self.segment.sealed().expect("a victim is sealed");
        sealed.n_records as usize - self.dead.len()
    }
}

/// What speaks for collecting a segment, or some together.
#[derive(Default)]
struct Candidate {
    bytes: u64,
    dead_bytes: u64,
    n_dead: usize,
    is_sealed: bool,
}

impl Candidate {
    fn and(&self, other: &Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            dead_bytes: self.dead_bytes + other.dead_bytes,
            n_dead: self.n_dead + other.n_dead,
            is_sealed: self.is_sealed && other.is_sealed,
        }
    }
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

/// Which record went where.
#[derive(Default)]
pub(super) struct Moves {
    output: Option<SegmentId>,
    /// Each victim, and how many pairs lie before its own.
    victims: Vec<(SegmentId, usize)>,
    /// (old offset, new offset): the old ones ascend within a victim, the new ones throughout.
    pairs: Vec<(u32, u32)>,
}

impl Moves {
    /// Where the record at `place` lies in a victim, if it is a copy; else `place`.
    pub(super) fn original_of(&self, place: Place) -> Place {
        if Some(place.segment()) != self.output {
            return place;
        }
        let found = self.pairs.binary_search_by_key(&place.offset(), |(_, new)| *new);
        self.original(found.expect("a copy has an original"))
    }

    fn original(&self, pair: usize) -> Place {
        let after = self.victims.partition_point(|(_, before)| *before <= pair);
        Place::new(self.victims[after - 1].0, self.pairs[pair].0)
    }

    /// Where a record of the `n`-th victim went, and its length; the copies end at `end`.
    fn copy_of(&self, n: usize, old: u32, end: u64) -> (u32, u64) {
        let from = self.victims[n].1;
        let to = self.victims.get(n + 1).map_or(self.pairs.len(), |(_, before)| *before);
        let found = self.pairs[from..to].binary_search_by_key(&old, |(old, _)| *old);
        let pair = from + found.expect("what was alive was copied");
        let new = self.pairs[pair].1;
        let next = self.pairs.get(pair + 1).map_or(end, |(_, next)| u64::from(*next));
        (new, next - u64::from(new))
    }
}

impl Revlog {
    /// Chooses what to collect: of the neighbours at least `dead_percent_min` dead those that give back
    /// most. `None` if there are no such, or a collection is under way: each is carried through, to `release`.
    pub fn victim(&mut self, dead_percent_min: u64) -> Option<Victim> {
        if !matches!(self.collection, Collection::None) {
            return None;
        }
        let chosen = self.choose(dead_percent_min)?.to_vec();
        let victims = chosen.into_iter().map(|id| {
            let account = self.shelf.account(id);
            let dead = account.dead.offsets.clone();
            Source { segment: Arc::clone(&self.segments[&id]), dead }
        });
        let victims = victims.collect();
        self.collection = Collection::Copying;
        let output = self.take_segment_id();
        Some(Victim { shared: Arc::clone(&self.shared), victims, output })
    }

    fn choose(&self, dead_percent_min: u64) -> Option<&[SegmentId]> {
        let order = self.shelf.order();
        let candidates: Vec<Candidate> = order.iter().map(|id| self.candidate(*id)).collect();
        let room = self.config.segment_size_max - segment::FIRST_OFFSET;
        let mut best: Option<(u64, RangeInclusive<usize>)> = None;
        for from in 0..candidates.len() {
            let mut sum = Candidate { is_sealed: true, ..Candidate::default() };
            for (n, candidate) in candidates[from..].iter().enumerate().take(VICTIMS_MAX) {
                sum = sum.and(candidate);
                let fits = sum.bytes - sum.dead_bytes <= room && sum.n_dead <= DEAD_RECORDS_MAX;
                if !sum.is_sealed || (!fits && n > 0) {
                    break;
                }
                let is_dead =
                    sum.n_dead > 0 && sum.dead_bytes * 100 >= sum.bytes * dead_percent_min;
                let is_small = n + 1 >= SMALL_NEIGHBOURS;
                let is_best = best.as_ref().is_none_or(|(most, _)| sum.dead_bytes > *most);
                if (is_dead || is_small) && is_best {
                    best = Some((sum.dead_bytes, from..=from + n));
                }
            }
        }
        best.map(|(_, chosen)| &order[chosen])
    }

    fn candidate(&self, id: SegmentId) -> Candidate {
        let account = self.shelf.account(id);
        Candidate {
            bytes: account.bytes,
            dead_bytes: account.dead.bytes,
            n_dead: account.dead.offsets.len(),
            is_sealed: self.segments[&id].sealed().is_some(),
        }
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
            self.pending.files_created = true;
            let bytes = sealed.records_end - segment::FIRST_OFFSET;
            let holding = Holding { bytes, n_records: u64::from(sealed.n_records), dead };
            added = Some((output.id, holding));
        }
        self.shelf.replace(&ids, added);
        let segments = Arc::make_mut(&mut self.segments);
        for Source { segment, .. } in victims {
            let sealed = segment.sealed().expect("a victim is sealed");
            footers.fetch_sub(sealed.footer_end - sealed.records_end, Ordering::Relaxed);
            segments.remove(&segment.id);
            self.pending.removed.push(segment);
        }
    }

    /// Those who died after `victim`, in their new places.
    fn late_deaths(&self, collected: &Collected) -> Dead {
        let end = collected.output.as_ref().map_or(0, |output| output.flushed());
        let mut all = Dead::default();
        for (n, victim) in collected.victims.iter().enumerate() {
            let dead = &self.shelf.account(victim.segment.id).dead;
            for &old in &dead.offsets[victim.dead.len()..] {
                let (new, length) = collected.moves.copy_of(n, old, end);
                all.offsets.push(new);
                all.bytes += length;
            }
        }
        all
    }
}

impl Victim {
    /// Copies what is alive. Reads and writes a lot; call it where nobody waits.
    pub fn run(self, pace: &mut dyn Pace) -> Result<Collected, Fatal> {
        let Self { shared, victims, output } = self;
        let mut copier = Copier { shared: &shared, id: output, output: None, bytes: Vec::new() };
        let n_alive = victims.iter().map(Source::n_alive).sum();
        let pairs = Vec::with_capacity(n_alive);
        let mut moves = Moves { output: Some(output), pairs, ..Moves::default() };
        for victim in &victims {
            moves.victims.push((victim.segment.id, moves.pairs.len()));
            let mut dead = victim.dead.clone();
            pace::sort(&mut dead, pace);
            copier.copy(victim, Skip::new(dead), &mut moves.pairs, &mut Portions::new(pace))?;
        }
        let output = copier.output;
        if let Some(output) = &output {
            output.seal(pace)?;
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
    /// Copies that are not in the output yet.
    bytes: Vec<u8>,
}

impl Copier<'_> {
    fn copy(
        &mut self,
        victim: &Source,
        dead: Skip,
        pairs: &mut Vec<(u32, u32)>,
        portions: &mut Portions<'_>,
    ) -> Result<(), Fatal> {
        let mut walk = Walk::sealed(Arc::clone(&victim.segment), dead);
        let mut records = victim.segment.window();
        while walk.advance_seeing(&mut || portions.saw_record())? {
            let entry = walk.entry();
            let old = entry.place.offset();
            pairs.push((old, self.next_offset()));
            let length = entry.len as usize + HEADER_SIZE;
            records.skip_to(u64::from(old));
            let record = records.peek(length).context(&victim.segment.path)?;
            record::split(record, u64::from(old)).context(&victim.segment.path)?;
            self.bytes.extend_from_slice(record);
            if self.bytes.len() >= COPY_SIZE {
                self.write(portions)?;
            }
        }
        self.write(portions)
    }

    fn next_offset(&self) -> u32 {
        let written = self.output.as_ref().map_or(segment::FIRST_OFFSET, |o| o.flushed());
        let offset = written + self.bytes.len() as u64;
        u32::try_from(offset).expect("a segment ends long before 4 GiB")
    }

    fn write(&mut self, portions: &mut Portions<'_>) -> Result<(), Fatal> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let output = match &mut self.output {
            Some(output) => output,
            slot => {
                let Shared { disk, dir, .. } = self.shared;
                slot.insert(Arc::new(Segment::create(&**disk, dir, self.id)?))
            }
        };
        output.append_copies(&self.bytes, portions)?;
        self.bytes.clear();
        Ok(())
    }
}

impl Collected {
    /// The next copies, at most `n_max`; none after the last.
    pub fn next(&mut self, n_max: usize) -> Result<Vec<Relocation>, Fatal> {
        let mut told = Vec::new();
        let Some(walk) = &mut self.walk else { return Ok(told) };
        while told.len() < n_max && walk.advance()? {
            let entry = walk.entry();
            let (_, new) = self.moves.pairs[self.n_told];
            assert_eq!(new, entry.place.offset(), "copies are told of in their order");
            let (key, revision) = (entry.key.to_vec(), entry.meta.revision);
            let from = self.moves.original(self.n_told);
            told.push(Relocation { key, revision, from, to: entry.place });
            self.n_told += 1;
        }
        Ok(told)
    }
}
