//! etcd's messages: their structs, their JSON form, and the tables of its methods and errors.
//!
//! The messages are generated from `proto/` by `cargo xtask codegen`, one module for each of
//! etcd's packages. Byte fields are [`bytes::Bytes`]: a decoded message shares what it came from.
//!
//! | module | answers |
//! |---|---|
//! | `etcdserverpb`, `mvccpb`, … | what is said |
//! | [`method`] | what can be asked, and where |
//! | [`error`] | how it is refused |
//! | [`raft_request`] | how a request becomes a log entry without being written anew |
//!
//! # Not here
//!
//! What a method does, and how it travels: no gRPC code is generated.

pub mod error;
mod generated;
mod json;
pub mod method;
pub mod raft_request;

pub use bytes;
pub use error::{Code, Error, Status};
pub use generated::*;
pub use method::Method;
pub use prost;
