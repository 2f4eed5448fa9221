//! What happened last, for whoever has to find out why.
//!
//! Kept apart from the world, so that it is there whatever the world was doing when it ended. What the
//! nemesis did is kept for good; of the rest there are the last lines. Single messages, writes and
//! answers are noted only in detail: that costs time, so it is for a run that is known to fail.

use std::cell::RefCell;
use std::collections::VecDeque;

/// Lines that are kept.
const LINES_MAX: usize = 120;

/// How much is noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    #[default]
    Few,
    All,
}

#[derive(Default)]
struct Trace {
    detail: Detail,
    acts: Vec<(u64, String)>,
    lines: VecDeque<String>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

pub(crate) fn clear() {
    TRACE.with_borrow_mut(|trace| {
        trace.acts.clear();
        trace.lines.clear();
    });
}

/// From now on this much is noted by this thread.
pub fn keep(detail: Detail) {
    TRACE.with_borrow_mut(|trace| trace.detail = detail);
}

fn line(now: u64, text: &str) -> String {
    let (seconds, rest) = (now / 1_000_000, now % 1_000_000);
    format!("{seconds:>4}.{rest:06}  {text}")
}

impl Trace {
    fn push(&mut self, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Notes what happens at `now`, in microseconds.
pub(crate) fn note(now: u64, text: impl FnOnce() -> String) {
    TRACE.with_borrow_mut(|trace| trace.push(line(now, &text())));
}

/// Notes something that happens all the time, if it is worth a line.
pub(crate) fn detail<T: Into<Option<String>>>(now: u64, text: impl FnOnce() -> T) {
    TRACE.with_borrow_mut(|trace| {
        if trace.detail == Detail::All
            && let Some(text) = text().into()
        {
            trace.push(line(now, &text));
        }
    });
}

/// Notes an act of the nemesis.
pub(crate) fn act(now: u64, number: u64, text: &str) {
    TRACE.with_borrow_mut(|trace| {
        let line = line(now, &format!("#{number} {text}"));
        trace.acts.push((number, line.clone()));
        trace.push(line);
    });
}

/// The numbers of what the nemesis did.
pub fn acts() -> Vec<u64> {
    TRACE.with_borrow(|trace| trace.acts.iter().map(|(number, _)| *number).collect())
}

#[cfg(test)]
pub(crate) fn newest() -> String {
    TRACE.with_borrow(|trace| trace.lines.back().cloned().unwrap_or_default())
}

/// What was noted since the last time, without the times.
#[cfg(test)]
pub(crate) fn take() -> Vec<String> {
    /// Of what [`line`] begins with.
    const TIME_WIDTH: usize = 13;
    let text = |line: String| line[TIME_WIDTH..].to_owned();
    TRACE.with_borrow_mut(|trace| trace.lines.drain(..).map(text).collect())
}

/// What the nemesis did, and the last lines, oldest first.
pub fn last() -> Vec<String> {
    TRACE.with_borrow(|trace| {
        let mut out = vec!["what was done to it:".to_owned()];
        out.extend(trace.acts.iter().map(|(_, line)| line.clone()));
        out.push("what happened last:".to_owned());
        out.extend(trace.lines.iter().cloned());
        out
    })
}
