//! The items of a transaction, and what they add up to.
//!
//! ```text
//! 1 sealed   segment · records end · footer end · number of records · first main · first sub
//! 2 removed  segment
//! 3 dead     segment · bytes · n · offset · n−1 × (offset − the one before)    offsets ascend
//! 4 set      table · length of key · key · length of value · value
//! 5 unset    table · length of key · key
//! 6 mark     consistent index · term · compacted · scheduled · head · segment · offset · number of records
//!            one byte says which; then varints (signed ones as 64-bit two's complement), keys, values
//! ```
//!
//! # Invariants
//!
//! - The last item of a transaction is a mark, and there is one a transaction.
//! - Records are dead in segments that exist.

use std::collections::BTreeMap;

use crate::revlog::record::{Revision, SegmentId};
use crate::revlog::segment::Sealed;
use crate::revlog::varint::{put, put_bytes, take, take_bytes, take_exactly};
use crate::revlog::{Mark, Tables};

/// Offsets in one `Dead` item.
pub(in crate::revlog) const DEAD_PER_ITEM_MAX: usize = 8 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::revlog) enum Item<'a> {
    Sealed { segment: SegmentId, sealed: Sealed },
    Removed { segment: SegmentId },
    Dead { segment: SegmentId, bytes: u64, offsets: Vec<u32> },
    Set { table: u8, key: &'a [u8], value: &'a [u8] },
    Unset { table: u8, key: &'a [u8] },
    Mark { mark: Mark, position: Position },
}

/// How far the records of a commit reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::revlog) struct Position {
    /// The one segment that is not sealed; `None` before the first commit.
    pub segment: Option<SegmentId>,
    pub offset: u64,
    /// Of that segment.
    pub n_records: u64,
}

/// Which records of a segment are dead.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(in crate::revlog) struct Dead {
    pub offsets: Vec<u32>,
    pub bytes: u64,
}

impl Dead {
    /// The offsets from the `from`-th on as items; sorts them. `bytes` is what those take.
    pub(in crate::revlog) fn items<'i>(
        segment: SegmentId,
        offsets: &mut [u32],
        bytes: u64,
    ) -> impl Iterator<Item = Item<'i>> {
        offsets.sort_unstable();
        offsets.chunks(DEAD_PER_ITEM_MAX).enumerate().map(move |(i, chunk)| Item::Dead {
            segment,
            bytes: if i == 0 { bytes } else { 0 },
            offsets: chunk.to_vec(),
        })
    }
}

/// What a ledger says, all in all.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(in crate::revlog) struct Contents {
    pub sequence: u64,
    pub sealed: BTreeMap<SegmentId, Sealed>,
    pub dead: BTreeMap<SegmentId, Dead>,
    pub tables: Tables,
    pub mark: Option<(Mark, Position)>,
    marked: bool,
}

const SEALED: u8 = 1;
const REMOVED: u8 = 2;
const DEAD: u8 = 3;
const SET: u8 = 4;
const UNSET: u8 = 5;
const MARK: u8 = 6;

