//! The client's end of an HTTP/2 connection that speaks gRPC, without any I/O.
//!
//! Requests go in and bytes for the socket come out; bytes from the socket go in and events come
//! out. It exists to cost nothing beside the server it measures: what repeats in a request is
//! encoded once in a connection's life and is one byte a field from then on, and what an answer
//! says is looked at no further than its load asks for.
//!
//! # Not here
//!
//! Sockets: `fleet`. What a client never meets when it talks to a gRPC server it trusts: pushed
//! streams, padding, priorities, header blocks of several frames. They end the connection.

mod frame;
mod hpack;
mod huffman;
mod session;

pub(crate) use frame::StreamId;
pub(crate) use session::{Broken, Event, MESSAGE_HEAD_SIZE, Outcome, Session};
