//! Listening: whoever connects is shown to the right door by the first bytes it sends.
//!
//! HTTP/2 with prior knowledge begins with a fixed preface: such a connection goes to a shard, which
//! owns it from then on. Anything else is HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use member::inbox::Inbox;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::{Place, Url};
use crate::http::{self, Context, Door, Member};
use crate::log::{self, Logger};
use crate::shard::Socket;

/// As much of HTTP/2's preface as tells it from every method of HTTP/1.1.
const PREFACE_START: &[u8] = b"PRI * HTTP/2.0";
/// Whoever connects and says nothing for so long is sent away.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(120);
/// Between the first two looks at a beginning that is too short to tell. Each wait is twice the one
/// before: a client is kept waiting no longer than it has kept us, and one that dawdles wakes us once a second.
const MORE_BYTES_LOOK: Duration = Duration::from_millis(10);
const MORE_BYTES_LOOK_MAX: Duration = Duration::from_secs(1);
/// How long to hold back after the system refused a connection, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where connections go.
#[derive(Clone)]
pub struct Doors {
    /// Shards, in turns; none where only HTTP/1.1 is spoken.
    pub shards: Arc<Vec<Arc<Inbox<Socket>>>>,
    /// `None` where only gRPC is spoken.
    pub http: Option<(Arc<Context<Member>>, Door)>,
    pub logger: Logger,
}

impl Listener {
    /// Binds the place of `url`.
    pub async fn bind(url: &Url) -> io::Result<Self> {
        match &url.place {
            Place::Tcp { host, port } => {
                Ok(Self::Tcp(TcpListener::bind((host.as_str(), *port)).await?))
            }
            Place::Unix { path } => {
                // A socket file that nobody listens at any more is in the way.
                if UnixStream::connect(path).await.is_err() {
                    drop(std::fs::remove_file(path));
                }
                Ok(Self::Unix(UnixListener::bind(path)?))
            }
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(s, _)| Accepted::Tcp(s)),
            Self::Unix(listener) => listener.accept().await.map(|(s, _)| Accepted::Unix(s)),
        }
    }

    /// The same listener, on the present runtime.
    pub(crate) fn adopted(self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener.into_std()?).map(Self::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener.into_std()?).map(Self::Unix),
        }
    }

    /// Accepts for as long as the process lives.
    pub async fn run(self, doors: Doors) {
        let mut next = 0;
        loop {
            match self.accept().await {
                Ok(stream) => {
                    let shard = doors.shards.get(next % doors.shards.len().max(1)).cloned();
                    next = next.wrapping_add(1);
                    tokio::spawn(show_in(stream, shard, doors.http.clone()));
                }
                Err(error) => {
                    log::warn!(doors.logger, "accept error", "error" = &error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn show_in(
    stream: Accepted,
    shard: Option<Arc<Inbox<Socket>>>,
    http: Option<(Arc<Context<Member>>, Door)>,
) {
    let stopping = http.as_ref().map(|(context, _)| context.stopping.clone());
    let first = timeout(FIRST_BYTES_TIMEOUT, speaks_http2(&stream));
    let Some(Ok(Ok(http2))) = unless_stopping(stopping, first).await else { return };
    match (http2, shard, http) {
        (true, Some(shard), _) => {
            if let Ok(socket) = stream.into_socket() {
                // A shard that has too many waiting drops the connection: overload is refused.
                drop(shard.push(socket));
            }
        }
        (false, _, Some((context, door))) => match stream {
            Accepted::Tcp(stream) => http::serve(stream, context, door).await,
            Accepted::Unix(stream) => http::serve(stream, context, door).await,
        },
        (true, None, _) | (false, _, None) => {}
    }
}

/// Waits for `what`, but no longer than the server wants to go on.
async fn unless_stopping<T>(
    stopping: Option<watch::Receiver<bool>>,
    what: impl Future<Output = T>,
) -> Option<T> {
    let Some(mut stopping) = stopping else { return Some(what.await) };
    tokio::select! {
        done = what => Some(done),
        () = http::stopped(&mut stopping) => None,
    }
}

/// Looks at the first bytes without taking them. `POST` begins like the preface: a client that sends
/// less than tells them apart is waited for.
async fn speaks_http2(stream: &Accepted) -> io::Result<bool> {
    let mut first = [0; PREFACE_START.len()];
    let mut look = MORE_BYTES_LOOK;
    loop {
        let n = stream.peek(&mut first).await?;
        if n == 0 || !PREFACE_START.starts_with(&first[..n]) {
            return Ok(false);
        }
        if n == first.len() {
            return Ok(true);
        }
        sleep(look).await; // What was peeked at stays, and keeps the socket readable.
        look = (look * 2).min(MORE_BYTES_LOOK_MAX);
    }
}

impl Accepted {
    async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(into).await,
            Self::Unix(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut *into, RecvFlags::PEEK)?.1);
                stream.async_io(Interest::READABLE, peek).await
            }
        }
    }

    fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(mio::net::TcpStream::from_std(stream.into_std()?)))
            }
            Self::Unix(stream) => {
                Ok(Socket::Unix(mio::net::UnixStream::from_std(stream.into_std()?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::runtime::Builder;
    use tokio::time::{Instant, pause};

    use super::*;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
    }

    /// Both ends of a connection.
    async fn connection() -> (std::net::TcpStream, Accepted) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(address).expect("a connection");
        (client, Accepted::Tcp(listener.accept().await.expect("a connection").0))
    }

    /// What is thought of a client that sends these pieces, each once the one before was looked at.
    fn verdict(pieces: &[&[u8]]) -> bool {
        block_on(async {
            let (mut client, stream) = connection().await;
            let mut looking = std::pin::pin!(speaks_http2(&stream));
            for piece in pieces {
                client.write_all(piece).expect("a connection");
                let look = timeout(MORE_BYTES_LOOK * 3, looking.as_mut()).await;
                if let Ok(verdict) = look {
                    return verdict.expect("a connection");
                }
            }
            looking.await.expect("a connection")
        })
    }

    #[test]
    fn a_letter_at_a_time_is_as_good_as_a_line() {
        assert!(!verdict(&[b"P", b"O", b"ST / HTTP/1.1"]));
        assert!(!verdict(&[b"GET"]));
        assert!(!verdict(&[b"PRI * HTTP/", b"1.1"]));
        assert!(verdict(&[b"PR", b"I * HTTP/2", b".0"]));
        assert!(verdict(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]));
    }

    /// How long a client is waited for that says this and no more; the clock runs whenever all wait.
    fn waited_for(first: &[u8]) -> Duration {
        block_on(async {
            let (mut client, stream) = connection().await;
            client.write_all(first).expect("a connection");
            pause();
            let began = Instant::now();
            show_in(stream, None, None).await;
            let waited = began.elapsed();
            // A socket with bytes nobody took ends with a reset.
            assert!(client.read(&mut [0]).map_or(true, |n| n == 0), "an answer");
            waited
        })
    }

    #[test]
    fn who_does_not_say_what_it_speaks_is_let_go_in_time() {
        for first in [&b""[..], b"P", b"PRI * HTTP/2."] {
            let waited = waited_for(first);
            let limit = FIRST_BYTES_TIMEOUT..FIRST_BYTES_TIMEOUT + Duration::from_secs(1);
            assert!(limit.contains(&waited), "{waited:?}");
        }
        assert!(waited_for(b"GET") < Duration::from_secs(1), "an answer at once");
    }
}
