//! What writers ask for, and how they were answered.

use bytes::Bytes;
use proto::Method;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;
use proto::prost::Message;

use crate::support::client::{Client, Failure};

const NOT_FOUND: u32 = 5;
pub(super) const OUT_OF_RANGE: u32 = 11;

/// Few keys, so that writes meet.
pub(super) const N_KEYS: u16 = 60;

/// A key, by its number.
pub(super) fn key(number: u16) -> Bytes {
    format!("key/{number:03}").into()
}

pub(super) fn number_of(key: &[u8]) -> u16 {
    let digits = key.strip_prefix(b"key/").and_then(|rest| std::str::from_utf8(rest).ok());
    digits.and_then(|digits| digits.parse().ok()).expect("a key of ours")
}

/// Stands for a value: the value is made of it, and no two puts have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) number: u64,
    pub(super) length: u32,
}

const TAG_SIZE: usize = size_of::<u64>();

impl Tag {
    pub(super) fn value(self) -> Bytes {
        let word = self.number.to_be_bytes();
        word.iter().copied().cycle().take(TAG_SIZE + self.length as usize).collect()
    }

    /// The tag of a value, every byte of which must be as it was made.
    pub(super) fn of(value: &[u8]) -> Self {
        let word = value.first_chunk().expect("a value of ours");
        let length = u32::try_from(value.len() - TAG_SIZE).expect("a value of ours");
        let tag = Self { number: u64::from_be_bytes(*word), length };
        assert!(tag.value() == value, "a value was changed: {tag:?}");
        tag
    }
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Put {
        key: u16,
        tag: Tag,
        lease: i64,
    },
    /// Keys from `from` up to, but not including, `to`.
    Delete {
        from: u16,
        to: u16,
    },
    /// All puts if `key` has `version`, else none.
    PutIf {
        key: u16,
        version: i64,
        puts: Vec<(u16, Tag)>,
    },
    Read {
        key: u16,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    Compact {
        revision: i64,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Nobody said what came of it.
    None,
    /// The state said no: nothing was done.
    Refused,
    /// It was done, or seen, at this revision.
    At { revision: i64, what: What },
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Done,
    Deleted(i64),
    /// The comparison held.
    Held,
    /// It didn't; or nothing was compared.
    Read(Option<KeyValue>),
}

impl Operation {
    pub(super) async fn ask(&self, client: &Client) -> Answer {
        let answered = match self {
            Self::Put { key, tag, lease } => put(client, *key, *tag, *lease).await,
            Self::Delete { from, to } => delete(client, *from, *to).await,
            Self::PutIf { key, version, puts } => put_if(client, *key, *version, puts).await,
            Self::Read { key } => read(client, *key).await,
            Self::Grant { id, ttl } => {
                let request = LeaseGrantRequest { id: *id, ttl: *ttl };
                done::<LeaseGrantResponse>(client, Method::LeaseGrant, &request, |a| a.header).await
            }
            Self::Revoke { id } => {
                let request = LeaseRevokeRequest { id: *id };
                done::<LeaseRevokeResponse>(client, Method::LeaseRevoke, &request, |a| a.header)
                    .await
            }
            Self::Compact { revision } => {
                let request = CompactionRequest { revision: *revision, physical: false };
                done::<CompactionResponse>(client, Method::Compact, &request, |a| a.header).await
            }
        };
        answered.unwrap_or_else(|failure| match failure {
            // The state's own word. Anything else may be about the way to it.
            Failure::Refused { code: NOT_FOUND | OUT_OF_RANGE, .. } => Answer::Refused,
            Failure::Refused { .. } | Failure::Lost => Answer::None,
        })
    }
}

fn at(header: Option<ResponseHeader>, what: What) -> Answer {
    Answer::At { revision: header.expect("a header").revision, what }
}

async fn done<M: Message + Default>(
    client: &Client,
    method: Method,
    request: &impl Message,
    header: impl FnOnce(M) -> Option<ResponseHeader>,
) -> Result<Answer, Failure> {
    let answer = client.call::<M>(method, request).await?;
    Ok(at(header(answer), What::Done))
}

fn put_request(number: u16, tag: Tag, lease: i64) -> PutRequest {
    PutRequest { key: key(number), value: tag.value(), lease, ..PutRequest::default() }
}

async fn put(client: &Client, key: u16, tag: Tag, lease: i64) -> Result<Answer, Failure> {
    let request = put_request(key, tag, lease);
    done::<PutResponse>(client, Method::Put, &request, |answer| answer.header).await
}

async fn delete(client: &Client, from: u16, to: u16) -> Result<Answer, Failure> {
    let request = DeleteRangeRequest { key: key(from), range_end: key(to), prev_kv: false };
    let answer: DeleteRangeResponse = client.call(Method::DeleteRange, &request).await?;
    Ok(at(answer.header, What::Deleted(answer.deleted)))
}

fn read_request(number: u16) -> RangeRequest {
    RangeRequest { key: key(number), ..RangeRequest::default() }
}

async fn read(client: &Client, key: u16) -> Result<Answer, Failure> {
    let answer: RangeResponse = client.call(Method::Range, &read_request(key)).await?;
    Ok(at(answer.header, What::Read(answer.kvs.into_iter().next())))
}

async fn put_if(
    client: &Client,
    number: u16,
    version: i64,
    puts: &[(u16, Tag)],
) -> Result<Answer, Failure> {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key(number),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    };
    let put = |&(key, tag): &(u16, Tag)| RequestOp {
        request: Some(Request::RequestPut(put_request(key, tag, 0))),
    };
    let request = TxnRequest {
        compare: vec![compare],
        success: puts.iter().map(put).collect(),
        failure: vec![RequestOp { request: Some(Request::RequestRange(read_request(number))) }],
    };
    let answer: TxnResponse = client.call(Method::Txn, &request).await?;
    let what = if answer.succeeded { What::Held } else { What::Read(read_in(answer.clone())) };
    Ok(at(answer.header, what))
}

/// What a txn's only read found.
fn read_in(answer: TxnResponse) -> Option<KeyValue> {
    use proto::etcdserverpb::response_op::Response;
    match answer.responses.into_iter().next().and_then(|op| op.response) {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        other => panic!("not the answer to a range: {other:?}"),
    }
}
