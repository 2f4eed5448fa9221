//! What has been written, for whoever keeps statistics.
//!
//! Plain numbers under the writer's own lock: whoever applies a batch takes them away after it.

/// Counts since they were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub puts: u64,
    /// Of their keys and values.
    pub put_bytes: u64,
    /// Deletes asked for, whether or not there was anything to delete.
    pub deletes: u64,
    /// Ranges inside of txns that write.
    pub ranges: u64,
    /// Txns of more than one operation.
    pub txns: u64,
    /// For how many seconds each lease was granted.
    pub granted_ttls: Vec<i64>,
}

impl Tally {
    pub(crate) fn operations(&self) -> u64 {
        self.puts + self.deletes + self.ranges
    }
}
