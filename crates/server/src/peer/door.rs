//! The peer port: what other members come for.
//!
//! | path | answer |
//! |---|---|
//! | `GET /raft/stream/{msgapp,message}/<who asks>` | a stream of messages for whoever asks |
//! | `POST /raft` | 204: the message was taken |
//! | `POST /raft/snapshot` | 204: the snapshot is whole and durable |
//! | `GET /raft/probing` | that we are there |
//! | `GET /members`, `/version`, `/downgrade/enabled`, `/members/hashkv` | what we know |
//! | `POST /members/promote/<id>`, `/leases`, `/leases/internal` | what only the leader does |

use std::convert::Infallible;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proto::error::{Code, Error, Status};
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, Member};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use proto::prost::Message as Protobuf;
use raft::{Body, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::frame::{FRAME_MAX, Kind};
use super::snapshot::{self, Desk};
use super::{Shared, ask, head, stranger, stream, word};
use crate::http::Content;
use crate::listen::{Accepted, Listener};
use crate::log::{self, Value as LogValue};
use crate::version;

/// Bytes of a question that is no message of raft's.
const QUESTION_MAX: usize = 64 * 1024;
/// How long to hold back after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Content>;

/// What all connections of the port share.
struct Door {
    shared: Arc<Shared>,
    desk: Desk,
}

/// Serves whoever comes, for ever.
pub(super) async fn serve(shared: Arc<Shared>, listener: Listener) {
    let door = Arc::new(Door { shared, desk: Desk::default() });
    loop {
        match listener.accept().await {
            Ok(Accepted::Tcp(stream)) => {
                // Without it messages are merely slower.
                drop(stream.set_nodelay(true));
                drop(tokio::spawn(connection(stream, Arc::clone(&door))));
            }
            Ok(Accepted::Unix(stream)) => {
                drop(tokio::spawn(connection(stream, Arc::clone(&door))));
            }
            Err(error) => {
                let logger = &door.shared.config.logger;
                log::warn!(logger, "accept error", "error" = &error.to_string());
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, door: Arc<Door>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // How a connection ends is between the remote and the network.
    drop(pin!(connection).await);
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mut answer = self.route(request).await;
        let cluster_id = head::hex(self.shared.config.cluster_id);
        answer.headers_mut().insert(head::CLUSTER_ID, head::value(&cluster_id));
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        match (&method, path.as_str()) {
            (&Method::POST, "/raft") => self.post(request).await,
            (&Method::POST, "/raft/snapshot") => self.snapshot(request).await,
            (_, "/raft/probing") => probing(),
            (&Method::GET, "/members") => json_answer(&members_json(&self.members())),
            (&Method::GET, "/members/hashkv") => self.hash_kv(request).await,
            (&Method::POST, "/leases") => self.renew(request).await,
            (&Method::POST, "/leases/internal") => self.time_to_live(request).await,
            (&Method::GET, "/version") => json_answer(&self.version()),
            (&Method::GET, "/downgrade/enabled") => {
                plain(StatusCode::OK, self.shared.host.downgrade_enabled().to_string())
            }
            (_, path) => {
                if let Some(id) = path.strip_prefix("/members/promote/") {
                    return self.promote(&request, id).await;
                }
                match stream_of(path) {
                    Some((kind, from)) if method == Method::GET => {
                        self.stream(request.headers(), kind, from)
                    }
                    Some(_) => refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
                    None => refuse(StatusCode::NOT_FOUND, "404 page not found"),
                }
            }
        }
    }

    fn members(&self) -> Vec<Member> {
        self.shared.host.members()
    }

    fn version(&self) -> Value {
        let decided = self.shared.host.cluster_version();
        json!({
            "etcdserver": version::ETCD,
            "etcdcluster": decided.as_deref().unwrap_or("not_decided"),
            "storage": if decided.is_some() { version::STORAGE } else { "unknown" },
        })
    }

    /// Why the sender is not listened to, if it is not.
    fn check(&self, headers: &HeaderMap, gone: StatusCode) -> Option<Answer> {
        if let Err(mismatch) = head::check(headers, self.shared.config.cluster_id) {
            return Some(refuse(StatusCode::PRECONDITION_FAILED, mismatch.text()));
        }
        let from = head::id(headers, &head::SERVER_FROM);
        let is_removed = from.is_some_and(|from| self.shared.host.is_removed(from));
        let text = "the member has been permanently removed from the cluster";
        is_removed.then(|| refuse(gone, text))
    }

    /// Says the version whatever the answer: etcd's members look at it before the status, and one
    /// that is not told would never learn that it was removed.
    fn stream(&self, headers: &HeaderMap, kind: Kind, from: u64) -> Answer {
        let mut answer = self.stream_or_refusal(headers, kind, from);
        answer.headers_mut().insert(head::SERVER_VERSION, head::value(version::ETCD));
        answer
    }

    fn stream_or_refusal(&self, headers: &HeaderMap, kind: Kind, from: u64) -> Answer {
        if let Some(answer) = self.check(headers, StatusCode::GONE) {
            return answer;
        }
        if self.shared.host.is_removed(from) {
            return refuse(StatusCode::GONE, "removed member");
        }
        let Some(remote) = self.shared.remote(from) else {
            stranger::learn(&self.shared, headers);
            return refuse(StatusCode::NOT_FOUND, "error sender not found");
        };
        let own = head::hex(self.shared.config.member_id);
        if head::text(headers, &head::RAFT_TO) != Some(own.as_str()) {
            return refuse(StatusCode::PRECONDITION_FAILED, "to field mismatch");
        }
        log::info!(
            self.shared.config.logger,
            "established TCP streaming connection with remote peer",
            "stream-writer-type" = kind.path(),
            "local-member-id" = LogValue::Id(self.shared.config.member_id),
            "remote-peer-id" = LogValue::Id(from)
        );
        let body = stream::feed(&self.shared, &remote, kind);
        Response::new(Content::Lines(body))
    }

    async fn post(&self, request: Request<Incoming>) -> Answer {
        if let Some(answer) = self.check(request.headers(), StatusCode::FORBIDDEN) {
            return answer;
        }
        stranger::learn(&self.shared, request.headers());
        let Some(body) = whole(request, FRAME_MAX as usize).await else {
            return refuse(StatusCode::BAD_REQUEST, "error reading raft message");
        };
        match member::message::decode(body) {
            Ok(message) if message.to.get() != self.shared.config.member_id => {
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message")
            }
            // Without its file a snapshot means nothing.
            Ok(Message { body: Body::Snapshot(_), .. }) => {
                refuse(StatusCode::BAD_REQUEST, "wrong raft message type")
            }
            Ok(message) => {
                self.shared.host.receive(&mut vec![message]);
                nothing()
            }
            Err(_) => refuse(StatusCode::BAD_REQUEST, "error unmarshalling raft message"),
        }
    }

    async fn snapshot(&self, request: Request<Incoming>) -> Answer {
        if let Some(answer) = self.check(request.headers(), StatusCode::FORBIDDEN) {
            return answer;
        }
        stranger::learn(&self.shared, request.headers());
        match snapshot::receive(&self.shared, &self.desk, request.into_body()).await {
            Ok(message) => {
                self.shared.host.receive(&mut vec![message]);
                nothing()
            }
            Err(error) => {
                let logger = &self.shared.config.logger;
                log::warn!(logger, "failed to receive a snapshot", "error" = &error.to_string());
                let status = if error.kind() == ErrorKind::InvalidData {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                refuse(status, &error.to_string())
            }
        }
    }

    async fn hash_kv(&self, request: Request<Incoming>) -> Answer {
        if let Err(mismatch) = head::check_cluster(request.headers(), self.shared.config.cluster_id)
        {
            return refuse(StatusCode::PRECONDITION_FAILED, mismatch.text());
        }
        let body = whole(request, QUESTION_MAX).await;
        let asked = body.and_then(|body| serde_json::from_slice::<Value>(&body).ok());
        let Some(asked) = asked else {
            return refuse(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        let revision = asked["revision"].as_i64().unwrap_or_default();
        match self.shared.host.hash_kv(revision).await {
            Ok(answer) => json_answer(&json!({
                "header": answer.header.map(|header| json!({
                    "cluster_id": header.cluster_id,
                    "member_id": header.member_id,
                    "revision": header.revision,
                    "raft_term": header.raft_term,
                })),
                "hash": answer.hash,
                "compact_revision": answer.compact_revision,
                "hash_revision": answer.hash_revision,
            })),
            Err(error) => refuse(StatusCode::BAD_REQUEST, word::said(error)),
        }
    }

    async fn promote(&self, request: &Request<Incoming>, id: &str) -> Answer {
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        }
        let Ok(id) = id.parse() else {
            return refuse(StatusCode::NOT_FOUND, &format!("member {id} not found in cluster"));
        };
        match self.shared.host.promote(id, ask::token(request.headers())).await {
            Ok(members) => json_answer(&members_json(&members)),
            Err(error @ Error::MemberNotFound) => refuse(StatusCode::NOT_FOUND, word::said(error)),
            Err(error @ (Error::MemberNotLearner | Error::LearnerNotReady)) => {
                refuse(StatusCode::PRECONDITION_FAILED, word::said(error))
            }
            Err(error) => refuse(status_of(error), word::said(error)),
        }
    }

    async fn renew(&self, request: Request<Incoming>) -> Answer {
        let body = whole(request, QUESTION_MAX).await;
        let Some(Ok(LeaseKeepAliveRequest { id })) = body.map(LeaseKeepAliveRequest::decode) else {
            return refuse(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        match self.shared.host.renew(id).await {
            Ok(0) => refuse(StatusCode::NOT_FOUND, word::said(Error::LeaseNotFound)),
            Ok(ttl) => protobuf(&LeaseKeepAliveResponse { header: None, id, ttl }),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, word::said(error)),
        }
    }

    async fn time_to_live(&self, request: Request<Incoming>) -> Answer {
        let body = whole(request, QUESTION_MAX).await;
        let asked = body.and_then(|body| LeaseInternalRequest::decode(body).ok());
        let Some(asked) = asked.and_then(|asked| asked.lease_time_to_live_request) else {
            return refuse(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        match self.shared.host.time_to_live(asked).await {
            Ok(answer) if answer.ttl < 0 && answer.granted_ttl == 0 => {
                refuse(StatusCode::NOT_FOUND, word::said(Error::LeaseNotFound))
            }
            Ok(answer) => {
                protobuf(&LeaseInternalResponse { lease_time_to_live_response: Some(answer) })
            }
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, word::said(error)),
        }
    }
}

fn status_of(error: Error) -> StatusCode {
    let status: Status = error.into();
    let code = if status.code == Code::Unknown { Code::Internal } else { status.code };
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Which stream a path asks for, and who asks.
fn stream_of(path: &str) -> Option<(Kind, u64)> {
    let (kind, from) = path.strip_prefix("/raft/stream/")?.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|known| known.path() == kind)?;
    Some((kind, u64::from_str_radix(from, 16).ok()?))
}

/// The members as `/members` shows them.
fn members_json(members: &[Member]) -> Value {
    Value::Array(members.iter().map(member::roster::json_of).collect())
}

fn probing() -> Answer {
    let now = crate::log::rfc3339(SystemTime::now());
    json_answer(&json!({ "OK": true, "Now": now }))
}

async fn whole(request: Request<Incoming>, size_max: usize) -> Option<Bytes> {
    let body = Limited::new(request.into_body(), size_max).collect().await;
    body.ok().map(http_body_util::Collected::to_bytes)
}

fn nothing() -> Answer {
    let mut answer = Response::new(Content::Whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn with_type(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Content::Whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, head::value(kind));
    answer
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// An error as Go's server says it: with a line's end.
fn refuse(status: StatusCode, what: &str) -> Answer {
    plain(status, format!("{what}\n"))
}

fn json_answer(value: &Value) -> Answer {
    with_type(StatusCode::OK, "application/json", format!("{value}\n"))
}

fn protobuf(message: &impl Protobuf) -> Answer {
    with_type(StatusCode::OK, "application/protobuf", message.encode_to_vec())
}
