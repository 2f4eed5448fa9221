//! The member behind HTTP: calls go to its port, what is only shown is read off the engine.

use std::sync::Arc;

use bytes::Bytes;
use proto::error::Status;
use proto::etcdserverpb::{AlarmType, RangeRequest};
use proto::method::Method;
use proto::prost::Message;
use raft::{Flow, PeerStatus};

use super::service::{Alarm, Progress, RaftStatus, Service, Stream, Vitals};
use crate::api::Caller;
use crate::api::maintenance::AUTH_REVISION_FIRST;
use crate::engine::Engine;
use crate::local::{self, Local};
use crate::metrics::Metrics;
use crate::version;

/// See the module.
#[derive(Debug)]
pub struct Member {
    local: Local,
    engine: Arc<Engine>,
}

impl Member {
    /// Also says in the metrics, once, who this member is.
    pub fn new(local: Local, engine: Arc<Engine>) -> Self {
        let metrics = &engine.metrics;
        let id = engine.identity.member_id;
        metrics.server_id.set(&format!("{id:x}"));
        metrics.server_version.set(version::ETCD);
        metrics.go_version.set("none");
        metrics.peers.set_local(id);
        metrics.peers.peer(id).is_known.set(1);
        Self { local, engine }
    }

    fn raft(&self) -> RaftStatus {
        let Engine { shown, identity, .. } = &*self.engine;
        let (leader, last) = (shown.leader(), shown.last());
        let role = match leader {
            _ if shown.is_leader() => "StateLeader",
            0 => "StateCandidate",
            _ => "StateFollower",
        };
        let own = Progress {
            member: identity.member_id,
            matched: last,
            next: last + 1,
            state: "StateReplicate",
        };
        let others = self.engine.progress();
        let mut progress: Vec<Progress> = others.iter().map(shown_progress).collect();
        if shown.is_leader() {
            progress.push(own);
        }
        RaftStatus {
            id: identity.member_id,
            term: shown.term(),
            vote: leader,
            commit: shown.commit(),
            leader,
            role,
            applied: shown.applied(),
            progress,
            transferee: 0,
        }
    }
}

fn shown_progress(peer: &PeerStatus) -> Progress {
    Progress {
        member: peer.id.get(),
        matched: peer.matched.0,
        next: peer.next.0,
        state: match peer.flow {
            Flow::Probe => "StateProbe",
            Flow::Replicate => "StateReplicate",
            Flow::Snapshot { .. } => "StateSnapshot",
        },
    }
}

impl Service for Member {
    type Stream = local::Stream;

    async fn call(&self, method: Method, caller: Caller, body: Bytes) -> Result<Bytes, Status> {
        self.local.call(method, caller, body).await
    }

    fn pieces(&self, method: Method, caller: Caller, body: Bytes) -> Result<Self::Stream, Status> {
        self.local.pieces(method, caller, body)
    }

    fn stream(&self, method: Method, caller: Caller, body: Bytes) -> Result<Self::Stream, Status> {
        self.local.stream(method, caller, body)
    }

    fn open(&self, method: Method, caller: Caller) -> Result<Self::Stream, Status> {
        self.local.open(method, caller)
    }

    async fn probe(&self, linearizable: bool) -> Result<(), Status> {
        let first = RangeRequest {
            key: Bytes::from_static(&[0]),
            limit: 1,
            keys_only: true,
            serializable: !linearizable,
            ..RangeRequest::default()
        };
        let body = first.encode_to_vec().into();
        self.local.call(Method::Range, Caller::default(), body).await.map(drop)
    }

    fn vitals(&self) -> Vitals {
        let state = self.engine.state();
        let raised = state.alarms().list(AlarmType::None);
        let alarms = raised.iter().filter_map(|alarm| match alarm.alarm() {
            AlarmType::Nospace => Some(Alarm::NoSpace),
            AlarmType::Corrupt => Some(Alarm::Corrupt),
            AlarmType::None => None,
        });
        let cluster_version = state.membership().version().map(str::to_owned);
        Vitals {
            alarms: alarms.collect(),
            is_learner: self.engine.shown.is_learner(),
            auth_enabled: false,
            storage_version: cluster_version.as_ref().map(|_| version::STORAGE.to_owned()),
            cluster_version,
            raft: self.raft(),
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.engine.metrics
    }

    fn refresh(&self, metrics: &Metrics) {
        let shown = &self.engine.shown;
        metrics.has_leader.set_bool(shown.leader() != 0);
        metrics.is_leader.set_bool(shown.is_leader());
        metrics.is_learner.set_bool(shown.is_learner());
        metrics.proposals_applied.set_unsigned(shown.applied());
        metrics.proposals_committed.set_unsigned(shown.commit());

        let state = self.engine.state();
        let (size, keys) = (state.size(), state.n_live_keys());
        metrics.auth_revision.set_unsigned(AUTH_REVISION_FIRST);
        metrics.current_revision.set(state.head());
        metrics.compact_revision.set(state.compacted());
        metrics.keys.set_unsigned(keys as u64);
        metrics.db_size.set_unsigned(size.on_disk);
        metrics.db_size_in_use.set_unsigned(size.in_use());
        metrics.quota.set_unsigned(state.quota().bytes().unwrap_or(0));
        if let Some(minor) = state.membership().minor_version() {
            metrics.cluster_version.set(minor);
        }
        self.engine.show_alarms(&state);
    }
}

impl Stream for local::Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        local::Stream::next(self).await
    }

    fn message(&self, body: Bytes) {
        local::Stream::message(self, body);
    }

    fn half_close(&self) {
        local::Stream::half_close(self);
    }
}
