//! Chores: what must be done now and then, or takes too long for anybody else's turn.
//!
//! | thread | does |
//! |---|---|
//! | `chores` | leases that end, alarms, who we are, compactions that are due |
//! | `keeper` | checkpoints, pruning after a compaction, collecting dead records |
//! | `worker` | hashes that somebody asked for |
//!
//! Each takes the state's lock for moments only. What changes the state goes through the log, like
//! any client's request.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use member::inbox::Waited;
use member::leasing;
use member::{Event, Proposal, ReadTicket};
use proto::error::Status;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, RequestHeader};
use proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use proto::prost::Message;
use proto::raft_request::{self, Body};

use super::compactor::Compactor;
use crate::api::ReplyTo;
use crate::api::port::PortWork;
use crate::config::AutoCompaction;
use crate::engine::Engine;
use crate::version;

/// How often leases are looked at.
const TURN: Duration = Duration::from_millis(leasing::TURN_MS);
/// After which a proposal of our own that came to nothing is made again.
const RETRY: Duration = Duration::from_secs(5);

/// Work for the chores thread.
#[derive(Debug)]
pub enum Chore {
    /// A request did not fit the store: raise the alarm.
    OverQuota,
    /// Leadership or membership has changed: see whether the cluster knows us.
    Introduce,
    /// The answer to [`CAUGHT_UP`]: up to where all that was acknowledged before the question goes.
    Applied { upto: Option<u64> },
}

/// The read by which a member that has just started learns how far it is behind; never a port's.
pub(crate) const CAUGHT_UP: ReadTicket = ReadTicket { port: u16::MAX, round: 1 };

/// How a thread that is no port's answers a call.
#[derive(Clone, Copy, Debug)]
pub struct Answering {
    pub port: u16,
    pub to: ReplyTo,
}

impl Answering {
    pub(crate) fn answer(self, engine: &Engine, result: Result<Bytes, Status>) {
        let work = PortWork::Answered { to: self.to, result };
        engine.ports[usize::from(self.port)].push_admitted([work]);
    }
}

pub(crate) fn run(engine: &Arc<Engine>, about: &Attributes, auto: AutoCompaction) {
    let mut chores =
        Chores { engine, about, published: None, versioned: None, asked: None, behind: None };
    let mut compactor = Compactor::new(auto);
    let mut work = VecDeque::new();
    let mut next_turn = Instant::now();
    loop {
        let until_turn = next_turn.saturating_duration_since(Instant::now());
        if engine.chores.wait(until_turn) == Waited::Closed {
            return;
        }
        engine.chores.take(&mut work);
        let over_quota = work.iter().any(|chore| matches!(chore, Chore::OverQuota));
        if over_quota && !engine.state().alarms().is_raised(AlarmType::Nospace) {
            raise_no_space(engine);
        }
        if !work.is_empty() {
            let upto = work.drain(..).find_map(|chore| match chore {
                Chore::Applied { upto } => upto,
                Chore::OverQuota | Chore::Introduce => None,
            });
            chores.behind = upto.or(chores.behind);
            chores.introduce();
        }
        if Instant::now() >= next_turn {
            next_turn = Instant::now() + TURN;
            chores.introduce();
            chores.look_at_leases();
            if let Some(compaction) = compactor.due(engine) {
                propose(engine, Body::Compaction, &compaction);
            }
        }
    }
}

struct Chores<'a> {
    engine: &'a Arc<Engine>,
    about: &'a Attributes,
    published: Option<Instant>,
    versioned: Option<Instant>,
    asked: Option<Instant>,
    /// Up to where all goes that was acknowledged before this member asked.
    behind: Option<u64>,
}

/// Whether something tried at `last` should be tried (again) now.
fn is_due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= RETRY);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl Chores<'_> {
    /// Tells the cluster this member's name and addresses, and decides the version of a cluster of
    /// one. Of several, see `drive::version`.
    fn introduce(&mut self) {
        let shown = &self.engine.shown;
        if shown.leader() == 0 {
            return;
        }
        let id = self.engine.identity.member_id;
        let state = self.engine.state();
        let known = state.membership().member(id).is_some_and(|member| {
            member.name == self.about.name && member.client_urls == self.about.client_urls
        });
        let versioned = state.membership().version().is_some();
        let alone = state.membership().members().count() == 1;
        drop(state);
        if known && versioned {
            self.become_ready();
        }
        if !known && is_due(&mut self.published) {
            let attributes = Some(self.about.clone());
            let request =
                ClusterMemberAttrSetRequest { member_id: id, member_attributes: attributes };
            propose(self.engine, Body::ClusterMemberAttrSet, &request);
        }
        if !versioned && alone && shown.is_leader() && is_due(&mut self.versioned) {
            let request = ClusterVersionSetRequest { ver: version::CLUSTER.into() };
            propose(self.engine, Body::ClusterVersionSet, &request);
        }
    }

    /// Clients are served once all that was acknowledged before the start is applied.
    fn become_ready(&mut self) {
        let engine = self.engine;
        let caught_up = self.behind.is_some_and(|upto| engine.shown.applied() >= upto);
        if engine.is_ready() {
            return;
        }
        if engine.shown.lone() || caught_up {
            engine.show_ready();
        } else if self.behind.is_none() && is_due(&mut self.asked) {
            engine.tell_member(Event::Read(CAUGHT_UP));
        }
    }

    /// Ends the leases whose time is over, and has the log remember what is left of long ones.
    fn look_at_leases(&self) {
        let engine = self.engine;
        let reign = engine.reign(engine.now_ms());
        let Some(due) = leasing::due(&engine.state(), reign) else { return };
        engine.metrics.lease_expired.add(due.revocations.len() as u64);
        let revocations = due.revocations.iter();
        let checkpoints = due.checkpoints.iter();
        let proposals: Vec<Proposal> = revocations
            .map(|revocation| own_proposal(engine, Body::LeaseRevoke, revocation))
            .chain(checkpoints.map(|noted| own_proposal(engine, Body::LeaseCheckpoint, noted)))
            .collect();
        if !proposals.is_empty() {
            engine.tell_member(Event::Rule { term: due.term, proposals });
        }
    }
}

/// Proposes the alarm. Raising it twice does no harm.
pub(crate) fn raise_no_space(engine: &Engine) {
    let request = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: engine.identity.member_id,
        alarm: AlarmType::Nospace as i32,
    };
    propose(engine, Body::Alarm, &request);
}

/// Proposes something of this member's own. Nobody waits for the answer; whoever needs the effect
/// looks for it in the state, and proposes again if it is not there.
pub(super) fn propose(engine: &Engine, kind: Body, request: &impl Message) {
    engine.tell_member(Event::Propose(vec![own_proposal(engine, kind, request)]));
}

pub(super) fn own_proposal(engine: &Engine, kind: Body, request: &impl Message) -> Proposal {
    let id = engine.own_proposal_id(kind.into());
    let header = RequestHeader { id, ..RequestHeader::default() };
    let mut data = BytesMut::new();
    raft_request::frame_message(kind, &header, request, &mut data);
    Proposal { id, data: data.freeze() }
}
