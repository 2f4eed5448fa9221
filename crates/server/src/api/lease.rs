//! The Lease service.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use proto::prost::Message;
use proto::raft_request::Body;
use state::lease::{LeaseId, Renewal};

use super::ReplyTo;
use super::port::{Call, Port, Turn, decode};

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

/// Renews one lease; an unknown or expired one is answered with a TTL of 0.
pub(super) fn keep_alive(turn: &mut Turn<'_>, to: ReplyTo, body: &Bytes) -> Result<(), Status> {
    let LeaseKeepAliveRequest { id } = decode(body)?;
    let now_ms = turn.now_ms;
    let state = turn.state();
    let header = Some(state.header());
    let ttl = match state.leases().renew(LeaseId(id), now_ms) {
        Renewal::Renewed { ttl } => {
            turn.engine.metrics.lease_renewed.inc();
            ttl
        }
        Renewal::NotFound | Renewal::Expired | Renewal::CheckpointFirst => 0,
        Renewal::NotPrimary => return Err(Error::NoLeader.into()),
    };
    let response = LeaseKeepAliveResponse { header, id, ttl };
    turn.outlet.message(to, response.encode_to_vec().into());
    Ok(())
}

pub(super) fn time_to_live(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    port.read(call, turn)
}

pub(super) fn serve_time_to_live(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let LeaseTimeToLiveRequest { id, keys } = decode(&call.body)?;
    let now_ms = turn.now_ms;
    let state = turn.state();
    let header = Some(state.header());
    let response = match state.leases().time_to_live(LeaseId(id), now_ms)? {
        Some(known) => LeaseTimeToLiveResponse {
            header,
            id,
            ttl: known.ttl,
            granted_ttl: known.granted,
            keys: if keys {
                known.keys.into_iter().map(Bytes::copy_from_slice).collect()
            } else {
                Vec::new()
            },
        },
        None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
    };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
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