impl<'a> Item<'a> {
    pub(in crate::revlog) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sealed { segment, sealed } => {
                let Sealed { records_end, footer_end, n_records, first } = sealed;
                out.push(SEALED);
                put(out, u64::from(segment.0));
                for number in [*records_end, *footer_end, u64::from(*n_records)] {
                    put(out, number);
                }
                put(out, first.main as u64);
                put(out, first.sub as u64);
            }
            Self::Removed { segment } => {
                out.push(REMOVED);
                put(out, u64::from(segment.0));
            }
            Self::Dead { segment, bytes, offsets } => {
                out.push(DEAD);
                for number in [u64::from(segment.0), *bytes, offsets.len() as u64] {
                    put(out, number);
                }
                let mut before = 0;
                for &offset in offsets {
                    put(out, u64::from(offset - before));
                    before = offset;
                }
            }
            Self::Set { table, key, value } => {
                out.extend([SET, *table]);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Self::Unset { table, key } => {
                out.extend([UNSET, *table]);
                put_bytes(out, key);
            }
            Self::Mark { mark, position } => {
                let Mark { consistent_index, term, compacted, scheduled, head } = *mark;
                out.push(MARK);
                for number in
                    [consistent_index, term, compacted as u64, scheduled as u64, head as u64]
                {
                    put(out, number);
                }
                put(out, position.segment.map_or(0, |segment| u64::from(segment.0)));
                put(out, position.offset);
                put(out, position.n_records);
            }
        }
    }

    /// Takes an item off the front of `input`; `None` if there is no whole one.
    pub(super) fn decode(input: &mut &'a [u8]) -> Option<Self> {
        Some(match take_exactly(input, 1)?[0] {
            SEALED => Self::Sealed { segment: take_segment(input)??, sealed: take_sealed(input)? },
            REMOVED => Self::Removed { segment: take_segment(input)?? },
            DEAD => Self::Dead {
                segment: take_segment(input)??,
                bytes: take(input)?,
                offsets: take_offsets(input)?,
            },
            SET => Self::Set {
                table: take_exactly(input, 1)?[0],
                key: take_bytes(input)?,
                value: take_bytes(input)?,
            },
            UNSET => Self::Unset { table: take_exactly(input, 1)?[0], key: take_bytes(input)? },
            MARK => Self::Mark { mark: take_mark(input)?, position: take_position(input)? },
            _ => return None,
        })
    }
}

/// The number 0 stands for none.
fn take_segment(input: &mut &[u8]) -> Option<Option<SegmentId>> {
    let number = u32::try_from(take(input)?).ok()?;
    Some((number > 0).then_some(SegmentId(number)))
}

fn take_sealed(input: &mut &[u8]) -> Option<Sealed> {
    let (records_end, footer_end) = (take(input)?, take(input)?);
    let n_records = u32::try_from(take(input)?).ok()?;
    let first = Revision { main: take(input)? as i64, sub: take(input)? as i64 };
    let sealed = Sealed { records_end, footer_end, n_records, first };
    (records_end <= footer_end && n_records > 0).then_some(sealed)
}

fn take_offsets(input: &mut &[u8]) -> Option<Vec<u32>> {
    let n = usize::try_from(take(input)?).ok().filter(|n| *n <= DEAD_PER_ITEM_MAX)?;
    let mut before = 0_u32;
    let offset = |_| {
        before = before.checked_add(u32::try_from(take(input)?).ok()?)?;
        Some(before)
    };
    (0..n).map(offset).collect()
}

fn take_mark(input: &mut &[u8]) -> Option<Mark> {
    let (consistent_index, term) = (take(input)?, take(input)?);
    let (compacted, scheduled) = (take(input)? as i64, take(input)? as i64);
    Some(Mark { consistent_index, term, compacted, scheduled, head: take(input)? as i64 })
}

fn take_position(input: &mut &[u8]) -> Option<Position> {
    Some(Position { segment: take_segment(input)?, offset: take(input)?, n_records: take(input)? })
}

