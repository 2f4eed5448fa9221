//! The threads of a member, each named for its duty.
//!
//! ```text
//!  ports ──► member ──► log ──► member ──► apply ──► ports
//!                                            └─► keeper, chores, worker
//! ```

pub mod apply;
pub mod chores;
mod compactor;
pub(crate) mod corruption;
pub(crate) mod errands;
pub(crate) mod incoming;
pub mod keeper;
pub mod log;
pub(crate) mod member;
pub(crate) mod outgoing;
pub(crate) mod own;
mod pace;
pub(crate) mod snapshot;
pub(crate) mod version;
pub mod worker;
