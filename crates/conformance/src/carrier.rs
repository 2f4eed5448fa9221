//! What carries calls: gRPC, or HTTP with JSON. Above this, no difference but the HTTP status.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::command::Call;
use crate::gateway::{self, Meaning};
use crate::notation::{Form, to_gateway, to_message};
use crate::{grpc, http, schema};

/// No method answers with more messages than this in one call.
const ANSWERS_MAX: usize = 10_000;

#[derive(Clone)]
pub(crate) enum Carrier {
    Grpc(Channel),
    Gateway(SocketAddr),
}

impl Carrier {
    /// Makes the call, and collects all that comes back.
    pub(crate) async fn call(self, call: Call) -> anyhow::Result<Vec<Meaning>> {
        if let (Carrier::Grpc(_), false) = (&self, call.method.is_server_streaming()) {
            let (target, message) = self.target(&call)?;
            let answer = target.call(message).await;
            return Ok(vec![understood(&call.method, answer)?]);
        }
        let mut stream = self.open(&call, &[])?;
        if call.method.is_client_streaming() {
            stream.finish()?;
        }
        let mut answers = Vec::new();
        while let Some(answer) = stream.next().await? {
            answers.push(answer);
            if answers.len() > ANSWERS_MAX {
                bail!("answers without end");
            }
        }
        Ok(answers)
    }

    /// Starts a stream with a first message and `more`.
    pub(crate) fn open(&self, call: &Call, more: &[Json]) -> anyhow::Result<Stream> {
        let method = call.method.clone();
        match self {
            Carrier::Grpc(_) => {
                let (target, first) = self.target(call)?;
                let (sender, answers) = target.open();
                sender.try_send(first)?;
                for message in more {
                    let message = to_message(&method.input(), message, Form::Script)?;
                    sender.try_send(message.encode_to_vec().into())?;
                }
                // One request only: etcd wants to see its end before it answers.
                let sender = method.is_client_streaming().then_some(sender);
                Ok(Stream::Grpc { method, sender, answers })
            }
            Carrier::Gateway(address) => {
                let path = gateway::route(&method)?;
                let headers = gateway_headers(call)?;
                let mut body = String::new();
                for message in [&call.request].into_iter().chain(more) {
                    let message = to_message(&method.input(), message, Form::Script)?;
                    body.push_str(&to_gateway(&message).to_string());
                }
                let address = *address;
                let opening = tokio::spawn(async move {
                    let body = body.as_bytes();
                    let request = http::Request { method: "POST", path, headers: &headers, body };
                    http::send(address, &request).await
                });
                Ok(Stream::Gateway { method, answer: Arriving::Opening(opening) })
            }
        }
    }

    fn target(&self, call: &Call) -> anyhow::Result<(grpc::Target, Bytes)> {
        let Carrier::Grpc(channel) = self else { bail!("the gateway has no targets") };
        let message = to_message(&call.method.input(), &call.request, Form::Script)?;
        let path = schema::path(&call.method);
        let metadata = call.metadata.clone();
        let target = grpc::Target { channel: channel.clone(), path, metadata };
        Ok((target, message.encode_to_vec().into()))
    }
}

/// gRPC's metadata, as the gateway takes it.
fn gateway_headers(call: &Call) -> anyhow::Result<Vec<(String, String)>> {
    let headers = call.metadata.iter().map(|(name, value)| {
        let value = String::from_utf8(value.clone()).context("the gateway takes only text")?;
        Ok((format!("Grpc-Metadata-{name}"), value))
    });
    headers.collect()
}

/// What an answer in gRPC says.
pub(crate) fn understood(
    method: &MethodDescriptor,
    answer: Result<Bytes, Status>,
) -> anyhow::Result<Meaning> {
    Ok(match answer {
        Ok(bytes) => Meaning::Message(DynamicMessage::decode(method.output(), bytes)?),
        Err(status) => failed(&status),
    })
}

/// What a failure in gRPC says.
pub(crate) fn failed(status: &Status) -> Meaning {
    let message = status.message().to_owned();
    Meaning::Error { code: i32::from(status.code()), message, http: None }
}

/// A stream that is open.
pub(crate) enum Stream {
    Grpc { method: MethodDescriptor, sender: Option<mpsc::Sender<Bytes>>, answers: grpc::Answers },
    Gateway { method: MethodDescriptor, answer: Arriving },
}

/// An HTTP answer, whose head may take as long as its first line.
pub(crate) enum Arriving {
    Opening(JoinHandle<anyhow::Result<http::Answer>>),
    Open(Box<http::Answer>),
    Ended,
}

impl Stream {
    pub(crate) fn send(&mut self, message: &Json) -> anyhow::Result<()> {
        let Stream::Grpc { method, sender, .. } = self else {
            bail!("over the gateway, all messages of a stream are sent when it is opened");
        };
        let message = to_message(&method.input(), message, Form::Script)?;
        let sender = sender.as_ref().context("this stream's messages have ended")?;
        sender.try_send(message.encode_to_vec().into())?;
        Ok(())
    }

    /// Says that no more messages will come. Over the gateway that is so from the start.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        if let Stream::Grpc { sender, .. } = self {
            sender.take().context("this stream's messages have ended before")?;
        }
        Ok(())
    }

    /// The next answer; nothing after the last.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Meaning>> {
        match self {
            Stream::Grpc { method, answers, .. } => match answers.next().await {
                Ok(Some(bytes)) => understood(method, Ok(bytes)).map(Some),
                Ok(None) => Ok(None),
                Err(status) => {
                    *answers = grpc::Answers::Closed;
                    Ok(Some(failed(&status)))
                }
            },
            Stream::Gateway { method, answer } => answer.next(method).await,
        }
    }
}

impl Arriving {
    async fn next(&mut self, method: &MethodDescriptor) -> anyhow::Result<Option<Meaning>> {
        if let Arriving::Opening(opening) = self {
            *self = Arriving::Open(Box::new(opening.await??));
        }
        let Arriving::Open(answer) = self else { return Ok(None) };
        let status = answer.status;
        let text = if method.is_server_streaming() && status == 200 {
            answer.line().await?
        } else {
            let body = answer.body().await?;
            *self = Arriving::Ended;
            Some(String::from_utf8(body)?)
        };
        let Some(text) = text else { return Ok(None) };
        let json = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        gateway::meaning(method, status, &json).map(Some)
    }
}
