//! What etcd answers, recorded; and the instrument that asks the same of any server.
//!
//! ```text
//! tests/conformance/kv/an_empty_key_is_refused.txt
//!     │ # over: grpc, gateway          each carrier gets a fresh server of its own
//!     │ # server: --max-txn-ops=4      flags, if it needs any
//!     │ # recorded from etcd 3.7.1     written by `cargo xtask record`, never by hand
//!     │
//!     │ put foo bar
//!     │ call KV.Range {"limit":1}
//!     │ ---
//!     │ {"header":"*@2"}
//!     │ error InvalidArgument(3) http 400: etcdserver: key is not provided
//!     ▼
//! command ──► session ──► carrier ─┬─ grpc ────┐
//!   (a line)    (names)            └─ gateway ─┴─► server     etcd, or ours
//! ```
//!
//! Where both carriers give the same answer it stands there once, an error with the HTTP status;
//! where they differ each stands under its name. What scripts can say: [`command`]; how answers
//! look, and what of them cannot be the same twice: [`print`].
//!
//! # Invariants
//!
//! - Every script starts on an empty server, so revisions are exact and scripts know no order.
//! - Nothing is shared with the server under test but the .proto files.
//! - An answer of the gateway that etcd's own would write otherwise is not an answer.
//!
//! # Not here
//!
//! Clusters, crashes, time: those have tests of their own. Who wins a race is never in a script.

mod carrier;
mod command;
mod gateway;
mod grpc;
mod http;
mod names;
mod notation;
mod peer;
mod print;
mod raw;
mod replay;
mod schema;
mod server;
mod session;
mod snapshot;

pub use replay::{Mode, Report, run};
pub use server::Program;
