//! One cluster member.
//!
//! Raft, storage and state behind one synchronous [`Member::step`]; the threads that drive it are
//! the server's, or the simulator's.
//!
//! | module | holds |
//! |---|---|
//! | [`member`] | events in, duties out: proposals, reads, raft |
//! | [`boot`] | how a member comes to life: the first time, and every time after |
//! | [`conf_change`] | changes of membership as they stand in the log |
//! | [`identity`] | member and cluster ids |
//! | [`inbox`] | where threads meet |

pub mod boot;
pub mod conf_change;
pub mod identity;
pub mod inbox;
pub mod member;

pub use member::{Effects, Event, Member, Proposal, ReadTicket, View};
