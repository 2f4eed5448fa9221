//! The shell of a member: threads, sockets, and everything that knows the time.
//!
//! | module | holds |
//! |---|---|
//! | [`start`] | from a configuration to a running server, and to its end |
//! | [`api`] | what is answered, whatever the front end |
//! | [`drive`] | the threads behind it: raft, log, apply, chores |
//! | [`engine`] | what all of them share |
//! | [`shard`], [`listen`] | gRPC: sockets and connections |
//! | [`local`] | calls from inside the process |
//! | [`http`] | JSON, health and metrics over HTTP/1.1 |
//! | [`config`], [`log`], [`metrics`] | flags, log lines, counters |

pub mod api;
mod boot;
pub mod config;
pub mod drive;
pub mod engine;
mod host;
pub mod http;
pub mod listen;
pub mod local;
pub mod log;
pub mod metrics;
pub mod peer;
pub mod shard;
pub mod start;
pub mod version;
