//! The Cluster service: who belongs to the cluster, and changes of that.
//!
//! A change is an entry of the log that every member checks and carries out alike when it applies it.
//! Before it is proposed it is held against what this member knows: a change that could cost the
//! quorum is refused while there is time (`--strict-reconfig-check`).
//!
//! ```text
//! member add ─► known URLs? ids? ─► enough started? connected? ─► propose ─► applied ─► answer
//! ```

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use member::{identity, roster};
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};
use proto::prost::Message;
use state::State;
use state::membership::{MemberChange, Membership};

use super::port::{Call, Port, Turn, decode};
use crate::config::Url;
use crate::drive::errands;
use crate::engine::Engine;

/// For so long must a member have been connected to count as healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// A learner is in sync when it holds this much of the leader's log.
const IN_SYNC_PERCENT: u64 = 90;

pub(super) fn member_list(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: MemberListRequest = decode(&call.body)?;
    if request.linearizable { port.read(call, turn) } else { serve_member_list(turn, &call) }
}

pub(super) fn serve_member_list(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let state = turn.state();
    let response = MemberListResponse { header: header(state), members: members(state) };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}

pub(super) fn member_add(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MemberAddRequest { peer_urls, is_learner } = decode(&call.body)?;
    let urls: Result<Vec<_>, _> = peer_urls.iter().map(|url| Url::parse(url)).collect();
    let urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(Error::MemberBadURLs)?;
    let mut peer_urls: Vec<String> = urls.iter().map(|url| url.as_str().to_owned()).collect();
    peer_urls.sort();
    // etcd leaves the token of the founding out here: the time makes the id anew.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = identity::member_id(&peer_urls, "", Some(now.as_secs()));
    let member = Member { id, peer_urls, is_learner, ..Member::default() };
    propose(port, turn, call, &MemberChange::Add(member))
}

pub(super) fn member_remove(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
) -> Result<(), Status> {
    let MemberRemoveRequest { id } = decode(&call.body)?;
    propose(port, turn, call, &MemberChange::Remove { id })
}

pub(super) fn member_update(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
) -> Result<(), Status> {
    let MemberUpdateRequest { id, peer_urls } = decode(&call.body)?;
    let malformed = peer_urls.is_empty() || peer_urls.iter().any(|url| Url::parse(url).is_err());
    let change = MemberChange::Update { id, peer_urls };
    turn.state().membership().check(&change)?;
    if malformed {
        // etcd leaves this to its clients; nobody would find the member there.
        return Err(Error::MemberBadURLs.into());
    }
    propose(port, turn, call, &change)
}

/// Only a leader knows how far a learner is: others pass the question on.
pub(super) fn member_promote(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
) -> Result<(), Status> {
    let MemberPromoteRequest { id } = decode(&call.body)?;
    if !turn.engine.shown.is_leader() {
        errands::promote(&port.engine, port.answering(call.to), id, call.caller.clone());
        return Ok(());
    }
    propose(port, turn, call, &MemberChange::Promote { id }).inspect_err(|status| {
        turn.engine.metrics.promote_failures.inc(reason_of(status));
    })
}

/// How etcd's metrics call a reason: for some in words it uses inside.
fn reason_of(status: &Status) -> &'static str {
    match status.message {
        Cow::Borrowed(text) if text == Error::MemberNotFound.text() => "membership: ID not found",
        Cow::Borrowed(text) if text == Error::MemberNotLearner.text() => {
            "membership: can only promote a learner member"
        }
        Cow::Borrowed(text) => text,
        Cow::Owned(_) => "unknown",
    }
}

fn propose(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
    change: &MemberChange,
) -> Result<(), Status> {
    let engine = turn.engine;
    let state = turn.state();
    let membership = state.membership();
    // etcd asks of a new member first whether any may come now, and of others whether they are there.
    let is_new = matches!(change, MemberChange::Add(_));
    if !is_new {
        membership.check(change)?;
    }
    if let MemberChange::Promote { id } = change {
        check_in_sync(engine, *id)?;
    }
    if engine.rules.strict_reconfig {
        check_quorum(engine, membership, change)?;
    }
    if is_new {
        membership.check(change)?;
    }
    let change = roster::propose(change, membership);
    port.propose_change(turn, call.to, change)
}

