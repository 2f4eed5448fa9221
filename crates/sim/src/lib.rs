//! Whole members on seeded virtual time.
//!
//! The same `member`, `raft`, `state` and `storage` that the server runs, driven by one loop that has
//! the clock, the network and the disks in its hand. A seed decides everything: who is cut off, which
//! sectors a crash leaves, in which order threads get on. An oracle looks at all members at once. What is
//! lived through is a [`Plan`]: a seed, and what is left out of it; [`shrink()`] finds what may be.
//!
//! | module | question |
//! |---|---|
//! | `world` | what happens next? |
//! | `process` | what does a member do about it? |
//! | `network`, `nemesis`, `ambush`, `damage`, `reform` | what goes wrong, who comes and goes? |
//! | `clients`, `watching`, `holding`, `model` | what are clients told, and is it true? |
//! | `oracle` | may this be? |
//! | [`trace`], [`summary`], `wording` | what has happened? |
//! | `plan`, `streams`, `shrink` | what of it would not have been needed to see this? |
//!
//! # Not here
//!
//! The server's threads, sockets and front ends; the tests of the executable have those.

mod ambush;
mod clients;
mod damage;
mod electorate;
mod holding;
mod model;
mod nemesis;
mod network;
mod oracle;
mod plan;
mod process;
mod reform;
mod shrink;
#[cfg(test)]
mod stage;
mod streams;
pub mod summary;
pub mod trace;
mod watching;
mod wording;
mod world;

pub use self::nemesis::Fault;
pub use self::plan::Plan;
pub use self::shrink::{Verdict, shrink};
pub use self::summary::Summary;

/// Lives through what is planned.
///
/// # Panics
///
/// At the first thing that must not be.
pub fn run(plan: &Plan) -> Summary {
    trace::clear();
    world::World::new(plan.clone()).run(|_| {})
}
