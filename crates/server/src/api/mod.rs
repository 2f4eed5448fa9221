//! What the server answers, and nothing about how the question arrived.
//!
//! A front end (our HTTP/2 shard, the JSON gateway, a test) owns a [`Port`](port::Port). It hands in
//! [`Input`]s, as many as one turn brought, and gets the answers through its [`Outlet`]. Nothing here
//! knows a socket, a task or an executor: handlers are plain functions over plain data.
//!
//! ```text
//!   front end ──Input──► Port ──proposals, read rounds──► member thread ─► log ─► apply
//!       ▲                 │ ▲                                                      │
//!       └─────Outlet──────┘ └────────────── ShardWork (one push a batch) ◄─────────┘
//! ```
//!
//! Reads run on the front end's own thread, under a read lock taken once a turn. Writes leave as
//! bytes framed for the log and come back as encoded responses, matched by request id.

mod buffer;
pub(crate) mod cluster;
mod decode;
mod downgrade;
mod election;
mod health;
mod kv;
mod leaderless;
pub(crate) mod lease;
mod lock;
mod long;
pub(crate) mod maintenance;
pub mod port;
mod propose;
mod queue;
mod reads;
mod served;
mod task;
pub mod waiting;
mod watch;
pub(crate) mod whole;

use bytes::Bytes;
use proto::error::Status;
use proto::method::Method;

/// Names one call of one front end. Plain data: an answer to a call that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyTo {
    pub connection: u32,
    pub stream: u32,
    /// Tells one use of a connection's slot from the next.
    pub generation: u32,
}

/// What is known of the caller besides the request itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The `token` or `authorization` metadata, as it came.
    pub token: Option<Box<str>>,
    /// The `client-api-version` metadata, as it came.
    pub client_version: Option<Bytes>,
    /// The caller wants no answer from a member that knows no leader.
    pub requires_leader: bool,
}

/// One thing that happened at a front end.
#[derive(Debug)]
pub enum Input {
    /// A whole request of a method that takes one.
    Call { to: ReplyTo, method: Method, caller: Caller, body: Bytes },
    /// A stream of requests begins.
    Open { to: ReplyTo, method: Method, caller: Caller },
    /// The next request of an open stream.
    Message { to: ReplyTo, body: Bytes },
    /// The caller sends no more; it still listens.
    HalfClosed { to: ReplyTo },
    /// Nobody waits for this call any longer.
    Gone { to: ReplyTo },
    /// A stream whose room was used up has some again.
    Room { to: ReplyTo },
}

/// What a stream may queue before its producer stops.
pub const ROOM: usize = 1 << 20;

/// Where answers go. Implemented by front ends; called only during [`Port`](port::Port)'s methods.
pub trait Outlet {
    /// The only message of a call that succeeded; the call is over.
    fn reply(&mut self, to: ReplyTo, message: Bytes);

    /// One message of a stream that goes on.
    fn message(&mut self, to: ReplyTo, message: Bytes);

    /// As [`Outlet::message`], of one message in pieces that the caller keeps.
    fn pieces(&mut self, to: ReplyTo, pieces: &[&[u8]]) {
        self.message(to, Bytes::from(pieces.concat()));
    }

    /// A message of `len` bytes begins; its rest comes by [`Outlet::part`].
    fn begin(&mut self, to: ReplyTo, len: u32);

    /// More of a message that was begun.
    fn part(&mut self, to: ReplyTo, part: Bytes);

    /// The call is over: its stream ended well, or it failed.
    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>);

    /// How many bytes this stream may still queue. A stream that is told 0 stops producing until
    /// [`Input::Room`]; one that is gone has no end of room, for nothing is kept of what it is sent.
    fn room(&mut self, to: ReplyTo) -> usize;
}
