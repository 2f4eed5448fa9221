//! The apply thread: the one writer of the state.

use std::collections::VecDeque;

use bytes::Bytes;
use member::Event;
use member::conf_change::MembershipChange;
use member::roster;
use raft::{Entry, EntryKind};
use state::restore;
use state::watch::{Delivery, ShardId};
use storage::revlog::Hurry;

use super::boot::remove_snapshots;
use super::{Alive, Duty, MEMBER_DIR, Process, SHARDS, Step, Surroundings, Told, snapshot_path};
use crate::{trace, wording};

/// Entries applied in one step.
const BATCH_MAX: usize = 16;
/// Entries after which a checkpoint is due.
const SNAPSHOT_COUNT: u64 = 25;
/// By this much a new leader extends all leases, in milliseconds.
pub(super) const LEASE_EXTEND_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) enum ApplyWork {
    Committed(VecDeque<Entry>),
    Leadership {
        term: Option<u64>,
    },
    /// A snapshot replaces the state, once the log's mark of this number is durable.
    Install {
        index: u64,
        mark: u64,
    },
    /// What applying has made for watchers.
    Deliver(Vec<(ShardId, Delivery)>),
}

impl Process {
    pub(super) fn push_apply(&mut self, work: ApplyWork, around: &mut Surroundings<'_>) {
        self.apply.push_back(work);
        self.wake_apply(around);
    }

    pub(super) fn wake_apply(&mut self, around: &mut Surroundings<'_>) {
        if !self.applying && !self.apply.is_empty() {
            self.applying = true;
            around.after(20, 400, Step::Apply);
        }
    }

    pub(super) fn apply_some(&mut self, around: &mut Surroundings<'_>) -> Alive {
        self.applying = false;
        match self.apply.pop_front() {
            Some(ApplyWork::Committed(mut entries)) => {
                let n = entries.len().min(BATCH_MAX);
                let batch: Vec<Entry> = entries.drain(..n).collect();
                if !entries.is_empty() {
                    self.apply.push_front(ApplyWork::Committed(entries));
                }
                self.apply_batch(&batch, around)?;
            }
            Some(ApplyWork::Leadership { term }) => {
                self.leads_in = term;
                self.state.demote();
            }
            Some(ApplyWork::Install { index, mark }) => {
                if mark > self.marks_durable || self.keeping.is_busy() {
                    self.apply.push_front(ApplyWork::Install { index, mark });
                    return Ok(()); // Whoever is waited for wakes this.
                }
                self.install(index, around)?;
            }
            Some(ApplyWork::Deliver(deliveries)) => self.hand_over(deliveries, around),
            None => {}
        }
        self.wake_apply(around);
        Ok(())
    }

    fn apply_batch(&mut self, batch: &[Entry], around: &mut Surroundings<'_>) -> Alive {
        self.state.tell(around.now_ms());
        around.detail(|| format!("member {} applies {}", self.id, wording::entries(batch)));
        for entry in batch {
            around.oracle.agrees(entry);
            match entry.kind {
                EntryKind::Normal => self.apply_command(entry, around)?,
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                    self.apply_conf_change(entry, around);
                }
            }
        }
        self.take_deliveries();
        let last = batch.last().expect("a batch is not empty").index;
        self.serve_ripe(around)?;
        self.tell(Event::Applied(last), around);
        self.unsaved += batch.len() as u64;
        if self.unsaved >= SNAPSHOT_COUNT {
            self.unsaved = 0;
            self.want_checkpoint(around);
        }
        if !self.state.is_pruned() {
            self.wake_keeper(around);
        }
        Ok(())
    }

    fn apply_command(&mut self, entry: &Entry, around: &mut Surroundings<'_>) -> Alive {
        if entry.data.is_empty() && self.leads_in == Some(entry.term.0) {
            self.state.promote(entry.term.0, around.now_ms(), LEASE_EXTEND_MS);
        }
        self.scratch.clear();
        let (index, term) = (entry.index.0, entry.term.0);
        let outcome = self.state.apply(index, term, &entry.data, true, &mut self.scratch)?;
        let Some(outcome) = outcome else { return Ok(()) };
        around.oracle.compare(entry, &outcome, &self.scratch);
        if self.waiting.remove(&outcome.request_id) {
            let told = match outcome.result {
                Ok(()) => Told::Answer(Bytes::copy_from_slice(&self.scratch)),
                Err(status) => Told::Refused(status.message.into()),
            };
            around.duties.push(Duty::Answer { op: outcome.request_id, told });
        }
        Ok(())
    }

    fn apply_conf_change(&mut self, entry: &Entry, around: &mut Surroundings<'_>) {
        let change = MembershipChange::decode(entry.data.clone()).ok();
        let named = change.as_ref().filter(|change| change.node_id != 0);
        let meant = named.and_then(roster::meaning);
        let accepted = meant.filter(|meant| self.state.membership().check(meant).is_ok());
        let told = named.filter(|_| accepted.is_some()).and_then(MembershipChange::for_raft);
        let is_accepted = accepted.is_some();
        self.state.conf_change(entry.index.0, entry.term.0, accepted);
        let members = roster::conf_state(&self.state);
        around.oracle.changes(entry.index.0, is_accepted, members);
        self.tell(Event::ConfChangeApplied { index: entry.index, change: told }, around);
        let Some(change) = change else { return };
        if self.waiting.remove(&change.id) {
            let told = if is_accepted {
                Told::Answer(Bytes::new())
            } else {
                Told::Refused("membership".to_owned())
            };
            around.duties.push(Duty::Answer { op: change.id, told });
        }
    }

    /// Replaces the state by a snapshot that came from another member.
    fn install(&mut self, index: u64, around: &mut Surroundings<'_>) -> Alive {
        if self.state.applied().0 < index {
            let file = snapshot_path(index);
            let dir = MEMBER_DIR.as_ref();
            let restored = restore::build(&self.disk, &file, dir, self.config, &mut Hurry)?;
            let lost = self.state.replace_by(restored, (0..SHARDS as u16).map(ShardId));
            self.lose(lost, around);
            restore::remove_older(&*self.disk, dir)?;
            remove_snapshots(&*self.disk, index)?;
            around.oracle.installed(&self.state);
            trace::note(around.now, || {
                format!("member {} installs a snapshot of {index}", self.id)
            });
            self.serve_ripe(around)?;
        }
        self.tell(Event::Applied(raft::Index(index)), around);
        Ok(())
    }
}
