//! One watcher's interest, kept through whatever streams it needs, and what it is owed.
//!
//! | promise | held against |
//! |---|---|
//! | ordered, unique, complete, resumable | what comes is what the model has from the first revision not seen yet on, no less and no more |
//! | atomic | a response, or the fragments of one, ends where a revision ends |
//! | the past is right | what was before is the model's, and lacks only where a compaction may have taken it |
//! | progress does not lie | after "all up to r has been sent" nothing up to r was owed, or comes |

use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};

use crate::model::{Change, Model};

pub(super) struct Interest {
    /// What is watched. Its start counts the first time only.
    pub(super) create: WatchCreateRequest,
    /// The first revision that was not seen yet, once it is known.
    pub(super) next: Option<i64>,
    /// By which name the stream that there is knows it.
    pub(super) watch_id: Option<i64>,
    /// Of a response that is not whole yet.
    fragments: Vec<Event>,
    /// Events that came.
    pub(super) n_seen: u64,
}

impl Interest {
    pub(super) fn new(create: WatchCreateRequest) -> Self {
        Self { create, next: None, watch_id: None, fragments: Vec::new(), n_seen: 0 }
    }

    /// What to ask a new stream for: to go on where the last one ended.
    pub(super) fn resumed(&self) -> WatchCreateRequest {
        let start_revision = self.next.unwrap_or(self.create.start_revision);
        WatchCreateRequest { start_revision, ..self.create.clone() }
    }

    /// The stream it had is no more.
    pub(super) fn disconnect(&mut self) {
        self.watch_id = None;
        self.fragments.clear();
    }

    pub(super) fn created(&mut self, watch_id: i64, revision: i64) {
        self.watch_id = Some(watch_id);
        let start = self.create.start_revision;
        self.next.get_or_insert(if start == 0 { revision + 1 } else { start });
    }

    fn wants(&self, change: &Change) -> bool {
        let WatchCreateRequest { key, range_end, filters, .. } = &self.create;
        let kind = if change.after.is_some() { EventType::Put } else { EventType::Delete };
        let inside = if range_end.is_empty() {
            change.key == key
        } else {
            change.key >= key && (change.key < range_end || range_end[..] == [0])
        };
        // The filters are numbered as the kinds of events are.
        inside && !filters.contains(&(kind as i32))
    }

    /// What is owed of the revisions from `next` to `last`.
    fn owed(&self, model: &Model, last: i64) -> Vec<Event> {
        let next = self.next.expect("a watcher that was created");
        let mut owed = Vec::new();
        if next > last {
            return owed;
        }
        for (&revision, changes) in model.changes.range(next..=last) {
            for change in changes.iter().filter(|change| self.wants(change)) {
                owed.push(event(revision, change));
            }
        }
        owed
    }

    /// Events came.
    pub(super) fn take(&mut self, model: &Model, response: WatchResponse) {
        assert!(!response.fragment || self.create.fragment, "cut, though nobody wanted it");
        self.fragments.extend(response.events);
        if response.fragment {
            return;
        }
        let found = std::mem::take(&mut self.fragments);
        let revision = |event: &Event| event.kv.as_ref().expect("a key").mod_revision;
        let last = revision(found.last().expect("a response with events"));
        assert!(last <= model.head, "an event from the future: {last}");
        let owed = self.owed(model, last);
        let (n_found, n_owed) = (found.len(), owed.len());
        for (found, owed) in found.iter().zip(&owed) {
            self.compare(model, found, owed);
        }
        let from = self.next;
        assert_eq!(n_found, n_owed, "events from {from:?} to {last}: {found:?} for {owed:?}");
        self.n_seen += n_found as u64;
        self.next = Some(last + 1);
    }

    fn compare(&self, model: &Model, found: &Event, owed: &Event) {
        let from = self.next;
        assert_eq!(
            (found.r#type, &found.kv),
            (owed.r#type, &owed.kv),
            "a watcher of {:?} from {from:?} sees another event",
            self.create
        );
        let owed_before = owed.prev_kv.as_ref().filter(|_| self.create.prev_kv);
        match (&found.prev_kv, owed_before) {
            (None, Some(_)) => {
                let revision = owed.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                assert!(revision - 1 < model.compacted, "what was before {revision} is missing");
            }
            (found, owed) => assert_eq!(found.as_ref(), owed, "not what was before"),
        }
    }

    /// All up to `revision` has been sent, it is said.
    pub(super) fn has_all(&mut self, model: &Model, revision: i64) {
        assert!(self.fragments.is_empty(), "progress amid fragments");
        let owed = self.owed(model, revision);
        assert!(owed.is_empty(), "progress to {revision}, without {owed:?}");
        self.next = self.next.max(Some(revision + 1));
    }

    /// It cannot go on: what it lacks was compacted. It may begin again behind that.
    pub(super) fn is_compacted(&mut self, model: &Model, compacted: i64) {
        let next = self.next.expect("a watcher that was created");
        assert!(next < compacted, "nothing was lost: {next} is not below {compacted}");
        assert!(compacted <= model.compacted, "{compacted} was not compacted");
        self.disconnect();
        self.next = Some(compacted);
    }

    /// Whether nothing up to `revision` is missing.
    pub(super) fn is_complete(&self, model: &Model, revision: i64) -> bool {
        self.watch_id.is_some() && self.owed(model, revision).is_empty()
    }
}

fn event(revision: i64, change: &Change) -> Event {
    let prev_kv = change.before.clone();
    let Some(kv) = &change.after else {
        let (key, mod_revision) = (change.key.clone(), revision);
        let kv = KeyValue { key, mod_revision, ..KeyValue::default() };
        return Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv };
    };
    Event { r#type: EventType::Put as i32, kv: Some(kv.clone()), prev_kv }
}
