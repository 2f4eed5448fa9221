//! etcd's messages: their structs, their JSON form, and the tables of its methods and errors.
//!
//! The messages are generated from `proto/` by `cargo xtask codegen`, one module for each of
//! etcd's packages. Byte fields are [`bytes::Bytes`]: a decoded message shares what it came from.
//!
//! # Not here
//!
//! What a method does, and how it travels: no gRPC code is generated.

mod generated;

pub use bytes;
pub use generated::*;
pub use prost;
