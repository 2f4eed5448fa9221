//! Ranges, and transactions that only read, too long to be answered at once: in turns, at the pace of the
//! client.
//!
//! ```text
//!  kv ── not AT_ONCE ──► measuring, a turn each ──► sending, PIECE by PIECE
//!                            └ everybody else comes in between ┘   └ waits for room
//! ```
//!
//! # Invariants
//!
//! - No more than [`PIECE`] bytes, and a row, of such an answer are in memory at a time.
//! - An answer longer than [`LENGTH_MAX`] is refused as Go's gRPC does.

use std::time::Instant;

use bytes::Bytes;
use proto::error::{Code, Status};
use state::{AtOnce, LongRead};

use super::port::{Handler, Port, Turn};
use super::{ROOM, ReplyTo};
use crate::metrics::{Metrics, Operation};

/// An answer up to this size, and a row, is made at once, if not too many keys have to be looked at.
pub(super) const AT_ONCE: AtOnce = AtOnce { bytes: 2 << 20, keys: 5_000 };
/// What is handed to the connection at a time.
const PIECE: usize = 256 << 10;
/// A stream with less room still has something of the last piece to send.
const ROOM_MIN: usize = ROOM - PIECE / 4;
/// What Go's gRPC sends at most, as etcd sets it up.
const LENGTH_MAX: u64 = i32::MAX as u64;

/// A long answer under way.
pub(crate) struct LongAnswer {
    what: Operation,
    began: Instant,
    read: LongRead,
    is_measured: bool,
}

/// What came of a turn.
enum Step {
    /// Another turn is due.
    Again,
    /// The connection says when it has room.
    Waits,
    Done,
}

impl LongAnswer {
    fn step(&mut self, turn: &mut Turn<'_>, to: ReplyTo) -> Result<Step, Status> {
        let engine = turn.engine;
        if !self.is_measured {
            let measured = turn.state().measure(&mut self.read);
            let Some(len) = engine.refusal_of(measured)? else { return Ok(Step::Again) };
            self.is_measured = true;
            let len = u32::try_from(len).ok().filter(|len| u64::from(*len) <= LENGTH_MAX);
            turn.outlet.begin(to, len.ok_or_else(|| too_long(&self.read))?);
            return Ok(Step::Again);
        }
        if turn.outlet.room(to) < ROOM_MIN {
            return Ok(Step::Waits);
        }
        let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
        let written = turn.state().write_piece(&mut self.read, PIECE, &mut piece);
        let written = engine.refusal_of(written)?;
        turn.outlet.part(to, Bytes::from(piece));
        Ok(match written {
            state::Turn::More => Step::Again,
            state::Turn::Last => Step::Done,
        })
    }

    /// It took from its first turn to its last, the waiting for the client included.
    fn observe(&self, metrics: &Metrics, success: bool) {
        let took = self.began.elapsed();
        metrics.request.of(self.what, success).observe(took);
        if self.what == Operation::Range {
            metrics.range.of(success).observe(took);
        }
    }
}

fn too_long(read: &LongRead) -> Status {
    let (len, max) = (read.bytes_left(), LENGTH_MAX);
    let text = format!("grpc: trying to send message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, text)
}

/// Begins an answer in turns.
pub(super) fn begin(port: &mut Port, to: ReplyTo, what: Operation, read: LongRead) {
    let answer = LongAnswer { what, began: Instant::now(), read, is_measured: false };
    port.handlers.insert(to, Handler::LongAnswer(answer));
    port.long.push(to);
}

/// There is room again.
pub(super) fn wake(port: &mut Port, to: ReplyTo) {
    if !port.long.contains(&to) {
        port.long.push(to);
    }
}

/// Gives each long answer a turn.
pub(super) fn pump(port: &mut Port, turn: &mut Turn<'_>) {
    for to in std::mem::take(&mut port.long) {
        let Some(Handler::LongAnswer(answer)) = port.handlers.get_mut(&to) else { continue };
        let result = match answer.step(turn, to) {
            Ok(Step::Again) => {
                port.long.push(to);
                continue;
            }
            Ok(Step::Waits) => continue,
            Ok(Step::Done) => Ok(()),
            Err(status) => Err(status),
        };
        answer.observe(&turn.engine.metrics, result.is_ok());
        port.handlers.remove(&to);
        turn.outlet.finish(to, result);
    }
}
