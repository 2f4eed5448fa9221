//! The oracle: sees all members at once, and ends the run at the first thing that must not be.
//!
//! | promise | held against |
//! |---|---|
//! | election safety | a term has one leader, a voter one vote in it |
//! | log matching | an entry of a term and index is the same in all logs, and so is the one before it |
//! | leader completeness | who begins to lead has all that was applied before anybody led in its term or a later one |
//! | state machine safety | all apply the same entries, and each gives the model's answer |
//! | one change at a time | no log has a change of membership behind one that is not committed |
//! | membership | every change is accepted, or refused, by all alike |
//! | leases: see `leasing` | their ends |
//! | nothing is proposed twice, or applied after it was refused | request ids |
//!
//! It learns what is written when it is handed to the log, before it is durable: what is promised must
//! hold for that as well.

mod leasing;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use member::conf_change::MembershipChange;
use proto::raft_request;
use raft::{Body, ConfState, Entry, EntryKind, Message};
use state::{Outcome, State};

use self::leasing::LeaseOracle;
pub(crate) use self::leasing::{Said, Word};
use crate::clients::REQUESTS_MAX;
use crate::electorate::Electorates;
use crate::model::Model;

/// The founding members are told of one another by as many entries at once.
const FOUNDING_TERM: u64 = 1;
/// From here on members number what they ask by themselves.
pub(crate) const OWN_REQUESTS: u64 = 1_000 * REQUESTS_MAX;

/// An entry as a log holds it: its term, and what is in it.
type Held = (EntryKind, Bytes);

#[derive(Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    /// By index and term: the content, and the term of the entry before.
    written: BTreeMap<(u64, u64), (Held, u64)>,
    /// Terms by index, of each member.
    logs: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// What has been applied, from entry 1 on: term and content.
    agreed: Vec<(u64, Held)>,
    /// The newest term anybody led when each of them was first applied: it was committed in that
    /// term or before.
    committed_by: Vec<u64>,
    /// What clients have asked for, by request id.
    asked: BTreeMap<u64, Bytes>,
    refused: BTreeSet<u64>,
    applied: BTreeSet<u64>,
    /// Whether the change of membership at an index was accepted, and who the members are since.
    changes: BTreeMap<u64, (bool, ConfState)>,
    pub(crate) model: Model,
    pub(crate) leases: LeaseOracle,
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    /// Requests that members have made by themselves.
    own: BTreeSet<u64>,
    /// Entries compared on all members.
    pub(crate) n_compared: u64,
}

impl Oracle {
    pub(crate) fn asks(&mut self, id: u64, data: Bytes) {
        self.asked.insert(id, data);
    }

    pub(crate) fn refused(&mut self, id: u64) {
        assert!(!self.applied.contains(&id), "request {id} was refused, yet applied");
        self.refused.insert(id);
    }

    /// A name for what a member asks by itself.
    pub(crate) fn own_request(&mut self) -> u64 {
        let id = OWN_REQUESTS + self.own.len() as u64;
        self.own.insert(id);
        id
    }

    /// A process has begun: its state is as of `base`, and its log goes on from there.
    pub(crate) fn starts(&mut self, id: u64, base: (u64, u64), entries: &[Entry]) {
        self.logs.insert(id, BTreeMap::from([base]));
        self.writes(id, entries);
    }

    pub(crate) fn installs(&mut self, id: u64, index: u64, term: u64) {
        if let Some((agreed, _)) = self.agreed.get(index as usize - 1) {
            assert_eq!(*agreed, term, "a snapshot of what nobody agreed on: {index}@{term}");
        } else {
            panic!("a snapshot of what nobody has applied: {index}@{term}");
        }
        self.logs.insert(id, BTreeMap::from([(index, term)]));
    }

    /// Entries are handed to the log of `id`; they replace all from the first one's index on.
    pub(crate) fn writes(&mut self, id: u64, entries: &[Entry]) {
        let log = self.logs.get_mut(&id).expect("it has started");
        for entry in entries {
            let (index, term) = (entry.index.0, entry.term.0);
            log.split_off(&index);
            let before = log.get(&(index - 1)).copied().unwrap_or_default();
            log.insert(index, term);
            let held = ((entry.kind, entry.data.clone()), before);
            if entry.kind != EntryKind::Normal {
                let agreed = self.agreed.len() as u64;
                let open = log
                    .range((agreed + 1).min(index)..index)
                    .filter(|(_, term)| **term > FOUNDING_TERM);
                let mut kinds = open.map(|(index, term)| self.written[&(*index, *term)].0.0);
                let is_only = kinds.all(|kind| kind == EntryKind::Normal);
                assert!(is_only, "two changes of membership under way: {index}@{term} is one");
            }
            let known = self.written.entry((index, term)).or_insert_with(|| held.clone());
            assert_eq!(*known, held, "logs do not match: {index}@{term}");
        }
    }

