//! A shard: one thread that owns connections, their HTTP/2 state and their streams.
//!
//! A turn reads what came, hands it to the [`Port`] in one batch, takes finished work from the
//! port's inbox, and writes each connection once:
//!
//! ```text
//!   wait ─► read ─► wire events ─► inputs ─► port.submit ─┐
//!    ▲                                                    ▼
//!    └── write (one call a connection) ◄── outlet ◄── port.collect ◄── inbox
//! ```
//!
//! # Invariants
//!
//! - Nothing here blocks but the wait at the top of the turn.
//! - A connection whose output is over [`OUTPUT_MAX`] is not read from until it has been written.
//!
//! # Not here
//!
//! HTTP/2 itself (`wire`), and what a method means (`api`).

mod connections;
mod socket;
mod tally;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use member::inbox::{Inbox, Wake};
use mio::{Events, Poll, Token, Waker};

pub(crate) use connections::OUTPUT_MAX;
pub use socket::Socket;

use self::connections::Connections;
use crate::api::Input;
use crate::api::port::{Port, PortWork};
use crate::engine::Engine;
use crate::start::GRACE;

/// Events taken from the system in one turn.
const EVENTS_PER_TURN_MAX: usize = 1024;
/// Longest wait: timers of connections and deadlines of calls are looked at this often.
const TURN_MAX: Duration = Duration::from_millis(100);
/// How long clients have to say that they read of the end.
const GOODBYE_HEARD: Duration = Duration::from_millis(500);
/// Token of the waker; connections use their slot's number.
const WAKER: Token = Token(usize::MAX);

/// Connections a listener may have handed over that the shard has not taken yet.
pub const ACCEPTED_MAX: usize = 4096;

/// Rouses a shard that waits for its sockets.
#[derive(Debug)]
pub struct ShardWaker(Waker);

impl Wake for ShardWaker {
    fn wake(&self) {
        // Failing means the poll is gone: the shard has ended and nobody is left to rouse.
        drop(self.0.wake());
    }
}

/// What is needed to start a shard, made before the engine so that the engine knows its inbox.
#[derive(Debug)]
pub struct Seat {
    poll: Poll,
    /// Connections that listeners hand over.
    pub accepted: Arc<Inbox<Socket>>,
    /// Finished work, for the port.
    pub work: Arc<Inbox<PortWork>>,
}

impl Seat {
    pub fn new(work_max: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(ShardWaker(Waker::new(poll.registry(), WAKER)?));
        let accepted = Inbox::waking(ACCEPTED_MAX, Arc::<ShardWaker>::clone(&waker));
        let work = Inbox::waking(work_max, waker);
        Ok(Self { poll, accepted: Arc::new(accepted), work: Arc::new(work) })
    }

    /// Starts the thread that owns port `index` of `engine`.
    pub fn start(self, engine: &Arc<Engine>, index: u16) -> io::Result<JoinHandle<()>> {
        let engine = Arc::clone(engine);
        let run = move || {
            let connections = Connections::new(&engine);
            let port = Port::new(engine, index);
            Shard { seat: self, port, connections, stopping_ms: None }.run();
        };
        thread::Builder::new().name(format!("shard-{index}")).spawn(run)
    }
}

struct Shard {
    seat: Seat,
    port: Port,
    connections: Connections,
    /// When the process was asked to end.
    stopping_ms: Option<u64>,
}

impl Shard {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        let mut inputs: Vec<Input> = Vec::new();
        let mut work = VecDeque::new();
        let mut accepted = VecDeque::new();
        loop {
            let backlog =
                self.connections.has_backlog() || self.port.has_work() || !inputs.is_empty();
            let wait = if backlog { Duration::ZERO } else { TURN_MAX };
            if let Err(e) = self.seat.poll.poll(&mut events, Some(wait))
                && e.kind() != io::ErrorKind::Interrupted
            {
                panic!("the shard cannot wait for its sockets: {e}");
            }
            let now_ms = self.port.now_ms();
            self.seat.accepted.take(&mut accepted);
            // Whoever comes when we are going finds a closed door, and tries elsewhere.
            for socket in accepted.drain(..).filter(|_| self.stopping_ms.is_none()) {
                self.connections.add(socket, self.seat.poll.registry(), now_ms);
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.connections.ready(event);
            }
            self.connections.read(&mut inputs, now_ms);
            self.seat.work.take(&mut work);
            self.port.collect(&mut work, &mut self.connections);
            self.port.submit(&mut inputs, &mut self.connections);
            self.connections.write(&mut inputs, self.seat.poll.registry());
            self.connections.hand_over();
            if self.is_done(now_ms) {
                return;
            }
        }
    }

    /// True when the process ends and every call has its answer, written; or has had its time. Clients
    /// are told that we go before their streams are, or they would turn to us once more; what they
    /// asked before they read it is answered too. One that reads nothing is not waited for long.
    fn is_done(&mut self, now_ms: u64) -> bool {
        if !self.port.is_stopping() {
            return false;
        }
        let since_ms = *self.stopping_ms.get_or_insert_with(|| {
            self.connections.drain();
            now_ms
        });
        self.port.stop(&mut self.connections);
        let waited = |time: Duration| now_ms >= since_ms + time.as_millis() as u64;
        let heard = !self.connections.are_draining() || waited(GOODBYE_HEARD);
        let answered = self.port.n_waiting() == 0 && !self.connections.wants_write();
        (answered && heard) || waited(GRACE)
    }
}
