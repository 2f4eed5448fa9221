//! Clients that hold leases: they have them granted, put keys under them, renew them at whatever member
//! answers, and one day revoke them or leave them to their end.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestHeader};
use proto::prost::Message;
use proto::raft_request::{Body, frame_message};
use stdx::Generator;

use crate::clients::{PATIENCE, REQUESTS_MAX};
use crate::model::TTL_MIN;
use crate::oracle::{Said, Word};
use crate::process::{LeaseQuestion, Told};
use crate::streams::Stream;
use crate::world::{Happening, RECOVERY, SECOND, World};
use crate::{trace, wording};

/// Holders number their requests apart from other clients.
const HOLDERS_FROM: u64 = 100;
/// Leases of one holder: so names are used again.
const NAMES: u64 = 3;

/// A word between members about a lease, on its way.
#[derive(Debug)]
pub(crate) struct LeaseParcel {
    from: usize,
    from_life: u64,
    to: usize,
    op: u64,
    /// The answer, if this is one.
    answer: Option<Option<Word>>,
    pub(crate) question: LeaseQuestion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Grant { ttl: i64 },
    Renew,
    TimeToLive,
    Put,
    Revoke,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    holder: usize,
    wish: Wish,
    id: i64,
    since: u64,
}

#[derive(Clone, Debug, Default)]
struct Holder {
    lease: Option<(i64, i64)>,
    n_leases: u64,
    n_asked: u64,
}

pub(crate) struct Holders {
    each: Vec<Holder>,
    asked: BTreeMap<u64, Asked>,
}

impl Holders {
    pub(crate) fn new(most: Option<usize>, seed: u64) -> Self {
        let n = Stream::Holder(usize::MAX, 0).of(seed).int(0..=3);
        let n = n.min(most.unwrap_or(usize::MAX));
        Self { each: vec![Holder::default(); n], asked: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }
}

fn framed(op: u64, kind: Body, request: &impl Message) -> Bytes {
    let header = RequestHeader { id: op, ..RequestHeader::default() };
    let mut out = BytesMut::new();
    frame_message(kind, &header, request, &mut out);
    out.freeze()
}

impl Holder {
    /// What to do next, and to which lease.
    fn wish(&mut self, n: usize, random: &mut Generator) -> (Wish, i64) {
        let Some((id, _)) = self.lease else {
            self.n_leases += 1;
            let name = (n as u64 + 1) * 100 + self.n_leases % NAMES;
            let ttl = *random.pick(&[1, 2, 3, 4, 4, 30]);
            return (Wish::Grant { ttl }, name as i64);
        };
        let wish = match random.below(100) {
            0..50 => Wish::Renew,
            50..65 => Wish::TimeToLive,
            65..95 => Wish::Put,
            _ => Wish::Revoke,
        };
        (wish, id)
    }
}

impl World {
    /// A client with a lease, or without one yet, asks something.
    pub(crate) fn holder(&mut self, n: usize) {
        if self.clients.are_stopped() {
            return;
        }
        let holder = &mut self.holders.each[n];
        holder.n_asked += 1;
        let op = REQUESTS_MAX * (HOLDERS_FROM + n as u64) + holder.n_asked;
        let mut random = Stream::Holder(n, holder.n_asked).of(self.plan.seed);
        if random.chance(4) {
            holder.lease = None; // It is left to its end.
        }
        let (wish, id) = holder.wish(n, &mut random);
        self.holders.asked.insert(op, Asked { holder: n, wish, id, since: self.now });
        self.summary.asked += 1;
        let host = self.somebody(&mut random);
        self.after(PATIENCE, Happening::HolderGivesUp(op));
        let data = match wish {
            Wish::Grant { ttl } => framed(op, Body::LeaseGrant, &LeaseGrantRequest { id, ttl }),
            Wish::Revoke => framed(op, Body::LeaseRevoke, &LeaseRevokeRequest { id }),
            Wish::Put => {
                let key = format!("k{}", random.below(10)).into();
                let value = format!("{op}").into();
                let put = PutRequest { key, value, lease: id, ..PutRequest::default() };
                framed(op, Body::Put, &put)
            }
            Wish::Renew => return self.pose(op, host, LeaseQuestion::Renew { id }),
            Wish::TimeToLive => return self.pose(op, host, LeaseQuestion::TimeToLive { id }),
        };
        self.oracle.asks(op, data.clone());
        self.with(host, |process, around| {
            process.propose(op, data, around);
            Ok(())
        });
    }

    fn pose(&mut self, op: u64, host: usize, question: LeaseQuestion) {
        let life = self.hosts[host].life;
        self.after(1, Happening::Question { host, life, op, question });
    }

    pub(crate) fn put_question(&mut self, host: usize, op: u64, question: LeaseQuestion) {
        let until = self.now + PATIENCE;
        self.with(host, |process, around| {
            process.ask_about(op, question, until, around);
            Ok(())
        });
    }

