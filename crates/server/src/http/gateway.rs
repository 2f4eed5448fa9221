//! The JSON gateway: every method that has a route, as a POST with a JSON body.
//!
//! ```text
//!   POST /v3/kv/put {"key":"YQ=="}  ─► one value ─► protobuf ─► Service::call ─► JSON
//!   POST /v3/watch  {…}{…}…         ─► values as they come ─► Service::open ─► {"result":{…}}⏎ …
//! ```
//!
//! | what | how it is said |
//! |---|---|
//! | a call fails | its HTTP status, `{"code":5,"message":"…"}` |
//! | a stream fails at once | its HTTP status, `{"error":{"code":5,"message":"…"}}` |
//! | a stream fails later | the same, as its last line |
//! | a long range fails underway | its JSON breaks off |
//!
//! # Invariants
//!
//! - A body is held only up to one value of [`Requests::value_max`] bytes.
//! - A stream's answer begins with its first message: until then it can still fail properly.
//! - A body is read on while its call runs, or a client that goes would not be noticed.
//! - The end of a request stream, or nonsense in it, half-closes the call; it does not end it.

mod codec;
mod exchange;
mod pieces;
mod request;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method as Verb, Request, Response, StatusCode};
use proto::error::{Code, Status};
use proto::method::{Kind, Method};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use self::codec::Codec;
use self::exchange::Exchange;
use self::request::{Metadata, Requests};
use super::answer::{self, Answer, Content};
use super::{Context, Service};
use crate::metrics::{CallType, Metrics};

/// Lines of one stream that wait for its client.
const LINES_MAX: usize = 4;

const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
const FORM: &str = "application/x-www-form-urlencoded";
const GRPC_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

/// Answers whatever lies under `/v3/`.
pub(super) async fn answer<S: Service>(
    path: &str,
    request: Request<Incoming>,
    context: Arc<Context<S>>,
) -> Answer {
    let Some((method, codec)) = Method::from_route(path).and_then(|m| Some((m, Codec::of(m)?)))
    else {
        return said(StatusCode::NOT_FOUND, Code::NotFound, "Not Found");
    };
    let overriding = overriding_verb(&request).cloned();
    let posts = |verb: &HeaderValue| verb.as_bytes().eq_ignore_ascii_case(b"POST");
    if *request.method() != Verb::POST || !overriding.iter().all(posts) {
        return said(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, "Method Not Allowed");
    }
    let (head, body) = request.into_parts();
    let metadata = match Metadata::read(&head.headers) {
        Ok(metadata) => metadata,
        Err(status) => return answer::refusal(&status),
    };
    let mut requests = Requests::new(body, context.request_bytes_max);
    if overriding.is_some()
        && let Err(status) = requests.discard().await
    {
        return answer::refusal(&status);
    }
    let call = Call { method, codec, metadata, requests };
    match method.kind() {
        Kind::Unary if method == Method::Range => {
            call.range(context).await.unwrap_or_else(|e| answer::refusal(&e))
        }
        Kind::Unary => call.unary(&context).await.unwrap_or_else(|e| answer::refusal(&e)),
        Kind::ServerStream | Kind::BidiStream => call.streaming(context).await,
    }
}

/// What the method of a form is to be taken for. A form that says so is read as one: nothing of it is
/// left for the call.
fn overriding_verb(request: &Request<Incoming>) -> Option<&HeaderValue> {
    let headers = request.headers();
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == FORM);
    let overriding = headers.get(METHOD_OVERRIDE).filter(|verb| !verb.is_empty());
    overriding.filter(|_| is_form && *request.method() == Verb::POST)
}

fn said(status: StatusCode, code: Code, message: &'static str) -> Answer {
    let mut answer = answer::refusal(&Status::new(code, message));
    *answer.status_mut() = status;
    answer
}

/// A request on its way in.
struct Call {
    method: Method,
    codec: Codec,
    metadata: Metadata,
    requests: Requests<Incoming>,
}

