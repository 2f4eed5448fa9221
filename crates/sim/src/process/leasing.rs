//! The chores thread as far as it is about leases, and the words members have about them.

use bytes::BytesMut;
use member::leasing::{self, Reign};
use member::{Event, Proposal, ReadTicket};
use proto::error::Error;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, RequestHeader};
use proto::prost::Message;
use proto::raft_request::{self, Body};
use state::lease::LeaseId;

use super::applying::LEASE_EXTEND_MS;
use super::{Duty, Process, Step, Surroundings, TICK, Told};
use crate::holding::LeaseParcel;
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

/// The port of rounds about leases; that of reads is 0.
pub(super) const PORT: u16 = 1;

/// A question that waits until a majority has spoken.
pub(super) struct Round {
    question: LeaseQuestion,
    asker: Asker,
    asked: u64,
}

/// Whom the answer is for.
enum Asker {
    Client { op: u64 },
    Member(Box<LeaseParcel>),
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
            self.begin_round(question, Asker::Client { op }, around);
        } else {
            self.run_errand(op, 0, around);
        }
    }

    /// Another member's client asks, because this one leads as far as that one knows.
    pub(crate) fn asked_by_member(
        &mut self,
        parcel: Box<LeaseParcel>,
        around: &mut Surroundings<'_>,
    ) {
        let question = parcel.question;
        if self.shown.lone || !self.shown.is_leader {
            let word = self.say(question, around.now, around);
            around.duties.push(Duty::Reply { parcel, word });
        } else {
            self.begin_round(question, Asker::Member(parcel), around);
        }
    }

    fn begin_round(
        &mut self,
        question: LeaseQuestion,
        asker: Asker,
        around: &mut Surroundings<'_>,
    ) {
        self.n_rounds += 1;
        self.rounds.insert(self.n_rounds, Round { question, asker, asked: around.now });
        let ticket = ReadTicket { port: PORT, round: self.n_rounds };
        self.tell(Event::Read(ticket), around);
    }

    /// All that was acknowledged before the round began is applied here.
    pub(super) fn confirmed(&mut self, round: u64, around: &mut Surroundings<'_>) {
        let Some(Round { question, asker, asked }) = self.rounds.remove(&round) else { return };
        match (asker, question) {
            (Asker::Member(parcel), _) => {
                let word = self.say(question, asked, around);
                around.duties.push(Duty::Reply { parcel, word });
            }
            (Asker::Client { op }, LeaseQuestion::TimeToLive { .. }) => {
                self.run_errand(op, 0, around);
            }
            (Asker::Client { op }, LeaseQuestion::Renew { .. }) => {
                let word = self.say(question, asked, around);
                self.hear(op, word, around);
            }
        }
    }

    /// There will be no answer to this round.
    pub(super) fn unconfirmed(&mut self, round: u64, error: Error, around: &mut Surroundings<'_>) {
        match self.rounds.remove(&round) {
            Some(Round { asker: Asker::Member(parcel), .. }) => {
                around.duties.push(Duty::Reply { parcel, word: None });
            }
            Some(Round { asker: Asker::Client { op }, .. }) => {
                self.errands.remove(&op);
                around.duties.push(Duty::Answer { op, told: Told::Never(error) });
            }
            None => {}
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
        let renews = matches!(question, LeaseQuestion::Renew { .. });
        if renews && self.shown.is_leader && !self.shown.lone {
            return self.begin_round(question, Asker::Client { op }, around);
        }
        if let Some(word) = self.say(question, around.now, around) {
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

    /// What this member can say by itself to what was `asked` then.
    fn say(
        &mut self,
        question: LeaseQuestion,
        asked: u64,
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
        let word = Word { id, asked, time: around.now, applied: self.state.applied().0, said };
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
