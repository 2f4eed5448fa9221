//! The chores thread as far as it is about leases, and the words members have about them.

use bytes::BytesMut;
use member::leasing::{self, Reign};
use member::{Event, Proposal, ReadTicket};
use proto::etcdserverpb::{LeaseTimeToLiveRequest, RequestHeader};
use proto::prost::Message;
use proto::raft_request::{self, Body};
use state::lease::LeaseId;

use super::applying::LEASE_EXTEND_MS;
use super::{Duty, Process, Step, Surroundings, TICK};
use crate::oracle::{Said, Word};

/// Between two tries of something that needs the leader, in microseconds.
const RETRY: u64 = 50_000;
/// How long another member's answer is waited for.
const QUESTION_MAX: u64 = 3_000_000;

/// What a client wants of whoever leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeaseQuestion {
    Renew { id: i64 },
    TimeToLive { id: i64 },
}

/// A question, until when its client waits, and how often it was tried.
pub(super) struct Errand {
    question: LeaseQuestion,
    until: u64,
    tries: u64,
}

impl Process {
    fn reign(&self, around: &Surroundings<'_>) -> Reign {
        Reign {
            leads: self.shown.is_leader,
            commit: self.shown.commit,
            now_ms: around.now_ms(),
            ticked_ms: self.ticked_ms,
            tick_ms: TICK / 1_000,
        }
    }

    pub(super) fn chores(&mut self, around: &mut Surroundings<'_>) {
        if let Some(due) = leasing::due(&self.state, self.reign(around)) {
            let term = due.term;
            for revocation in due.revocations {
                around.detail(|| format!("member {} finds {revocation:?} due", self.id));
                self.rule(term, Body::LeaseRevoke, &revocation, around);
            }
            if let Some(checkpoints) = due.checkpoints {
                around.detail(|| format!("member {} notes {checkpoints:?}", self.id));
                self.rule(term, Body::LeaseCheckpoint, &checkpoints, around);
            }
        }
        let turn = leasing::TURN_MS * 1_000;
        around.after(turn, turn + 10_000, Step::Chores);
    }

    fn rule(
        &mut self,
        term: u64,
        kind: Body,
        request: &impl Message,
        around: &mut Surroundings<'_>,
    ) {
        let id = around.oracle.own_request();
        let header = RequestHeader { id, ..RequestHeader::default() };
        let mut data = BytesMut::new();
        raft_request::frame_message(kind, &header, request, &mut data);
        let data = data.freeze();
        around.oracle.asks(id, data.clone());
        self.tell(Event::Rule { term, proposals: vec![Proposal { id, data }] }, around);
    }

    /// A client's question; it waits no longer than `until`.
    pub(crate) fn ask_about(
        &mut self,
        op: u64,
        question: LeaseQuestion,
        until: u64,
        around: &mut Surroundings<'_>,
    ) {
        self.errands.insert(op, Errand { question, until, tries: 0 });
        // As any linearizable read, once this member knows that it knows enough.
        if matches!(question, LeaseQuestion::TimeToLive { .. }) && !self.shown.lone {
            self.tell(Event::Read(ReadTicket { port: 0, round: op }), around);
        } else {
            self.run_errand(op, 0, around);
        }
    }

    /// Tries, if this is the `tries`th time.
    pub(super) fn run_errand(&mut self, op: u64, tries: u64, around: &mut Surroundings<'_>) {
        let Some(errand) = self.errands.get_mut(&op) else { return };
        if errand.tries != tries {
            return;
        }
        errand.tries += 1;
        let (question, again) = (errand.question, Step::Errand { op, tries: tries + 1 });
        if errand.until < around.now {
            self.errands.remove(&op);
            return;
        }
        if let Some(word) = self.say(question, around) {
            self.errands.remove(&op);
            around.duties.push(Duty::Tell { op, word });
            return;
        }
        let leader = self.shown.leader;
        if leader == 0 || leader == self.id {
            around.after(RETRY, RETRY + 1_000, again);
        } else {
            around.duties.push(Duty::Ask { to: leader, op, question });
            around.after(QUESTION_MAX, QUESTION_MAX + 1_000, again);
        }
    }

    /// What this member can say by itself.
    pub(crate) fn say(
        &mut self,
        question: LeaseQuestion,
        around: &mut Surroundings<'_>,
    ) -> Option<Word> {
        let reign = self.reign(around);
        let (id, said) = match question {
            LeaseQuestion::Renew { id } => match leasing::renew(&self.state, reign, LeaseId(id)) {
                leasing::Said::Ttl(ttl) => (id, Said::Renewed(ttl)),
                leasing::Said::Elsewhere => return None,
                leasing::Said::First { term, forget } => {
                    self.rule(term, Body::LeaseCheckpoint, &forget, around);
                    return None;
                }
            },
            LeaseQuestion::TimeToLive { id } => {
                let request = LeaseTimeToLiveRequest { id, keys: true };
                let left = leasing::time_to_live(&self.state, reign, request).ok()?;
                if left.granted_ttl != 0 {
                    around.oracle.model.explain_keys(id, self.state.head(), &left.keys);
                }
                (id, Said::Left(left))
            }
        };
        let word = Word { id, time: around.now, applied: self.state.applied().0, said };
        around.detail(|| format!("member {} says {word:?}", self.id));
        around.oracle.leases.says(&word, LEASE_EXTEND_MS);
        Some(word)
    }

    /// Another member has answered.
    pub(crate) fn hear(&mut self, op: u64, word: Option<Word>, around: &mut Surroundings<'_>) {
        let Some(errand) = self.errands.get(&op) else { return };
        if let Some(word) = word {
            self.errands.remove(&op);
            around.duties.push(Duty::Tell { op, word });
        } else {
            around.after(RETRY, RETRY + 1_000, Step::Errand { op, tries: errand.tries });
        }
    }
}