impl Contents {
    pub(super) fn apply(&mut self, item: Item) -> Result<(), &'static str> {
        if self.marked {
            return Err("an item after the mark");
        }
        match item {
            Item::Sealed { segment, sealed } => {
                if self.sealed.insert(segment, sealed).is_some() {
                    return Err("a segment sealed twice");
                }
            }
            Item::Removed { segment } => {
                self.dead.remove(&segment);
                self.sealed.remove(&segment).ok_or("an unknown segment removed")?;
            }
            Item::Dead { segment, bytes, offsets } => {
                let dead = self.dead.entry(segment).or_default();
                dead.offsets.extend(offsets);
                dead.bytes = dead.bytes.checked_add(bytes).ok_or("the size of the dead")?;
            }
            Item::Set { table, key, value } => {
                self.tables.insert((table, key.to_vec()), value.to_vec());
            }
            Item::Unset { table, key } => {
                self.tables.remove(&(table, key.to_vec()));
            }
            Item::Mark { mark, position } => {
                self.mark = Some((mark, position));
                self.marked = true;
            }
        }
        Ok(())
    }

    /// Checks that a transaction is complete.
    pub(super) fn commit(&mut self, sequence: u64) -> Result<(), &'static str> {
        if !std::mem::take(&mut self.marked) {
            return Err("a transaction without a mark");
        }
        let active = self.mark.and_then(|(_, position)| position.segment);
        let exists =
            |segment: &SegmentId| self.sealed.contains_key(segment) || active == Some(*segment);
        if !self.dead.keys().all(exists) {
            return Err("dead records of an unknown segment");
        }
        self.sequence = sequence;
        Ok(())
    }

    /// All that is said, in the order `apply` takes it.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let sealed = self.sealed.iter();
        let sealed = sealed.map(|(&segment, &sealed)| Item::Sealed { segment, sealed });
        let dead = self.dead.iter().flat_map(|(&segment, dead)| {
            let mut offsets = dead.offsets.clone();
            Dead::items(segment, &mut offsets, dead.bytes).collect::<Vec<_>>()
        });
        let rows = self.tables.iter();
        let rows = rows.map(|((table, key), value)| Item::Set { table: *table, key, value });
        let none = (Mark::default(), Position { segment: None, offset: 0, n_records: 0 });
        let (mark, position) = self.mark.unwrap_or(none);
        sealed.chain(dead).chain(rows).chain([Item::Mark { mark, position }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::{Generator, each_seed};

    fn item<'a>(g: &mut Generator, key: &'a [u8], value: &'a [u8]) -> Item<'a> {
        let segment = SegmentId(1 + g.below(u64::from(u32::MAX)) as u32);
        let number = |g: &mut Generator| g.number() >> g.below(64);
        match g.below(6) {
            0 => {
                let records_end = number(g) / 2;
                let footer_end = records_end + number(g) / 2;
                let first = Revision { main: number(g) as i64, sub: number(g) as i64 };
                let n_records = 1 + g.below(1000) as u32;
                Item::Sealed {
                    segment,
                    sealed: Sealed { records_end, footer_end, n_records, first },
                }
            }
            1 => Item::Removed { segment },
            2 => {
                let mut offsets = g.vec(0..20, |g| g.number() as u32);
                offsets.sort_unstable();
                Item::Dead { segment, bytes: number(g), offsets }
            }
            3 => Item::Set { table: g.number() as u8, key, value },
            4 => Item::Unset { table: g.number() as u8, key },
            _ => {
                let [compacted, scheduled, head] = [0; 3].map(|_: i64| g.number() as i64);
                let mark = Mark {
                    consistent_index: number(g),
                    term: number(g),
                    compacted,
                    scheduled,
                    head,
                };
                let segment = g.chance(80).then_some(segment);
                let position = Position { segment, offset: number(g), n_records: number(g) };
                Item::Mark { mark, position }
            }
        }
    }

    #[test]
    fn every_item_comes_back_and_a_cut_one_does_not() {
        each_seed(|g| {
            let (key, value) = (g.bytes(0..300), g.bytes(0..300));
            let item = item(g, &key, &value);
            let mut bytes = Vec::new();
            item.encode(&mut bytes);
            let cut = g.below(bytes.len() as u64) as usize;
            assert_eq!(Item::decode(&mut &bytes[..cut]), None);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            assert_eq!(Item::decode(&mut rest), Some(item));
            assert_eq!(rest, [7]);
        });
    }

    #[test]
    fn any_bytes_can_be_decoded_and_applied() {
        let mut n_decoded = 0;
        each_seed(|g| {
            let mut contents = Contents::default();
            for _ in 0..50 {
                let mut bytes = g.bytes(1..40);
                bytes[0] = g.below(8) as u8;
                if let Some(item) = Item::decode(&mut bytes.as_slice()) {
                    n_decoded += 1;
                    let _ = contents.apply(item);
                }
                let _ = contents.commit(1);
            }
        });
        assert!(n_decoded > 1000, "{n_decoded}");
    }
}
