//! A gRPC client of a few lines: calls, streams, and whether a failure was an answer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream as PlainStream;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Uri};
use proto::Method;
use proto::prost::Message;
use tokio::net::TcpStream;

/// What a stream may be ahead of its reader: no test's answers are longer.
const WINDOW: u32 = 64 << 20;
/// Before each message: a flag, and its length.
const PREFIX: usize = 5;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server said no: nothing happened.
    Refused { code: u32, message: String },
    /// The connection ended first: it may have happened, or not.
    Lost,
}

impl From<h2::Error> for Failure {
    fn from(_: h2::Error) -> Self {
        Self::Lost
    }
}

/// What a server answers to a GET of HTTP/1.1: head and body.
pub(crate) fn get(port: u16, path: &str) -> io::Result<String> {
    let mut socket = PlainStream::connect(("127.0.0.1", port))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a server counts: each sample, by its name with its labels.
pub(crate) fn samples(port: u16) -> BTreeMap<String, f64> {
    let page = get(port, "/metrics").expect("a page");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?))).collect()
}

/// A connection. Its clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        Self::with_window(port, WINDOW).await
    }

    /// Connects, and lets the server be `window` bytes ahead of whoever reads a stream.
    pub(crate) async fn with_window(port: u16, window: u32) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let handshake = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .handshake(socket);
        let (requests, connection) = handshake.await.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests })
    }

    /// Makes a unary call.
    pub(crate) async fn call<M: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<M, Failure> {
        let mut stream = self.open(method).await?;
        stream.send(request, true)?;
        let answer = stream.next().await?.ok_or(Failure::Lost)?;
        match stream.next::<M>().await? {
            None => Ok(answer),
            Some(_) => panic!("two answers to one call of {method:?}"),
        }
    }

    /// Begins a call.
    pub(crate) async fn open(&self, method: Method) -> Result<Stream, Failure> {
        let mut requests = self.requests.clone().ready().await?;
        let uri = Uri::builder()
            .scheme("http")
            .authority("localhost")
            .path_and_query(method.path())
            .build()
            .expect("a path");
        let request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (head, requests) = requests.send_request(request, false)?;
        Ok(Stream { requests, answers: Answers::Awaited(head), buffer: BytesMut::new() })
    }
}

enum Answers {
    Awaited(ResponseFuture),
    Coming(RecvStream),
    Ended,
}

/// A call under way.
pub(crate) struct Stream {
    requests: SendStream<Bytes>,
    answers: Answers,
    buffer: BytesMut,
}

impl Stream {
    pub(crate) fn send(&mut self, request: &impl Message, last: bool) -> Result<(), Failure> {
        let mut framed = BytesMut::with_capacity(PREFIX + request.encoded_len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(request.encoded_len()).expect("a request of normal size"));
        request.encode(&mut framed).expect("a buffer that grows");
        Ok(self.requests.send_data(framed.freeze(), last)?)
    }

    /// The next message; `None` when the call has ended well.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Failure> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(M::decode(message).expect("an answer that can be read")));
            }
            match &mut self.answers {
                Answers::Awaited(head) => {
                    let (parts, body) = head.await?.into_parts();
                    if parts.headers.contains_key("grpc-status") {
                        self.answers = Answers::Ended;
                        return status(&parts.headers).map(|()| None);
                    }
                    self.answers = Answers::Coming(body);
                }
                Answers::Coming(body) => match body.data().await {
                    Some(data) => {
                        let data = data?;
                        body.flow_control().release_capacity(data.len())?;
                        self.buffer.extend_from_slice(&data);
                    }
                    None => {
                        let trailers = body.trailers().await?.ok_or(Failure::Lost)?;
                        self.answers = Answers::Ended;
                        return status(&trailers).map(|()| None);
                    }
                },
                Answers::Ended => return Ok(None),
            }
        }
    }

    /// Reads to the end, and keeps nothing: how many bytes came.
    pub(crate) async fn drain(&mut self) -> Result<u64, Failure> {
        let mut n = 0;
        loop {
            match &mut self.answers {
                Answers::Awaited(head) => {
                    self.answers = Answers::Coming(head.await?.into_body());
                }
                Answers::Coming(body) => {
                    let Some(data) = body.data().await else { break };
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    n += data.len() as u64;
                }
                Answers::Ended => break,
            }
        }
        self.next::<()>().await.map(|_| n)
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..PREFIX)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if self.buffer.len() < PREFIX + length {
            return None;
        }
        let mut message = self.buffer.split_to(PREFIX + length);
        drop(message.split_to(PREFIX));
        Some(message.freeze())
    }
}

fn status(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status").parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Refused { code, message: text("grpc-message").to_owned() }),
        Err(_) => panic!("no status in {headers:?}"),
    }
}
