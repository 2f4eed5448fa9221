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
use crate::world::{Happening, RECOVERY, SECOND, World};

/// When a client gives up.
const PATIENCE: u64 = 5 * SECOND;
const KEYS: u64 = 8;

struct Asked {
    client: usize,
    /// The read; a write is known to the model.
    read: Option<RangeRequest>,
    /// The newest revision anybody knew when it was asked.
    known: i64,
    since: u64,
}

pub(crate) struct Clients {
    n: usize,
    asked: BTreeMap<u64, Asked>,
    known: i64,
    next: u64,
    stopped: bool,
    /// The longest pause between an answer and the next request.
    pause_max: u64,
}

impl Clients {
    pub(crate) fn new(random: &mut Generator) -> Self {
        let n = random.int(1..=5);
        let pause_max = *random.pick(&[SECOND / 50, SECOND / 10, SECOND / 4]);
        Self { n, asked: BTreeMap::new(), known: 1, next: 1, stopped: false, pause_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.n
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

impl World {
    /// A client asks something.
    pub(crate) fn client(&mut self, client: usize) {
        if self.clients.stopped {
            return;
        }
        let op = self.next_request();
        let host = self.somebody();
        self.after(PATIENCE, Happening::GiveUp { client, op });
        self.ask(client, op, host);
    }

    /// A name for a request.
    pub(crate) fn next_request(&mut self) -> u64 {
        self.clients.next += 1;
        self.clients.next
    }

    /// Once all is healed clients know whom to ask; before that they may be wrong.
    fn somebody(&mut self) -> usize {
        let voters = self.members(|member| !member.is_learner);
        if self.healed.is_none() || voters.is_empty() {
            return self.random.below(self.hosts.len() as u64) as usize;
        }
        *self.random.pick(&voters) as usize - 1
    }

    pub(crate) fn give_up(&mut self, client: usize, op: u64) {
        let Some(asked) = self.clients.asked.remove(&op) else { return };
        let is_owed = self.healed.is_some_and(|healed| asked.since > healed + RECOVERY);
        assert!(!is_owed, "no progress: request {op} was not answered");
        self.summary.unanswered += 1;
        self.client(client);
    }

    fn ask(&mut self, client: usize, op: u64, host: usize) {
        let choice = self.random.below(100);
        let is_read = choice < 35;
        let read = is_read.then(|| self.range());
        let known = match &read {
            Some(read) if read.serializable => 0,
            _ => self.clients.known,
        };
        let asked = Asked { client, read: read.clone(), known, since: self.now };
        self.clients.asked.insert(op, asked);
        self.summary.asked += 1;
        match read {
            Some(read) => {
                self.with(host, |process, around| {
                    process.read(op, read, around);
                    Ok(())
                });
            }
            None => {
                let data = self.command(op, choice);
                self.oracle.asks(op, data.clone());
                self.with(host, |process, around| {
                    process.propose(op, data, around);
                    Ok(())
                });
            }
        }
    }

    fn range(&mut self) -> RangeRequest {
        let random = &mut self.random;
        let serializable = random.chance(20);
        let revision = match random.below(4) {
            0 => 1 + random.below(self.clients.known as u64) as i64,
            _ => 0,
        };
        let (key, range_end) =
            if random.chance(20) { all_keys() } else { (key(random), Bytes::new()) };
        RangeRequest { key, range_end, revision, serializable, ..RangeRequest::default() }
    }

    fn command(&mut self, op: u64, choice: u64) -> Bytes {
        let header = RequestHeader { id: op, ..RequestHeader::default() };
        let mut out = BytesMut::new();
        match choice {
            0..75 => frame_message(Body::Put, &header, &self.put(op), &mut out),
            75..85 => frame_message(Body::DeleteRange, &header, &self.delete(), &mut out),
            85..97 => frame_message(Body::Txn, &header, &self.txn(op), &mut out),
            _ => {
                let revision = 1 + self.random.below(self.clients.known as u64 + 1) as i64;
                let request = CompactionRequest { revision, physical: false };
                frame_message(Body::Compaction, &header, &request, &mut out);
            }
        }
        out.freeze()
    }

    fn put(&mut self, op: u64) -> PutRequest {
        let padding = self.random.below(200) as usize;
        let value = format!("{op}{}", "-".repeat(padding)).into();
        let prev_kv = self.random.chance(50);
        PutRequest { key: key(&mut self.random), value, prev_kv, ..PutRequest::default() }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let prev_kv = self.random.chance(50);
        let (key, range_end) = match self.random.below(6) {
            0 => all_keys(),
            _ => (key(&mut self.random), Bytes::new()),
        };
        DeleteRangeRequest { key, range_end, prev_kv }
    }

    /// Puts one key and deletes another if a third is as old as somebody may believe.
    fn txn(&mut self, op: u64) -> TxnRequest {
        let asked = match self.random.below(3) {
            0 => 0,
            _ => self.clients.known - self.random.below(5) as i64,
        };
        let compared = key(&mut self.random);
        let compare = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: compared.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(asked)),
        };
        let put = self.put(op);
        let mut delete = DeleteRangeRequest { prev_kv: true, ..DeleteRangeRequest::default() };
        delete.key = format!("k{}", KEYS + self.random.below(2)).into();
        let second = PutRequest { key: delete.key.clone(), ..self.put(op) };
        let op = |request| RequestOp { request: Some(request) };
        let range = RangeRequest { key: compared, ..RangeRequest::default() };
        let success = if self.random.chance(50) {
            vec![op(Op::RequestPut(put)), op(Op::RequestDeleteRange(delete))]
        } else {
            vec![op(Op::RequestPut(put)), op(Op::RequestPut(second))]
        };
        let failure = vec![op(Op::RequestRange(range))];
        TxnRequest { compare: vec![compare], success, failure }
    }

    pub(crate) fn answered(&mut self, op: u64, told: Told) {
        let Some(asked) = self.clients.asked.remove(&op) else { return };
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
            assert!(revision >= known + i64::from(changed), "{op} is stale: {revision} < {known}");
            self.clients.known = self.clients.known.max(revision);
            self.summary.answered += 1;
        }
        let pause = 1_000 + self.random.below(self.clients.pause_max);
        self.after(pause, Happening::Client(client));
    }
}
