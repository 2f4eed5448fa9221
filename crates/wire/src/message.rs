//! gRPC messages: a flag, a length and the message, however the stream cut them up.
//!
//! ```text
//! 0      1          5
//! ┌──────┬──────────┬───────────┐
//! │ flag │ length   │ message   │  big-endian; flag 1: compressed
//! └──────┴──────────┴───────────┘
//! ```
//!
//! # Invariants
//!
//! - A message that lies whole in the input is copied once; one that doesn't, as often as it grows.
//! - A length is believed only up to the limit, and memory is taken only for bytes that came.

use bytes::{Buf, Bytes};

use crate::status::Code;

pub(crate) const PREFIX_SIZE: usize = 5;

/// Room taken at once for a message of which only the beginning is there.
const RESERVE_MAX: usize = 64 * 1024;

/// A message as it came: perhaps compressed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) compressed: bool,
    pub(crate) body: Bytes,
}

/// The stream can't be read on: the call ends so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// The prefix of a message.
pub(crate) fn prefix(length: usize) -> [u8; PREFIX_SIZE] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Prefix and beginning of a message that is not whole yet.
    partial: Vec<u8>,
}

impl Assembler {
    pub(crate) fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// The next whole message, if `input` completes one; what it used is taken off `input`.
    pub(crate) fn next(&mut self, input: &mut &[u8], max: usize) -> Result<Option<Message>, Flaw> {
        if self.partial.is_empty() {
            let Some((prefix, rest)) = input.split_first_chunk() else {
                self.take(input, PREFIX_SIZE);
                return Ok(None);
            };
            let (compressed, length) = check(prefix, max)?;
            if let Some((body, rest)) = rest.split_at_checked(length) {
                *input = rest;
                return Ok(Some(Message { compressed, body: Bytes::copy_from_slice(body) }));
            }
        }
        self.take(input, PREFIX_SIZE);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let (compressed, length) = check(prefix, max)?;
        let whole = PREFIX_SIZE + length;
        self.partial.reserve((whole - self.partial.len()).min(RESERVE_MAX));
        self.take(input, whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut body = Bytes::from(std::mem::take(&mut self.partial));
        body.advance(PREFIX_SIZE);
        Ok(Some(Message { compressed, body }))
    }

    /// Moves bytes until `upto` are buffered, or the input ends.
    fn take(&mut self, input: &mut &[u8], upto: usize) {
        let n = upto.saturating_sub(self.partial.len()).min(input.len());
        let (bytes, rest) = input.split_at(n);
        self.partial.extend_from_slice(bytes);
        *input = rest;
    }
}

fn check(prefix: &[u8; PREFIX_SIZE], max: usize) -> Result<(bool, usize), Flaw> {
    let [flag, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > max {
        return Err(too_large(length, max));
    }
    match flag {
        0 => Ok((false, length)),
        1 => Ok((true, length)),
        other => Err(Flaw {
            code: Code::Internal,
            text: format!("grpc: received unexpected payload format {other}"),
        }),
    }
}

pub(crate) fn too_large(length: usize, max: usize) -> Flaw {
    Flaw {
        code: Code::ResourceExhausted,
        text: format!("grpc: received message larger than max ({length} vs. {max})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        each_seed(|g| {
            let messages = g.vec(0..8, |g| g.bytes(0..40));
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend_from_slice(&prefix(message.len()));
                stream.extend_from_slice(message);
            }
            let (mut assembler, mut found, mut rest) =
                (Assembler::default(), Vec::new(), &stream[..]);
            while !rest.is_empty() {
                let (mut piece, tail) = rest.split_at(g.int(1..=rest.len()));
                rest = tail;
                while let Some(message) = assembler.next(&mut piece, 40).unwrap() {
                    found.push(message.body.to_vec());
                }
                assert!(piece.is_empty(), "what makes no message is kept");
            }
            assert_eq!(found, messages);
            assert_eq!(assembler.buffered(), 0);
        });
    }

    #[test]
    fn what_is_too_large_or_strange_is_refused_before_it_is_buffered() {
        let refuse = |mut bytes: &[u8]| Assembler::default().next(&mut bytes, 10).unwrap_err().text;
        let text = refuse(&[0, 0, 0, 0, 11]);
        assert_eq!(text, "grpc: received message larger than max (11 vs. 10)");
        assert_eq!(refuse(&[7, 0, 0, 0, 1]), "grpc: received unexpected payload format 7");
    }
}
