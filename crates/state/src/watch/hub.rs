//! Who watches which keys: the apply thread's side of watching.
//!
//! Watchers of the same keys form a group. What a revision costs here depends on the groups it touches,
//! not on how many watchers they have: a delivery names a group's tokens by sharing the list of them.
//!
//! # Invariants
//!
//! - Mail is opened before anything is applied: a join's head is the hub's.   (asserted in `admit`)
//! - An event is encoded at most twice: once plain, once with what was before, each only if wanted.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::interval::{Intervals, Range};
use super::{ShardId, Token};
use crate::fault::Fatal;
use crate::mvcc::history::{Happening, Kind};
use crate::mvcc::index::Span;
use crate::mvcc::{Change, Mvcc};

/// An event, ready to be an element of a `WatchResponse`.
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) kind: Kind,
    /// Present if anyone it goes to wants it so.
    pub(crate) plain: Option<Bytes>,
    pub(crate) with_previous: Option<Bytes>,
}

/// One revision's events, and who gets which.
#[derive(Clone, Debug)]
pub struct Notice {
    pub revision: i64,
    pub events: Arc<[Event]>,
    pub targets: Vec<Target>,
}

/// Watchers that get the same events of a revision.
#[derive(Clone, Debug)]
pub struct Target {
    pub tokens: Arc<Vec<Token>>,
    /// Which events, by their positions; `None`: all.
    which: Option<Arc<[u32]>>,
}

impl Notice {
    /// The events of one of the targets.
    pub(crate) fn events_of(&self, target: &Target) -> impl Iterator<Item = &Event> {
        let n = target.which.as_ref().map_or(self.events.len(), |which| which.len());
        let at = |i: usize| target.which.as_ref().map_or(i, |which| which[i] as usize);
        (0..n).map(move |i| &self.events[at(i)])
    }
}

/// What one shard gets of a batch.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Counts the shard's deliveries from 1, without gaps.
    pub sequence: u64,
    pub notices: Vec<Notice>,
}

impl Delivery {
    /// The first revision of which something is delivered.
    pub fn first_revision(&self) -> i64 {
        self.notices.first().expect("nothing is not delivered").revision
    }
}

/// What a stream tells the hub of a token: that it joins, or leaves.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) leaves: bool,
    pub(crate) span: Span,
    pub(crate) previous: bool,
    /// The head under which it was written.
    pub(crate) head: i64,
}

type Mailbox = BTreeMap<(ShardId, Token), Mail>;

/// The watchers of the same keys.
#[derive(Default)]
struct Group {
    by_shard: BTreeMap<ShardId, Members>,
    /// Made up for one revision: the positions of the events it gets.
    touched: Vec<u32>,
}

#[derive(Default)]
struct Members {
    tokens: Arc<Vec<Token>>,
    /// How many want what was before, and how many don't.
    previous: usize,
    plain: usize,
}

impl Members {
    fn count(&mut self, previous: bool) -> &mut usize {
        if previous { &mut self.previous } else { &mut self.plain }
    }
}

impl Group {
    fn join(&mut self, shard: ShardId, token: Token, previous: bool) {
        let members = self.by_shard.entry(shard).or_default();
        let tokens = Arc::make_mut(&mut members.tokens);
        let at = tokens.binary_search(&token).expect_err("no token joins twice");
        tokens.insert(at, token);
        *members.count(previous) += 1;
    }

