//! One other member: what is to be sent to it, and whether it is there.
//!
//! # Invariants
//!
//! - Queues are bounded; what does not fit is dropped, as the network could have dropped it, and raft
//!   is told that the member may be out of reach.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use raft::Message;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::frame::{Kind, is_append};
use crate::metrics::Peer as Numbers;

/// Messages that may wait for one stream.
const QUEUE_MAX: usize = 4096;
/// Messages that may wait to be posted one by one.
const POSTS_MAX: usize = 64;

/// Which way a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stream(Kind),
    Post,
}

/// Messages on one way, and who fetches them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<VecDeque<Message>>,
    arrived: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        // No step under the lock can stop halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: Message, max: usize) -> bool {
        let mut queue = self.lock();
        if queue.len() >= max {
            return false;
        }
        queue.push_back(message);
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.arrived.notify_one();
        }
        true
    }

    /// Swaps all that waits into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut VecDeque<Message>) {
        debug_assert!(into.is_empty(), "the last batch is not finished");
        std::mem::swap(&mut *self.lock(), into);
    }

    pub(super) fn pop(&self) -> Option<Message> {
        self.lock().pop_front()
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Rouses another who fetches, if something is left.
    pub(super) fn pass_on(&self) {
        if !self.lock().is_empty() {
            self.arrived.notify_one();
        }
    }

    fn clear(&self) {
        self.lock().clear();
    }
}

/// The streams the remote has dialled, by kind.
#[derive(Debug, Default)]
struct Attached {
    writers: [Option<AbortHandle>; 2],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) id: u64,
    urls: Mutex<Vec<String>>,
    /// Which of the URLs is tried next.
    pick: AtomicUsize,
    streams: [Outbox; 2],
    pub(super) posts: Outbox,
    attached: Mutex<Attached>,
    /// Streams that the remote feeds.
    pub(super) n_live: AtomicU64,
    active_since: Mutex<Option<Instant>>,
    pub(super) numbers: Arc<Numbers>,
}

impl Remote {
    pub(super) fn new(id: u64, urls: Vec<String>, numbers: Arc<Numbers>) -> Self {
        Self {
            id,
            urls: Mutex::new(urls),
            pick: AtomicUsize::new(0),
            streams: Default::default(),
            posts: Outbox::default(),
            attached: Mutex::default(),
            n_live: AtomicU64::new(0),
            active_since: Mutex::default(),
            numbers,
        }
    }

    pub(super) fn set_urls(&self, urls: Vec<String>) {
        *self.urls.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Where the member is to be found, in the order in which to try: first where it was last.
    pub(super) fn urls(&self) -> Vec<String> {
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = self.pick.load(Ordering::Relaxed) % urls.len().max(1);
        urls.rotate_left(first);
        urls
    }

    /// The member was not there: another place is tried first, unless one is already.
    pub(super) fn blame(&self, url: &str) {
        let urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        let pick = self.pick.load(Ordering::Relaxed);
        if urls.get(pick % urls.len().max(1)).is_some_and(|first| first == url) {
            self.pick.store(pick.wrapping_add(1), Ordering::Relaxed);
        }
    }

    pub(super) fn outbox(&self, kind: Kind) -> &Outbox {
        &self.streams[kind as usize]
    }

    /// Puts a message on its way; false if there is no room, and it is dropped.
    pub(super) fn push(&self, message: Message) -> bool {
        let sent = match self.way(&message) {
            Way::Stream(kind) => self.outbox(kind).push(message, QUEUE_MAX),
            Way::Post => self.posts.push(message, POSTS_MAX),
        };
        if !sent {
            self.numbers.sent_failures.inc();
        }
        sent
    }

    fn way(&self, message: &Message) -> Way {
        let attached = self.attached();
        let has = |kind: Kind| attached.writers[kind as usize].is_some();
        if is_append(message) && has(Kind::Append) {
            Way::Stream(Kind::Append)
        } else if has(Kind::Message) {
            Way::Stream(Kind::Message)
        } else {
            Way::Post
        }
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remote has dialled a stream, in place of one it had.
    pub(super) fn attach(&self, kind: Kind, writer: AbortHandle) {
        let before = self.attached().writers[kind as usize].replace(writer);
        // What waited was for a connection that may have died long ago; raft sends it again.
        self.outbox(kind).clear();
        if let Some(before) = before {
            before.abort();
        }
    }

    /// The stream whose writer this is has ended.
    pub(super) fn detach(&self, kind: Kind, writer: tokio::task::Id) {
        let mut attached = self.attached();
        let slot = &mut attached.writers[kind as usize];
        if slot.as_ref().is_some_and(|handle| handle.id() == writer) {
            *slot = None;
            drop(attached);
            self.outbox(kind).clear();
        }
    }

    pub(super) fn detach_all(&self) {
        for writer in self.attached().writers.iter_mut().filter_map(Option::take) {
            writer.abort();
        }
    }

    /// The remote feeds a stream we have dialled.
    pub(super) fn begin_live(&self) {
        if self.n_live.fetch_add(1, Ordering::SeqCst) == 0 {
            *self.active() = Some(Instant::now());
            self.numbers.is_active.set(1);
        }
    }

    pub(super) fn end_live(&self) {
        if self.n_live.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.active() = None;
            self.numbers.is_active.set(0);
            self.numbers.disconnected.inc();
        }
    }

    /// Since when the remote has been heard without a break.
    pub(super) fn active_since(&self) -> Option<Instant> {
        *self.active()
    }

    fn active(&self) -> MutexGuard<'_, Option<Instant>> {
        self.active_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
