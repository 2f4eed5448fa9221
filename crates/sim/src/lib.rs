//! The other shell: whole members on virtual time.
//!
//! What the server does with threads, sockets and files is done here by one loop, in an order that
//! follows from a seed: the same [`member::Member`], log and state, on a simulated network and on
//! simulated disks. Things go wrong as they do in the world, only more often; an oracle that knows
//! nothing of Raft looks at all that is applied and answered.
//!
//! | module | is |
//! |---|---|
//! | [`world`] | time, the network, and what goes wrong |
//! | `machine` | a member, its disk, and the duties of the server's threads |
//! | `client` | what is asked |
//! | `oracle` | what must hold |
//!
//! # Invariants
//!
//! - A run follows from its seed alone: no clock, no threads, no order of a hash map.
//!
//! # Not here
//!
//! Sockets and their transport: messages travel as values, each by itself.

mod client;
mod machine;
mod oracle;
pub mod world;

pub use self::world::{Summary, run};
