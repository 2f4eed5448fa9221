//! The Maintenance service, and the one question about authentication that is answered so far.

use std::sync::mpsc::TryRecvError;

use member::Event;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthStatusResponse, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, HashKvRequest, HashRequest, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, StatusRequest, StatusResponse,
};
use proto::prost::Message;
use proto::raft_request::Body;
use raft::NodeId;

use super::ReplyTo;
use super::port::{Call, Handler, Port, Turn, decode};
use crate::drive::chores::Answering;
use crate::drive::errands;
use crate::drive::keeper::Keeping;
use crate::drive::snapshot::{self, Piece, Pieces};
use crate::drive::worker::Job;
use crate::version;

pub(super) fn alarm(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<AlarmRequest>(&call.body)?;
    port.propose(turn, call.to, Body::Alarm, &call.body)
}

pub(super) fn status(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<StatusRequest>(&call.body)?;
    let engine = turn.engine;
    let shown = &engine.shown;
    let state = turn.state();
    let size = state.size();
    let cast = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut errors = Vec::new();
    if shown.leader() == 0 {
        errors.push(Error::NoLeader.text().to_owned());
    }
    for alarm in state.alarms().list(AlarmType::None) {
        errors.push(format!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name()));
    }
    let downgrade = state.membership().downgrade();
    let response = StatusResponse {
        header: Some(state.header()),
        version: version::ETCD.into(),
        db_size: cast(size.on_disk),
        leader: shown.leader(),
        raft_index: shown.last(),
        raft_term: shown.term(),
        raft_applied_index: shown.applied(),
        errors,
        db_size_in_use: cast(size.in_use()),
        is_learner: shown.is_learner(),
        storage_version: version::STORAGE.into(),
        db_size_quota: cast(state.quota().bytes().unwrap_or(0)),
        downgrade_info: Some(DowngradeInfo {
            enabled: downgrade.enabled,
            target_version: downgrade.target.clone(),
        }),
    };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}

/// There is nothing to defragment: the collector is sent to look at once, and nobody waits for it.
pub(super) fn defragment(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<DefragmentRequest>(&call.body)?;
    turn.engine.tell_keeper(Keeping::Collect);
    turn.outlet.reply(call.to, DefragmentResponse::default().encode_to_vec().into());
    Ok(())
}

pub(super) fn hash(port: &Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<HashRequest>(&call.body)?;
    turn.engine.tell_worker(Job::Hash { answering: port.answering(call.to) })
}

pub(super) fn hash_kv(port: &Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let HashKvRequest { revision } = decode(&call.body)?;
    let answering = port.answering(call.to);
    turn.engine.tell_worker(Job::HashKv { revision, answering })
}

/// A snapshot on its way: made by a thread of its own, as fast as its caller takes it.
pub(crate) struct SnapshotStream {
    pieces: Pieces,
}

pub(super) fn snapshot(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<SnapshotRequest>(&call.body)?;
    let pieces = snapshot::start(&port.engine, port.answering(call.to))?;
    port.handlers.insert(call.to, Handler::Snapshot(SnapshotStream { pieces }));
    port.pump(call.to, turn)
}

impl SnapshotStream {
    /// Passes on what is made while there is room; true at the end.
    pub(crate) fn pump(&mut self, turn: &mut Turn<'_>, to: ReplyTo) -> Result<bool, Status> {
        while turn.outlet.room(to) > 0 {
            match self.pieces.try_recv() {
                Ok(Piece::Message(message)) => turn.outlet.message(to, message),
                Ok(Piece::End) => return Ok(true),
                // The thread says so when it has made more.
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Err(Error::Stopped.into()),
            }
        }
        Ok(false)
    }
}

pub(super) fn move_leader(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let MoveLeaderRequest { target_id } = decode(&call.body)?;
    let engine = turn.engine;
    if !engine.shown.is_leader() {
        return Err(Error::NotLeader.into());
    }
    let target = turn.state().membership().member(target_id);
    let target = target.filter(|member| !member.is_learner).and_then(|m| NodeId::new(m.id));
    let target = target.ok_or(Error::BadLeaderTransferee)?;
    if target_id == engine.identity.member_id {
        turn.outlet.reply(call.to, MoveLeaderResponse::default().encode_to_vec().into());
        return Ok(());
    }
    engine.tell_member(Event::TransferLeader(target));
    errands::await_leader(&port.engine, port.answering(call.to), target_id);
    Ok(())
}

/// What etcd's store of users says while nobody has ever touched it.
pub(crate) const AUTH_REVISION_FIRST: u64 = 1;

pub(super) fn serve_auth_status(turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let header = Some(turn.state().header());
    let response =
        AuthStatusResponse { header, enabled: false, auth_revision: AUTH_REVISION_FIRST };
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    turn.served.auth_statuses += 1;
    Ok(())
}

impl Port {
    /// How another thread answers `to`.
    pub(crate) fn answering(&self, to: ReplyTo) -> Answering {
        Answering { port: self.index, to }
    }
}
