//! How hurried the work in the background is.
//!
//! Making, sealing, collecting and removing segments write and free a lot, and a disk does what it is given in
//! turn: a sync of the write-ahead log waits for whatever was handed over before it. So this work hands
//! over little at a time, waits until the disk has it, and then lets whoever owns the thread decide how
//! long to leave the disk, and the processor, to others. Only what has to be durable is synced, once, at
//! its end: by then little of it is left to write.

use std::io;

use crate::disk::File;

/// Bytes handed to the disk at a time: a sync elsewhere waits for no more than these.
pub(crate) const PORTION: u64 = 256 << 10;

/// Records looked at before there may be a rest.
pub(crate) const RECORDS_PER_STEP: usize = 256;

/// Of a file that is removed, so much is freed at a time: the room of a large one can keep a disk busy
/// that has to be told of it.
const FREED_AT_A_TIME: u64 = 1 << 20;

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

/// Watches what is written to a file from one end to the other, and hands it over by portions.
pub(crate) struct Portions<'a> {
    pace: &'a mut dyn Pace,
    /// Where what was not handed over begins.
    from: Option<u64>,
    n_records: usize,
}

impl<'a> Portions<'a> {
    pub(crate) fn new(pace: &'a mut dyn Pace) -> Self {
        Self { pace, from: None, n_records: 0 }
    }

    /// `file` was written from `at` to `end`, where the next write will go on.
    pub(crate) fn wrote(&mut self, at: u64, end: u64, file: &dyn File) -> io::Result<()> {
        let from = *self.from.get_or_insert(at);
        if end - from >= PORTION {
            self.from = None;
            file.write_out(from, end - from)?;
            self.pace.rest();
        }
        Ok(())
    }

    /// A record was looked at.
    pub(crate) fn saw_record(&mut self) {
        self.n_records += 1;
        if self.n_records.is_multiple_of(RECORDS_PER_STEP) {
            self.pace.rest();
        }
    }
}

/// Frees the room of a file that has lost its name and its readers.
pub fn free(file: &dyn File, pace: &mut dyn Pace) -> io::Result<()> {
    let mut left = file.len()?;
    while left > 0 {
        left = left.saturating_sub(FREED_AT_A_TIME);
        file.set_len(left)?;
        file.sync()?;
        pace.rest();
    }
    Ok(())
}
