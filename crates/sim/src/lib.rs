//! Whole members on seeded virtual time.
//!
//! The same `member`, `raft`, `state` and `storage` that the server runs, driven by one loop that has
//! the clock, the network and the disks in its hand. A seed decides everything: who is cut off, which
//! sectors a crash leaves, in which order threads get on. An oracle looks at all members at once.
//!
//! | module | question |
//! |---|---|
//! | `world` | what happens next? |
//! | `process` | what does a member do about it? |
//! | `network`, `nemesis`, `reform` | what goes wrong, who comes and goes? |
//! | `clients`, `model` | what are clients told, and is it true? |
//! | `oracle` | may this be? |
//! | [`trace`], [`summary`] | what has happened? |
//!
//! # Not here
//!
//! The server's threads, sockets and front ends; the tests of the executable have those.

mod clients;
mod model;
mod nemesis;
mod network;
mod oracle;
mod process;
mod reform;
pub mod summary;
pub mod trace;
mod world;

pub use self::nemesis::Fault;
pub use self::summary::Summary;

/// Lives through what `seed` decides, without these kinds of faults.
///
/// # Panics
///
/// At the first thing that must not be.
pub fn run(seed: u64, without: &[Fault]) -> Summary {
    trace::clear();
    world::World::new(seed, without.to_vec()).run()
}
