//! Connecting to another member, and asking it something over HTTP/1.1.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Place, Url};
use crate::http::Content;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The longest answer to a question, in bytes. Streams have no such bound.
const ANSWER_SIZE_MAX: usize = 16 << 20;

/// A connection, which ends with this.
pub(super) struct Connection {
    requests: SendRequest<Content>,
    authority: String,
}

impl Connection {
    /// Connects to where `url` leads. The connection is driven on the present runtime.
    pub(super) async fn open(url: &str) -> io::Result<Self> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        if url.tls {
            return Err(io::Error::new(ErrorKind::Unsupported, "TLS between members"));
        }
        timeout(CONNECT_MAX, Self::open_place(&url.place)).await?
    }

    async fn open_place(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Self::over(stream, format!("{host}:{port}")).await
            }
            Place::Unix { path } => {
                Self::over(UnixStream::connect(path).await?, "localhost".into()).await
            }
        }
    }

    async fn over<S>(stream: S, authority: String) -> io::Result<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with its last request; how is that request's to tell.
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(Self { requests, authority })
    }

    /// Whether another request may be tried.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Builder,
        body: Content,
    ) -> io::Result<Response<Incoming>> {
        let request: Request<Content> =
            request.header(HOST, &self.authority).body(body).map_err(io::Error::other)?;
        self.requests.ready().await.map_err(io::Error::other)?;
        self.requests.send_request(request).await.map_err(io::Error::other)
    }

    /// Sends a request and waits for its whole answer.
    pub(super) async fn ask(
        &mut self,
        request: Builder,
        body: Bytes,
    ) -> io::Result<(StatusCode, Response<Bytes>)> {
        let (parts, body) = self.send(request, Content::Whole(body)).await?.into_parts();
        let whole = Limited::new(body, ANSWER_SIZE_MAX).collect().await;
        let whole = whole.map_err(io::Error::other)?.to_bytes();
        Ok((parts.status, Response::from_parts(parts, whole)))
    }
}
