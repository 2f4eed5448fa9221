//! What HTTP needs of the server, and all a test needs to drive it.

use std::future::Future;

use bytes::Bytes;
use proto::error::Status;
use proto::method::Method;

use crate::api::Caller;
use crate::metrics::Metrics;

/// The server, as HTTP sees it.
pub trait Service: Send + Sync + 'static {
    type Stream: Stream;

    /// A call with one answer. Dropping the future gives the call up.
    fn call(
        &self,
        method: Method,
        caller: Caller,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, Status>> + Send;

    /// A call with one answer, which comes in pieces if it is long. Each is of whole fields.
    fn pieces(&self, method: Method, caller: Caller, body: Bytes) -> Result<Self::Stream, Status>;

    /// A call whose answer is a stream.
    fn stream(&self, method: Method, caller: Caller, body: Bytes) -> Result<Self::Stream, Status>;

    /// A call whose request is a stream too.
    fn open(&self, method: Method, caller: Caller) -> Result<Self::Stream, Status>;

    /// Reads at most one key, whoever may: does the member, or the whole cluster, answer?
    fn probe(&self, linearizable: bool) -> impl Future<Output = Result<(), Status>> + Send;

    fn vitals(&self) -> Vitals;

    fn metrics(&self) -> &Metrics;

    /// Sets the metrics that are read off the state, before a scrape.
    fn refresh(&self, metrics: &Metrics);
}

/// A call under way. Dropping it gives it up.
pub trait Stream: Send + 'static {
    /// The next message; `None` when the stream has ended well. A future that is dropped before
    /// it is ready has taken nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Status>> + Send;

    /// The next request of a stream of requests.
    fn message(&self, body: Bytes);

    /// There will be no more requests.
    fn half_close(&self);
}

/// How the member is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    pub alarms: Vec<Alarm>,
    pub is_learner: bool,
    pub auth_enabled: bool,
    /// `3.7.0`, once the cluster has agreed.
    pub cluster_version: Option<String>,
    pub storage_version: Option<String>,
    pub raft: RaftStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    NoSpace,
    Corrupt,
}

impl Alarm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        }
    }
}

/// Raft as `/debug/vars` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    pub id: u64,
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
    /// 0 when there is none.
    pub leader: u64,
    /// `StateLeader`, `StateFollower`, `StateCandidate` or `StatePreCandidate`.
    pub role: &'static str,
    pub applied: u64,
    /// Filled on the leader.
    pub progress: Vec<Progress>,
    pub transferee: u64,
}

/// How far a member's log has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub member: u64,
    pub matched: u64,
    pub next: u64,
    /// `StateProbe`, `StateReplicate` or `StateSnapshot`.
    pub state: &'static str,
}
