//! A streaming call: what comes in and what goes out, at the pace of the slower.

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
    stopping: watch::Receiver<bool>,
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
        let count = Count::begin(metrics, method, CallType::Stream, metadata.client_version());
        let deadline = metadata.deadline;
        let bidirectional = method.kind() == Kind::BidiStream;
        let stream = if bidirectional {
            context.service.open(method, metadata.caller)
        } else {
            metrics.grpc.msg_received(method);
            context.service.stream(method, metadata.caller, body)
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(status) => {
                count.end::<()>(metrics, &Err(status.clone()));
                return Err(status);
            }
        };
        let stopping = context.stopping.clone();
        let (asking, count) = (bidirectional, Some(count));
        Ok(Self { stream, requests, asking, codec, method, deadline, stopping, context, count })
    }

    /// The next line for the client. Dropping the future loses nothing.
    pub(super) async fn next_line(&mut self) -> Result<Option<Bytes>, Status> {
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
            let line = result.and_then(|message| match message {
                Some(message) => self.codec.line(&message).map(Some),
                None => Ok(None),
            });
            let metrics = self.context.service.metrics();
            match &line {
                Ok(Some(_)) => metrics.grpc.msg_sent(self.method),
                Ok(None) | Err(_) => {
                    if let Some(count) = self.count.take() {
                        count.end(metrics, &line);
                    }
                }
            }
            return line;
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
        tokio::select! {
            answer = stream.next() => Turn::Answered(answer),
            turn = asked => turn,
            () = until(*deadline) => Turn::OutOfTime,
            () = stopped(stopping) => Turn::Stopping,
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
