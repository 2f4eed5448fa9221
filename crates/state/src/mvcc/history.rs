//! What happened to some keys since a revision: how a watcher catches up.
//!
//! ```text
//!          next                     floor              head
//!  ──────────┼────────────────────────┼──────────────────┼
//!   delivered│  walk the index,       │ the ring of      │
//!            │  in turns, gather,     │ recent changes   │
//!            │  sort, deliver         │                  │
//! ```
//!
//! What is recent lies in a ring, in order. For what is older the keys are walked, a thousand a turn, and
//! the oldest revisions found are kept, sorted and delivered; then the walk is repeated for what follows.
//! Between turns the caller lets go of the state: the head moves on, keys come and go.
//!
//! # Invariants
//!
//! - Revisions come in order, each whole, none twice.
//! - What a catch-up remembers is bounded by [`GATHERED_MAX`] twice over, or one revision if that is more.
//! - A place is only read if no record has moved since it was looked up; otherwise the walk is repeated.
//!
//! # Not here
//!
//! Filters, and how an event is told to a client.

use storage::revlog::Place;

use super::Mvcc;
use super::index::{Point, Span};
use crate::encode;
use crate::fault::Fatal;

/// Keys looked at under one lock.
const KEYS_PER_TURN: usize = 1_000;

/// Events kept of one walk over the keys.
const GATHERED_MAX: usize = 1 << 15;

/// Revisions in one delivery.
const REVISIONS_PER_TURN: usize = 1_000;

/// Bytes of values in one delivery, though a revision is never split.
const BYTES_PER_TURN: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
}

/// A change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) main: i64,
    pub(crate) place: Place,
    sub: u32,
    pub(crate) kind: Kind,
}

impl Happening {
    pub(crate) fn new(point: &Point) -> Self {
        let kind = if point.tombstone {
            Kind::Delete
        } else if point.create_revision == point.main {
            Kind::Create
        } else {
            Kind::Update
        };
        Self { main: point.main, place: point.place, sub: point.sub, kind }
    }
}

/// What a turn has led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Call again.
    Working,
    /// The next revisions in which something happened, whole.
    Events(Vec<Happening>),
    /// Nothing is missing up to the head.
    AtHead,
    /// Some of it is gone: the revision that was compacted.
    Compacted(i64),
}

/// A watcher's way to the head.
pub(crate) struct Catchup {
    /// All before this revision has been delivered.
    next: i64,
    /// Found and sorted, the next last.
    gathered: Vec<Happening>,
    /// Nothing below or at this is missing in `gathered`.
    gathered_to: i64,
    walk: Option<Walk>,
    moves: u64,
}

struct Walk {
    key: Vec<u8>,
    to: i64,
    found: Vec<Happening>,
    /// When to drop the newest of what was found.
    cut_at: usize,
}

impl Catchup {
    pub(crate) fn new(next: i64) -> Self {
        Self { next, gathered: Vec::new(), gathered_to: 0, walk: None, moves: 0 }
    }

    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn step(&mut self, mvcc: &Mvcc, span: &Span) -> Turn {
        if self.next > mvcc.head() {
            return Turn::AtHead;
        }
        if self.next < mvcc.compacted() {
            return Turn::Compacted(mvcc.compacted());
        }
        if self.moves != mvcc.moves {
            *self = Self { moves: mvcc.moves, ..Self::new(self.next) };
        }
        if !self.gathered.is_empty() {
            return self.deliver(mvcc);
        }
        if mvcc.recent.reaches(self.next) {
            self.walk = None;
            return self.recall(mvcc, span);
        }
        self.walk(mvcc, span);
        Turn::Working
    }

    /// From the ring.
    fn recall(&mut self, mvcc: &Mvcc, span: &Span) -> Turn {
        let mut found = Vec::new();
        let mut budget = Budget::default();
        for (key, point) in mvcc.recent.since(self.next) {
            if !span.contains(key) {
                continue;
            }
            let happening = Happening::new(point);
            if !budget.takes(mvcc, &happening) {
                self.next = happening.main;
                return Turn::Events(found);
            }
            found.push(happening);
        }
        self.next = mvcc.head() + 1;
        if found.is_empty() { Turn::AtHead } else { Turn::Events(found) }
    }

