//! Clients: what they ask, what they are told, and what they then know.
//!
//! Each waits for an answer before it asks anew, or gives up; what it gave up may still happen. All
//! of them together know the newest revision anybody was told of, and no linearizable answer to a
//! later question may be older.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestHeader,
    RequestOp, TxnRequest,
};
use proto::raft_request::{Body, frame_message};
use stdx::Generator;

use crate::model::COMPACTED;
use crate::process::Told;
use crate::reform::HOSTS_MAX;
use crate::streams::{Stream, pick_of};
use crate::world::{Happening, RECOVERY, SECOND, World};
use crate::{trace, wording};

/// When a client gives up.
pub(crate) const PATIENCE: u64 = 5 * SECOND;
const KEYS: u64 = 8;
/// Fewer requests of each client, so that their ids tell clients apart.
pub(crate) const REQUESTS_MAX: u64 = 1_000_000;

/// What a client asks.
pub(crate) enum Question {
    Read(RangeRequest),
    /// An encoded request that must be agreed upon.
    Write(Bytes),
}

struct Asked {
    client: usize,
    /// The read; a write is known to the model.
    read: Option<RangeRequest>,
    /// The newest revision anybody knew when it was asked.
    known: i64,
    since: u64,
}

pub(crate) struct Clients {
    /// How many requests each of them has asked.
    counts: Vec<u64>,
    asked: BTreeMap<u64, Asked>,
    known: i64,
    stopped: bool,
    /// The longest pause between an answer and the next request.
    pause_max: u64,
}

impl Clients {
    pub(crate) fn new(most: Option<usize>, random: &mut Generator) -> Self {
        let n = random.int(1..=5).min(most.unwrap_or(usize::MAX));
        let pause_max = *random.pick(&[SECOND / 50, SECOND / 10, SECOND / 4]);
        Self { counts: vec![0; n], asked: BTreeMap::new(), known: 1, stopped: false, pause_max }
    }

    /// Nobody asks by itself.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let asked = BTreeMap::new();
        Self { counts: vec![0], asked, known: 1, stopped: true, pause_max: 1 }
    }

    /// What is not answered.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u64> {
        self.asked.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn are_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }
}

fn key(random: &mut Generator) -> Bytes {
    format!("k{}", random.below(KEYS)).into()
}

fn all_keys() -> (Bytes, Bytes) {
    (Bytes::from_static(b"k"), Bytes::from_static(b"l"))
}

fn put(op: u64, random: &mut Generator) -> PutRequest {
    let padding = random.below(200) as usize;
    let value = format!("{op}{}", "-".repeat(padding)).into();
    let prev_kv = random.chance(50);
    PutRequest { key: key(random), value, prev_kv, ..PutRequest::default() }
}

fn delete(random: &mut Generator) -> DeleteRangeRequest {
    let prev_kv = random.chance(50);
    let (key, range_end) = match random.below(6) {
        0 => all_keys(),
        _ => (key(random), Bytes::new()),
    };
    DeleteRangeRequest { key, range_end, prev_kv }
}

impl World {
    /// A client asks something.
    pub(crate) fn client(&mut self, client: usize) {
        if self.clients.stopped {
            return;
        }
        let count = &mut self.clients.counts[client];
        *count += 1;
        let (n, op) = (*count, REQUESTS_MAX * (client as u64 + 1) + *count);
        let mut random = Stream::Request(client, n).of(self.plan.seed);
        let host = self.somebody(&mut random);
        self.after(PATIENCE, Happening::GiveUp { client, op });
        let question = self.question(op, &mut random);
        self.ask(client, op, host, question);
    }

    /// Once all is healed clients know whom to ask; before that they may be wrong.
    pub(crate) fn somebody(&self, random: &mut Generator) -> usize {
        let voters = self.members(|member| !member.is_learner);
        if self.healed.is_none() || voters.is_empty() {
            return pick_of(self.hosts.len(), HOSTS_MAX, random);
        }
        *random.pick(&voters) as usize - 1
    }

    pub(crate) fn give_up(&mut self, client: usize, op: u64) {
        let Some(asked) = self.clients.asked.remove(&op) else { return };
        let is_owed = self.healed.is_some_and(|healed| asked.since > healed + RECOVERY);
        assert!(!is_owed, "no progress: request {op} was not answered");
        self.summary.unanswered += 1;
        self.client(client);
    }

    fn question(&self, op: u64, random: &mut Generator) -> Question {
        match random.below(100) {
            0..35 => Question::Read(self.range(random)),
            choice => Question::Write(self.command(op, choice, random)),
        }
    }

