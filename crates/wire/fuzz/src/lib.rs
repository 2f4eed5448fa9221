//! What strangers may send, and what must hold whatever it is.
//!
//! | target | its bytes are | and must |
//! |---|---|---|
//! | [`connection`] | frames, after a greeting or instead of one | mean the same however they are cut |
//! | [`hpack`] | header blocks | mean the same in one frame and in several |
//! | [`message`] | gRPC messages, plain and gzip | mean the same however DATA cuts them |
//! | [`request`] | protobuf | survive being written again, or be refused |
//!
//! A target is a function of bytes that panics over a fault. cargo-fuzz calls it for hours:
//! `cargo +nightly fuzz run connection`, in crates/wire. `crates/wire/tests/fuzz.rs` calls it for a
//! second with each test run, on the files of `corpus/` and on mutants of them.

pub mod client;
pub mod connection;
pub mod hpack;
pub mod message;
pub mod request;
