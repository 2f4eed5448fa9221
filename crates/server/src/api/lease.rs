//! The Lease service.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use member::leasing;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
};
use proto::prost::Message;
use proto::raft_request::Body;
use state::lease::LeaseId;

use super::ReplyTo;
use super::port::{Call, Port, Turn, decode};
use crate::drive::chores::Answering;
use crate::drive::errands;

pub(super) fn grant(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: LeaseGrantRequest = decode(&call.body)?;
    port.within_quota(turn, state::quota::LEASE_COST)?;
    if request.id != 0 {
        return port.propose(turn, call.to, Body::LeaseGrant, &call.body);
    }
    let chosen = LeaseGrantRequest { id: fresh_id(turn), ..request };
    port.propose(turn, call.to, Body::LeaseGrant, &chosen.encode_to_vec())
}

/// A positive id that no lease has. Chosen here, once, so that all members apply the same one.
fn fresh_id(turn: &mut Turn<'_>) -> i64 {
    loop {
        // The standard library's hasher is keyed by the system's randomness, anew for each instance.
        let random = RandomState::new().build_hasher().finish();
        let id = i64::try_from(random >> 1).expect("63 bits fit");
        if id != 0 && !turn.state().leases().exists(LeaseId(id)) {
            return id;
        }
    }
}

pub(super) fn revoke(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<LeaseRevokeRequest>(&call.body)?;
    port.propose(turn, call.to, Body::LeaseRevoke, &call.body)
}

/// Renewals of one stream that may wait for their turn.
const RENEWALS_MAX: usize = 4096;

/// A stream of renewals, answered in the order in which they came.
///
/// The leader renews on the spot. Any other member asks the leader, one renewal after the other.
#[derive(Default)]
pub(crate) struct KeepAlive {
    waiting: VecDeque<LeaseId>,
    /// What the leader is asked to renew.
    asked: Option<LeaseId>,
    half_closed: bool,
}

impl KeepAlive {
    pub(crate) fn take_in(&mut self, body: &Bytes) -> Result<(), Status> {
        let LeaseKeepAliveRequest { id } = decode(body)?;
        if self.waiting.len() >= RENEWALS_MAX {
            return Err(Error::RequestTooManyRequests.into());
        }
        self.waiting.push_back(LeaseId(id));
        Ok(())
    }

    pub(crate) fn half_close(&mut self) {
        self.half_closed = true;
    }

    /// Goes on with what waits; true at the end.
    pub(crate) fn pump(
        &mut self,
        turn: &mut Turn<'_>,
        answering: Answering,
    ) -> Result<bool, Status> {
        while self.asked.is_none()
            && let Some(id) = self.waiting.pop_front()
        {
            match renew_here(turn, id) {
                Some(ttl) => answer(turn, answering.to, id, ttl),
                None => {
                    self.asked = Some(id);
                    errands::renew(turn.engine, answering, id);
                }
            }
        }
        Ok(self.half_closed && self.asked.is_none())
    }

    /// The leader has answered.
    pub(crate) fn renewed(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplyTo,
        result: Result<i64, Status>,
    ) -> Result<(), Status> {
        if let Some(id) = self.asked.take() {
            answer(turn, to, id, result?);
        }
        Ok(())
    }
}

/// The TTL of a lease that runs anew, 0 if there is none; `None` if it is not for this member to say.
fn renew_here(turn: &mut Turn<'_>, id: LeaseId) -> Option<i64> {
    let now_ms = turn.now_ms;
    let engine = turn.engine;
    errands::renewal(engine, turn.state(), id, now_ms)
}

fn answer(turn: &mut Turn<'_>, to: ReplyTo, LeaseId(id): LeaseId, ttl: i64) {
    let header = Some(turn.state().header());
    let response = LeaseKeepAliveResponse { header, id, ttl };
    turn.outlet.message(to, response.encode_to_vec().into());
}

pub(super) fn time_to_live(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    port.read(call, turn)
}

pub(super) fn serve_time_to_live(
    turn: &mut Turn<'_>,
    call: &Call,
    answering: Answering,
) -> Result<(), Status> {
    let request: LeaseTimeToLiveRequest = decode(&call.body)?;
    let reign = turn.engine.reign(turn.now_ms);
    match leasing::time_to_live(turn.state(), reign, request) {
        Ok(response) => turn.outlet.reply(call.to, response.encode_to_vec().into()),
        Err(_) => errands::time_to_live(turn.engine, answering, request),
    }
    Ok(())
}

pub(super) fn leases(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<LeaseLeasesRequest>(&call.body)?;
    let state = turn.state();
    let leases = state.leases().list();
    let leases = leases.into_iter().map(|LeaseId(id)| LeaseStatus { id }).collect();
    let response = LeaseLeasesResponse { header: Some(state.header()), leases };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}