    /// Puts a question to a member, in the name of a client.
    pub(crate) fn ask(&mut self, client: usize, op: u64, host: usize, question: Question) {
        let known = self.clients.known;
        let (read, known) = match &question {
            Question::Read(read) => (Some(read), if read.serializable { 0 } else { known }),
            Question::Write(_) => (None, known),
        };
        trace::detail(self.now, || {
            let what = read.map_or("to write".to_owned(), |read| {
                let kind = if read.serializable { "serializably" } else { "linearizably" };
                format!("to read {kind}")
            });
            let name = wording::request(op);
            format!("{name} asks member {} {what}; revision {known} is known", host + 1)
        });
        let asked = Asked { client, read: read.cloned(), known, since: self.now };
        self.clients.asked.insert(op, asked);
        self.summary.asked += 1;
        if let Question::Write(data) = &question {
            self.oracle.asks(op, data.clone());
        }
        self.with(host, |process, around| {
            match question {
                Question::Read(read) => process.read(op, read, around)?,
                Question::Write(data) => process.propose(op, data, around),
            }
            Ok(())
        });
    }

    fn range(&self, random: &mut Generator) -> RangeRequest {
        let serializable = random.chance(20);
        let revision = match random.below(4) {
            0 => 1 + random.below(self.clients.known as u64) as i64,
            _ => 0,
        };
        let (key, range_end) =
            if random.chance(20) { all_keys() } else { (key(random), Bytes::new()) };
        RangeRequest { key, range_end, revision, serializable, ..RangeRequest::default() }
    }

    fn command(&self, op: u64, choice: u64, random: &mut Generator) -> Bytes {
        let header = RequestHeader { id: op, ..RequestHeader::default() };
        let mut out = BytesMut::new();
        match choice {
            0..75 => frame_message(Body::Put, &header, &put(op, random), &mut out),
            75..85 => frame_message(Body::DeleteRange, &header, &delete(random), &mut out),
            85..97 => frame_message(Body::Txn, &header, &self.txn(op, random), &mut out),
            _ => {
                let revision = 1 + random.below(self.clients.known as u64 + 1) as i64;
                let request = CompactionRequest { revision, physical: false };
                frame_message(Body::Compaction, &header, &request, &mut out);
            }
        }
        out.freeze()
    }

    /// Puts one key and deletes another if a third is as old as somebody may believe.
    fn txn(&self, op: u64, random: &mut Generator) -> TxnRequest {
        let asked = match random.below(3) {
            0 => 0,
            _ => self.clients.known - random.below(5) as i64,
        };
        let compared = key(random);
        let compare = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: compared.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(asked)),
        };
        let first = put(op, random);
        let mut delete = DeleteRangeRequest { prev_kv: true, ..DeleteRangeRequest::default() };
        delete.key = format!("k{}", KEYS + random.below(2)).into();
        let second = PutRequest { key: delete.key.clone(), ..put(op, random) };
        let op = |request| RequestOp { request: Some(request) };
        let range = RangeRequest { key: compared, ..RangeRequest::default() };
        let success = if random.chance(50) {
            vec![op(Op::RequestPut(first)), op(Op::RequestDeleteRange(delete))]
        } else {
            vec![op(Op::RequestPut(first)), op(Op::RequestPut(second))]
        };
        let failure = vec![op(Op::RequestRange(range))];
        TxnRequest { compare: vec![compare], success, failure }
    }

    pub(crate) fn answered(&mut self, op: u64, told: Told) {
        trace::detail(self.now, || {
            let how = match &told {
                Told::Answer(_) => "is answered".to_owned(),
                Told::Refused(text) => format!("is refused: {text}"),
                Told::Never(error) => format!("will never be: {error:?}"),
            };
            format!("{} {how}", wording::request(op))
        });
        let Some(asked) = self.clients.asked.remove(&op) else {
            return self.holder_answered(op, &told);
        };
        let Asked { client, read, known, since } = asked;
        let revision = match (told, read) {
            (Told::Never(error), _) => {
                let is_owed = self.healed.is_some_and(|healed| since > healed + RECOVERY);
                assert!(!is_owed, "no progress: request {op} was refused: {error:?}");
                None
            }
            (Told::Refused(text), Some(read)) => {
                assert_eq!(text, COMPACTED, "{read:?}");
                assert!(read.revision < self.oracle.model.compacted, "not compacted: {read:?}");
                None
            }
            (Told::Answer(bytes), Some(read)) => {
                Some((self.oracle.model.explain(&read, &bytes), false))
            }
            (Told::Refused(_) | Told::Answer(_), None) => self.oracle.model.outcome(op).revision(),
        };
        if let Some((revision, changed)) = revision {
            let name = wording::request(op);
            assert!(
                revision >= known + i64::from(changed),
                "{name} is stale: {revision} < {known}"
            );
            self.clients.known = self.clients.known.max(revision);
            self.summary.answered += 1;
        }
        let n = self.clients.counts[client];
        let mut random = Stream::Pause(client, n).of(self.plan.seed);
        let pause = 1_000 + random.below(self.clients.pause_max);
        self.after(pause, Happening::Client(client));
    }
}
