//! How hurried the work in the background is.
//!
//! Sealing, collecting and removing segments write and free a lot, and a disk does what it is given in
//! turn: a sync of the write-ahead log waits for whatever was handed over before it. So this work hands
//! over little at a time, waits until the disk has done it, and then lets whoever owns the thread decide
//! how long to leave the disk to others.

use super::error::Trouble;
use crate::disk::File;

/// Bytes handed to the disk before they are synced: a sync elsewhere waits for no more than these.
pub(super) const PORTION: u64 = 256 << 10;

/// Records looked at before there may be a rest.
pub(super) const RECORDS_PER_STEP: usize = 256;

/// Of a file that is removed, so much is freed at a time: the room of a large one can keep a disk busy
/// that has to be told of it.
const FREED_AT_A_TIME: u64 = 4 << 20;

/// Who says when background work rests.
pub trait Pace {
    /// A bit of work is done. May take as long as it likes.
    fn rest(&mut self);
}

/// Never rests: for when nobody else waits for the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hurry;

impl Pace for Hurry {
    fn rest(&mut self) {}
}

/// Counts what was written to a file, and syncs it by portions.
pub(super) struct Portions<'a> {
    pace: &'a mut dyn Pace,
    unsynced: u64,
    n_records: usize,
}

impl<'a> Portions<'a> {
    pub(super) fn new(pace: &'a mut dyn Pace) -> Self {
        Self { pace, unsynced: 0, n_records: 0 }
    }

    /// So many bytes were written to `file`.
    pub(super) fn wrote(&mut self, bytes: u64, file: &dyn File) -> Result<(), Trouble> {
        self.unsynced += bytes;
        if self.unsynced >= PORTION {
            self.unsynced = 0;
            file.sync()?;
            self.pace.rest();
        }
        Ok(())
    }

    /// A record was looked at.
    pub(super) fn saw_record(&mut self) {
        self.n_records += 1;
        if self.n_records.is_multiple_of(RECORDS_PER_STEP) {
            self.pace.rest();
        }
    }
}

/// Frees the room of a file that has lost its name and its readers.
pub(super) fn free(file: &dyn File, pace: &mut dyn Pace) -> Result<(), Trouble> {
    let mut left = file.len()?;
    while left > 0 {
        left = left.saturating_sub(FREED_AT_A_TIME);
        file.set_len(left)?;
        file.sync()?;
        pace.rest();
    }
    Ok(())
}
