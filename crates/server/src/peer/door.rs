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
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proto::error::{Code, Error, Status};
use proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use proto::prost::Message as Protobuf;
use proto::raftpb;
use raft::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::frame::{FRAME_MAX, Kind};
use super::page::{self, PROMOTE, Page};
use super::snapshot::{self, Desk};
use super::{Shared, ask, head, stranger, stream, word};
use crate::http::{Answer, Content, error, form, not_found, redirect, tidy, whole};
use crate::listen::{Accepted, Listener};
use crate::log::{self, Value as LogValue};
use crate::version;

/// Bytes of a question that is no message of raft's.
const QUESTION_MAX: usize = 64 * 1024;
/// How long to hold back after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long who asks of a lease waits for a leader that has yet to apply what others may know.
const LEASE_WAIT: Duration = Duration::from_secs(1);
const LEASE_WAITED: &str = "waiting for node to catch up its applied index has timed out";
const NOT_PRIMARY: &str = "not a primary lessor";

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
    let mut builder = http1::Builder::new();
    let connection =
        builder.title_case_headers(true).serve_connection(TokioIo::new(stream), answer);
    // How a connection ends is between the remote and the network.
    drop(pin!(connection).await);
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if let Some(refused) = form::refuse(&request) {
            return refused;
        }
        let path = match tidy(&request) {
            Ok(path) => path.into_owned(),
            Err(elsewhere) => return redirect(request.method(), &elsewhere),
        };
        let Some(page) = Page::at(&path) else { return nowhere(&path, &request) };
        if let Some(refusal) = page.refuses(request.method()) {
            return refusal;
        }
        let answer = self.open(page, &path, request).await;
        if page.names_cluster() { self.signed(answer) } else { answer }
    }

    /// Says which cluster this is.
    fn signed(&self, mut answer: Answer) -> Answer {
        let cluster_id = head::hex(self.shared.config.cluster_id);
        answer.headers_mut().insert(head::CLUSTER_ID, head::value(&cluster_id));
        answer
    }

    async fn open(&self, page: Page, path: &str, request: Request<Incoming>) -> Answer {
        let host = &self.shared.host;
        match page {
            Page::Message => self.post(request).await,
            Page::Snapshot => self.snapshot(request).await,
            Page::Stream => self.stream(request.headers(), path),
            Page::Probing => page::probing(log::rfc3339(SystemTime::now())),
            Page::Members => page::members(&host.members()),
            Page::Promote => self.promote(&request, path).await,
            Page::HashKv => self.hash_kv(request).await,
            Page::Renew => self.renew(request).await,
            Page::TimeToLive => self.time_to_live(request).await,
            Page::Version => page::version(host.cluster_version().as_deref()),
            Page::Downgrade => {
                whole(StatusCode::OK, "text/plain", host.downgrade_enabled().to_string())
            }
        }
    }

    /// Why what is posted is not listened to, if it is not. etcd tells a removed member only on
    /// streams; whoever posts need not wait for that.
    fn check(&self, headers: &HeaderMap) -> Option<Answer> {
        if let Err(mismatch) = head::check(headers, self.shared.config.cluster_id) {
            return Some(error(StatusCode::PRECONDITION_FAILED, mismatch.text()));
        }
        let from = head::id(headers, &head::SERVER_FROM);
        let is_removed = from.is_some_and(|from| self.shared.host.is_removed(from));
        let text = "the member has been permanently removed from the cluster";
        is_removed.then(|| error(StatusCode::FORBIDDEN, text))
    }

    /// Says the version whatever the answer: etcd's members look at it before the status, and one
    /// that is not told would never learn that it was removed.
    fn stream(&self, headers: &HeaderMap, path: &str) -> Answer {
        let mut answer = match self.admitted(headers, path) {
            Ok((kind, from)) => self.feed(headers, kind, from),
            Err((status, why)) => error(status, why),
        };
        answer.headers_mut().insert(head::SERVER_VERSION, head::value(version::ETCD));
        answer
    }

    fn admitted(
        &self,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<(Kind, u64), (StatusCode, &'static str)> {
        head::check(headers, self.shared.config.cluster_id)
            .map_err(|mismatch| (StatusCode::PRECONDITION_FAILED, mismatch.text()))?;
        let (kind, from) = page::stream_of(path).map_err(|why| (StatusCode::NOT_FOUND, why))?;
        if self.shared.host.is_removed(from) {
            return Err((StatusCode::GONE, "removed member"));
        }
        Ok((kind, from))
    }

    fn feed(&self, headers: &HeaderMap, kind: Kind, from: u64) -> Answer {
        let Some(remote) = self.shared.remote(from) else {
            stranger::learn(&self.shared, headers);
            return error(StatusCode::NOT_FOUND, "error sender not found");
        };
        let own = head::hex(self.shared.config.member_id);
        if head::text(headers, &head::RAFT_TO) != Some(own.as_str()) {
            return error(StatusCode::PRECONDITION_FAILED, "to field mismatch");
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
        if let Some(answer) = self.check(request.headers()) {
            return answer;
        }
        stranger::learn(&self.shared, request.headers());
        let Ok(body) = read(request, FRAME_MAX as usize).await else {
            return error(StatusCode::BAD_REQUEST, "error reading raft message");
        };
        let Ok(said) = raftpb::Message::decode(body) else {
            return error(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        };
        if said.to() != self.shared.config.member_id {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message");
        }
        match member::message::from_wire(said) {
            // Without its file a snapshot means nothing.
            Ok(message) if matches!(message.body, Body::Snapshot(_)) => {
                error(StatusCode::BAD_REQUEST, "wrong raft message type")
            }
            Ok(message) => {
                self.shared.host.receive(&mut vec![message]);
                nothing()
            }
            // It came to the right place, where it means nothing.
            Err(_) => nothing(),
        }
    }

    async fn snapshot(&self, request: Request<Incoming>) -> Answer {
        if let Some(answer) = self.check(request.headers()) {
            return answer;
        }
        stranger::learn(&self.shared, request.headers());
        match snapshot::receive(&self.shared, &self.desk, request.into_body()).await {
            Ok(message) => {
                self.shared.host.receive(&mut vec![message]);
                nothing()
            }
            Err(refusal) => {
                let (logger, text) = (&self.shared.config.logger, refusal.to_string());
                log::warn!(logger, "failed to receive a snapshot", "error" = &text);
                error(refusal.status(), &text)
            }
        }
    }

    async fn hash_kv(&self, request: Request<Incoming>) -> Answer {
        if let Err(mismatch) = head::check_cluster(request.headers(), self.shared.config.cluster_id)
        {
            return error(StatusCode::PRECONDITION_FAILED, mismatch.text());
        }
        let Ok(body) = read(request, QUESTION_MAX).await else {
            return error(StatusCode::BAD_REQUEST, "error reading body");
        };
        let Some(revision) = page::revision_asked(&body) else {
            return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        match self.shared.host.hash_kv(revision).await {
            Ok(hash) => self.signed(page::hashed(&hash)),
            Err(refused) => error(StatusCode::BAD_REQUEST, word::said(refused)),
        }
    }

    async fn promote(&self, request: &Request<Incoming>, path: &str) -> Answer {
        let said = path.strip_prefix(PROMOTE).unwrap_or_default();
        let Some(id) = head::number(said, 10) else {
            return error(StatusCode::NOT_FOUND, &format!("member {said} not found in cluster"));
        };
        match self.shared.host.promote(id, ask::token(request.headers())).await {
            Ok(members) => page::members(&members),
            Err(refused) => error(status_of(refused), word::said(refused)),
        }
    }

    async fn renew(&self, request: Request<Incoming>) -> Answer {
        let id = match question(request).await {
            Ok(LeaseKeepAliveRequest { id }) => id,
            Err(refusal) => return refusal,
        };
        match timeout(LEASE_WAIT, self.shared.host.renew(id)).await {
            Ok(Ok(0)) => error(StatusCode::NOT_FOUND, word::said(Error::LeaseNotFound)),
            Ok(Ok(ttl)) => page::protobuf(&LeaseKeepAliveResponse { header: None, id, ttl }),
            Ok(Err(refused)) => lease_refused(refused, StatusCode::BAD_REQUEST),
            Err(_) => error(StatusCode::REQUEST_TIMEOUT, LEASE_WAITED),
        }
    }

    async fn time_to_live(&self, request: Request<Incoming>) -> Answer {
        let asked = match question(request).await {
            Ok(LeaseInternalRequest { lease_time_to_live_request: Some(asked) }) => asked,
            Ok(_) => return error(StatusCode::BAD_REQUEST, "error unmarshalling request"),
            Err(refusal) => return refusal,
        };
        match timeout(LEASE_WAIT, self.shared.host.time_to_live(asked)).await {
            Ok(Ok(known)) if known.ttl < 0 && known.granted_ttl == 0 => {
                error(StatusCode::NOT_FOUND, word::said(Error::LeaseNotFound))
            }
            Ok(Ok(known)) => {
                let header = Some(ResponseHeader::default());
                let known = Some(LeaseTimeToLiveResponse { header, ..known });
                page::protobuf(&LeaseInternalResponse { lease_time_to_live_response: known })
            }
            Ok(Err(refused)) => lease_refused(refused, StatusCode::INTERNAL_SERVER_ERROR),
            Err(_) => error(StatusCode::REQUEST_TIMEOUT, LEASE_WAITED),
        }
    }
}

/// Where there is nothing, or only almost.
fn nowhere(path: &str, request: &Request<Incoming>) -> Answer {
    if !Page::lacks_slash(path) {
        return not_found();
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    redirect(request.method(), &format!("{path}/{query}"))
}

/// Whoever asked is to ask again, here or elsewhere.
fn lease_refused(refused: Error, status: StatusCode) -> Answer {
    if matches!(refused, Error::Timeout | Error::TimeoutWaitAppliedIndex) {
        return error(StatusCode::REQUEST_TIMEOUT, LEASE_WAITED);
    }
    let text = if refused == Error::NotLeader { NOT_PRIMARY } else { word::said(refused) };
    error(status, text)
}

fn status_of(refused: Error) -> StatusCode {
    if refused == Error::MemberNotFound {
        return StatusCode::NOT_FOUND;
    }
    if matches!(refused, Error::MemberNotLearner | Error::LearnerNotReady) {
        return StatusCode::PRECONDITION_FAILED;
    }
    let status: Status = refused.into();
    let code = if status.code == Code::Unknown { Code::Internal } else { status.code };
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Why a body could not be read.
enum Unread {
    TooLong,
    Broken,
}

async fn read(request: Request<Incoming>, size_max: usize) -> Result<Bytes, Unread> {
    let body = Limited::new(request.into_body(), size_max).collect().await;
    let unread = |error: Box<dyn std::error::Error + Send + Sync>| {
        if error.is::<LengthLimitError>() { Unread::TooLong } else { Unread::Broken }
    };
    Ok(body.map_err(unread)?.to_bytes())
}

/// What is asked of a lease.
async fn question<M: Protobuf + Default>(request: Request<Incoming>) -> Result<M, Answer> {
    match read(request, QUESTION_MAX).await {
        Ok(body) => M::decode(body)
            .map_err(|_| error(StatusCode::BAD_REQUEST, "error unmarshalling request")),
        Err(Unread::TooLong) => Err(page::too_large()),
        Err(Unread::Broken) => Err(error(StatusCode::BAD_REQUEST, "error reading body")),
    }
}

fn nothing() -> Answer {
    let mut answer = Response::new(Content::Whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
