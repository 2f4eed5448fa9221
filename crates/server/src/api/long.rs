//! Ranges too long to be answered at once: in turns, at the pace of the client.
//!
//! ```text
//!  kv::range ── not AT_ONCE ──► measuring, a turn each ──► sending, PIECE by PIECE
//!                                   └ everybody else comes in between ┘   └ waits for room
//! ```
//!
//! # Invariants
//!
//! - No more than [`PIECE`] bytes, and a row, of such an answer are in memory at a time.
//! - An answer longer than [`LENGTH_MAX`] is refused as Go's gRPC does.

use bytes::Bytes;
use proto::error::{Code, Status};
use state::{AtOnce, LongRange};

use super::port::{Handler, Port, Turn};
use super::{ROOM, ReplyTo};

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
    range: LongRange,
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
    pub(super) fn new(range: LongRange) -> Self {
        Self { range, is_measured: false }
    }

    fn step(&mut self, turn: &mut Turn<'_>, to: ReplyTo) -> Result<Step, Status> {
        let engine = turn.engine;
        if !self.is_measured {
            let measured = turn.state().measure(&mut self.range);
            let Some(len) = engine.refusal_of(measured)? else { return Ok(Step::Again) };
            self.is_measured = true;
            let len = u32::try_from(len).ok().filter(|len| u64::from(*len) <= LENGTH_MAX);
            turn.outlet.begin(to, len.ok_or_else(|| too_long(&self.range))?);
            return Ok(Step::Again);
        }
        if turn.outlet.room(to) < ROOM_MIN {
            return Ok(Step::Waits);
        }
        let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
        let written = turn.state().write_piece(&mut self.range, PIECE, &mut piece);
        let written = engine.refusal_of(written)?;
        turn.outlet.part(to, Bytes::from(piece));
        Ok(match written {
            state::Turn::More => Step::Again,
            state::Turn::Last => Step::Done,
        })
    }
}

fn too_long(range: &LongRange) -> Status {
    let (len, max) = (range.bytes_left(), LENGTH_MAX);
    let text = format!("grpc: trying to send message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, text)
}

/// Begins an answer in turns.
pub(super) fn begin(port: &mut Port, to: ReplyTo, range: LongRange) {
    port.handlers.insert(to, Handler::LongAnswer(LongAnswer::new(range)));
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
        port.handlers.remove(&to);
        turn.served.ranges[usize::from(result.is_ok())] += 1;
        turn.outlet.finish(to, result);
    }
}
