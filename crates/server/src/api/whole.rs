//! A message that comes in parts, put together again: for callers who take nothing less.

use bytes::{Bytes, BytesMut};

#[derive(Debug, Default)]
pub(crate) struct Whole {
    bytes: BytesMut,
    missing: usize,
}

impl Whole {
    pub(crate) fn new(len: u32) -> Self {
        Self { bytes: BytesMut::new(), missing: len as usize }
    }

    /// The message, if this was the last of it.
    pub(crate) fn push(&mut self, part: &[u8]) -> Option<Bytes> {
        self.bytes.extend_from_slice(part);
        self.missing = self.missing.checked_sub(part.len()).expect("no more than was announced");
        (self.missing == 0).then(|| std::mem::take(&mut self.bytes).freeze())
    }
}
