//! What clients ask, one thing at a time each, of any member.

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestHeader,
    RequestOp, TxnRequest,
};
use proto::raft_request::{self, Body};
use stdx::Generator;

/// Few keys, so that what is asked meets.
const KEYS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Get {
        key: Bytes,
    },
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// Puts if the key was last changed at `expected`; 0: if it is not there.
    Swap {
        key: Bytes,
        expected: i64,
        value: Bytes,
    },
    Compact {
        revision: i64,
    },
}

impl Op {
    /// Something to ask; `n` makes values unique, `head` is about the newest revision.
    pub(crate) fn some(g: &mut Generator, n: u64, head: i64) -> Self {
        let key = Bytes::from_static(KEYS[g.below(KEYS.len() as u64) as usize]);
        let mut value = n.to_be_bytes().to_vec();
        value.resize(8 + g.below(200) as usize, b'.');
        let value = Bytes::from(value);
        match g.below(20) {
            0..=7 => Self::Get { key },
            8..=13 => Self::Put { key, value },
            14..=15 => Self::Delete { key },
            16..=18 => {
                let expected = (head - g.below(4) as i64).max(0);
                Self::Swap { key, expected, value }
            }
            _ => Self::Compact { revision: (head - g.below(20) as i64).max(1) },
        }
    }

    /// As an entry of the log has it.
    pub(crate) fn encode(&self, id: u64) -> Bytes {
        let header = RequestHeader { id, ..RequestHeader::default() };
        let mut out = BytesMut::new();
        let put = |key: &Bytes, value: &Bytes| PutRequest {
            key: key.clone(),
            value: value.clone(),
            ..PutRequest::default()
        };
        match self {
            Self::Get { .. } => unreachable!("reads are not proposed"),
            Self::Put { key, value } => {
                raft_request::frame_message(Body::Put, &header, &put(key, value), &mut out);
            }
            Self::Delete { key } => {
                let request = DeleteRangeRequest { key: key.clone(), ..Default::default() };
                raft_request::frame_message(Body::DeleteRange, &header, &request, &mut out);
            }
            Self::Swap { key, expected, value } => {
                let compare = Compare {
                    result: CompareResult::Equal as i32,
                    target: CompareTarget::Mod as i32,
                    key: key.clone(),
                    target_union: Some(TargetUnion::ModRevision(*expected)),
                    ..Compare::default()
                };
                let request = Some(Request::RequestPut(put(key, value)));
                let txn = TxnRequest {
                    compare: vec![compare],
                    success: vec![RequestOp { request }],
                    failure: Vec::new(),
                };
                raft_request::frame_message(Body::Txn, &header, &txn, &mut out);
            }
            Self::Compact { revision } => {
                let request = CompactionRequest { revision: *revision, physical: false };
                raft_request::frame_message(Body::Compaction, &header, &request, &mut out);
            }
        }
        out.freeze()
    }

    pub(crate) fn range(key: &Bytes) -> RangeRequest {
        RangeRequest { key: key.clone(), ..RangeRequest::default() }
    }
}

/// What a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) op: Op,
    /// The member that was asked, and which of its lives.
    pub(crate) of: (usize, u64),
    /// What had been told when it was asked.
    pub(crate) floor: i64,
    pub(crate) since_ms: u64,
    /// A read's index, once it is known.
    pub(crate) read_at: Option<u64>,
}
