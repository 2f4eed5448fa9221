//! gRPC with messages as they are: bytes in, bytes out.

use ::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// A script sends a handful of messages a stream.
const UNSENT_MAX: usize = 64;

/// How a message leaves and enters: unchanged.
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsIs;
    type Decoder = AsIs;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> AsIs {
        AsIs
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// Where a call goes, and what goes with it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) channel: Channel,
    pub(crate) path: String,
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
}

impl Target {
    async fn ready(&self) -> Result<(Grpc<Channel>, PathAndQuery), Status> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        client.ready().await.map_err(|e| Status::internal(format!("not ready: {e}")))?;
        let path = PathAndQuery::try_from(self.path.as_str());
        Ok((client, path.map_err(|e| Status::internal(e.to_string()))?))
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let wrong = |e: &dyn std::error::Error| Status::internal(format!("metadata: {e}"));
        let mut metadata = MetadataMap::new();
        for (name, value) in &self.metadata {
            let name = MetadataKey::from_bytes(name.as_bytes()).map_err(|e| wrong(&e))?;
            let value = MetadataValue::try_from(value.as_slice()).map_err(|e| wrong(&e))?;
            metadata.insert(name, value);
        }
        Ok(Request::from_parts(metadata, tonic::Extensions::new(), message))
    }

    /// One message there, one back.
    pub(crate) async fn call(&self, message: Bytes) -> Result<Bytes, Status> {
        let (mut client, path) = self.ready().await?;
        let answer = client.unary(self.request(message)?, path, AsIs).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream: what is sent into the channel goes to the server, until it is dropped.
    ///
    /// The first answer may be long in coming, so opening does not wait for one.
    pub(crate) fn open(self) -> (mpsc::Sender<Bytes>, Answers) {
        let (sender, receiver) = mpsc::channel(UNSENT_MAX);
        let opening = tokio::spawn(async move {
            let (mut client, path) = self.ready().await?;
            let request = self.request(ReceiverStream::new(receiver))?;
            Ok(client.streaming(request, path, AsIs).await?.into_inner())
        });
        (sender, Answers::Opening(opening))
    }
}

/// The answers of a stream.
pub(crate) enum Answers {
    Opening(tokio::task::JoinHandle<Result<Streaming<Bytes>, Status>>),
    Open(Box<Streaming<Bytes>>),
    Closed,
}

impl Answers {
    /// The next answer; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Answers::Opening(opening) = self {
            let opened = opening.await.map_err(|e| Status::internal(e.to_string()))?;
            *self = match opened {
                Ok(stream) => Answers::Open(Box::new(stream)),
                Err(status) => {
                    *self = Answers::Closed;
                    return Err(status);
                }
            };
        }
        match self {
            Answers::Open(stream) => stream.message().await,
            Answers::Opening(_) | Answers::Closed => Ok(None),
        }
    }
}
