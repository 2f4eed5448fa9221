//! Watch: every change of some keys, in order, whole, once.
//!
//! ```text
//!  apply thread (write lock)                           shard threads (read lock)
//! ┌───────────────────────┐  deliveries, by shard     ┌─────────────────────────┐
//! │ State ── Hub          │ ───────────────────────►  │ Stream ─ watcher synced │──► responses
//! │           ▲ mailbox   │ ◄── join, leave ────────  │        └ watcher behind │◄── history
//! └───────────┼───────────┘                           └─────────────────────────┘
//!             └ a Mutex, taken for a push
//! ```
//!
//! A [`Hub`] is written by the apply thread alone. It knows which keys are watched from which shards, and
//! encodes each event once, whoever and how many want it. A [`Stream`] is one client's stream, on the
//! thread of its connection. It knows ids, filters, fragments, and how far each watcher is.
//!
//! # The hand-over
//!
//! A watcher is *behind* (it reads history) or *synced* (the hub delivers). Going from one to the other
//! must neither lose nor double an event.
//!
//! 1. **Join.** While a read lock is held the head cannot move. Under *one* read lock a stream reads
//!    history up to the head, and, having reached it, puts a join with a fresh [`Token`] into the hub's
//!    mailbox. The apply thread empties the mailbox, under the write lock, before it applies anything. So
//!    the token gets exactly what follows the head the stream has seen.   (asserted: `Hub::admit`)
//! 2. **Leave.** A stream that cancels a watcher, or has no room for its events, forgets the token and
//!    puts a leave into the mailbox. Deliveries on their way name a token nobody knows any more, and are
//!    passed over. The watcher that had no room is behind again from that very revision, reads history
//!    when there is room, and joins with another token.
//! 3. **Overflow.** If a whole shard's inbox is full the member calls [`Hub::drop_shard`], which forgets all
//!    of the shard's tokens, and throws the delivery away. Once the shard has taken what its inbox still
//!    held, it calls [`Stream::lost`] with the number and the first revision of what was thrown away: what
//!    was synced is behind from there.
//! 4. **Progress.** "All up to revision r has been sent" must hold when it is said. A shard's deliveries are
//!    numbered. Under a read lock a stream sees the head and the number of the last delivery made for its
//!    shard; once it has processed that one, all up to that head has been sent. If it has already: at once.
//!
//! So the writer never waits, and nothing grows without bound: a watcher that can't keep up costs its
//! place in the history and no more.
//!
//! # Invariants
//!
//! - The events of one revision reach a watcher together, unless it has agreed to fragments.
//! - A watcher gets revisions in increasing order.   (asserted in `Stream`)
//! - What a shard gets is in the order of revisions, and numbered without gaps.
//!
//! # Not here
//!
//! Sockets, threads, time (whoever owns them calls `tick`), and permissions: the caller asks before.

mod hub;
mod interval;
mod outbox;
mod progress;
mod stream;
mod streams;
mod watcher;

pub use self::hub::{Delivery, Event, Hub, Notice, Target};
pub use self::outbox::{Opening, Outbox};
pub use self::stream::{Pump, Stream, StreamConfig};
pub use self::streams::{Census, Shore, Streams};

/// A thread that owns connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A stream, among those of its shard. Not used again while deliveries for it may be on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A watcher's membership in the hub, from one join to the next leave. None is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Whose it is. First, so that the tokens of a stream stand together.
    stream: StreamId,
    /// Counts the joins of the stream.
    n: u64,
    watch_id: i64,
}

impl Token {
    /// Whose it is.
    pub fn stream(self) -> StreamId {
        self.stream
    }
}
