//! The keeper: checkpoints, and room on the disk.
//!
//! A checkpoint is a chain of steps, between any two of which the process may end:
//!
//! ```text
//! capture ─► mark in the log, synced ─► commit ─► raft forgets ─► segments removed
//! ```

use member::Event;
use member::roster;
use raft::Index;
use state::state::RELOCATIONS_PER_TURN;
use storage::revlog::{Checkpoint, DEAD_PERCENT_USUAL, Hurry};

use super::logging::LogWork;
use super::{Alive, Process, Step, Surroundings};

/// Entries kept in memory behind a checkpoint, for slow followers.
const CATCHUP_ENTRIES: u64 = 8;

/// What the keeper is about.
#[derive(Default)]
pub(super) enum Keeping {
    #[default]
    Idle,
    /// Woken, or between two bits of work.
    Due,
    /// Waits for the log to know of what was captured.
    Marking { checkpoint: Box<Checkpoint>, index: u64, mark: u64 },
}

impl Keeping {
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self, Self::Idle)
    }
}

impl Process {
    /// A checkpoint is to be taken, now if nothing else is under way.
    pub(crate) fn want_checkpoint(&mut self, around: &mut Surroundings<'_>) {
        self.checkpoint_due = true;
        self.wake_keeper(around);
    }

    pub(super) fn wake_keeper(&mut self, around: &mut Surroundings<'_>) {
        match &self.keeping {
            Keeping::Idle => self.keeping = Keeping::Due,
            Keeping::Due => return,
            Keeping::Marking { mark, .. } if *mark > self.marks_durable => return,
            Keeping::Marking { .. } => {}
        }
        around.after(200, 20_000 * around.slowness, Step::Keep);
    }

    pub(super) fn keep(&mut self, around: &mut Surroundings<'_>) -> Alive {
        match std::mem::take(&mut self.keeping) {
            Keeping::Marking { checkpoint, index, mark } => {
                if mark > self.marks_durable {
                    self.keeping = Keeping::Marking { checkpoint, index, mark };
                    return Ok(());
                }
                self.commit(*checkpoint, index, around)?;
            }
            Keeping::Idle | Keeping::Due => {
                if self.checkpoint_due {
                    self.checkpoint_due = false;
                    self.capture(around)?;
                } else if !self.state.is_pruned() {
                    self.prune()?;
                    // Records may be discarded only below a compaction that a checkpoint remembers.
                    self.checkpoint_due |= self.state.is_pruned();
                } else {
                    self.collect_one()?;
                }
            }
        }
        if self.keeping.is_busy() {
            return Ok(());
        }
        if self.checkpoint_due || !self.state.is_pruned() {
            self.wake_keeper(around);
        } else {
            self.wake_apply(around);
        }
        Ok(())
    }

    fn capture(&mut self, around: &mut Surroundings<'_>) -> Alive {
        let (index, term) = self.state.applied();
        let checkpoint = self.state.checkpoint();
        let members = roster::conf_state(&self.state);
        if index <= self.saved {
            return Ok(checkpoint.commit(&mut Hurry).map(drop)?);
        }
        let mark = self.push_mark(index, term, &members, around)?;
        let checkpoint = Box::new(checkpoint);
        self.keeping = Keeping::Marking { checkpoint, index, mark };
        Ok(())
    }

    fn commit(
        &mut self,
        checkpoint: Checkpoint,
        index: u64,
        around: &mut Surroundings<'_>,
    ) -> Alive {
        checkpoint.commit(&mut Hurry)?;
        self.saved = index;
        let keep_from = index.saturating_sub(CATCHUP_ENTRIES);
        self.tell(Event::Compact(Index(keep_from)), around);
        self.push_log(LogWork::Release { index }, around)?;
        // Now what is dead may go.
        self.collect_one()
    }

    fn prune(&mut self) -> Alive {
        if let Some(job) = self.state.prune_turn() {
            let hash = job.run(&mut Hurry)?;
            self.state.remember_hash(hash);
            self.state.roll()?;
        }
        Ok(())
    }

    fn collect_one(&mut self) -> Alive {
        let Some(victim) = self.state.victim(DEAD_PERCENT_USUAL) else { return Ok(()) };
        let mut collected = victim.run(&mut Hurry)?;
        self.state.adopt(&collected);
        loop {
            let moved = collected.next(RELOCATIONS_PER_TURN)?;
            if moved.is_empty() {
                break;
            }
            self.state.relocate(&moved);
        }
        self.state.release(collected);
        self.checkpoint_due = true;
        Ok(())
    }
}
