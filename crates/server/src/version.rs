//! The versions this server speaks for. They are etcd's, not the package's: members and tools
//! decide by them what to expect.

/// What the server claims to be.
pub const ETCD: &str = "3.7.1";
/// What a cluster of such servers agrees on.
pub const CLUSTER: &str = "3.7.0";
/// What a cluster speaks while not all of its members have said what they are.
pub const CLUSTER_MIN: &str = "3.0.0";
/// What data written by such a server needs.
pub const STORAGE: &str = "3.7.0";