    pub(crate) fn leads(&mut self, id: u64, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "two leaders in term {term}");
        let log = &self.logs[&id];
        let first = log.first_key_value().map_or(1, |(index, _)| (*index).max(1));
        for (index, (agreed, _)) in (1..).zip(&self.agreed).skip(first as usize - 1) {
            // Who was elected late in an older term need not have what later terms committed.
            if self.committed_by[index as usize - 1] >= term {
                break;
            }
            let has = log.get(&index);
            assert_eq!(has, Some(agreed), "member {id} leads term {term} without {index}@{agreed}");
        }
    }

    pub(crate) fn sends(&mut self, message: &Message) {
        let voter = message.from;
        let candidate = match message.body {
            Body::VoteReply { pre: false, granted: true, .. } => Some(message.to),
            // Who asks for votes has given its own to itself.
            Body::Vote { pre: false, .. } => Some(voter),
            Body::VoteReply { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::AppendReply(_)
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Propose { .. } => None,
        };
        let Some(candidate) = candidate.map(raft::NodeId::get) else { return };
        let voter = voter.get();
        let vote = *self.votes.entry((message.term.0, voter)).or_insert(candidate);
        assert_eq!(vote, candidate, "{voter} votes twice in term {}", message.term.0);
    }

    /// An entry is about to be applied by some member.
    pub(crate) fn agrees(&mut self, entry: &Entry) {
        let position = entry.index.0 as usize - 1;
        let held = (entry.term.0, (entry.kind, entry.data.clone()));
        if let Some(agreed) = self.agreed.get(position) {
            assert_eq!(*agreed, held, "members disagree on entry {}", entry.index.0);
            return;
        }
        assert_eq!(position, self.agreed.len(), "entries that nobody applied were passed over");
        self.agreed.push(held);
        self.committed_by.push(self.leaders.last_key_value().map_or(0, |(term, _)| *term));
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            return;
        }
        let id = raft_request::request_id(&entry.data).expect("requests have ids");
        let asked = self.asked.get(&id);
        assert_eq!(asked, Some(&entry.data), "nobody asked for request {id}");
        assert!(!self.refused.contains(&id), "request {id} is applied, though it was refused");
        assert!(self.applied.insert(id), "request {id} is applied twice");
        let by_itself = self.own.contains(&id);
        for news in self.model.apply(id, &entry.data) {
            self.leases.learns(&news, entry.index.0, self.now, by_itself);
        }
    }

    /// A change of membership is accepted, or refused, by all alike.
    pub(crate) fn changes(&mut self, index: u64, is_accepted: bool, members: ConfState) {
        let said = (is_accepted, members);
        let known = self.changes.entry(index).or_insert_with(|| said.clone());
        assert_eq!(*known, said, "members disagree on the change at {index}");
    }

    /// The configurations that were ever decided, and those that changes in some log would make.
    pub(crate) fn electorates(&self) -> Electorates {
        let is_founding = |index: &u64| self.agreed[*index as usize - 1].0 == FOUNDING_TERM;
        let founded = self.changes.keys().copied().filter(is_founding).max();
        let decided = self.changes.range(founded.unwrap_or_default()..);
        let decided = decided.map(|(index, (_, members))| (*index, members.clone()));
        let newest = self.changes.last_key_value().map(|(_, (_, members))| members);
        let undecided = self.logs.values().flat_map(|log| log.range(self.n_agreed() + 1..));
        let held = undecided.map(|(index, term)| &self.written[&(*index, *term)].0);
        let changes = held.filter(|(kind, _)| *kind != EntryKind::Normal);
        let told = changes.filter_map(|(_, data)| {
            MembershipChange::decode(data.clone()).ok().and_then(|change| change.for_raft())
        });
        let proposed = told.filter_map(|change| newest.and_then(|conf| conf.after(&change).ok()));
        Electorates { decided: decided.collect(), proposed: proposed.collect() }
    }

    /// A member has applied an entry, and this came of it.
    pub(crate) fn compare(&mut self, entry: &Entry, outcome: &Outcome, answer: &[u8]) {
        self.n_compared += 1;
        self.model.compare(outcome, answer, entry.index.0);
    }

    /// A member's state is what its entries make of it.
    pub(crate) fn explain_state(&self, state: &State) {
        self.leases.explain(state);
        self.model.explain_owners(state);
    }

    /// A member's state comes from a snapshot.
    pub(crate) fn installed(&self, state: &State) {
        self.explain_state(state);
        let (index, term) = state.applied();
        let agreed = self.agreed.get(index as usize - 1).map(|(term, _)| *term);
        assert_eq!(agreed, Some(term), "a snapshot of what nobody agreed on");
    }

    /// Index and term of what is in a member's log.
    #[cfg(test)]
    pub(crate) fn log(&self, id: u64) -> impl Iterator<Item = (u64, u64)> {
        self.logs[&id].iter().map(|(index, term)| (*index, *term))
    }

    /// How many entries have been applied by anybody.
    pub(crate) fn n_agreed(&self) -> u64 {
        self.agreed.len() as u64
    }
}
