//! What there is behind the peer port, and how answers look there: as Go's server writes them.

use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use proto::etcdserverpb::{HashKvResponse, Member};
use serde::Serialize;
use serde_json::Value;

use super::frame::Kind;
use super::head;
use crate::http::{Answer, error, whole};
use crate::version;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Message,
    Snapshot,
    Stream,
    Probing,
    Members,
    Promote,
    HashKv,
    Renew,
    TimeToLive,
    Version,
    Downgrade,
}

const TEXT: &str = "text/plain; charset=utf-8";
/// Those who ask for promotion say whose at the end of the path.
pub(super) const PROMOTE: &str = "/members/promote/";
const STREAM: &str = "/raft/stream/";

impl Page {
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/raft" => Self::Message,
            "/raft/snapshot" => Self::Snapshot,
            "/raft/probing" => Self::Probing,
            "/members" => Self::Members,
            "/members/hashkv" => Self::HashKv,
            "/leases" => Self::Renew,
            "/leases/internal" => Self::TimeToLive,
            "/version" => Self::Version,
            "/downgrade/enabled" => Self::Downgrade,
            path if path.starts_with(PROMOTE) => Self::Promote,
            path if path.starts_with(STREAM) => Self::Stream,
            _ => return None,
        })
    }

    /// Whether the path is one's that goes on, but for the `/` at its end.
    pub(super) fn lacks_slash(path: &str) -> bool {
        [PROMOTE, STREAM].iter().any(|page| page.strip_suffix('/') == Some(path))
    }

    /// How it is asked for; `None` if in any way.
    fn method(self) -> Option<Method> {
        Some(match self {
            Self::Message | Self::Snapshot | Self::Promote | Self::Renew | Self::TimeToLive => {
                Method::POST
            }
            Self::Stream | Self::Members | Self::HashKv | Self::Version | Self::Downgrade => {
                Method::GET
            }
            Self::Probing => return None,
        })
    }

    /// The answer to a wrong method. etcd's leases do not say which is right.
    pub(super) fn refuses(self, method: &Method) -> Option<Answer> {
        let allowed = self.method().filter(|allowed| allowed != method)?;
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        if !matches!(self, Self::Renew | Self::TimeToLive) {
            answer.headers_mut().insert(ALLOW, head::value(allowed.as_str()));
        }
        Some(answer)
    }

    /// Whether all its answers say which cluster this is.
    pub(super) fn names_cluster(self) -> bool {
        match self {
            Self::Message
            | Self::Snapshot
            | Self::Stream
            | Self::Members
            | Self::Promote
            | Self::Downgrade => true,
            Self::Probing | Self::HashKv | Self::Renew | Self::TimeToLive | Self::Version => false,
        }
    }
}

/// Which stream a path asks for, and who asks; or what is wrong with it.
pub(super) fn stream_of(path: &str) -> Result<(Kind, u64), &'static str> {
    let asked = path.strip_prefix(STREAM).and_then(|asked| asked.rsplit_once('/'));
    let (kind, from) = asked.ok_or("invalid path")?;
    let kind = Kind::ALL.into_iter().find(|known| known.path() == kind).ok_or("invalid path")?;
    Ok((kind, head::number(from, 16).ok_or("invalid from")?))
}

pub(super) fn json(value: &impl Serialize, end: &str) -> Answer {
    let body = serde_json::to_string(value).unwrap_or_default() + end;
    whole(StatusCode::OK, "application/json", body)
}

pub(super) fn too_large() -> Answer {
    let mut answer = error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

pub(super) fn protobuf(message: &impl proto::prost::Message) -> Answer {
    whole(StatusCode::OK, "application/protobuf", Bytes::from(message.encode_to_vec()))
}

/// A member, with its fields in etcd's order.
#[derive(Serialize)]
struct Listed<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "is_default")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[_]>::is_empty")]
    client_urls: &'a [String],
}

impl<'a> From<&'a Member> for Listed<'a> {
    fn from(member: &'a Member) -> Self {
        let Member { id, name, peer_urls, client_urls, is_learner } = member;
        Self { id: *id, peer_urls, is_learner: *is_learner, name, client_urls }
    }
}

pub(super) fn members(members: &[Member]) -> Answer {
    json(&members.iter().map(Listed::from).collect::<Vec<_>>(), "\n")
}

/// That the member is there, and at what time.
#[derive(Serialize)]
struct Health {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

/// etcd leaves it to Go to guess what this is.
pub(super) fn probing(now: String) -> Answer {
    let mut answer = json(&Health { ok: true, now }, "\n");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    answer
}

#[derive(Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

pub(super) fn version(cluster: Option<&str>) -> Answer {
    let versions = Versions {
        etcdserver: version::ETCD,
        etcdcluster: cluster.unwrap_or("not_decided"),
        storage: if cluster.is_some() { version::STORAGE } else { "unknown" },
    };
    json(&versions, "")
}

/// A hash, with its fields in etcd's order, and without those that say nothing.
#[derive(Serialize)]
struct Hashed {
    header: Revised,
    #[serde(skip_serializing_if = "is_default")]
    hash: u32,
    #[serde(skip_serializing_if = "is_default")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    hash_revision: i64,
}

#[derive(Serialize)]
struct Revised {
    #[serde(skip_serializing_if = "is_default")]
    revision: i64,
}

pub(super) fn hashed(answer: &HashKvResponse) -> Answer {
    let HashKvResponse { header, hash, compact_revision, hash_revision } = answer;
    let revision = header.as_ref().map_or(0, |header| header.revision);
    let (header, hash, compact_revision) = (Revised { revision }, *hash, *compact_revision);
    json(&Hashed { header, hash, compact_revision, hash_revision: *hash_revision }, "")
}

/// The revision a hash is asked for at, read as Go reads it; `None` if it cannot be.
pub(super) fn revision_asked(body: &[u8]) -> Option<i64> {
    match serde_json::from_slice::<Value>(body).ok()? {
        Value::Null => Some(0),
        Value::Object(fields) => {
            let mut fields = fields.iter();
            let revision = fields.find(|(name, _)| name.eq_ignore_ascii_case("revision"));
            revision.map_or(
                Some(0),
                |(_, value)| if value.is_null() { Some(0) } else { value.as_i64() },
            )
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
