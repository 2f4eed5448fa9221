//! What is to be written to the socket: one run of bytes, with large bodies spliced in.
//!
//! ```text
//! bytes    frames frames frames header·header frames
//!                              ▲
//! splices                      └─ 40 KiB of somebody's `Bytes`, referred to, not copied
//! ```
//!
//! # Invariants
//!
//! - Splices are ordered by where they stand, none before what was already written.
//! - An empty output holds no memory beyond [`KEPT_MAX`]; an idle connection's holds none.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A drained buffer up to this size stays for the next answers.
const KEPT_MAX: usize = 256 * 1024;

/// Written bytes are dropped from the front when they are this many and more than the rest.
const DEAD_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Splice {
    /// The place in `bytes` it stands before.
    at: usize,
    body: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
    splices: VecDeque<Splice>,
    /// Sum of the splices' lengths.
    spliced: usize,
}

impl Output {
    /// Where frames are written.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Continues with `body` after all that is there now.
    pub(crate) fn splice(&mut self, body: Bytes) {
        self.spliced += body.len();
        self.splices.push_back(Splice { at: self.bytes.len(), body });
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written + self.spliced
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what comes first; says how many it filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        let mut at = self.written;
        let mut push = |bytes: &'a [u8]| {
            if !bytes.is_empty() && n < slices.len() {
                slices[n] = IoSlice::new(bytes);
                n += 1;
            }
            n < slices.len()
        };
        for splice in &self.splices {
            if !(push(&self.bytes[at..splice.at]) && push(&splice.body)) {
                return n;
            }
            at = splice.at;
        }
        push(&self.bytes[at..]);
        n
    }

    /// The socket took the first `n` bytes.
    pub(crate) fn consumed(&mut self, mut n: usize) {
        assert!(n <= self.len(), "no more can be written than there was");
        while let Some(splice) = self.splices.front_mut() {
            let before = n.min(splice.at - self.written);
            self.written += before;
            n -= before;
            let taken = n.min(splice.body.len());
            splice.body.advance(taken);
            self.spliced -= taken;
            n -= taken;
            if self.written < splice.at || !splice.body.is_empty() {
                break;
            }
            self.splices.pop_front();
        }
        self.written += n;
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.is_empty() {
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_MAX {
                self.bytes = Vec::new();
            }
        } else if self.written > DEAD_MAX.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.written);
            for splice in &mut self.splices {
                splice.at -= self.written;
            }
            self.written = 0;
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.splices.capacity() * size_of::<Splice>() + self.spliced
    }

    /// Gives back all memory, if there is nothing to write.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    #[test]
    fn what_goes_in_comes_out_in_order_however_it_is_written() {
        each_seed(|g| {
            let (mut output, mut expected, mut found) = (Output::default(), Vec::new(), Vec::new());
            for _ in 0..g.int(1..=40) {
                let large = g.chance(10);
                let bytes = if large { g.bytes(0..100_000) } else { g.bytes(0..100) };
                expected.extend_from_slice(&bytes);
                if g.chance(50) {
                    output.splice(bytes.into());
                } else {
                    output.buffer().extend_from_slice(&bytes);
                }
                if g.chance(30) {
                    write_some(&mut output, &mut found, g.int(0..=150_000));
                }
            }
            assert_eq!(output.len(), expected.len() - found.len());
            while !output.is_empty() {
                write_some(&mut output, &mut found, usize::MAX);
            }
            assert!(found == expected, "the same bytes");
        });
    }

    fn write_some(output: &mut Output, socket: &mut Vec<u8>, room: usize) {
        let mut slices = [IoSlice::new(&[]); 3];
        let n = output.fill(&mut slices);
        let before = socket.len();
        for slice in &slices[..n] {
            let taken = slice.len().min(room - (socket.len() - before).min(room));
            socket.extend_from_slice(&slice[..taken]);
        }
        output.consumed(socket.len() - before);
    }
}