    /// A token may have been forgotten together with its shard.
    fn leave(&mut self, shard: ShardId, token: Token, previous: bool) {
        let Some(members) = self.by_shard.get_mut(&shard) else { return };
        let Ok(at) = members.tokens.binary_search(&token) else { return };
        Arc::make_mut(&mut members.tokens).remove(at);
        *members.count(previous) -= 1;
        if members.tokens.is_empty() {
            self.by_shard.remove(&shard);
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Hub {
    /// Looked up only, never walked in its own order.
    exact: HashMap<Vec<u8>, Group>,
    ranges: Intervals<Group>,
    mailbox: Mutex<Mailbox>,
    has_mail: AtomicBool,
    made: BTreeMap<ShardId, Vec<Notice>>,
    sequences: BTreeMap<ShardId, u64>,
}

fn range_of(span: &Span) -> Result<Range, &Vec<u8>> {
    match span {
        Span::One(key) => Err(key),
        Span::Between(start, end) => Ok(Range { start: start.clone(), end: Some(end.clone()) }),
        Span::From(start) => Ok(Range { start: start.clone(), end: None }),
    }
}

impl Hub {
    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes mail from a thread that may only read. A leave meets the join that is still here, and both
    /// are gone: what waits is bounded by the watchers there are, however often clients change their minds.
    pub(crate) fn post(&self, shard: ShardId, token: Token, mail: Mail) {
        let mut mailbox = self.mailbox();
        match (mailbox.remove(&(shard, token)), mail) {
            (Some(Mail { leaves: false, .. }), Mail { leaves: true, .. }) => {}
            (None, mail) => drop(mailbox.insert((shard, token), mail)),
            (Some(before), mail) => panic!("{token:?}: {mail:?} after {before:?}"),
        }
        self.has_mail.store(true, Ordering::Release);
    }

    /// How much mail waits.
    #[cfg(test)]
    pub(crate) fn n_waiting(&self) -> usize {
        self.mailbox().len()
    }

    /// Opens the mail: to be called before anything is applied.
    ///
    /// # Panics
    ///
    /// If the head has moved since a join was posted.
    pub(crate) fn admit(&mut self, now: i64) {
        if !self.has_mail.swap(false, Ordering::Acquire) {
            return;
        }
        let mail = std::mem::take(&mut *self.mailbox());
        for ((shard, token), Mail { leaves, span, previous, head }) in mail {
            if leaves {
                self.leave(shard, token, &span, previous);
            } else {
                assert_eq!(head, now, "a join is admitted before the head moves on");
                self.group(&span).join(shard, token, previous);
            }
        }
    }

    fn group(&mut self, span: &Span) -> &mut Group {
        match range_of(span) {
            Err(key) => self.exact.entry(key.clone()).or_default(),
            Ok(range) => {
                if self.ranges.get_mut(&range).is_none() {
                    self.ranges.insert(range.clone(), Group::default());
                }
                self.ranges.get_mut(&range).expect("it is there or was just inserted")
            }
        }
    }

    fn leave(&mut self, shard: ShardId, token: Token, span: &Span, previous: bool) {
        match range_of(span) {
            Err(key) => {
                let Some(group) = self.exact.get_mut(key) else { return };
                group.leave(shard, token, previous);
                if group.by_shard.is_empty() {
                    self.exact.remove(key);
                }
            }
            Ok(range) => {
                let Some(group) = self.ranges.get_mut(&range) else { return };
                group.leave(shard, token, previous);
                if group.by_shard.is_empty() {
                    self.ranges.remove(&range);
                }
            }
        }
    }

    /// Forgets all watchers of a shard that can't keep up, and what was made for it. The shard has to be
    /// told the first revision it does not get: of the delivery that didn't fit, or else the next.
    pub fn drop_shard(&mut self, shard: ShardId) {
        self.made.remove(&shard);
        self.exact.retain(|_, group| {
            group.by_shard.remove(&shard);
            !group.by_shard.is_empty()
        });
        let mut empty = Vec::new();
        self.ranges.for_each(&mut |range, group| {
            group.by_shard.remove(&shard);
            if group.by_shard.is_empty() {
                empty.push(range.clone());
            }
        });
        for range in empty {
            self.ranges.remove(&range);
        }
    }

    /// Forgets all watchers, and numbers for each shard a delivery that never comes: what has happened
    /// meanwhile is for the history to tell.
    pub(crate) fn forget(&mut self, shards: impl Iterator<Item = ShardId>) -> Vec<(ShardId, u64)> {
        assert!(self.made.is_empty(), "deliveries are taken before the state is let go");
        self.exact.clear();
        self.ranges = Intervals::default();
        let number = |shard| {
            let sequence = self.sequences.entry(shard).or_insert(0);
            *sequence += 1;
            (shard, *sequence)
        };
        shards.map(number).collect()
    }

    /// The number of the last delivery made for a shard.
    pub(crate) fn sequence(&self, shard: ShardId) -> u64 {
        assert!(self.made.is_empty(), "deliveries are taken before the state is let go");
        self.sequences.get(&shard).copied().unwrap_or(0)
    }

    /// Whether nobody watches anything.
    pub fn is_idle(&self) -> bool {
        self.exact.is_empty() && self.ranges.len() == 0
    }

    /// Tells the watchers of what a revision has changed.
    pub(crate) fn publish(&mut self, mvcc: &Mvcc, changes: &[Change]) -> Result<(), Fatal> {
        if self.is_idle() || changes.is_empty() {
            return Ok(());
        }
        // First which groups are touched, in an order that follows from the changes alone.
        let mut wants = vec![Wants::default(); changes.len()];
        for (i, change) in changes.iter().enumerate() {
            let mut touch = |group: &mut Group| {
                group.touched.push(i as u32);
                for members in group.by_shard.values() {
                    wants[i].plain |= members.plain > 0;
                    wants[i].previous |= members.previous > 0;
                }
            };
            if let Some(group) = self.exact.get_mut(change.key.as_ref()) {
                touch(group);
            }
            self.ranges.stab(&change.key, &mut touch);
        }
        if !wants.iter().any(|w| w.plain || w.previous) {
            return Ok(());
        }
        let events = encode(mvcc, changes, &wants)?;
        let revision = changes[0].point.main;
        for change in changes {
            if let Some(group) = self.exact.get_mut(change.key.as_ref()) {
                deliver(group, revision, &events, &mut self.made);
            }
            let made = &mut self.made;
            self.ranges.stab(&change.key, &mut |group| deliver(group, revision, &events, made));
        }
        Ok(())
    }

    /// What the applied entries have made for each shard. To be called before the state is let go.
    pub fn take_deliveries(&mut self) -> Vec<(ShardId, Delivery)> {
        let made = std::mem::take(&mut self.made);
        let number = |(shard, notices)| {
            let sequence = self.sequences.entry(shard).or_insert(0);
            *sequence += 1;
            (shard, Delivery { sequence: *sequence, notices })
        };
        made.into_iter().map(number).collect()
    }
}

#[derive(Clone, Copy, Default)]
struct Wants {
    plain: bool,
    previous: bool,
}

/// Encodes the events somebody gets, all into one buffer.
fn encode(mvcc: &Mvcc, changes: &[Change], wants: &[Wants]) -> Result<Arc<[Event]>, Fatal> {
    let mut buffer = Vec::new();
    let mut ends = Vec::with_capacity(changes.len());
    for (change, wants) in changes.iter().zip(wants) {
        let happening = Happening::new(&change.point);
        if wants.plain {
            mvcc.event(&happening, None, &mut buffer)?;
        }
        let plain_end = buffer.len();
        if wants.previous {
            let previous = mvcc.previous(&change.key, &happening);
            mvcc.event(&happening, previous, &mut buffer)?;
        }
        ends.push((plain_end, buffer.len()));
    }
    let buffer = Bytes::from(buffer);
    let mut start = 0;
    let slice = |from: usize, to: usize| (from < to).then(|| buffer.slice(from..to));
    let event = |(change, &(plain_end, end)): (&Change, &(usize, usize))| {
        let event = Event {
            kind: Happening::new(&change.point).kind,
            plain: slice(start, plain_end),
            with_previous: slice(plain_end, end),
        };
        start = end;
        event
    };
    Ok(changes.iter().zip(&ends).map(event).collect())
}

/// Adds a touched group to the notices of its shards. One that was added already is untouched again.
fn deliver(
    group: &mut Group,
    revision: i64,
    events: &Arc<[Event]>,
    made: &mut BTreeMap<ShardId, Vec<Notice>>,
) {
    if group.touched.is_empty() {
        return;
    }
    let touched = std::mem::take(&mut group.touched);
    let which = (touched.len() < events.len()).then(|| touched.into());
    for (&shard, members) in &group.by_shard {
        let notices = made.entry(shard).or_default();
        if notices.last().is_none_or(|last| last.revision != revision) {
            notices.push(Notice { revision, events: events.clone(), targets: Vec::new() });
        }
        let notice = notices.last_mut().expect("one was just pushed if there was none");
        notice.targets.push(Target { tokens: members.tokens.clone(), which: which.clone() });
    }
}
