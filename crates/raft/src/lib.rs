//! Consensus: how members agree on one log, whatever happens to some of them.
//!
//! A [`Node`] is a function from [`Input`]s to [`Effects`]. It owns the rules (elections, what is
//! committed, who is a member) and the recent log, and nothing else: the caller keeps the clock, the
//! disk and the network, and does what the effects say, in their order.
//!
//! ```text
//!                 ┌────────────────────────── Node ──────────────────────────┐
//!  Tick ─────────►│ role: Follower · PreCandidate · Candidate · Leader       │──► append, hard_state ─► disk
//!  Propose ──────►│        └ leader: progress of each follower, reads        │      Persisted ◄─────────┘
//!  ReadIndex ────►│ core: term, vote, log, members, what the disk still owes │──► send ─► other members
//!  Receive ──────►│                                                          │──► commit ─► state machine
//!                 └──────────────────────────────────────────────────────────┘      Applied ◄──────┘
//! ```
//!
//! The vocabulary and behaviour are those of etcd's raft, so that a node may sit in a cluster of
//! theirs. The disk is never waited for: writes, sends and applies overlap, and whatever must not
//! be said before a write is durable is kept back here, not by the caller.
//!
//! # Invariants
//!
//! - The same inputs yield the same effects, for ever: no clock, no randomness but a seed, no
//!   iteration over hash maps.
//! - Nothing is sent, and nothing applied, that rests on something not yet durable here.
//! - Nothing from the network can break an invariant short of a member that lies about its log;
//!   malformed messages are dropped.
//! - Every queue has a bound with a name.
//!
//! # Not here
//!
//! Time, disk, network, protobuf, and what a command means.

mod config;
mod effects;
mod entry;
mod log;
mod membership;
mod message;
mod node;
mod number;
mod persist;
mod progress;
mod quorum;
mod reads;

pub use config::{
    APPLYING_BYTES_MAX, Config, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, Inconsistent,
    MESSAGE_BYTES_MAX, Recovered, UNCOMMITTED_BYTES_MAX,
};
pub use effects::{Dropped, Effects, Input, ReadReady, Reason, RoleChange, RoleKind};
pub use entry::{Entry, EntryKind, HardState, Snapshot};
pub use membership::{
    ConfChange, ConfChangeError, ConfChangeKind, ConfChangeSingle, ConfState, Transition,
};
pub use message::{AppendReply, Body, Message, Proposal};
pub use node::{Brief, Node, PeerStatus, Status};
pub use number::{Context, EntryId, Index, NodeId, PersistId, Term};
pub use progress::Flow;
