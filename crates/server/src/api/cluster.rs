//! The Cluster service. Changes of membership come with clusters; so far members can be listed.

use proto::error::Status;
use proto::etcdserverpb::{MemberListRequest, MemberListResponse, ResponseHeader};
use proto::prost::Message;

use super::port::{Call, Port, Turn, decode};

pub(super) fn member_list(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: MemberListRequest = decode(&call.body)?;
    if request.linearizable { port.read(call, turn) } else { serve_member_list(turn, &call) }
}

pub(super) fn serve_member_list(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let state = turn.state();
    // Of this service's headers etcd leaves the revision out.
    let header = Some(ResponseHeader { revision: 0, ..state.header() });
    let members = state.membership().members().cloned().collect();
    let response = MemberListResponse { header, members };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}
