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
//! | [`roster`] | the members they are about, as JSON |
//! | [`message`] | raft's messages as they travel |
//! | [`pending`] | what waits for a leader |
//! | [`durable`] | what raft wants to be durable, as the log takes it |
//! | [`leasing`] | leases as whoever leads keeps them |
//! | [`identity`] | member and cluster ids |
//! | [`inbox`] | where threads meet |

pub mod boot;
pub mod conf_change;
pub mod durable;
pub mod identity;
pub mod inbox;
pub mod leasing;
pub mod member;
pub mod message;
pub mod pending;
pub mod roster;

pub use member::{Effects, Event, Member, Proposal, ReadTicket, View};
