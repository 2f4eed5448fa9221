//! The log: the entries after the last compaction, in memory, and how far each of their duties is done.
//!
//! ```text
//!   base          applied     applying       commit            stable  handed     last
//!    │ 5 6 7 8 9 10 │ 11 12 13  │  14 15 16    │  17 18 19 20    │ 21 22  │ 23 24  │
//!    │              │           │              │                 │        │
//!    │              │           │              │                 │        └ not yet given to the disk
//!    │              │           │              │                 └ on its way to the disk
//!    │              │           │              └ known only here, or to few
//!    │              │           └ may be applied, if the disk has it
//!    │              └ given to the state machine
//!    └ compacted; the identity of the last one is kept
//! ```
//!
//! (`commit` may also run ahead of `stable`: others were quicker than our own disk.)
//!
//! # Invariants
//!
//! - base ≤ applied ≤ applying ≤ commit ≤ last, applying ≤ stable ≤ handed ≤ last.   (`assert_invariants`)
//! - Indexes follow each other without a gap; terms never fall.   (asserted where entries come in)
//! - What is committed is never overwritten.   (asserted in `splice`)
//!
//! # Not here
//!
//! The disk. What is on its way there is accounted for in `persist`.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::message::Proposal;
use crate::number::{EntryId, Index, Term};

#[derive(Debug)]
pub(crate) struct Log {
    base: EntryId,
    entries: VecDeque<Entry>,
    stable: Index,
    handed: Index,
    commit: Index,
    applying: Index,
    applied: Index,
    /// The size of the entries after `applied` up to `applying`.
    applying_bytes: u64,
}

impl Log {
    /// A log whose entries follow `base` and are durable.
    pub(crate) fn new(base: EntryId, entries: Vec<Entry>, commit: Index, applied: Index) -> Self {
        let mut last = base;
        for entry in &entries {
            assert!(follows(entry, last), "{} after {last} in a recovered log", entry.id());
            last = entry.id();
        }
        Self {
            base,
            entries: entries.into(),
            stable: last.index,
            handed: last.index,
            commit,
            applying: applied,
            applied,
            applying_bytes: 0,
        }
    }

