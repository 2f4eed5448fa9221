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
use proto::method::Method;
use proto::prost::Message;
use proto::raft_request::Body;
use state::lease::LeaseId;

use super::port::{Call, Port, Turn, decode};
use super::reads::Reads;
use super::{Caller, ReplyTo};
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
/// The leader renews, once a majority has told it that it still leads: one that was replaced and does
/// not know it would promise what its successor does not keep. Any other member asks the leader, one
/// renewal after the other.
#[derive(Default)]
pub(crate) struct KeepAlive {
    waiting: VecDeque<LeaseId>,
    /// What has to come in before the next are answered.
    awaited: Option<Awaited>,
    /// When the first has waited for the leader's word for too long.
    deadline_ms: Option<u64>,
    half_closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// The word of a majority, for so many of those that wait.
    Round { n_renewals: usize },
    /// The word of the leader, about the first that waits.
    Leader,
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
        reads: &mut Reads,
        turn: &mut Turn<'_>,
        answering: Answering,
    ) -> Result<bool, Status> {
        let n_renewals = self.waiting.len();
        if self.awaited.is_some() || n_renewals == 0 {
            return Ok(self.half_closed && n_renewals == 0);
        }
        let shown = &turn.engine.shown;
        if shown.lone() {
            self.renew(n_renewals, turn, answering);
        } else if shown.is_leader() {
            self.awaited = Some(Awaited::Round { n_renewals });
            reads.add(confirmation(answering.to), turn.deadline_ms())?;
        } else {
            self.ask_leader(turn, answering);
        }
        Ok(self.half_closed && self.waiting.is_empty())
    }

    /// This member led when it had been asked for what a round was awaited for.
    pub(crate) fn confirmed(&mut self, turn: &mut Turn<'_>, answering: Answering) {
        if let Some(Awaited::Round { n_renewals }) = self.awaited.take() {
            self.renew(n_renewals, turn, answering);
        }
    }

    /// The leader has answered; `None`: look again who that is.
    pub(crate) fn renewed(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplyTo,
        result: Result<Option<i64>, Status>,
    ) -> Result<(), Status> {
        self.awaited = None;
        match result? {
            Some(ttl) => self.answer(turn, to, ttl),
            None if self.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= turn.now_ms) => {
                return Err(Error::Timeout.into());
            }
            None => {}
        }
        Ok(())
    }

    /// Renews the next `n`, up to one about which this member may say nothing.
    fn renew(&mut self, n: usize, turn: &mut Turn<'_>, answering: Answering) {
        for _ in 0..n {
            let Some(&id) = self.waiting.front() else { return };
            let Some(ttl) = renew_here(turn, id) else {
                return self.ask_leader(turn, answering);
            };
            self.answer(turn, answering.to, ttl);
        }
    }

    fn ask_leader(&mut self, turn: &Turn<'_>, answering: Answering) {
        if let Some(&id) = self.waiting.front() {
            self.awaited = Some(Awaited::Leader);
            self.deadline_ms.get_or_insert(turn.deadline_ms());
            errands::renew(turn.engine, answering, id);
        }
    }

    /// What became of the first that waits.
    fn answer(&mut self, turn: &mut Turn<'_>, to: ReplyTo, ttl: i64) {
        self.deadline_ms = None;
        if let Some(LeaseId(id)) = self.waiting.pop_front() {
            let header = Some(turn.state().header());
            let response = LeaseKeepAliveResponse { header, id, ttl };
            turn.outlet.message(to, response.encode_to_vec().into());
        }
    }
}

/// What waits for a round in the name of a stream.
fn confirmation(to: ReplyTo) -> Call {
    let (method, caller) = (Method::LeaseKeepAlive, Caller::default());
    Call { to, method, caller, body: Bytes::new() }
}

/// The TTL of a lease that runs anew, 0 if there is none; `None` if it is not for this member to say.
fn renew_here(turn: &mut Turn<'_>, id: LeaseId) -> Option<i64> {
    let now_ms = turn.now_ms;
    let engine = turn.engine;
    errands::renewal(engine, turn.state(), id, now_ms)
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
