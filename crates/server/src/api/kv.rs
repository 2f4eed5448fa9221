//! The KV service: ranges, puts, deletes, transactions, compactions.

use bytes::Bytes;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op,
};
use proto::raft_request::Body;
use state::check;

use super::port::{Call, Handler, Port, Turn, decode};
use super::{Outlet, ReplyTo};

pub(super) fn range(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    check::range(&request)?;
    if turn.engine.shown.is_learner() && !request.serializable {
        return Err(Error::NotSupportedForLearner.into());
    }
    if request.serializable {
        return answer_range(port, turn, call, &request);
    }
    if turn.engine.shown.lone() {
        return answer_range(port, turn, call, &request);
    }
    port.read(call, turn)
}

pub(super) fn serve_range(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: Call,
) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    answer_range(port, turn, call, &request)
}

fn answer_range(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: Call,
    request: &RangeRequest,
) -> Result<(), Status> {
    // One key's value is bounded by what a put may be; a range is not, so it waits for room.
    if !request.range_end.is_empty() && turn.outlet.room(call.to) == 0 {
        return port.reads.park(call).map_err(Status::from);
    }
    let header = turn.header();
    port.answer(turn, call.to, |state, out| state.range(request, header, out))
}

pub(super) fn put(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: PutRequest = decode(&call.body)?;
    check::put(&request)?;
    port.propose(turn, call.to, Body::Put, &call.body)
}

pub(super) fn delete_range(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: DeleteRangeRequest = decode(&call.body)?;
    check::delete_range(&request)?;
    port.propose(turn, call.to, Body::DeleteRange, &call.body)
}

pub(super) fn compact(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    decode::<CompactionRequest>(&call.body)?;
    port.propose(turn, call.to, Body::Compaction, &call.body)
}

pub(super) fn txn(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: TxnRequest = decode(&call.body)?;
    check::txn(&request, turn.engine.limits.txn_ops_max)?;
    if !is_read_only(&request) {
        return port.propose(turn, call.to, Body::Txn, &call.body);
    }
    if is_serializable(&request) || turn.engine.shown.lone() {
        return answer_txn(port, turn, &call, &request);
    }
    port.read(call, turn)
}

pub(super) fn serve_txn(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: TxnRequest = decode(&call.body)?;
    answer_txn(port, turn, call, &request)
}

fn answer_txn(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
    request: &TxnRequest,
) -> Result<(), Status> {
    let header = turn.header();
    port.answer(turn, call.to, |state, out| state.read_txn(request, header, out))
}

/// Whether a txn only looks. One with a nested txn goes through the log whatever that does.
fn is_read_only(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(request_op::Request::RequestRange(_))))
}

/// Whether a txn that only looks may look at what this member happens to know.
fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

pub(super) fn range_stream(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    check::range(&request)?;
    check::range_stream(&request)?;
    if request.serializable {
        return serve_stream(port, turn, &call);
    }
    port.read(call, turn)
}

pub(super) fn serve_stream(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    let header = turn.header();
    let rows = turn.state().range_stream(request, header);
    port.handlers.insert(call.to, Handler::RangeStream(RowStream { rows }));
    port.pump(call.to, turn)
}

/// A range on its way in messages.
pub(crate) struct RowStream {
    rows: state::RangeStream,
}

/// Messages one stream may make before the other calls of the turn get theirs.
const MESSAGES_PER_TURN_MAX: usize = 8;

impl RowStream {
    /// Sends while there is room; true at the end.
    pub(crate) fn pump(&mut self, turn: &mut Turn<'_>, to: ReplyTo) -> Result<bool, Status> {
        let engine = turn.engine;
        while turn.outlet.room(to) > 0 {
            let mut message = Vec::new();
            let step = turn.state().range_stream_next(&mut self.rows, &mut message);
            let more = engine.refusal_of(step)?;
            turn.outlet.message(to, Bytes::from(message));
            if !more {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
