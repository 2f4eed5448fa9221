//! How hurried the work in the background is.
//!
//! Making, sealing, collecting and removing segments write and free a lot, and a disk does what it is given in
//! turn: a sync of the write-ahead log waits for whatever was handed over before it. So this work hands
//! over little at a time, waits until the disk has it, and then lets whoever owns the thread decide how
//! long to leave the disk, and the processor, to others. Only what has to be durable is synced, once, at
//! its end: by then little of it is left to write.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::{Disk, File};

/// Bytes handed to the disk at a time: a sync elsewhere waits for no more than these. Four times as many keep a
/// fast disk busy for twice as long as such a sync takes by itself, and who writes notices.
pub const PORTION: u64 = 64 << 10;

/// Records looked at before there may be a rest.
pub(crate) const RECORDS_PER_STEP: usize = 256;

/// Numbers sorted without a rest.
const SORTED_AT_ONCE: usize = 4096;

/// Of a file that is removed, so much is freed at a time: a disk that has to be told of it, and the file
/// system's journal, are busy for as long as a portion keeps them.
const FREED_AT_A_TIME: u64 = 256 << 10;

/// How much this thread's share of a processor shrinks: to a quarter of what it shares with one other.
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 5;

/// Has threads that somebody waits for run before this one, from now on. Where many share a processor, each
/// of those that take a request on would else wait for a bit of background work.
pub fn step_back() {
    // A system that does not let us be polite is none the worse for it. Linux knows this of each thread.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(STEP_BACK);
}

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

/// What took less is not worth falling asleep for.
const WORK_MIN: Duration = Duration::from_micros(50);
/// However long the disk took, the work goes on.
const REST_MAX: Duration = Duration::from_millis(100);

/// Leaves most of the time to others.
///
/// ```text
/// work ≈0.2 ms │ rest, three times as long │ work │ rest …
/// ```
///
/// Each bit of work is measured, whatever it waited for: a disk or a processor that is slow, or busy with
/// other things, is left alone for longer.
pub struct Leisure<H> {
    /// Whether somebody waits for the work just now.
    is_hurried: H,
    rests: u32,
    /// When the last rest ended.
    since: Instant,
}

impl<H: Fn() -> bool> Leisure<H> {
    /// Rests `rests` times as long as it works, unless `is_hurried`; a thread that rests can be unparked.
    pub fn new(rests: u32, is_hurried: H) -> Self {
        Self { is_hurried, rests, since: Instant::now() }
    }

    /// Work begins: what came before it was none.
    pub fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// How many times as long as the work before it a rest is.
    pub fn rests(&self) -> u32 {
        self.rests
    }

    /// From now on a rest is so many times as long as the work before it.
    pub fn set_rests(&mut self, rests: u32) {
        self.rests = rests;
    }
}

impl<H: Fn() -> bool> Pace for Leisure<H> {
    fn rest(&mut self) {
        let worked = self.since.elapsed();
        if worked < WORK_MIN {
            return;
        }
        if self.rests > 0 && !(self.is_hurried)() {
            thread::park_timeout((worked * self.rests).min(REST_MAX));
        }
        self.begin();
    }
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

/// Sorts many numbers, in turns no longer than a pass over them.
pub(crate) fn sort(numbers: &mut Vec<u32>, pace: &mut dyn Pace) {
    const DIGIT: u32 = 8;
    if numbers.len() <= SORTED_AT_ONCE {
        return numbers.sort_unstable();
    }
    let mut sorted = vec![0; numbers.len()];
    for shift in (0..u32::BITS).step_by(DIGIT as usize) {
        let digit = |number: u32| (number >> shift) as usize & ((1 << DIGIT) - 1);
        let mut places = [0_usize; 1 << DIGIT];
        numbers.iter().for_each(|&number| places[digit(number)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for &number in &*numbers {
            let place = &mut places[digit(number)];
            sorted[*place] = number;
            *place += 1;
        }
        std::mem::swap(numbers, &mut sorted);
        pace.rest();
    }
}

/// Removes a file that nobody reads.
pub fn remove(disk: &dyn Disk, path: &Path, pace: &mut dyn Pace) -> io::Result<()> {
    let file = disk.open(path)?;
    disk.remove(path)?;
    free(&*file, pace)
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

#[cfg(test)]
mod tests {
    use stdx::generate::each_seed_of;

    use super::*;

    #[test]
    fn what_is_sorted_in_turns_is_sorted_as_at_once() {
        each_seed_of(20, |g| {
            let mut numbers = g.vec(0..3 * SORTED_AT_ONCE, |g| g.number() as u32);
            let mut at_once = numbers.clone();
            at_once.sort_unstable();
            sort(&mut numbers, &mut Hurry);
            assert_eq!(numbers, at_once);
        });
    }
}
