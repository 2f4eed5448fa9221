//! "All up to revision r has been sent": a promise, and when it may be said.
//!
//! A stream may say so of the head it has seen under a read lock, once it has processed every delivery
//! that was made for its shard by then.

/// A promise that waits for deliveries on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) revision: i64,
    /// The last delivery made for the shard when `revision` was the head.
    pub(super) after: u64,
}

/// The promises a stream has yet to make: one for a client that asks, one for the ticks.
#[derive(Default)]
pub(super) struct Promises {
    /// For the whole stream.
    pub(super) asked: Option<Promise>,
    /// For each watcher that wants it.
    pub(super) ticked: Option<Promise>,
}

/// Takes a promise out that may be made now.
pub(super) fn take_ripe(promise: &mut Option<Promise>, processed: u64) -> Option<i64> {
    promise.take_if(|p| p.after <= processed).map(|p| p.revision)
}
