//! The shell of a member: threads, sockets, and everything that knows the time.

pub mod config;
pub mod log;
pub mod metrics;
