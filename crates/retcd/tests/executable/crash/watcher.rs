//! A watch of everything, across all lives of a server: what it has shown once must stay so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use proto::Method;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use proto::mvccpb::{self, event::EventType};
use tokio::task::JoinHandle;

use super::operation::{Tag, number_of};
use crate::support::client::{Client, Stream};

/// What one revision did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: u16,
    /// `None`: it was deleted.
    pub(super) put: Option<Put>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) tag: Tag,
    pub(super) lease: i64,
    pub(super) created: i64,
    pub(super) version: i64,
}

/// The changes of each revision ever shown.
type Shown = BTreeMap<i64, Vec<Change>>;

#[derive(Default)]
pub(super) struct Watcher {
    shown: Arc<Mutex<Shown>>,
    /// The newest revision the present watch has shown.
    current: Arc<AtomicI64>,
    /// The newest revision shown by servers before this one.
    before: i64,
    task: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches everything from revision `from` on, unless it does already.
    pub(super) async fn follow(&mut self, port: u16, from: i64) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let before = self.shown().last_key_value().map_or(0, |(revision, _)| *revision);
        self.before = before;
        self.current.store((from - 1).max(1), Ordering::Release);
        let client = Client::connect(port).await.expect("a server");
        let mut stream = client.open(Method::Watch).await.expect("a watch");
        let create = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        stream.send(&request, false).expect("a watch");
        let shown = Arc::clone(&self.shown);
        let current = Arc::clone(&self.current);
        self.task = Some(tokio::spawn(follow(stream, shown, current)));
    }

    /// Waits for the watch to end with its server; what it found wrong is found now.
    pub(super) async fn rest(&mut self) {
        if let Some(task) = self.task.take() {
            task.await.expect("a watch that makes sense");
        }
    }

    /// The newest revision this server has shown.
    pub(super) fn head(&self) -> i64 {
        assert!(
            self.task.as_ref().is_none_or(|task| !task.is_finished()),
            "the watch has ended before its server"
        );
        self.current.load(Ordering::Acquire)
    }

    /// The newest revision any server before this one has shown.
    pub(super) fn shown_before(&self) -> i64 {
        self.before
    }

    /// Follows [`Self::head`].
    pub(super) fn current(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.current)
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().expect("no panic")
    }
}

async fn follow(mut stream: Stream, shown: Arc<Mutex<Shown>>, current: Arc<AtomicI64>) {
    while let Ok(Some(response)) = stream.next::<WatchResponse>().await {
        assert!(!response.canceled, "the watch was canceled: {response:?}");
        let mut shown = shown.lock().expect("no panic");
        for (revision, changes) in by_revision(&response.events) {
            let next = current.load(Ordering::Acquire) + 1;
            assert_eq!(revision, next, "the watch left a revision out, or was out of order");
            let known = shown.entry(revision).or_insert_with(|| changes.clone());
            assert_eq!(*known, changes, "revision {revision} was used for something else before");
            current.store(revision, Ordering::Release);
        }
    }
}

fn by_revision(events: &[mvccpb::Event]) -> Vec<(i64, Vec<Change>)> {
    let mut revisions: Vec<(i64, Vec<Change>)> = Vec::new();
    for event in events {
        let kv = event.kv.as_ref().expect("an event of a key");
        let put = (event.r#type() == EventType::Put).then(|| Put {
            tag: Tag::of(&kv.value),
            lease: kv.lease,
            created: kv.create_revision,
            version: kv.version,
        });
        let change = Change { key: number_of(&kv.key), put };
        match revisions.last_mut() {
            Some((revision, changes)) if *revision == kv.mod_revision => changes.push(change),
            Some(_) | None => revisions.push((kv.mod_revision, vec![change])),
        }
    }
    revisions
}
