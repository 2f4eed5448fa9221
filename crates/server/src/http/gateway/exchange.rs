//! A call that takes a while: what comes in and what goes out, at the pace of the slower.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use proto::error::{Code, Error, Status};
use proto::method::{Kind, Method};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use super::super::service::{Service, Stream};
use super::super::{Context, answer, stopped};
use super::codec::Codec;
use super::request::Requests;
use super::{Call, Count, deadline_exceeded, until};
use crate::metrics::CallType;

/// See the module.
pub(super) struct Exchange<S: Service> {
    stream: S::Stream,
    requests: Requests<Incoming>,
    /// Whether what the client sends are still requests.
    asking: bool,
    codec: Codec,
    method: Method,
    deadline: Option<Instant>,
    /// Streams end with the server; what has one answer gets it.
    stopping: Option<watch::Receiver<bool>>,
    context: Arc<Context<S>>,
    /// `None` once the end has been counted.
    count: Option<Count>,
}

/// What happened next.
enum Turn {
    Answered(Result<Option<Bytes>, Status>),
    Asked(Result<Option<Bytes>, Status>),
    OutOfTime,
    Stopping,
}

impl<S: Service> Exchange<S> {
    /// Begins the call: with `body`, or with what the request stream brings.
    pub(super) fn begin(call: Call, body: Bytes, context: Arc<Context<S>>) -> Result<Self, Status> {
        let Call { method, codec, metadata, requests } = call;
        let metrics = context.service.metrics();
        let kind = method.kind();
        let how = if kind == Kind::Unary { CallType::Unary } else { CallType::Stream };
        let count = Count::begin(metrics, method, how, metadata.client_version());
        let deadline = metadata.deadline;
        if kind != Kind::BidiStream {
            metrics.grpc.msg_received(method);
        }
        let stream = match kind {
            Kind::Unary => context.service.pieces(method, metadata.caller, body),
            Kind::ServerStream => context.service.stream(method, metadata.caller, body),
            Kind::BidiStream => context.service.open(method, metadata.caller),
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(status) => {
                count.end::<()>(metrics, &Err(status.clone()));
                return Err(status);
            }
        };
        let stopping = (kind != Kind::Unary).then(|| context.stopping.clone());
        let (asking, count) = (kind == Kind::BidiStream, Some(count));
        Ok(Self { stream, requests, asking, codec, method, deadline, stopping, context, count })
    }

    /// The next message, or, of a long answer, its next piece. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let result = match self.turn().await {
                Turn::Asked(request) => match self.forward(request) {
                    Ok(()) => continue,
                    Err(status) => Err(status),
                },
                Turn::Answered(answer) => answer,
                Turn::OutOfTime => Err(deadline_exceeded()),
                Turn::Stopping => Err(Error::Stopped.into()),
            };
            if !matches!(result, Ok(Some(_))) {
                self.end(&result);
            }
            return result;
        }
    }

    /// The next line for the client.
    pub(super) async fn next_line(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(message) = self.next().await? else { return Ok(None) };
        let line = self.codec.line(&message);
        match &line {
            Ok(_) => self.context.service.metrics().grpc.msg_sent(self.method),
            Err(_) => self.end(&line),
        }
        line.map(Some)
    }

    fn end<T>(&mut self, result: &Result<T, Status>) {
        let metrics = self.context.service.metrics();
        if let Some(count) = self.count.take() {
            if self.method.kind() == Kind::Unary && result.is_ok() {
                metrics.grpc.msg_sent(self.method);
            }
            count.end(metrics, result);
        }
    }

    async fn turn(&mut self) -> Turn {
        let Self { stream, requests, asking, deadline, stopping, .. } = self;
        let asked = async {
            if *asking {
                Turn::Asked(requests.next().await)
            } else {
                Turn::Answered(Err(requests.drain().await))
            }
        };
        let ending = async {
            match stopping {
                Some(stopping) => stopped(stopping).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = stream.next() => Turn::Answered(answer),
            turn = asked => turn,
            () = until(*deadline) => Turn::OutOfTime,
            () = ending => Turn::Stopping,
        }
    }

    /// Hands a request on. The end of requests, or nonsense, is the last.
    fn forward(&mut self, request: Result<Option<Bytes>, Status>) -> Result<(), Status> {
        let len_max = self.requests.message_max();
        let body = match request {
            Ok(Some(json)) => self.codec.request(&json, len_max).map(Some),
            Ok(None) => Ok(None),
            Err(status) => Err(status),
        };
        match body {
            Ok(Some(body)) => {
                self.context.service.metrics().grpc.msg_received(self.method);
                self.stream.message(body);
            }
            // What is too large is refused; what makes no sense is where the stream of requests ends.
            Err(status) if status.code == Code::ResourceExhausted => return Err(status),
            Ok(None) | Err(_) => {
                self.asking = false;
                self.stream.half_close();
            }
        }
        Ok(())
    }

    /// Sends line after line, until the stream ends or the client has gone.
    pub(super) async fn run(mut self, first: Bytes, lines: Sender<Bytes>) {
        let mut line = first;
        while lines.send(line).await.is_ok() {
            let next = tokio::select! {
                next = self.next_line() => next,
                () = lines.closed() => return,
            };
            line = match next {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(status) => {
                    // Nobody is left to tell if the client has gone as well.
                    drop(lines.send(answer::error_line(&status)).await);
                    return;
                }
            };
        }
    }
}

impl<S: Service> Drop for Exchange<S> {
    fn drop(&mut self) {
        if let Some(count) = self.count.take() {
            count.cancel(self.context.service.metrics());
        }
    }
}