impl Call {
    async fn unary<S: Service>(mut self, context: &Context<S>) -> Result<Answer, Status> {
        let body = self.whole_request().await?;
        let Self { method, metadata, mut requests, .. } = self;
        let metrics = context.service.metrics();
        let count = Count::begin(metrics, method, CallType::Unary, metadata.client_version());
        let mut counted = Counted { metrics, count: Some(count) };
        metrics.grpc.msg_received(method);
        let call = context.service.call(method, metadata.caller, body);
        let result = tokio::select! {
            biased;
            status = requests.drain() => Err(status),
            () = until(metadata.deadline) => Err(deadline_exceeded()),
            result = call => result,
        };
        counted.end(&result);
        let json = self.codec.response(&result?)?;
        metrics.grpc.msg_sent(method);
        Ok(from_grpc(Content::Whole(json.into())))
    }

    /// A call whose answer may be long.
    async fn range<S: Service>(mut self, context: Arc<Context<S>>) -> Result<Answer, Status> {
        let body = self.whole_request().await?;
        pieces::answer(Exchange::begin(self, body, context)?).await
    }

    /// The request of a call that takes one. What follows it in the body is not looked at.
    async fn whole_request(&mut self) -> Result<Bytes, Status> {
        let json = self.requests.next().await?;
        self.codec.request(json.as_deref().unwrap_or(b"{}"), self.requests.message_max())
    }

    async fn streaming<S: Service>(mut self, context: Arc<Context<S>>) -> Answer {
        let mut body = Bytes::new();
        if self.method.kind() == Kind::ServerStream {
            match self.whole_request().await {
                Ok(request) => body = request,
                Err(status) => return answer::refusal(&status),
            }
        }
        let mut exchange = match Exchange::begin(self, body, context) {
            Ok(exchange) => exchange,
            Err(status) => return failed_stream(&status),
        };
        match exchange.next_line().await {
            Ok(Some(first)) => {
                let (sender, lines) = mpsc::channel(LINES_MAX);
                tokio::spawn(exchange.run(first, sender));
                from_grpc(Content::Lines(lines))
            }
            // It ended well without a word: etcd sends no type either.
            Ok(None) => Response::new(Content::Lines(mpsc::channel(1).1)),
            Err(status) => failed_stream(&status),
        }
    }
}

/// A stream that failed before its first message.
fn failed_stream(status: &Status) -> Answer {
    answer::whole(answer::http_status(status), answer::JSON, answer::error_line(status))
}

fn from_grpc(content: Content) -> Answer {
    let mut answer = Response::new(content);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer::JSON));
    headers.insert(GRPC_CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// Waits for a deadline, if there is one.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) if deadline <= Instant::now() => {}
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn deadline_exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, Cow::Borrowed("context deadline exceeded"))
}

/// A call being counted.
struct Count {
    method: Method,
    began: Option<Instant>,
}

impl Count {
    fn begin(metrics: &Metrics, method: Method, how: CallType, version: Option<&str>) -> Self {
        let requests = &metrics.client_requests;
        requests.count(requests.version(version), how);
        metrics.grpc.started(method);
        Self { method, began: metrics.grpc.is_extensive().then(Instant::now) }
    }

    fn end<T>(self, metrics: &Metrics, result: &Result<T, Status>) {
        let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
        metrics.grpc.handled(self.method, code);
        if code != Code::Ok && self.method.kind() == Kind::Unary {
            metrics.grpc.msg_sent(self.method); // As of gRPC's calls.
        }
        if let Some(began) = self.began {
            metrics.grpc.took(self.method, began.elapsed());
        }
    }

    /// The client has gone before the end.
    fn cancel(self, metrics: &Metrics) {
        self.end::<()>(metrics, &Err(request::gone()));
    }
}

/// A call that counts as cancelled if it is dropped before its end.
struct Counted<'a> {
    metrics: &'a Metrics,
    count: Option<Count>,
}

impl Counted<'_> {
    fn end<T>(&mut self, result: &Result<T, Status>) {
        if let Some(count) = self.count.take() {
            count.end(self.metrics, result);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.count.take() {
            count.cancel(self.metrics);
        }
    }
}