/// Refuses what could leave the cluster without a quorum.
fn check_quorum(
    engine: &Engine,
    membership: &Membership,
    change: &MemberChange,
) -> Result<(), Error> {
    match change {
        MemberChange::Add(member) if member.is_learner => check_all_connected(engine, membership),
        MemberChange::Add(_) => {
            check_started(membership)?;
            check_all_connected(engine, membership)
        }
        MemberChange::Promote { id } => {
            // It votes from then on, and has started, or it would not be in sync.
            let n_started = started(membership, |other| other.id != *id) + 1;
            enough(n_started, voters(membership).count() + 1)
        }
        MemberChange::Remove { id } => check_removal(engine, membership, *id),
        MemberChange::Update { .. } => Ok(()),
    }
}

fn check_removal(engine: &Engine, membership: &Membership, id: u64) -> Result<(), Error> {
    if membership.member(id).is_none_or(|member| member.is_learner) {
        return Ok(());
    }
    let remains = |other: &Member| other.id != id;
    let n_voters = voters(membership).filter(|other| remains(other)).count();
    enough(started(membership, remains), n_voters)?;
    if id != engine.identity.member_id && engine.peers().active_since(id).is_none() {
        return Ok(()); // It is gone already.
    }
    let all: Vec<u64> = voters(membership).map(|member| member.id).collect();
    let active = engine.n_connected(&all, Instant::now() - HEALTHY_AFTER);
    if active.saturating_sub(1) < 1 + (all.len() - 1) / 2 { Err(Error::Unhealthy) } else { Ok(()) }
}

fn check_all_connected(engine: &Engine, membership: &Membership) -> Result<(), Error> {
    let all: Vec<u64> = voters(membership).map(|member| member.id).collect();
    let since = Instant::now() - HEALTHY_AFTER;
    if engine.n_connected(&all, since) == all.len() { Ok(()) } else { Err(Error::Unhealthy) }
}

/// Whether those voters that have started are a quorum of them and one that has not.
fn check_started(membership: &Membership) -> Result<(), Error> {
    let n_voters = voters(membership).count() + 1;
    let n_started = started(membership, |_| true);
    // One that is alone may take a second in, although the two then depend on each other.
    if n_started == 1 && n_voters == 2 { Ok(()) } else { enough(n_started, n_voters) }
}

fn enough(n_started: usize, n_voters: usize) -> Result<(), Error> {
    if n_started > n_voters / 2 { Ok(()) } else { Err(Error::MemberNotEnoughStarted) }
}

fn voters(membership: &Membership) -> impl Iterator<Item = &Member> {
    membership.members().filter(|member| !member.is_learner)
}

/// A member has started when it has said what it is called.
fn started(membership: &Membership, counts: impl Fn(&Member) -> bool) -> usize {
    voters(membership).filter(|member| counts(member) && !member.name.is_empty()).count()
}

/// Whether the learner would slow nobody down as a voter.
fn check_in_sync(engine: &Engine, id: u64) -> Result<(), Error> {
    let progress = engine.progress();
    let learner = progress.iter().find(|peer| peer.id.get() == id);
    let matched = learner.map_or(0, |learner| learner.matched.0);
    if matched * 100 >= engine.shown.last() * IN_SYNC_PERCENT {
        Ok(())
    } else {
        Err(Error::LearnerNotReady)
    }
}

/// What is answered once `change` has been carried out.
pub(crate) fn changed(state: &State, change: &MemberChange) -> Bytes {
    let (header, members) = (header(state), members(state));
    match change {
        MemberChange::Add(member) => {
            MemberAddResponse { header, member: Some(member.clone()), members }.encode_to_vec()
        }
        MemberChange::Remove { .. } => MemberRemoveResponse { header, members }.encode_to_vec(),
        MemberChange::Update { .. } => MemberUpdateResponse { header, members }.encode_to_vec(),
        MemberChange::Promote { .. } => MemberPromoteResponse { header, members }.encode_to_vec(),
    }
    .into()
}

/// Of this service's headers etcd leaves the revision out.
fn header(state: &State) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: 0, ..state.header() })
}

fn members(state: &State) -> Vec<Member> {
    state.membership().members().cloned().collect()
}
