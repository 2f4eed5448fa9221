//! HTTP/1.1 on the client port: the JSON gateway, health, versions, metrics.
//!
//! ```text
//!   socket ─► hyper ─► access ─► router ─┬─ /v3/…            gateway ─► Service
//!              (host, origin, /v3beta)   ├─ /health /livez /readyz ──► Service::probe
//!                                        └─ /version /metrics /debug/vars
//! ```
//!
//! A task a connection; whoever listens has already looked at its first bytes. The ports of
//! `--listen-metrics-urls` have a shorter list of paths ([`Door::Metrics`]).
//!
//! # Invariants
//!
//! - What a client sends is bounded before it is kept: heads by hyper, bodies by the gateway.
//! - A client that doesn't read holds up its own stream and nobody else's.
//! - A client that goes takes its calls with it.
//!
//! # Not here
//!
//! Listening, TLS, gRPC. And what a method means: that is behind [`Service`].

mod access;
mod answer;
pub(crate) mod form;
mod gateway;
mod health;
mod member;
mod page;
mod router;
mod service;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

pub use access::Access;
pub(crate) use answer::{Answer, Content, error, not_found, redirect, whole};
pub use member::Member;
pub(crate) use router::tidy;
pub use service::{Alarm, Progress, RaftStatus, Service, Stream, Vitals};

use crate::log::Logger;

/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection may go on once the server wants to end.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections share.
pub struct Context<S> {
    pub service: S,
    pub access: Access,
    /// `--enable-grpc-gateway`
    pub gateway: bool,
    /// `--max-request-bytes`
    pub request_bytes_max: usize,
    /// What `/version` says of this server.
    pub server_version: &'static str,
    pub logger: Logger,
    /// True once the server wants to end.
    pub stopping: watch::Receiver<bool>,
}

/// Which way a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The client port, in the clear.
    Plain,
    /// The client port, through TLS; `named` if the client's certificate has a common name.
    Tls { named: bool },
    /// A port of `--listen-metrics-urls`.
    Metrics,
}

/// Serves one connection until it ends.
pub async fn serve<S, I>(io: I, context: Arc<Context<S>>, door: Door)
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stopping = context.stopping.clone();
    let answer = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(router::answer(request, context, door).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).title_case_headers(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), answer));
    // How a connection breaks is between the client and its network: nothing to do about it here.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            drop(timeout(GOODBYE_TIMEOUT, connection).await);
        }
    }
}

/// Waits until the server wants to end.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that whoever would say it has gone, which says as much.
    drop(stopping.wait_for(|stopping| *stopping).await);
}
