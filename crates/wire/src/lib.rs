//! The wire: the server's end of an HTTP/2 connection that speaks gRPC, without any I/O.
//!
//! Bytes the socket gave go in, events come out; answers go in, bytes for the socket come out.
//! There is no thread, no clock and no waiting here, so one event loop can own many connections
//! and give each of them one read and one write per turn.
//!
//! ```text
//!              receive(bytes)                     poll() → Event
//!  socket ───────────────────► ┌────────────────┐ ─────────────────► the server's handlers
//!                              │   Connection   │
//!  socket ◄─────────────────── │ frames·streams │ ◄─────────────────
//!          output(), consumed  │ HPACK·windows  │  reply, send_message, finish
//!                              └────────────────┘
//!                                      ▲ tick(now): deadlines, keepalive, budgets
//! ```
//!
//! What a request costs is what this crate is for: a call whose method takes one message becomes
//! *one* event, its path was resolved when the peer's header table learnt it, its metadata is
//! shared with the calls before it, and its answer is written once, straight into the output.
//!
//! # Invariants
//!
//! - Whatever the peer sends, `receive` returns; what it thinks of it becomes frames in the output.
//! - Memory is bounded by [`Limits`], whatever the peer sends or refuses to read.
//! - Events of one stream arrive in order; after `Cancelled` there are none.   (script, property)
//! - How the input was cut into pieces never shows in the events or the output.   (property)
//! - No more is sent than the peer's windows allow.   (asserted in `send`)
//!
//! # Not here
//!
//! Sockets, TLS, HTTP/1.1, what a method means. Client connections; server push; priorities.
//! Scripts: `testdata/`.

#![forbid(unsafe_code)]

mod budget;
mod connection;
mod deflate;
mod field;
mod frame;
mod head;
mod hpack;
mod huffman;
mod limits;
mod memo;
mod message;
mod output;
mod response;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod timeout;

pub use connection::{Connection, Event};
pub use field::{Method, Route, Router};
pub use frame::{ErrorCode, StreamId};
pub use head::Metadata;
pub use limits::Limits;
pub use status::{Code, Status, percent_encode};
