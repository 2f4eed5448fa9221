//! HTTP/1.1, as much of it as talking to one server takes: one request a connection.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// No answer of a conformance script comes near this.
const BODY_SIZE_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 100;

pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

/// An answer: its head, and a body that may still be on its way.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    rest: Rest,
    /// Of the body, what came and was not asked for yet.
    pending: Vec<u8>,
    reader: BufReader<OwnedReadHalf>,
    _writer: OwnedWriteHalf,
}

/// How much of the body is still to come.
enum Rest {
    Bytes(usize),
    Chunks,
    UntilClosed,
}

pub(crate) async fn send(address: SocketAddr, request: &Request<'_>) -> anyhow::Result<Answer> {
    let Request { method, path, headers, body } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in *headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let message = [head.as_bytes(), body].concat();
    // A server that refuses a large body may hang up before it has all of it.
    let sent = writer.write_all(&message).await;
    let mut reader = BufReader::new(reader);
    let (status, headers) = match read_head(&mut reader).await {
        Ok(head) => head,
        Err(error) => return Err(sent.err().map_or(error, anyhow::Error::from)),
    };
    let rest = rest(method, status, &headers)?;
    Ok(Answer { status, headers, rest, pending: Vec::new(), reader, _writer: writer })
}

type Head = (u16, Vec<(String, String)>);

async fn read_head(reader: &mut BufReader<OwnedReadHalf>) -> anyhow::Result<Head> {
    let first = line(reader).await?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.with_context(|| format!("not a status line: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(reader).await?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        ensure!(headers.len() < HEADERS_MAX, "too many headers");
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn line(reader: &mut BufReader<OwnedReadHalf>) -> anyhow::Result<String> {
    let mut line = String::new();
    let length = reader.read_line(&mut line).await?;
    ensure!(length > 0, "the server hung up");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn rest(method: &str, status: u16, headers: &[(String, String)]) -> anyhow::Result<Rest> {
    let header = |name| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(Rest::Bytes(0));
    }
    Ok(match (header("transfer-encoding"), header("content-length")) {
        (Some("chunked"), _) => Rest::Chunks,
        (Some(other), _) => bail!("unknown transfer encoding {other}"),
        (None, Some(length)) => Rest::Bytes(length.parse()?),
        (None, None) => Rest::UntilClosed,
    })
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The whole body, once it has ended.
    pub(crate) async fn body(&mut self) -> anyhow::Result<Vec<u8>> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.pending))
    }

    /// What comes of the body: all of it, or as much as there was when the server hung up.
    pub(crate) async fn what_comes(&mut self) -> Vec<u8> {
        while self.more().await.is_ok_and(|more| more) {}
        std::mem::take(&mut self.pending)
    }

    /// The body's next line, as soon as it is there; nothing at the end.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(at) = self.pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=at).collect();
                return Ok(Some(String::from_utf8(line)?.trim_end().to_owned()));
            }
            if !self.more().await? {
                let last = std::mem::take(&mut self.pending);
                return Ok((!last.is_empty()).then(|| String::from_utf8_lossy(&last).into_owned()));
            }
        }
    }

    /// Waits for the next piece of the body; false at its end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        ensure!(self.pending.len() < BODY_SIZE_MAX, "a body without end");
        let start = self.pending.len();
        match &mut self.rest {
            Rest::Bytes(0) => return Ok(false),
            Rest::Bytes(left) => {
                self.pending.resize(start + *left, 0);
                self.reader.read_exact(&mut self.pending[start..]).await?;
                *left = 0;
            }
            Rest::UntilClosed => {
                return Ok(self.reader.read_buf(&mut self.pending).await? > 0);
            }
            Rest::Chunks => {
                let size = line(&mut self.reader).await?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
                ensure!(size < BODY_SIZE_MAX, "a chunk without end");
                self.pending.resize(start + size, 0);
                self.reader.read_exact(&mut self.pending[start..]).await?;
                while !line(&mut self.reader).await?.is_empty() {}
                if size == 0 {
                    self.rest = Rest::Bytes(0);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
