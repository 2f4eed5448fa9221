//! The Lease service.

use proto::error::{Error, Status};
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};
use proto::prost::Message;
use proto::raft_request::Body;

use super::ReplyTo;
use super::port::{Call, Port, Turn, decode};

pub(super) fn grant(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: LeaseGrantRequest = decode(&call.body)?;
    if request.id != 0 {
        return port.propose(turn, call.to, Body::LeaseGrant, &call.body);
    }
    let chosen = LeaseGrantRequest { id: port.fresh_lease_id(turn), ..request };
    port.propose(turn, call.to, Body::LeaseGrant, &chosen.encode_to_vec())
}

pub(super) fn revoke(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<LeaseRevokeRequest>(&call.body)?;
    port.propose(turn, call.to, Body::LeaseRevoke, &call.body)
}

/// Renews one lease; an unknown or expired one is answered with a TTL of 0.
pub(super) fn keep_alive(turn: &mut Turn<'_>, to: ReplyTo, body: &bytes::Bytes) -> Result<(), Status> {
    let request: LeaseKeepAliveRequest = decode(body)?;
    if !turn.engine.shown.is_leader() {
        return Err(Error::NoLeader.into());
    }
    let now_ms = turn.now_ms;
    let state = turn.state();
    let revision = state.revision();
    let ttl = state.leases().renew(request.id, now_ms);
    let header = Some(proto::etcdserverpb::ResponseHeader { revision, ..turn.header() });
    let response = LeaseKeepAliveResponse { header, id: request.id, ttl };
    turn.outlet.message(to, response.encode_to_vec().into());
    Ok(())
}

pub(super) fn time_to_live(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    port.read(call, turn)
}
