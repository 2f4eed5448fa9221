//! Applying: what each committed entry does, decided in one place.
//!
//! An entry is understood ([`Command`]), held against a list of checks, and carried out. What comes back is
//! the answer for whoever waits for it, and its encoded response if somebody on this member does.
//!
//! # Invariants
//!
//! - Entries are applied in order, none skipped; one applied before a restart is passed over.
//! - A refusal leaves no trace but the advanced index.   (asserted)
//! - Over quota is no refusal: sizes differ between members, what is applied must not. The entry is
//!   carried out, and the answer says so; the alarm then raised stops those that follow, everywhere.
//!
//! # Not here
//!
//! Whether to answer at all, and to whom.

mod cluster;
mod command;
mod kv;
mod lease;
pub(crate) mod txn;

use bytes::Bytes;
use proto::error::{Code, Error, Status};
use proto::etcdserverpb::AlarmType;
use proto::raft_request::{self, Body};

use self::command::Command;
use crate::fault::{Fatal, Stop};
use crate::membership::MemberChange;
use crate::{State, quota};

/// What has become of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// By which the proposal is known to whoever waits for it.
    pub request_id: u64,
    pub kind: Body,
    pub result: Result<(), Status>,
    /// The request didn't fit this member's quota: an alarm is due, if none is raised.
    pub over_quota: bool,
}

/// Where a response goes, if anybody wants it.
pub(crate) type Reply<'a> = Option<&'a mut Vec<u8>>;

type Check = fn(&State, &Command) -> Result<(), Error>;

/// What may refuse a command, in etcd's order.
const CHECKS: [Check; 3] = [corrupt, no_space, permitted];

/// A member with a corrupt store: nobody builds on it any more.
fn corrupt(state: &State, command: &Command) -> Result<(), Error> {
    let touches_data = match command {
        Command::Range(_)
        | Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compaction(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_) => true,
        Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::ClusterVersionSet(_)
        | Command::ClusterMemberAttrSet(_)
        | Command::DowngradeInfoSet(_)
        | Command::DowngradeVersionTest
        | Command::Auth(_) => false,
    };
    let refused = touches_data && state.alarms.is_raised(AlarmType::Corrupt);
    if refused { Err(Error::Corrupt) } else { Ok(()) }
}

/// A member without space: nothing may grow, anywhere.
fn no_space(state: &State, command: &Command) -> Result<(), Error> {
    let refused = cost(command) > 0 && state.alarms.is_raised(AlarmType::Nospace);
    if refused { Err(Error::NoSpace) } else { Ok(()) }
}

/// Everybody may do everything: there is no authentication yet. Its place is here.
fn permitted(_: &State, _: &Command) -> Result<(), Error> {
    Ok(())
}

fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(put) => quota::put_cost(put),
        Command::Txn(txn) => quota::txn_cost(txn),
        Command::LeaseGrant(_) => quota::LEASE_COST,
        Command::Range(_)
        | Command::DeleteRange(_)
        | Command::Compaction(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::ClusterVersionSet(_)
        | Command::ClusterMemberAttrSet(_)
        | Command::DowngradeInfoSet(_)
        | Command::DowngradeVersionTest
        | Command::Auth(_) => 0,
    }
}

/// What is said to all that has to do with authentication, until there is any.
fn auth_not_yet(kind: Body) -> Stop {
    if kind == Body::Authenticate {
        return Error::AuthNotEnabled.into();
    }
    Status::new(Code::Unimplemented, "authentication is not available yet").into()
}

impl State {
    /// Applies the entry at `index`. The encoded response is appended to `out` if it is `wanted` and the
    /// entry was not refused.
    ///
    /// `None` if nobody can be waiting: a leader's first entry is empty, and one that was applied before
    /// is passed over, so replaying a log's tail is harmless.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        data: &Bytes,
        wanted: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Outcome>, Fatal> {
        if index <= self.applied {
            return Ok(None);
        }
        self.advance(index, term);
        if data.is_empty() {
            return Ok(None);
        }
        let undecodable = |why: String| Fatal::Entry { index, why };
        let request = raft_request::split(data).map_err(|e| undecodable(e.to_string()))?;
        let command = Command::decode(request.kind, request.body);
        let command = command.map_err(|e| undecodable(e.to_string()))?;

        let (start, head) = (out.len(), self.head());
        let fits = self.fits(&command);
        let done = match CHECKS.iter().try_for_each(|check| check(self, &command)) {
            Ok(()) => self.carry_out(command, wanted.then_some(&mut *out)),
            Err(error) => Err(error.into()),
        };
        let mut over_quota = false;
        let result = match done {
            Ok(()) if fits => Ok(()),
            Ok(()) => {
                over_quota = true;
                Err(Error::NoSpace.into())
            }
            Err(Stop::Refused(status)) => {
                assert!(self.head() == head && !self.mvcc.is_changing(), "refused, yet changed");
                Err(status)
            }
            Err(Stop::Fatal(fatal)) => return Err(fatal),
        };
        if result.is_err() {
            out.truncate(start);
        }
        Ok(Some(Outcome { request_id: request.id, kind: request.kind, result, over_quota }))
    }

    /// Applies a configuration entry; `None` if it was refused when it was proposed, and is void.
    pub fn conf_change(&mut self, index: u64, term: u64, change: Option<MemberChange>) {
        if index <= self.applied {
            return;
        }
        self.advance(index, term);
        if let Some(change) = change {
            self.change_member(change);
        }
    }

    fn advance(&mut self, index: u64, term: u64) {
        assert_eq!(index, self.applied + 1, "entries are applied in order, none skipped");
        assert!(term >= self.term, "terms never go back");
        self.hub.admit(self.mvcc.head());
        self.applied = index;
        self.term = term;
    }

    fn fits(&self, command: &Command) -> bool {
        let cost = cost(command);
        cost == 0 || self.quota.admits(cost, self.size().on_disk)
    }

    fn carry_out(&mut self, command: Command, reply: Reply<'_>) -> Result<(), Stop> {
        match command {
            Command::Range(request) => {
                self.mvcc.range(&request, self.header(), reply.unwrap_or(&mut Vec::new()))?;
            }
            Command::Put(request) => self.put(&request, reply)?,
            Command::DeleteRange(request) => self.delete_range(&request, reply)?,
            Command::Txn(request) => self.txn(&request, reply)?,
            Command::Compaction(request) => self.compact(&request, reply)?,
            Command::LeaseGrant(request) => self.lease_grant(&request, reply)?,
            Command::LeaseRevoke(request) => self.lease_revoke(&request, reply)?,
            Command::LeaseCheckpoint(request) => self.lease_checkpoint(&request, reply),
            Command::Alarm(request) => self.alarm(&request, reply),
            Command::ClusterVersionSet(request) => self.set_cluster_version(request),
            Command::ClusterMemberAttrSet(request) => self.set_member_attributes(request),
            Command::DowngradeInfoSet(request) => self.set_downgrade(request, reply),
            // etcd's own tests write these; they mean nothing.
            Command::DowngradeVersionTest => {}
            Command::Auth(kind) => return Err(auth_not_yet(kind)),
        }
        Ok(())
    }

    /// Makes the revision in the making visible, and tells the watchers.
    fn finish(&mut self) -> Result<(), Fatal> {
        let changes = self.mvcc.finish();
        self.hub.publish(&self.mvcc, &changes)?;
        self.mvcc.published(changes);
        Ok(())
    }
}
