//! The Cluster service. Changes of membership come with clusters; so far members can be listed, and
//! what makes no sense for those there are is refused.

use proto::error::{Error, Status};
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use proto::prost::Message;
use state::membership::MemberChange;

use super::port::{Call, Port, Turn, decode, not_yet};
use crate::config::Url;

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

pub(super) fn serve_member_add(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MemberAddRequest { peer_urls, is_learner } = decode(&call.body)?;
    let urls: Result<Vec<_>, _> = peer_urls.iter().map(|url| Url::parse(url)).collect();
    let urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(Error::MemberBadURLs)?;
    let peer_urls = urls.iter().map(|url| url.as_str().to_owned()).collect();
    refuse(turn, call, &MemberChange::Add(Member { peer_urls, is_learner, ..Member::default() }))
}

pub(super) fn serve_member_remove(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MemberRemoveRequest { id } = decode(&call.body)?;
    let mut voters = turn.state().membership().members().filter(|member| !member.is_learner);
    let is_last = voters.next().is_some_and(|first| first.id == id) && voters.next().is_none();
    drop(voters);
    if is_last {
        return Err(Error::MemberNotEnoughStarted.into()); // Nobody would be left to decide.
    }
    refuse(turn, call, &MemberChange::Remove { id })
}

pub(super) fn serve_member_update(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MemberUpdateRequest { id, peer_urls } = decode(&call.body)?;
    refuse(turn, call, &MemberChange::Update { id, peer_urls })
}

pub(super) fn serve_member_promote(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MemberPromoteRequest { id } = decode(&call.body)?;
    refuse(turn, call, &MemberChange::Promote { id })
}

/// Says why a change cannot be; one that could is not offered yet.
fn refuse(turn: &mut Turn<'_>, call: &Call, change: &MemberChange) -> Result<(), Status> {
    turn.state().membership().check(change)?;
    Err(not_yet(call.method))
}
