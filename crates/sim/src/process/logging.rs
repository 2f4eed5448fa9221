//! The log thread: everything that waits goes into one write and one sync.

use member::message::conf_state_of;
use member::{Event, durable};
use proto::prost::Message as _;
use raft::{ConfState, Entry, HardState, PersistId};
use storage::wal::SnapshotMark;

use super::{Alive, Process, Step, Surroundings};

/// What the log is given, in the order in which it must reach the disk.
#[derive(Debug)]
pub(super) enum LogWork {
    Append { entries: Vec<Entry>, hard_state: Option<HardState>, persist: Option<PersistId> },
    Mark { mark: SnapshotMark, conf_state: Vec<u8>, number: u64 },
    Release { index: u64 },
}

/// What is durable once the sync under way is over.
#[derive(Debug)]
pub(super) struct Flushing {
    persist: Option<PersistId>,
    mark: u64,
}

impl Process {
    pub(super) fn push_log(&mut self, work: LogWork, around: &mut Surroundings<'_>) -> Alive {
        self.log.push_back(work);
        if self.flushing.is_some() { Ok(()) } else { self.begin_flush(around) }
    }

    /// The answer is the number by which the mark is known to be durable.
    pub(super) fn push_mark(
        &mut self,
        index: u64,
        term: u64,
        conf_state: &ConfState,
        around: &mut Surroundings<'_>,
    ) -> Alive<u64> {
        self.marks_asked += 1;
        let number = self.marks_asked;
        let conf_state = conf_state_of(conf_state).encode_to_vec();
        let mark = SnapshotMark { index, term };
        self.push_log(LogWork::Mark { mark, conf_state, number }, around)?;
        Ok(number)
    }

    fn begin_flush(&mut self, around: &mut Surroundings<'_>) -> Alive {
        let mut flushing = Flushing { persist: None, mark: self.marks_durable };
        for work in std::mem::take(&mut self.log) {
            match work {
                LogWork::Append { entries, hard_state, persist } => {
                    durable::append(&mut self.wal, &entries, hard_state)?;
                    flushing.persist = persist.or(flushing.persist);
                }
                LogWork::Mark { mark, conf_state, number } => {
                    self.wal.mark_snapshot(mark, &conf_state)?;
                    flushing.mark = number;
                }
                LogWork::Release { index } => drop(self.wal.release(index)?),
            }
        }
        self.flushing = Some(flushing);
        let slowness = around.slowness;
        around.after(200 * slowness, 3_000 * slowness, Step::Flushed);
        Ok(())
    }

    pub(super) fn flushed(&mut self, around: &mut Surroundings<'_>) -> Alive {
        self.wal.flush()?;
        let Flushing { persist, mark } = self.flushing.take().expect("a flush under way");
        if let Some(persist) = persist {
            around.detail(|| format!("member {} has made {persist:?} durable", self.id));
            self.tell(Event::Persisted(persist), around);
        }
        if mark > self.marks_durable {
            self.marks_durable = mark;
            self.wake_apply(around);
            self.wake_keeper(around);
        }
        if self.log.is_empty() { Ok(()) } else { self.begin_flush(around) }
    }
}
