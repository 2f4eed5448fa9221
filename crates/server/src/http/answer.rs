//! Responses, in the forms Go's server and etcd's gateway give them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};
use proto::error::Status;
use serde_json::json;
use tokio::sync::mpsc::Receiver;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// The body of a request or response.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Bytes),
    /// Lines as they come; the body ends with the sender.
    Lines(Receiver<Bytes>),
    /// As many bytes as are `left`, of which `first` is there. A sender that ends too early cuts the
    /// body short, and whoever reads it can tell.
    Sized {
        first: Bytes,
        left: u64,
        pieces: Receiver<Bytes>,
    },
}

pub(crate) type Answer = Response<Content>;

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Lines(lines) => lines.poll_recv(context).map(|line| Some(Ok(Frame::data(line?)))),
            Self::Sized { left: 0, .. } => Poll::Ready(None),
            Self::Sized { first, left, pieces } => {
                let piece = if first.is_empty() {
                    ready!(pieces.poll_recv(context))
                } else {
                    Some(std::mem::take(first))
                };
                let Some(piece) = piece else { return Poll::Ready(None) };
                *left = left.saturating_sub(piece.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Lines(_) => false,
            Self::Sized { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Lines(_) => SizeHint::default(),
            Self::Sized { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

pub(crate) fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Content::Whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Nothing but a status line.
pub(super) fn empty() -> Answer {
    Response::new(Content::Whole(Bytes::new()))
}

/// A text that no browser may take for anything else.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = whole(status, TEXT, text);
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An error as Go's server says it: with a line's end.
pub(crate) fn error(status: StatusCode, what: &str) -> Answer {
    text(status, format!("{what}\n"))
}

pub(crate) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

pub(super) fn get_only() -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    answer
}

/// Sends the client to the tidy form of the path it asked for.
pub(crate) fn redirect(method: &Method, to: &str) -> Answer {
    let Ok(location) = HeaderValue::from_str(to) else { return not_found() };
    let mut answer = if matches!(*method, Method::GET | Method::HEAD) {
        let shown = to.replace('&', "&amp;").replace('"', "&#34;");
        let page = format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n");
        whole(StatusCode::TEMPORARY_REDIRECT, "text/html; charset=utf-8", page)
    } else {
        empty()
    };
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// A call's failure, as the gateway says it.
pub(super) fn refusal(status: &Status) -> Answer {
    let body = json!({"code": status.code.number(), "message": status.message}).to_string();
    let mut answer = whole(http_status(status), JSON, body);
    if answer.status() == StatusCode::UNAUTHORIZED
        && let Ok(why) = HeaderValue::from_str(&status.message)
    {
        answer.headers_mut().insert(WWW_AUTHENTICATE, why);
    }
    answer
}

/// A stream's failure, the last of its lines.
pub(super) fn error_line(status: &Status) -> Bytes {
    let error = json!({"code": status.code.number(), "message": status.message});
    format!("{}\n", json!({ "error": error })).into()
}

pub(super) fn http_status(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code.http_status()).expect("our table holds real ones")
}
