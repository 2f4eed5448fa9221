//! Connecting to another member, and asking it something over HTTP/1.1.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::HOST;
use hyper::http::request::Builder as Head;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::remote::Remote;
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
    pub(super) url: String,
}

impl Connection {
    /// Connects to a member at the first of its URLs where it is to be found.
    pub(super) async fn reach(remote: &Remote) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for url in remote.urls() {
            match Self::open(&url).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
            remote.blame(&url);
        }
        Err(last)
    }

    /// Connects to where `url` leads. The connection is driven on the present runtime.
    pub(super) async fn open(url: &str) -> io::Result<Self> {
        let place = Url::parse(url).map_err(io::Error::other)?;
        if place.tls {
            return Err(io::Error::new(ErrorKind::Unsupported, "TLS between members"));
        }
        let opened = timeout(CONNECT_MAX, Self::open_place(&place.place)).await?;
        let (requests, authority) = opened?;
        Ok(Self { requests, authority, url: url.to_owned() })
    }

    async fn open_place(place: &Place) -> io::Result<(SendRequest<Content>, String)> {
        match place {
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok((Self::over(stream).await?, format!("{host}:{port}")))
            }
            Place::Unix { path } => {
                Ok((Self::over(UnixStream::connect(path).await?).await?, "localhost".into()))
            }
        }
    }

    async fn over<S>(stream: S) -> io::Result<SendRequest<Content>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new();
        let shaken = builder.title_case_headers(true).handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(io::Error::other)?;
        // It ends with its last request; how is that request's to tell.
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(requests)
    }

    /// Whether another request may be tried.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Head,
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
        request: Head,
        body: Bytes,
    ) -> io::Result<(StatusCode, Response<Bytes>)> {
        let (parts, body) = self.send(request, Content::Whole(body)).await?.into_parts();
        let whole = Limited::new(body, ANSWER_SIZE_MAX).collect().await;
        let whole = whole.map_err(io::Error::other)?.to_bytes();
        Ok((parts.status, Response::from_parts(parts, whole)))
    }
}
