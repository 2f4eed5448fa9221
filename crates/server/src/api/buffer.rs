//! Buffers for large answers, used again.
//!
//! A fresh buffer of a megabyte costs more in page faults than what is copied into it. So a large
//! answer goes out in its buffer, and the buffer comes back here when the last byte has left.
//!
//! # Invariants
//!
//! - At most [`KEPT_MAX`] buffers are kept, none above [`SIZE_KEPT_MAX`].

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Answers up to this size are copied out of a buffer that is used again at once.
const SMALL: usize = 16 * 1024;
const KEPT_MAX: usize = 32;
const SIZE_KEPT_MAX: usize = 2 * 1024 * 1024;

/// The buffers of one port.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    current: Vec<u8>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// An empty buffer to write an answer into, for [`Buffers::finish`].
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.current.clear();
        &mut self.current
    }

    /// What was written, as an answer.
    pub(crate) fn finish(&mut self) -> Bytes {
        if self.current.len() <= SMALL {
            return Bytes::copy_from_slice(&self.current);
        }
        let next = lock(&self.spare).pop().unwrap_or_default();
        let bytes = std::mem::replace(&mut self.current, next);
        Bytes::from_owner(Lent { bytes, home: Arc::clone(&self.spare) })
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = lock(&self.home);
        if spare.len() < KEPT_MAX && self.bytes.capacity() <= SIZE_KEPT_MAX {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A panic elsewhere leaves a list of buffers as whole as it was.
fn lock(spare: &Mutex<Vec<Vec<u8>>>) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_comes_back_when_its_answer_has_left() {
        let mut buffers = Buffers::default();
        buffers.begin().resize(SMALL + 1, 7);
        let first = buffers.finish();
        let place = first.as_ptr();
        assert_eq!(first.len(), SMALL + 1);
        drop(first);
        assert!(buffers.begin().is_empty());
        drop(buffers.finish());
        buffers.begin().resize(SMALL + 1, 8);
        drop(buffers.finish());
        buffers.begin().resize(SMALL + 1, 9);
        assert_eq!(buffers.finish().as_ptr(), place, "two buffers take turns");
    }
}