    pub(crate) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, Entry::id)
    }

    pub(crate) fn stable(&self) -> Index {
        self.stable
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// The term at `index`; `None` where it is compacted away or not yet there.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    fn get(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    fn between(&self, after: Index, upto: Index) -> impl Iterator<Item = &Entry> {
        assert!(self.base.index <= after && upto <= self.last().index);
        let start = (after.0 - self.base.index.0) as usize;
        let end = (upto.max(after).0 - self.base.index.0) as usize;
        self.entries.range(start..end)
    }

    /// The last place at or before `index` whose term is no greater than `term`: the logs cannot
    /// agree anywhere between. Its term is 0 where we no longer, or not yet, know it.
    pub(crate) fn last_not_after(&self, index: Index, term: Term) -> EntryId {
        if index < self.base.index || index > self.last().index {
            return EntryId::new(index, Term(0));
        }
        let upto = (index.0 - self.base.index.0) as usize;
        let low_terms = self.entries.partition_point(|entry| entry.term <= term).min(upto);
        if low_terms > 0 {
            return self.entries[low_terms - 1].id();
        }
        if self.base.term <= term || self.base.index == Index(0) {
            return self.base;
        }
        EntryId::new(self.base.index.before(), Term(0))
    }

    /// Adds what a leader was asked to replicate, and returns its size.
    pub(crate) fn propose(&mut self, term: Term, entries: Vec<Proposal>) {
        assert!(term >= self.last().term, "terms never fall");
        let mut index = self.last().index;
        self.entries.extend(entries.into_iter().map(|(kind, data)| {
            index = index.next();
            Entry { term, index, kind, data }
        }));
    }

    /// Makes the log agree with the leader's: `entries` follow an entry we hold. Returns where it
    /// was cut, if entries of ours had to give way.
    pub(crate) fn splice(&mut self, entries: Vec<Entry>) -> Option<Index> {
        let known = entries.iter().take_while(|entry| self.holds(entry.id())).count();
        let mut news = entries.into_iter().skip(known).peekable();
        let from = news.peek()?.index;
        assert!(from > self.commit, "{from} contradicts what is committed up to {}", self.commit);
        let cut = (from <= self.last().index).then_some(from);
        if cut.is_some() {
            self.entries.truncate((from.0 - self.base.index.0 - 1) as usize);
            self.handed = self.handed.min(from.before());
            self.stable = self.stable.min(from.before());
        }
        for entry in news {
            assert!(follows(&entry, self.last()), "{} after {}", entry.id(), self.last());
            self.entries.push_back(entry);
        }
        cut
    }

    /// Starts anew behind a snapshot.
    pub(crate) fn restore(&mut self, base: EntryId) {
        assert!(base.index > self.commit, "a snapshot never takes back what is committed");
        self.base = base;
        self.entries.clear();
        self.stable = base.index;
        self.handed = base.index;
        self.commit = base.index;
        self.applying = base.index;
        self.applying_bytes = 0;
    }

    /// Forgets the entries up to `upto`, which must have been applied.
    pub(crate) fn compact(&mut self, upto: Index) {
        assert!(upto <= self.applied, "{upto} is compacted but only {} applied", self.applied);
        if upto <= self.base.index {
            return;
        }
        let term = self.term_at(upto).expect("what is applied is in the log or its base");
        self.entries.drain(..(upto.0 - self.base.index.0) as usize);
        self.base = EntryId::new(upto, term);
    }

    /// Up to `max_bytes` of entries from `from` on, but at least one if there is any.
    pub(crate) fn slice(&self, from: Index, max_bytes: u64) -> Vec<Entry> {
        let last = self.last().index;
        if from > last {
            return Vec::new();
        }
        let n = fitting(self.between(from.before(), last), max_bytes);
        self.between(from.before(), Index(from.0 - 1 + n)).cloned().collect()
    }

    /// Raises the commit index; it never falls.
    pub(crate) fn commit_to(&mut self, index: Index) {
        let last = self.last().index;
        assert!(
            index <= last,
            "committed up to {index} but our log ends at {last}: entries are lost"
        );
        self.commit = self.commit.max(index);
    }

    pub(crate) fn bytes_between(&self, after: Index, upto: Index) -> u64 {
        self.between(after, upto).map(|entry| entry.data.len() as u64).sum()
    }

    /// Whether a change of membership is committed but not applied.
    pub(crate) fn has_unapplied_conf_change(&self) -> bool {
        let after = self.applied.max(self.base.index);
        self.between(after, self.commit).any(|entry| entry.kind.changes_membership())
    }

    /// Gives the disk what it does not have yet.
    pub(crate) fn hand_to_disk(&mut self, append: &mut Vec<Entry>) -> bool {
        let last = self.last().index;
        let any = self.handed < last;
        if any {
            append.extend(self.between(self.handed, last).cloned());
            self.handed = last;
        }
        any
    }

    pub(crate) fn stable_to(&mut self, index: Index) {
        assert!(index <= self.handed, "the disk has {index} but was given up to {}", self.handed);
        self.stable = self.stable.max(index);
    }

    /// Gives the state machine what is committed and durable, as long as no more than `max_bytes`
    /// of it are under way; but something, if nothing is.
    pub(crate) fn hand_to_state(&mut self, max_bytes: u64, commit: &mut Vec<Entry>) {
        let upto = self.commit.min(self.stable);
        if self.applying >= upto {
            return;
        }
        let room = max_bytes.saturating_sub(self.applying_bytes);
        if room == 0 {
            return;
        }
        let n = fitting(self.between(self.applying, upto), room);
        let upto = Index(self.applying.0 + n);
        if self.applying_bytes > 0 && n == 1 && self.size_between(self.applying, upto) > room {
            return;
        }
        self.applying_bytes += self.size_between(self.applying, upto);
        commit.extend(self.between(self.applying, upto).cloned());
        self.applying = upto;
    }

    /// The state machine has come this far (by entries or by a snapshot).
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(index <= self.applying, "{index} is applied but {} given", self.applying);
        if index <= self.applied {
            return;
        }
        let known_from = self.applied.max(self.base.index);
        if index > known_from {
            let done = self.size_between(known_from, index);
            self.applying_bytes -= done;
        }
        self.applied = index;
    }

    fn size_between(&self, after: Index, upto: Index) -> u64 {
        self.between(after, upto).map(Entry::size).sum()
    }

    pub(crate) fn assert_invariants(&self) {
        let last = self.last().index;
        assert!(self.applied <= self.applying, "applied {} of {}", self.applied, self.applying);
        assert!(self.applying <= self.commit, "applying {} of {}", self.applying, self.commit);
        assert!(self.commit <= last, "committed {} of {last}", self.commit);
        assert!(self.applying <= self.stable, "applying {} of {}", self.applying, self.stable);
        assert!(self.stable <= self.handed && self.handed <= last);
        assert_eq!(last.0 - self.base.index.0, self.entries.len() as u64, "a gap in the log");
    }
}

fn follows(entry: &Entry, last: EntryId) -> bool {
    entry.index == last.index.next() && entry.term >= last.term
}

/// How many of `entries` fit into `max_bytes`: at least one, if there is any.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) -> u64 {
    let mut bytes = 0;
    let mut n = 0;
    for entry in entries {
        bytes += entry.size();
        if n > 0 && bytes > max_bytes {
            break;
        }
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests;
