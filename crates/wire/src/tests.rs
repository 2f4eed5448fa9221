//! A connection as its peer sees it: scripts, floods, properties, and another library's client.

mod differential;
mod flood;
mod peer;
mod property;
mod script;