    /// A member asks another.
    pub(crate) fn ask_member(&mut self, from: usize, to: u64, op: u64, question: LeaseQuestion) {
        let to = to as usize - 1;
        let from_life = self.hosts[from].life;
        let parcel = LeaseParcel { from, from_life, to, op, answer: None, question };
        self.post(from, to, parcel);
    }

    fn post(&mut self, from: usize, to: usize, parcel: LeaseParcel) {
        if let Some(delay) = self.delays(from, to, false).pop() {
            self.after(delay, Happening::Word(Box::new(parcel)));
        }
    }

    /// A word about a lease comes to a member.
    pub(crate) fn word_arrives(&mut self, parcel: LeaseParcel) {
        let LeaseParcel { from, from_life, to, op, ref answer, .. } = parcel;
        let at = if answer.is_some() { from } else { to };
        let wait = self.hosts[at].paused_until.saturating_sub(self.now);
        if wait > 0 {
            return self.after(wait, Happening::Word(Box::new(parcel)));
        }
        if let Some(word) = answer.clone() {
            if self.hosts[from].life == from_life {
                self.with(from, |process, around| {
                    process.hear(op, word, around);
                    Ok(())
                });
            }
        } else {
            self.with(to, |process, around| {
                process.asked_by_member(Box::new(parcel), around);
                Ok(())
            });
        }
    }

    /// A member has come to what it says to another, or that it says nothing.
    pub(crate) fn reply(&mut self, parcel: &LeaseParcel, word: Option<Word>) {
        let LeaseParcel { from, to, .. } = *parcel;
        self.post(to, from, LeaseParcel { answer: Some(word), ..*parcel });
    }

    pub(crate) fn holder_gives_up(&mut self, op: u64) {
        let Some(asked) = self.holders.asked.remove(&op) else { return };
        assert!(!self.is_owed(asked.since), "no progress: request {op} was not answered");
        self.summary.unanswered += 1;
        if matches!(asked.wish, Wish::Grant { .. } | Wish::Revoke) {
            self.holders.each[asked.holder].lease = None; // Who knows.
        }
        self.holder(asked.holder);
    }

    fn is_owed(&self, since: u64) -> bool {
        self.healed.is_some_and(|healed| since > healed + RECOVERY)
    }

    /// A holder's proposal has come to something.
    pub(crate) fn holder_answered(&mut self, op: u64, told: &Told) {
        let Some(asked) = self.holders.asked.remove(&op) else { return };
        let Asked { holder, wish, id, since } = asked;
        let held = &mut self.holders.each[holder];
        match (wish, told) {
            (Wish::Grant { ttl }, Told::Answer(_)) => held.lease = Some((id, ttl.max(TTL_MIN))),
            (Wish::Put, Told::Answer(_)) => {}
            // Of a lease that ended meanwhile nothing more can be had.
            (Wish::Grant { .. } | Wish::Put | Wish::Revoke, Told::Answer(_) | Told::Refused(_)) => {
                held.lease = None;
            }
            (_, Told::Never(error)) => {
                assert!(!self.is_owed(since), "no progress: request {op} was refused: {error:?}");
            }
            (Wish::Renew | Wish::TimeToLive, _) => unreachable!("these are no proposals"),
        }
        self.next_wish(op, holder, wish);
    }

    /// A holder's question is answered.
    pub(crate) fn holder_told(&mut self, op: u64, word: &Word) {
        trace::detail(self.now, || {
            format!("{} is answered: {:?}", wording::request(op), word.said)
        });
        let Some(Asked { holder, wish, .. }) = self.holders.asked.remove(&op) else { return };
        self.oracle.leases.heard(word);
        let is_over = match &word.said {
            Said::Renewed(ttl) => *ttl == 0,
            Said::Left(left) => left.granted_ttl == 0,
        };
        if is_over {
            self.holders.each[holder].lease = None;
        }
        self.next_wish(op, holder, wish);
    }

    fn next_wish(&mut self, op: u64, holder: usize, wish: Wish) {
        self.summary.answered += 1;
        let mut random = Stream::Holder(holder, op).of(self.plan.seed);
        let ttl = self.holders.each[holder].lease.map_or(1, |(_, ttl)| ttl.min(4) as u64);
        let most = if wish == Wish::Renew { ttl * SECOND } else { SECOND / 3 };
        let pause = 1_000 + random.below(most);
        self.after(pause, Happening::Holder(holder));
    }

    /// At the end leases are where they belong, and those that nobody renewed are gone.
    pub(crate) fn compare_leases(&mut self) {
        for id in self.members(|_| true) {
            let process = self.hosts[id as usize - 1].process.as_ref();
            self.oracle.explain_state(&process.expect("it was looked at").state);
        }
        let ids = self.oracle.model.leases.ids();
        let settled = self.healed.expect("all is healed at the end") + RECOVERY;
        self.oracle.leases.are_buried(ids, settled, self.now);
        self.summary.expired = self.oracle.leases.n_expired();
    }
}
