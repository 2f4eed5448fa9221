//! What must hold, told by someone who knows the promises and not how they are kept.
//!
//! - Election safety: at most one leader a term.
//! - State machine safety: what one member applies at an index all do, once and in order, and each
//!   answers as a plain map would.
//! - Linearizability: answers bear revisions, and those agree with real time. Whatever is asked after
//!   something was answered sees at least that revision; what is read is the map of that revision.
//!   Since revisions order all there is, this takes linear time.
//! - In the end all hashes are equal.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse};
use proto::prost::Message;
use raft::{Entry, EntryKind};

use crate::client::Op;

#[derive(Clone, Debug, PartialEq)]
struct Value {
    value: Bytes,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
}

type Map = BTreeMap<Bytes, Value>;

/// What an entry must be answered, whoever applies it.
#[derive(Clone, Debug, Default)]
struct Expected {
    revision: i64,
    /// Keys deleted, or whether a transaction succeeded.
    effect: i64,
    refused: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<u64, u64>,
    /// Every operation that was ever proposed, by request id.
    ops: BTreeMap<u64, Op>,
    /// What was applied, from index 1 on, and what is to be answered.
    applied: Vec<(Entry, Expected)>,
    /// By revision, from 1 on.
    maps: Vec<Map>,
    compacted: i64,
    /// The newest revision anybody was told of.
    told: i64,
    pub(crate) n_checked: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self { maps: vec![Map::new()], compacted: -1, ..Self::default() }
    }

    pub(crate) fn told(&self) -> i64 {
        self.told
    }

    pub(crate) fn head(&self) -> i64 {
        self.maps.len() as i64
    }

    pub(crate) fn n_applied(&self) -> u64 {
        self.applied.len() as u64
    }

    /// Changes of the members that were decided, the founding ones among them.
    pub(crate) fn n_changes(&self) -> u64 {
        self.applied.iter().filter(|(entry, _)| entry.kind != EntryKind::Normal).count() as u64
    }

    pub(crate) fn propose(&mut self, id: u64, op: Op) {
        let before = self.ops.insert(id, op);
        assert!(before.is_none(), "ids are used once");
    }

    pub(crate) fn leads(&mut self, member: u64, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(member);
        assert_eq!(leader, member, "two leaders in term {term}");
    }

    /// A member has applied an entry, and would answer `out`; `None` if it refuses.
    pub(crate) fn applies(&mut self, by: u64, entry: &Entry, answer: Option<Option<&[u8]>>) {
        let at = entry.index.0 as usize;
        assert!(at <= self.applied.len() + 1, "{by} applies {at} before the one before it");
        if at == self.applied.len() + 1 {
            let expected = self.carry_out(entry);
            self.applied.push((entry.clone(), expected));
        }
        let (known, expected) = &self.applied[at - 1];
        assert_eq!(known, entry, "{by} applies another entry at {at}");
        let Some(answer) = answer else { return };
        assert_eq!(answer.is_none(), expected.refused, "{by} at {at}: refused or not");
        if let (Some(out), Some(op)) = (answer, self.op_of(entry)) {
            check_answer(op, out, expected);
        }
    }

    fn op_of(&self, entry: &Entry) -> Option<&Op> {
        let id = proto::raft_request::request_id(&entry.data)?;
        self.ops.get(&id).filter(|_| entry.kind == EntryKind::Normal)
    }

    fn carry_out(&mut self, entry: &Entry) -> Expected {
        let Some(op) = self.op_of(entry).cloned() else { return Expected::default() };
        let (mut map, next) = (self.maps.last().expect("a first").clone(), self.head() + 1);
        let mut effect = 0;
        let mut refused = false;
        let changed = match op {
            Op::Put { key, value } => {
                put(&mut map, key, value, next);
                true
            }
            Op::Delete { key } => {
                effect = i64::from(map.remove(&key).is_some());
                effect > 0
            }
            Op::Swap { key, expected, value } => {
                let holds = map.get(&key).map_or(0, |value| value.mod_revision) == expected;
                effect = i64::from(holds);
                if holds {
                    put(&mut map, key, value, next);
                }
                holds
            }
            Op::Compact { revision } => {
                refused = revision <= self.compacted || revision > self.head();
                if !refused {
                    self.compacted = revision;
                }
                false
            }
            Op::Get { .. } => unreachable!("reads are not proposed"),
        };
        if changed {
            self.maps.push(map);
        }
        Expected { revision: self.head(), effect, refused }
    }

    /// A member has taken in a snapshot.
    pub(crate) fn installs(&self, by: u64, index: u64, head: i64) {
        let known = self.applied.get(index as usize - 1);
        let (_, expected) = known.unwrap_or_else(|| panic!("{by} installs the unknown {index}"));
        if expected.revision > 0 {
            assert_eq!(head, expected.revision, "{by} installs another state at {index}");
        }
    }

    /// A client was answered `out` to what it asked when `floor` had been told.
    pub(crate) fn answers(&mut self, op: &Op, out: &[u8], floor: i64) {
        let revision = match op {
            Op::Get { key } => {
                let response = RangeResponse::decode(out).expect("a response");
                let revision = response.header.expect("a header").revision;
                let map = &self.maps[revision as usize - 1];
                let seen = response.kvs.first().map(|kv| (kv.value.clone(), kv.mod_revision));
                let expected = map.get(key).map(|v| (v.value.clone(), v.mod_revision));
                assert_eq!(seen, expected, "{key:?} at {revision}");
                revision
            }
            Op::Put { .. } => header(PutResponse::decode(out).expect("a response").header),
            Op::Delete { .. } => {
                header(DeleteRangeResponse::decode(out).expect("a response").header)
            }
            Op::Swap { .. } => header(TxnResponse::decode(out).expect("a response").header),
            Op::Compact { .. } => floor,
        };
        assert!(revision >= floor, "{op:?} saw {revision}, though {floor} had been told: stale");
        self.told = self.told.max(revision);
        self.n_checked += 1;
    }
}

fn header(header: Option<proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

fn put(map: &mut Map, key: Bytes, value: Bytes, revision: i64) {
    let before = map.get(&key);
    let create_revision = before.map_or(revision, |before| before.create_revision);
    let version = before.map_or(0, |before| before.version) + 1;
    map.insert(key, Value { value, create_revision, mod_revision: revision, version });
}

fn check_answer(op: &Op, out: &[u8], expected: &Expected) {
    let (revision, effect) = match op {
        Op::Put { .. } => (header(PutResponse::decode(out).expect("a response").header), 0),
        Op::Delete { .. } => {
            let response = DeleteRangeResponse::decode(out).expect("a response");
            (header(response.header), response.deleted)
        }
        Op::Swap { .. } => {
            let response = TxnResponse::decode(out).expect("a response");
            (header(response.header), i64::from(response.succeeded))
        }
        Op::Compact { .. } | Op::Get { .. } => return,
    };
    assert_eq!((revision, effect), (expected.revision, expected.effect), "{op:?}");
}
