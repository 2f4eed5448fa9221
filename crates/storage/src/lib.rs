//! The one door to files.
//!
//! Everything a member keeps lies behind [`disk::Disk`]: the write-ahead log ([`wal`]), the revision
//! store ([`revlog`]) and the bbolt files exchanged with etcd's tools ([`bolt`]). No other crate opens
//! a file, so the simulator can stand in for the disk by standing in for one trait.

pub mod bolt;
pub mod disk;
pub mod pace;
pub mod revlog;
pub mod wal;