    fn walk(&mut self, mvcc: &Mvcc, span: &Span) {
        let mut walk = self.walk.take().unwrap_or_else(|| Walk {
            key: span.start().to_vec(),
            to: mvcc.head(),
            found: Vec::new(),
            cut_at: 2 * GATHERED_MAX,
        });
        let rest = span.resume(&walk.key);
        let mut chains = mvcc.index.chains(&rest);
        for (_, chain) in chains.by_ref().take(KEYS_PER_TURN) {
            chain.within(self.next, walk.to, |point| walk.found.push(Happening::new(point)));
            walk.cut();
        }
        if let Some((key, _)) = chains.next() {
            walk.key = key.to_vec();
            self.walk = Some(walk);
            return;
        }
        self.gathered = walk.found;
        self.gathered.sort_unstable_by_key(|h| std::cmp::Reverse((h.main, h.sub)));
        self.gathered_to = walk.to;
        if self.gathered.is_empty() {
            self.next = walk.to + 1;
        }
    }

    /// From what was gathered.
    fn deliver(&mut self, mvcc: &Mvcc) -> Turn {
        let mut events = Vec::new();
        let mut budget = Budget::default();
        while let Some(happening) = self.gathered.pop() {
            if !budget.takes(mvcc, &happening) {
                self.next = happening.main;
                self.gathered.push(happening);
                return Turn::Events(events);
            }
            events.push(happening);
        }
        self.next = self.gathered_to + 1;
        Turn::Events(events)
    }
}

impl Walk {
    /// Drops the newest revisions if too much was found; they are for the next walk.
    fn cut(&mut self) {
        if self.found.len() < self.cut_at {
            return;
        }
        let (_, last, _) = self.found.select_nth_unstable_by_key(GATHERED_MAX, |h| h.main);
        // The revision at the edge stays whole: whatever else of it is found is let in.
        self.to = last.main;
        self.found.retain(|h| h.main <= self.to);
        self.cut_at = 2 * self.found.len().max(GATHERED_MAX);
    }
}

/// How much one delivery may still hold.
#[derive(Default)]
struct Budget {
    last: i64,
    revisions: usize,
    bytes: usize,
}

impl Budget {
    /// False if `happening` begins a revision there is no room for.
    fn takes(&mut self, mvcc: &Mvcc, happening: &Happening) -> bool {
        if happening.main != self.last {
            if self.revisions == REVISIONS_PER_TURN || self.bytes >= BYTES_PER_TURN {
                return false;
            }
            self.revisions += 1;
            self.last = happening.main;
        }
        // A record that can't be measured can't be read either; the reader will say so.
        self.bytes += mvcc.len_of(happening.place).unwrap_or(0);
        true
    }
}

// The fields of a WatchResponse and an Event.
const EVENTS: u32 = 11;
const TYPE: u32 = 1;
const KV: u32 = 2;
const PREV_KV: u32 = 3;

impl Mvcc {
    /// Appends an event as an element of a `WatchResponse`.
    ///
    /// A put shows the stored record; a deletion the key and the revision, which the record lacks.
    pub(crate) fn event(
        &self,
        happening: &Happening,
        previous: Option<Place>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fatal> {
        let deleted = happening.kind == Kind::Delete;
        let record_len = self.len_of(happening.place)?;
        let main = happening.main as u64;
        let kv_len = record_len + if deleted { 1 + encode::varint_len(main) } else { 0 };
        let field_len = |len: usize| 1 + encode::varint_len(len as u64) + len;
        let previous_len = previous.map(|place| self.len_of(place)).transpose()?;
        let type_len = if deleted { 2 } else { 0 };

        encode::prefix(
            out,
            EVENTS,
            type_len + field_len(kv_len) + previous_len.map_or(0, field_len),
        );
        encode::flag(out, TYPE, deleted);
        encode::prefix(out, KV, kv_len);
        self.log.read(happening.place, out)?;
        if deleted {
            encode::signed(out, 3, happening.main);
        }
        if let (Some(place), Some(len)) = (previous, previous_len) {
            encode::prefix(out, PREV_KV, len);
            self.log.read(place, out)?;
        }
        Ok(())
    }

    /// Where what `key` was before `happening` lies, if it was and that can still be read.
    pub(crate) fn previous(&self, key: &[u8], happening: &Happening) -> Option<Place> {
        let before = happening.main - 1;
        if happening.kind == Kind::Create || before < self.compacted() {
            return None;
        }
        self.index.at(key, before).map(|point| point.place)
    }
}
