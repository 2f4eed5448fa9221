//! Errands: what takes a word with another member before a caller can be answered.
//!
//! They run where the transport does, one task each, and leave their answer in the caller's port. An
//! errand that meets no leader, or one that is just ceasing to be, tries again until the caller's
//! time is over.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use member::Event;
use member::leasing::{self, Said};
use proto::error::{Code, Error, Status};
use proto::etcdserverpb::{
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberPromoteResponse, MoveLeaderResponse,
    ResponseHeader,
};
use proto::prost::Message;
use proto::raft_request::Body;
use state::State;
use state::lease::LeaseId;
use tokio::time::sleep;

use super::chores::{Answering, own_proposal};
use crate::api::Caller;
use crate::api::port::PortWork;
use crate::engine::Engine;

/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(10);
/// Between two tries of something that needs the leader.
const RETRY: Duration = Duration::from_millis(50);

/// What this member says to a renewal: the TTL, 0 for a lease that is not there or over. `None` if it is
/// not for this member to say, or not yet.
pub(crate) fn renewal(engine: &Engine, state: &State, id: LeaseId, now_ms: u64) -> Option<i64> {
    match leasing::renew(state, engine.reign(now_ms), id) {
        Said::Ttl(ttl) => {
            engine.metrics.lease_renewed.add(u64::from(ttl > 0));
            Some(ttl)
        }
        Said::Elsewhere => None,
        Said::First { term, forget } => {
            let forget = own_proposal(engine, Body::LeaseCheckpoint, &forget);
            engine.tell_member(Event::Rule { term, proposals: vec![forget] });
            None
        }
    }
}

/// Has the leader renew a lease. Should this member be the leader, or become it, its port has to look
/// again: what is promised here must have a majority behind it.
pub(crate) fn renew(engine: &Arc<Engine>, answering: Answering, id: LeaseId) {
    let Answering { port, to } = answering;
    let own = Arc::clone(engine);
    engine.peers().spawn(async move {
        let result = at_leader(&own, || renew_once(&own, id)).await;
        own.ports[usize::from(port)].push_admitted([PortWork::Renewed { to, result }]);
    });
}

async fn renew_once(engine: &Engine, id: LeaseId) -> Option<Result<Option<i64>, Status>> {
    if engine.shown.is_leader() {
        sleep(RETRY).await;
        return Some(Ok(None));
    }
    let leader = other_leader(engine)?;
    match engine.peers().renew_lease(leader, id.0).await {
        Ok(ttl) => Some(Ok(Some(ttl))),
        Err(Error::LeaseNotFound) => Some(Ok(Some(0))),
        Err(_) => None,
    }
}

/// Asks the leader what is left of a lease.
pub(crate) fn time_to_live(
    engine: &Arc<Engine>,
    answering: Answering,
    request: LeaseTimeToLiveRequest,
) {
    let own = Arc::clone(engine);
    engine.peers().spawn(async move {
        let result = at_leader(&own, || time_to_live_once(&own, &request)).await;
        answering.answer(&own, result.map(|response| response.encode_to_vec().into()));
    });
}

async fn time_to_live_once(
    engine: &Engine,
    request: &LeaseTimeToLiveRequest,
) -> Option<Result<LeaseTimeToLiveResponse, Status>> {
    if let Ok(known) =
        leasing::time_to_live(&engine.state(), engine.reign(engine.now_ms()), *request)
    {
        return Some(Ok(known));
    }
    let leader = other_leader(engine)?;
    let header = Some(engine.state().header());
    match engine.peers().time_to_live(leader, *request).await {
        Ok(response) => Some(Ok(LeaseTimeToLiveResponse { header, ..response })),
        Err(Error::LeaseNotFound) => {
            let (id, ttl) = (request.id, -1);
            Some(Ok(LeaseTimeToLiveResponse { header, id, ttl, ..Default::default() }))
        }
        Err(_) => None,
    }
}

/// Has the leader promote a learner.
pub(crate) fn promote(engine: &Arc<Engine>, answering: Answering, id: u64, caller: Caller) {
    let own = Arc::clone(engine);
    engine.peers().spawn(async move {
        let result = at_leader(&own, || promote_once(&own, id, &caller)).await;
        answering.answer(&own, result.map(|response| response.encode_to_vec().into()));
    });
}

async fn promote_once(
    engine: &Engine,
    id: u64,
    caller: &Caller,
) -> Option<Result<MemberPromoteResponse, Status>> {
    let leader = other_leader(engine)?;
    let token = caller.token.as_deref();
    match engine.peers().promote(leader, id, token).await {
        Ok(members) => {
            let header = Some(ResponseHeader { revision: 0, ..engine.state().header() });
            Some(Ok(MemberPromoteResponse { header, members }))
        }
        Err(Error::Unhealthy | Error::NoLeader | Error::Timeout) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// Answers once `target` leads.
pub(crate) fn await_leader(engine: &Arc<Engine>, answering: Answering, target: u64) {
    let own = Arc::clone(engine);
    engine.peers().spawn(async move {
        let deadline = deadline(&own);
        while own.shown.leader() != target && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let result = if own.shown.leader() == target {
            Ok(MoveLeaderResponse::default().encode_to_vec().into())
        } else {
            let text = "etcdserver: request timed out, leader transfer took too long";
            Err(Status::new(Code::Unknown, text))
        };
        answering.answer(&own, result);
    });
}

/// Tries until there is an answer or the caller's time is over.
async fn at_leader<T, F>(engine: &Engine, attempt: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Option<Result<T, Status>>>,
{
    let deadline = deadline(engine);
    while Instant::now() < deadline && !engine.is_stopping() {
        if let Some(result) = attempt().await {
            return result;
        }
        sleep(RETRY).await;
    }
    let error = if engine.shown.leader() == 0 { Error::NoLeader } else { Error::Timeout };
    Err(error.into())
}

fn deadline(engine: &Engine) -> Instant {
    Instant::now() + Duration::from_millis(engine.limits.request_timeout_ms)
}

/// Who leads, if it is another member.
fn other_leader(engine: &Engine) -> Option<u64> {
    let leader = engine.shown.leader();
    (leader != 0 && leader != engine.identity.member_id).then_some(leader)
}
