//! What should be in the store: every revision explained by something that was asked for.
//!
//! # Invariants
//!
//! - A write that was acknowledged is the one at the revision it was answered with, wholly.
//! - One that was not is there wholly, or not at all, and never after the next start has settled.
//! - A lease's end deletes the keys attached to it, and nothing else. Nothing else writes.
//! - Reads saw what was there at the revision they were answered with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proto::Method;
use proto::etcdserverpb::{RangeRequest, RangeResponse};
use proto::mvccpb::KeyValue;
use stdx::Generator;

use super::lease::Leases;
use super::operation::{Answer, OUT_OF_RANGE, Operation, Tag, What, number_of};
use super::watcher::{Change, Put, Watcher};
use super::writer::Done;
use crate::support::client::{Client, Failure};
use crate::support::process::anything;

/// A key as it was left by the revision beside it.
type Left = (i64, Option<Put>);

pub(super) struct History {
    head: i64,
    keys: BTreeMap<u16, Vec<Left>>,
    compaction_asked: i64,
    compaction_answered: i64,
    pub(super) n_acknowledged: usize,
    /// Writes nobody was told of that are there.
    pub(super) n_came_true: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            head: 1,
            keys: BTreeMap::new(),
            compaction_asked: 0,
            compaction_answered: 0,
            n_acknowledged: 0,
            n_came_true: 0,
        }
    }
}

/// The newest revision of a server.
pub(super) async fn head(client: &Client) -> i64 {
    let answer: RangeResponse = client.call(Method::Range, &anything()).await.expect("an answer");
    answer.header.expect("a header").revision
}

impl History {
    pub(super) fn head(&self) -> i64 {
        self.head
    }

    /// The newest revision anybody asked to compact to.
    pub(super) fn compaction_asked(&self) -> i64 {
        self.compaction_asked
    }

    pub(super) fn note_compactions(&mut self, done: &[Done]) {
        for Done { operation, answer } in done {
            if let Operation::Compact { revision } = operation {
                self.compaction_asked = self.compaction_asked.max(*revision);
                if let Answer::At { .. } = answer {
                    self.compaction_answered = self.compaction_answered.max(*revision);
                }
            }
        }
    }

    /// Explains every revision up to `head` that is new, and finds every answer true.
    pub(super) fn settle(
        &mut self,
        head: i64,
        watcher: &Watcher,
        done: Vec<Done>,
        leases: &mut Leases,
    ) {
        leases.note(&done);
        let mut claims: BTreeMap<i64, Done> = BTreeMap::new();
        let (mut in_the_dark, mut seen) = (Vec::new(), Vec::new());
        for done in done {
            self.n_acknowledged += usize::from(!matches!(done.answer, Answer::None));
            match &done.answer {
                Answer::None => in_the_dark.push(done.operation),
                Answer::Refused => leases.check_refusal(&done.operation),
                Answer::At { revision, what } if done.operation.wrote(what) => {
                    let other = claims.insert(*revision, done.clone());
                    assert!(other.is_none(), "two writes at one revision: {done:?}, {other:?}");
                }
                Answer::At { .. } => seen.push(done),
            }
        }
        if let Some((revision, claim)) = claims.first_key_value() {
            assert!(*revision > self.head, "a new write at an old revision: {claim:?}");
        }
        for revision in self.head + 1..=head {
            let changes = watcher.shown().get(&revision).cloned().expect("it has been shown");
            match claims.remove(&revision) {
                Some(claim) => self.check_claim(&claim, &changes),
                None => self.explain(revision, &changes, &mut in_the_dark, leases),
            }
            self.head = revision;
            for Change { key, put } in changes {
                self.keys.entry(key).or_default().push((revision, put));
            }
        }
        assert!(claims.is_empty(), "acknowledged, and lost (the store ends at {head}): {claims:?}");
        seen.iter().for_each(|done| self.check_seen(done));
    }

    fn check_claim(&self, claim: &Done, changes: &[Change]) {
        let expected = self.effects(&claim.operation);
        assert_eq!(expected, changes, "acknowledged, but not as it is: {claim:?}");
        if let Answer::At { what: What::Deleted(n), .. } = claim.answer {
            assert_eq!(n, changes.len() as i64, "{claim:?}");
        }
    }

    /// Finds who made an unclaimed revision: a writer that heard nothing, or the end of a lease.
    fn explain(
        &mut self,
        revision: i64,
        changes: &[Change],
        in_the_dark: &mut Vec<Operation>,
        leases: &Leases,
    ) {
        let fits = |operation: &Operation| self.effects(operation) == changes;
        if let Some(at) = in_the_dark.iter().position(fits) {
            self.n_came_true += 1;
            // Values are written once; the same keys may be deleted again and again.
            if changes.iter().any(|change| change.put.is_some()) {
                in_the_dark.swap_remove(at);
            }
            return;
        }
        let ended = leases.may_end().any(|id| fits(&Operation::Revoke { id }));
        let before: Vec<_> = changes.iter().map(|change| self.at(change.key, self.head)).collect();
        assert!(
            ended,
            "nobody asked for revision {revision}, or not for all of it: {changes:?}\n\
             before: {before:?}\nunanswered: {in_the_dark:?}"
        );
    }

