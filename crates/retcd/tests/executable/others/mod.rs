//! Programs that others wrote, let loose on the executable.
//!
//! | module | runs | if |
//! |---|---|---|
//! | [`clients`] | clients in Go, Java, Python, Node and Rust, and curl: `tests/interop` | `RETCD_CLIENTS=1`, for they are fetched |
//! | [`differential`] | random calls by grpc-go, of this server and of an etcd | `RETCD_CLIENTS=1` and `RETCD_REFERENCE_BIN` names it |
//! | [`failover`] | etcd's Go client at a cluster whose members are killed: `tests/interop/go/failover` | `RETCD_CLIENTS=1` |
//! | [`h2spec`] | a suite for HTTP/2: `tests/h2spec` | `RETCD_H2SPEC` names it |
//! | [`perf`] | `etcdctl check perf`, for a minute | `RETCD_CHECK_PERF=1` and `RETCD_ETCDCTL` names it |
//!
//! `cargo xtask ci` sees to all but the last, in a step of their own: they have the machine to themselves.

mod clients;
mod differential;
mod failover;
mod h2spec;
mod perf;

use std::path::{Path, PathBuf};

use super::support::block_on;
use super::support::process::{Home, Server};

/// The workspace's folder `tests`.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

/// A server that answers.
fn server(home: &Home) -> Server {
    let mut server = home.start(&[]);
    block_on(server.ready());
    server
}
