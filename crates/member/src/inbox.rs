//! Inboxes: where the threads of a member meet.
//!
//! Work moves in batches and a batch costs one wake-up. A sender pushes all it has under one short
//! lock; the receiver takes all there is in one swap. A receiver is woken only by the push that
//! finds the inbox empty: whoever comes later knows that it is awake already.
//!
//! # Invariants
//!
//! - An inbox admits work up to its bound; what does not fit stays with the sender, who refuses it.
//! - After [`Inbox::take`] found nothing, the next push wakes the receiver.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a receiver that waits for something else as well (sockets, timers) is roused.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// A bounded queue of plain data with one receiver.
pub struct Inbox<T> {
    shared: Mutex<Shared<T>>,
    arrived: Condvar,
    waker: Option<Arc<dyn Wake>>,
    items_max: usize,
}

struct Shared<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// What [`Inbox::wait`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    Items,
    Timeout,
    /// The inbox is closed and empty: the receiver's work is done.
    Closed,
}

impl<T> Inbox<T> {
    /// An inbox whose receiver blocks in [`Inbox::wait`].
    pub fn new(items_max: usize) -> Self {
        Self::with_waker(items_max, None)
    }

    /// An inbox whose receiver is roused through `waker`.
    pub fn waking(items_max: usize, waker: Arc<dyn Wake>) -> Self {
        Self::with_waker(items_max, Some(waker))
    }

    fn with_waker(items_max: usize, waker: Option<Arc<dyn Wake>>) -> Self {
        let shared = Shared { items: VecDeque::new(), closed: false };
        Self { shared: Mutex::new(shared), arrived: Condvar::new(), waker, items_max }
    }

    /// Moves from the front of `batch` what fits; the rest is over the bound, or the inbox closed.
    pub fn push_all(&self, batch: &mut Vec<T>) {
        if batch.is_empty() {
            return;
        }
        let mut shared = self.lock();
        let room =
            if shared.closed { 0 } else { self.items_max.saturating_sub(shared.items.len()) };
        let was_empty = shared.items.is_empty();
        shared.items.extend(batch.drain(..room.min(batch.len())));
        let woken = was_empty && !shared.items.is_empty();
        drop(shared);
        if woken {
            self.rouse();
        }
    }

    /// As [`Inbox::push_all`], for one item; gives it back if there is no room.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut shared = self.lock();
        if shared.closed || shared.items.len() >= self.items_max {
            return Err(item);
        }
        let was_empty = shared.items.is_empty();
        shared.items.push_back(item);
        drop(shared);
        if was_empty {
            self.rouse();
        }
        Ok(())
    }

    /// Adds what follows from work that was admitted before: the bound was applied there, and losing
    /// it would leave that work hanging.
    pub fn push_admitted(&self, items: impl IntoIterator<Item = T>) {
        let mut shared = self.lock();
        let was_empty = shared.items.is_empty();
        shared.items.extend(items);
        let woken = was_empty && !shared.items.is_empty();
        drop(shared);
        if woken {
            self.rouse();
        }
    }

    /// Swaps all that waits into `into`, which must be empty; its old buffer serves the next senders.
    pub fn take(&self, into: &mut VecDeque<T>) {
        debug_assert!(into.is_empty(), "the last batch is not finished");
        std::mem::swap(&mut self.lock().items, into);
    }

    /// Blocks until something waits to be taken, the inbox is closed, or `timeout` is over.
    pub fn wait(&self, timeout: Duration) -> Waited {
        let idle = |shared: &mut Shared<T>| shared.items.is_empty() && !shared.closed;
        let (shared, _) = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, idle)
            .unwrap_or_else(PoisonError::into_inner);
        match (shared.items.is_empty(), shared.closed) {
            (false, _) => Waited::Items,
            (true, true) => Waited::Closed,
            (true, false) => Waited::Timeout,
        }
    }

    /// Refuses all further items; what is in the inbox can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.rouse();
    }

    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rouse(&self) {
        match &self.waker {
            Some(waker) => waker.wake(),
            None => self.arrived.notify_one(),
        }
    }

    /// A thread that panicked while it held the lock left plain data behind, whole: no step under
    /// the lock can stop halfway.
    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("items", &self.len()).field("max", &self.items_max).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_push_into_an_empty_inbox_wakes_the_receiver() {
        let counted = Arc::new(Counted::default());
        let inbox = Inbox::waking(10, Arc::<Counted>::clone(&counted));
        inbox.push_all(&mut vec![1, 2]);
        inbox.push_all(&mut vec![3]);
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);

        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(inbox.push(4), Ok(()));
        assert_eq!(counted.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_over_the_bound_stays_with_the_sender() {
        let inbox = Inbox::new(2);
        let mut batch = vec![1, 2, 3];
        inbox.push_all(&mut batch);
        assert_eq!(batch, [3]);
        assert_eq!(inbox.push(4), Err(4));
    }

    #[test]
    fn a_closed_inbox_is_emptied_before_it_ends() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.push(1), Ok(()));
        inbox.close();
        assert_eq!(inbox.push(2), Err(2));
        assert_eq!(inbox.wait(Duration::ZERO), Waited::Items);
        inbox.take(&mut VecDeque::new());
        assert_eq!(inbox.wait(Duration::ZERO), Waited::Closed);
    }
}
