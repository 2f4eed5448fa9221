//! The KV service: ranges, puts, deletes, transactions, compactions.

use bytes::Bytes;
use proto::error::{Error, Status};
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use proto::raft_request::Body;
use state::{Fit, check};

use super::port::{Call, Handler, Port, Turn, decode};
use super::{ReplyTo, long};
use crate::metrics::Operation;

pub(super) fn range(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    check::range(&request)?;
    if turn.engine.shown.is_learner() && !request.serializable {
        return Err(Error::NotSupportedForLearner.into());
    }
    if request.serializable || turn.engine.shown.lone() {
        return answer_range(port, turn, call, &request);
    }
    port.read(call, turn)
}

pub(super) fn serve_range(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
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
    turn.served.range_ops += 1;
    let engine = turn.engine;
    let written = turn.state().range_within(request, long::AT_ONCE, port.answers.begin());
    let result = engine.refusal_of(written);
    if let Ok(Fit::TooLong) = result {
        let range = turn.state().long_range(request.clone());
        long::begin(port, call.to, Operation::Range, range);
        return Ok(());
    }
    turn.served.ranges[usize::from(result.is_ok())] += 1;
    result.map(|_| turn.outlet.reply(call.to, port.answers.finish()))
}

pub(super) fn put(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: PutRequest = decode(&call.body)?;
    port.within_quota(turn, state::quota::put_cost(&request))?;
    check::put(&request)?;
    port.propose(turn, call.to, Body::Put, &call.body)
}

pub(super) fn delete_range(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: DeleteRangeRequest = decode(&call.body)?;
    check::delete_range(&request)?;
    port.propose(turn, call.to, Body::DeleteRange, &call.body)
}

pub(super) fn compact(port: &mut Port, turn: &Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: CompactionRequest = decode(&call.body)?;
    port.propose(turn, call.to, Body::Compaction, &call.body)?;
    if request.physical {
        port.physical.insert(call.to);
    }
    Ok(())
}

pub(super) fn txn(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: TxnRequest = decode(&call.body)?;
    port.within_quota(turn, state::quota::txn_cost(&request))?;
    check::txn(&request, turn.engine.limits.txn_ops_max)?;
    if !check::is_read_only(&request) {
        return port.propose(turn, call.to, Body::Txn, &call.body);
    }
    if check::is_serializable(&request) || turn.engine.shown.lone() {
        return answer_txn(port, turn, call, &request);
    }
    port.read(call, turn)
}

pub(super) fn serve_txn(port: &mut Port, turn: &mut Turn<'_>, call: Call) -> Result<(), Status> {
    let request: TxnRequest = decode(&call.body)?;
    answer_txn(port, turn, call, &request)
}

fn answer_txn(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: Call,
    request: &TxnRequest,
) -> Result<(), Status> {
    if turn.outlet.room(call.to) == 0 {
        return port.reads.park(call).map_err(Status::from);
    }
    // The branches are about as long.
    let n_ops = request.success.len() as u64;
    let engine = turn.engine;
    let written = turn.state().read_txn_within(request, long::AT_ONCE, port.answers.begin());
    let result = engine.refusal_of(written);
    if result.is_ok() {
        turn.served.range_ops += n_ops;
        turn.served.larger_txns += u64::from(n_ops > 1);
    }
    if let Ok(Fit::TooLong) = result {
        let read = engine.refusal_of(turn.state().long_txn(request))?;
        long::begin(port, call.to, Operation::ReadonlyTxn, read);
        return Ok(());
    }
    turn.served.txns[usize::from(result.is_ok())] += 1;
    result.map(|_| turn.outlet.reply(call.to, port.answers.finish()))
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

pub(super) fn serve_stream(
    port: &mut Port,
    turn: &mut Turn<'_>,
    call: &Call,
) -> Result<(), Status> {
    let request: RangeRequest = decode(&call.body)?;
    let size_target = turn.engine.limits.request_bytes_max;
    let rows = turn.state().range_stream(request, size_target);
    port.handlers.insert(call.to, Handler::RangeStream(RowStream { rows }));
    port.pump(call.to, turn)
}

/// A range on its way in messages.
pub(crate) struct RowStream {
    rows: state::RangeStream,
}

impl RowStream {
    /// Sends while there is room; true at the end.
    pub(crate) fn pump(&mut self, turn: &mut Turn<'_>, to: ReplyTo) -> Result<bool, Status> {
        let engine = turn.engine;
        while turn.outlet.room(to) > 0 {
            let mut message = Vec::new();
            let step = turn.state().range_stream_step(&mut self.rows, &mut message);
            let step = engine.refusal_of(step)?;
            turn.outlet.message(to, Bytes::from(message));
            if step == state::Turn::Last {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
