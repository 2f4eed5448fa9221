//! One cluster member.
//!
//! Raft, storage and state behind one synchronous `step`; the threads that drive it are the
//! server's, or the simulator's.

pub mod identity;
pub mod inbox;
