//! A connection as its peer sees it: scripts, floods, properties, and another library's client and server.

mod differential;
mod flood;
mod peer;
mod property;
mod rival;
mod script;