    /// What `operation` does to the newest revision.
    fn effects(&self, operation: &Operation) -> Vec<Change> {
        let deleted = |key| Change { key, put: None };
        match operation {
            Operation::Put { key, tag, lease } => vec![self.put(*key, *tag, *lease)],
            Operation::Delete { from, to } => {
                self.living(*from..*to, self.head).map(|(key, _)| deleted(key)).collect()
            }
            Operation::PutIf { key, version, puts } => {
                let found = self.at(*key, self.head).map_or(0, |(_, put)| put.version);
                let puts = if found == *version { &puts[..] } else { &[] };
                puts.iter().map(|(key, tag)| self.put(*key, *tag, 0)).collect()
            }
            Operation::Revoke { id } => {
                self.attached(*id, self.head).into_iter().map(deleted).collect()
            }
            Operation::Read { .. } | Operation::Grant { .. } | Operation::Compact { .. } => {
                Vec::new()
            }
        }
    }

    fn put(&self, key: u16, tag: Tag, lease: i64) -> Change {
        let before = self.at(key, self.head).map(|(_, put)| put);
        let created = before.map_or(self.head + 1, |put| put.created);
        let version = before.map_or(0, |put| put.version) + 1;
        Change { key, put: Some(Put { tag, lease, created, version }) }
    }

    /// A key at a revision, and which revision made it so.
    fn at(&self, key: u16, revision: i64) -> Option<(i64, Put)> {
        let left = self.keys.get(&key)?;
        let n_before = left.partition_point(|(at, _)| *at <= revision);
        let (at, put) = left[..n_before].last()?;
        put.map(|put| (*at, put))
    }

    fn living(&self, keys: Range<u16>, revision: i64) -> impl Iterator<Item = (u16, (i64, Put))> {
        let keys = self.keys.range(keys).map(|(key, _)| *key);
        keys.filter_map(move |key| Some((key, self.at(key, revision)?)))
    }

    /// The keys attached to a lease.
    pub(super) fn attached(&self, lease: i64, revision: i64) -> BTreeSet<u16> {
        let living = self.living(0..u16::MAX, revision);
        living.filter(|(_, (_, put))| put.lease == lease).map(|(key, _)| key).collect()
    }

    fn check_seen(&self, done: &Done) {
        let Answer::At { revision, what } = &done.answer else { unreachable!("nothing was seen") };
        assert!(*revision <= self.head, "seen, and lost: {done:?}");
        match (&done.operation, what) {
            (Operation::Read { key } | Operation::PutIf { key, .. }, What::Read(found)) => {
                let found = found.as_ref().map(of_wire);
                let expected = self.at(*key, *revision).map(|kept| (*key, kept));
                assert_eq!(found, expected, "read, but not as it was: {done:?}");
            }
            (Operation::Delete { from, to }, What::Deleted(_)) => {
                let found = self.living(*from..*to, *revision).next();
                assert_eq!(found, None, "not deleted: {done:?}");
            }
            (Operation::Revoke { id }, What::Done) => {
                assert!(self.attached(*id, *revision).is_empty(), "not revoked: {done:?}");
            }
            (Operation::Grant { .. } | Operation::Compact { .. }, What::Done)
            | (Operation::PutIf { .. }, What::Held) => {}
            (operation, what) => panic!("no answer to {operation:?}: {what:?}"),
        }
        if let (Operation::PutIf { key, version, .. }, What::Read(_)) = (&done.operation, what) {
            let found = self.at(*key, *revision).map_or(0, |(_, put)| put.version);
            assert_ne!(found, *version, "the comparison held: {done:?}");
        }
    }

    /// Everything is there now, and was there at some revision before; what is compacted is gone.
    pub(super) async fn check_keys(&self, client: &Client, g: &mut Generator) {
        let oldest = self.compaction_asked.max(1);
        let before = oldest + g.below((self.head - oldest + 1) as u64) as i64;
        for revision in [self.head, before] {
            let answer = everything(client, revision).await.expect("all keys");
            let found: Vec<_> = answer.kvs.iter().map(of_wire).collect();
            let expected: Vec<_> = self.living(0..u16::MAX, revision).collect();
            assert_eq!(found, expected, "at revision {revision}");
        }
        if self.compaction_answered > 1 {
            match everything(client, self.compaction_answered - 1).await {
                Err(Failure::Refused { code: OUT_OF_RANGE, .. }) => {}
                other => panic!("compacted to {}, yet {other:?}", self.compaction_answered),
            }
        }
    }
}

async fn everything(client: &Client, revision: i64) -> Result<RangeResponse, Failure> {
    let request = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        revision,
        ..RangeRequest::default()
    };
    client.call(Method::Range, &request).await
}

fn of_wire(kv: &KeyValue) -> (u16, (i64, Put)) {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    let tag = Tag::of(value);
    let put = Put { tag, lease: *lease, created: *create_revision, version: *version };
    (number_of(key), (*mod_revision, put))
}

impl Operation {
    /// Whether an answer says that this made the revision it was answered with.
    fn wrote(&self, what: &What) -> bool {
        match (self, what) {
            (Self::Put { .. }, What::Done) | (Self::PutIf { .. }, What::Held) => true,
            (Self::Delete { .. }, What::Deleted(n)) => *n > 0,
            _ => false,
        }
    }
}
