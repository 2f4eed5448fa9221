//! A file read from front to back, through a buffer that does not grow with the file.

use std::sync::Arc;

use super::error::Trouble;
use crate::disk::File;

/// What is asked of the disk at a time. Single items may be longer; the buffer then grows to hold one.
const READ_SIZE: usize = 256 << 10;

pub(super) struct Window {
    file: Arc<dyn File>,
    /// Where in the file the first byte not consumed lies.
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    consumed: usize,
    filled: usize,
}

impl Window {
    pub(super) fn new(file: Arc<dyn File>, at: u64, end: u64) -> Self {
        assert!(at <= end, "a range");
        Self { file, at, end, buffer: Vec::new(), consumed: 0, filled: 0 }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// The next `n` bytes, without consuming them.
    pub(super) fn peek(&mut self, n: usize) -> Result<&[u8], Trouble> {
        if n as u64 > self.remaining() {
            return Err(Trouble::Corrupt { offset: self.at, what: "cut short" });
        }
        if self.filled - self.consumed < n {
            self.fill(n)?;
        }
        Ok(self.peeked(0, n))
    }

    /// Bytes that were peeked at since the last `consume`.
    pub(super) fn peeked(&self, from: usize, to: usize) -> &[u8] {
        &self.buffer[..self.filled][self.consumed + from..self.consumed + to]
    }

    pub(super) fn consume(&mut self, n: usize) {
        assert!(n <= self.filled - self.consumed, "only what was peeked at is consumed");
        self.consumed += n;
        self.at += n as u64;
    }

    /// Goes to `at`, which must not be behind.
    pub(super) fn skip_to(&mut self, at: u64) {
        assert!(self.at <= at && at <= self.end, "a window goes forward, to its end at most");
        let n = (at - self.at).min((self.filled - self.consumed) as u64) as usize;
        self.consume(n);
        // What is left of the way was not read, and won't be.
        self.at = at;
    }

    fn fill(&mut self, n: usize) -> Result<(), Trouble> {
        self.buffer.copy_within(self.consumed..self.filled, 0);
        self.filled -= self.consumed;
        self.consumed = 0;
        let target = (n.max(READ_SIZE) as u64).min(self.remaining()) as usize;
        if self.buffer.len() < target {
            self.buffer.resize(target, 0);
        }
        let from = self.at + self.filled as u64;
        self.filled += self.file.read_at(from, &mut self.buffer[self.filled..target])?;
        if self.filled < n {
            let offset = self.at + self.filled as u64;
            return Err(Trouble::Corrupt { offset, what: "the file ends too soon" });
        }
        Ok(())
    }
}
