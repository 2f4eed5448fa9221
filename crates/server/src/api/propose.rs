//! Proposals: how a port puts requests on their way into the log.
//!
//! A request is framed once, as it came off the wire, under an id its answer will be known by. What one
//! turn proposes leaves in one push; what would be too much is refused before it costs anything.

use member::conf_change::MembershipChange;
use member::{Event, Proposal};
use proto::error::{Error, Status};
use proto::etcdserverpb::{AlarmType, RequestHeader};
use proto::raft_request::{self, Body};

use super::port::{Port, Turn};
use super::waiting::Waiter;
use super::{Outlet, ReplyTo};
use crate::drive::chores;

/// Committed entries that may wait for the apply thread before proposals are refused.
const APPLY_BACKLOG_MAX: u64 = 50_000;

impl Port {
    /// Puts a request on its way into the log, as it came.
    pub(crate) fn propose(
        &mut self,
        turn: &Turn<'_>,
        to: ReplyTo,
        kind: Body,
        body: &[u8],
    ) -> Result<(), Status> {
        let shown = &turn.engine.shown;
        if shown.commit().saturating_sub(shown.applied()) > APPLY_BACKLOG_MAX {
            return Err(Error::RequestTooManyRequests.into());
        }
        let deadline_ms = turn.now_ms + turn.engine.limits.request_timeout_ms;
        let waiter = Waiter { to, operation: Some(kind.into()), since: turn.began };
        let id = self.waiting.add(waiter, deadline_ms).ok_or(Error::RequestTooManyRequests)?;
        let header = RequestHeader { id, ..RequestHeader::default() };
        if raft_request::framed_len(kind, &header, body.len())
            > turn.engine.limits.request_bytes_max
        {
            self.waiting.take(id);
            return Err(Error::RequestTooLarge.into());
        }
        raft_request::frame(kind, &header, body, &mut self.frames);
        self.proposals.push(Proposal { id, data: self.frames.split().freeze() });
        Ok(())
    }

    /// Puts a change of membership on its way into the log.
    pub(crate) fn propose_change(
        &mut self,
        turn: &Turn<'_>,
        to: ReplyTo,
        change: MembershipChange,
    ) -> Result<(), Status> {
        let deadline_ms = turn.now_ms + turn.engine.limits.request_timeout_ms;
        let waiter = Waiter { to, operation: None, since: turn.began };
        let id = self.waiting.add(waiter, deadline_ms).ok_or(Error::RequestTooManyRequests)?;
        let event = Event::Change(MembershipChange { id, ..change });
        turn.engine.member.push(event).map_err(|_| {
            self.waiting.take(id);
            Error::RequestTooManyRequests.into()
        })
    }

    /// Sends what this turn proposes and asks for on its way.
    pub(super) fn depart(&mut self, outlet: &mut dyn Outlet) {
        let more = self.waiting.n_more();
        if more != 0 {
            self.engine.metrics.proposals_pending.add(more);
        }
        if let Some(ticket) = self.reads.next_round(self.index) {
            self.engine.tell_member(Event::Read(ticket));
        }
        if self.proposals.is_empty() {
            return;
        }
        let batch = Event::Propose(std::mem::take(&mut self.proposals));
        if let Err(Event::Propose(batch)) = self.engine.member.push(batch) {
            let error = if self.engine.is_stopping() {
                Error::Stopped
            } else {
                Error::RequestTooManyRequests
            };
            let mut routed = self.tasks.routed(outlet);
            for waiter in batch.iter().filter_map(|proposal| self.waiting.take(proposal.id)) {
                routed.finish(waiter.to, Err(error.into()));
            }
        }
    }

    /// Refuses what would not fit the store, and has the alarm raised: etcd asks this first of all.
    pub(crate) fn within_quota(&self, turn: &mut Turn<'_>, cost: u64) -> Result<(), Status> {
        let state = turn.state();
        if cost == 0 || state.quota().admits(cost, state.size().on_disk) {
            return Ok(());
        }
        // On its way before the refusal is: whoever is refused and looks for the alarm finds it.
        let raised = state.alarms().is_raised(AlarmType::Nospace);
        if !raised && !turn.no_space_told {
            turn.no_space_told = true;
            chores::raise_no_space(turn.engine);
        }
        Err(Error::NoSpace.into())
    }
}
