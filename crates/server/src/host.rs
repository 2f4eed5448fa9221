//! What the transport finds when it knocks: this member, as the other members see it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use member::Event;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Member, MemberPromoteRequest,
    MemberPromoteResponse,
};
use proto::method::Method;
use raft::{Message, NodeId};

use crate::api::Caller;
use crate::engine::Engine;
use crate::metrics;
use crate::peer::{self, Answer};

/// See the module. It does not keep the engine alive: the engine holds the transport.
#[derive(Debug)]
pub(crate) struct Host {
    engine: Weak<Engine>,
}

impl Host {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::downgrade(engine) }
    }

    fn tell_member(&self, event: Event) {
        if let Some(engine) = self.engine.upgrade() {
            engine.tell_member(event);
        }
    }

    fn with<T: Default>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        self.engine.upgrade().map(|engine| look(&engine)).unwrap_or_default()
    }

    /// As `call`, but only if this member leads, or the question could go around for ever.
    fn call_as_leader<Q, R>(&self, method: Method, token: Option<String>, request: &Q) -> Answer<R>
    where
        Q: proto::prost::Message,
        R: proto::prost::Message + Default + 'static,
    {
        let leads = self.with(|engine| engine.shown.is_leader());
        let answer = self.call(method, token, request);
        Box::pin(async move { if leads { answer.await } else { Err(Error::NotLeader) } })
    }

    /// Makes a call of this member's own, as a client would.
    fn call<Q, R>(&self, method: Method, token: Option<String>, request: &Q) -> Answer<R>
    where
        Q: proto::prost::Message,
        R: proto::prost::Message + Default,
    {
        let local = self.engine.upgrade().and_then(|engine| engine.local().cloned());
        let body: Bytes = request.encode_to_vec().into();
        Box::pin(async move {
            let local = local.ok_or(Error::Stopped)?;
            let caller = Caller { token: token.map(Into::into), ..Caller::default() };
            let answered = local.call(method, caller, body).await;
            R::decode(answered.map_err(|status| told(&status))?).map_err(|_| Error::Stopped)
        })
    }
}

/// The error a call failed with.
fn told(status: &Status) -> Error {
    Error::from_text(&status.message).unwrap_or(Error::Unhealthy)
}

impl peer::Host for Host {
    fn receive(&self, messages: &mut Vec<Message>) {
        let Some(engine) = self.engine.upgrade() else { return };
        let mut events: Vec<Event> = messages.drain(..).map(Event::Receive).collect();
        // What does not fit is lost, as it could have been on its way: raft sends it again.
        engine.member.push_all(&mut events);
    }

    fn unreachable(&self, id: u64) {
        if let Some(node) = NodeId::new(id) {
            self.tell_member(Event::Unreachable(node));
        }
    }

    fn snapshot_sent(&self, id: u64, ok: bool) {
        if let Some(node) = NodeId::new(id) {
            self.tell_member(Event::SnapshotSent { node, ok });
        }
    }

    fn removed(&self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.show_removed();
        }
    }

    fn is_removed(&self, id: u64) -> bool {
        self.with(|engine| engine.state().membership().is_removed(id))
    }

    fn members(&self) -> Vec<Member> {
        self.with(|engine| engine.state().membership().members().cloned().collect())
    }

    fn cluster_version(&self) -> Option<String> {
        self.with(|engine| engine.state().membership().version().map(str::to_owned))
    }

    fn downgrade_enabled(&self) -> bool {
        self.with(|engine| engine.state().membership().downgrade().enabled)
    }

    fn numbers(&self, id: u64) -> Arc<metrics::Peer> {
        let engine = self.engine.upgrade().expect("members are met while the engine runs");
        engine.metrics.peers.peer(id)
    }

    fn renew(&self, id: i64) -> Answer<i64> {
        let answer =
            self.call_as_leader(Method::LeaseKeepAlive, None, &LeaseKeepAliveRequest { id });
        Box::pin(async move {
            let LeaseKeepAliveResponse { ttl, .. } = answer.await?;
            Ok(ttl)
        })
    }

    fn time_to_live(&self, request: LeaseTimeToLiveRequest) -> Answer<LeaseTimeToLiveResponse> {
        self.call_as_leader(Method::LeaseTimeToLive, None, &request)
    }

    fn promote(&self, id: u64, token: Option<String>) -> Answer<Vec<Member>> {
        let request = MemberPromoteRequest { id };
        let answer = self.call_as_leader(Method::MemberPromote, token, &request);
        Box::pin(async move {
            let MemberPromoteResponse { members, .. } = answer.await?;
            Ok(members)
        })
    }

    fn hash_kv(&self, revision: i64) -> Answer<HashKvResponse> {
        self.call(Method::HashKV, None, &HashKvRequest { revision })
    }
}
