//! The replicated state machine: what a cluster knows, as one member knows it.
//!
//! Committed entries go in, one after the other; each is decided in [`apply`], the same way on every
//! member. Requests that only read are answered from here too.
//!
//! ```text
//!  committed entries ──► apply ──┬─► mvcc ──► storage::revlog
//!                                ├─► lease   alarm   membership
//!                                └─► watch::Hub ──► deliveries ──► watch::Stream
//! ```
//!
//! | module | question |
//! |---|---|
//! | [`check`] | does a request make sense, whatever the state? |
//! | [`apply`] | what does an entry do? |
//! | [`state`] | how is all this opened, kept on the disk, and tidied up? |
//! | `read` | what is answered without an entry, and how if it is long? |
//! | `snapshot` | what does the file look like that holds all this? |
//! | [`restore`] | how does such a file become a state again? |
//! | [`lease`] | which keys live only for a while, and until when? |
//! | [`watch`] | who is told of what? |
//! | [`alarm`], [`quota`], [`membership`] | what is wrong, how much is too much, who is there? |
//!
//! # Invariants
//!
//! - Deterministic: no clock (time is told), no randomness, no order of a hash map.
//! - A refused entry leaves no trace but the advanced index.   (asserted in `apply`)
//!
//! # Not here
//!
//! Consensus, sockets, threads. Authentication, so far: everybody may do everything.

pub mod alarm;
pub mod apply;
mod encode;
mod fault;
pub mod lease;
pub mod membership;
mod mvcc;
pub mod quota;
mod read;
pub mod restore;
mod snapshot;
pub mod state;
mod tally;
pub mod watch;

pub use self::apply::Outcome;
pub use self::fault::{Fatal, Stop};
pub use self::mvcc::check;
pub use self::mvcc::hash::{HashJob, HashRun, HashTurn, KvHash};
pub use self::mvcc::range::{AtOnce, Fit};
pub use self::mvcc::stream::{RangeStream, Turn};
pub use self::read::LongRead;
pub use self::snapshot::{File, Gathered, Snapshot, SnapshotRun, Unwritten};
pub use self::state::{Config, State};
pub use self::tally::Tally;

#[cfg(test)]
mod tests;
