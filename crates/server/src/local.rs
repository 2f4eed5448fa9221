//! Calls from inside the process: how the JSON gateway, health checks and chores reach the member.
//!
//! A thread of its own owns a [`Port`], as a shard owns one for its connections. Tasks hand it
//! [`Input`]s through its inbox and wait on a channel of their own, bounded by [`MESSAGES_MAX`]
//! messages: a caller that doesn't read holds up its own stream and nobody else's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use member::inbox::{Inbox, Waited};
use proto::error::{Error, Status};
use proto::method::Method;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::api::port::{Port, PortWork};
use crate::api::whole::Whole;
use crate::api::{Caller, Input, Outlet, ROOM, ReplyTo};
use crate::engine::Engine;

/// Messages one call may have waiting for its task.
const MESSAGES_MAX: usize = 64;
/// Of these, places kept free: a stream may send once more before it asks, and has to end.
const RESERVE: usize = 2;
/// Pieces of one answer that may wait for its task, and the places kept free.
const PIECES_MAX: usize = 2 + RESERVE;
/// How long the thread sleeps when nothing comes in: deadlines are looked at this often.
const IDLE: Duration = Duration::from_millis(100);

/// What a task sends to the thread.
#[derive(Debug)]
pub enum LocalInput {
    /// A call begins; its answers go to `answers`.
    Begin { input: Input, caller: Waiting },
    /// More of a call that has begun.
    More(Input),
}

/// Where a call's answers go.
#[derive(Clone, Debug)]
pub struct Waiting {
    answers: Sender<Answer>,
    /// Set when a stream was told that there is no room: whoever makes some says so.
    starved: Arc<AtomicBool>,
    /// Whether a message that comes in parts is wanted so.
    in_pieces: bool,
}

impl Waiting {
    fn new(in_pieces: bool) -> (Self, Receiver<Answer>) {
        let messages_max = if in_pieces { PIECES_MAX } else { MESSAGES_MAX };
        let (answers, receiver) = mpsc::channel(messages_max);
        (Self { answers, starved: Arc::default(), in_pieces }, receiver)
    }

    /// As [`Outlet::room`]. Looks again after it has said no: of this thread and the one that makes
    /// room, at least one sees what the other did.
    fn room(&self) -> usize {
        if self.answers.capacity() > RESERVE {
            return ROOM;
        }
        self.starved.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.answers.capacity() > RESERVE { ROOM } else { 0 }
    }
}

/// What a task receives.
#[derive(Debug)]
pub enum Answer {
    Message(Bytes),
    /// The last thing of every call.
    End(Result<(), Status>),
}

/// A cheap handle for making calls.
#[derive(Clone)]
pub struct Local {
    inbox: Arc<Inbox<PortWork>>,
    next: Arc<AtomicU32>,
}

impl Local {
    /// Starts the thread that owns port `index` of `engine`.
    pub fn start(engine: &Arc<Engine>, index: u16) -> io::Result<(Self, JoinHandle<()>)> {
        let inbox = Arc::clone(&engine.ports[index as usize]);
        let local = Self { inbox: Arc::clone(&inbox), next: Arc::new(AtomicU32::new(1)) };
        let engine = Arc::clone(engine);
        let run = move || run(&inbox, Port::new(engine, index));
        Ok((local, thread::Builder::new().name("local".into()).spawn(run)?))
    }

    /// Makes a unary call and waits for its answer.
    pub async fn call(&self, method: Method, caller: Caller, body: Bytes) -> Result<Bytes, Status> {
        let to = self.fresh();
        let mut stream = self.begin(to, Input::Call { to, method, caller, body }, false)?;
        let mut reply = None;
        loop {
            match stream.next().await? {
                Some(message) => reply = Some(message),
                None => return reply.ok_or_else(|| Error::Stopped.into()),
            }
        }
    }

    /// Begins a call whose answer is a stream.
    pub fn stream(&self, method: Method, caller: Caller, body: Bytes) -> Result<Stream, Status> {
        let to = self.fresh();
        self.begin(to, Input::Call { to, method, caller, body }, false)
    }

    /// Makes a unary call, a long answer to which comes in pieces.
    pub fn pieces(&self, method: Method, caller: Caller, body: Bytes) -> Result<Stream, Status> {
        let to = self.fresh();
        self.begin(to, Input::Call { to, method, caller, body }, true)
    }

    /// Begins a call whose request is a stream too.
    pub fn open(&self, method: Method, caller: Caller) -> Result<Stream, Status> {
        let to = self.fresh();
        self.begin(to, Input::Open { to, method, caller }, false)
    }

    fn begin(&self, to: ReplyTo, input: Input, in_pieces: bool) -> Result<Stream, Status> {
        let (caller, receiver) = Waiting::new(in_pieces);
        let starved = Arc::clone(&caller.starved);
        let begin = PortWork::Local(LocalInput::Begin { input, caller });
        match self.inbox.push(begin) {
            Ok(()) => Ok(Stream { local: self.clone(), to, receiver, starved, ended: false }),
            Err(_) => Err(Error::RequestTooManyRequests.into()),
        }
    }

    fn fresh(&self) -> ReplyTo {
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        ReplyTo { connection: 0, stream, generation: 0 }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// A call under way. Dropping it gives the call up.
#[derive(Debug)]
pub struct Stream {
    local: Local,
    to: ReplyTo,
    receiver: Receiver<Answer>,
    starved: Arc<AtomicBool>,
    ended: bool,
}

impl Stream {
    /// The next message; `None` when the stream has ended well.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.ended {
            return Ok(None);
        }
        let answer = self.receiver.recv().await;
        fence(Ordering::SeqCst);
        // Half of it, so that a stream is not sent for after each message.
        let has_room = self.receiver.len() <= self.receiver.max_capacity() / 2;
        if has_room && self.starved.swap(false, Ordering::SeqCst) {
            self.send(Input::Room { to: self.to });
        }
        match answer {
            Some(Answer::Message(message)) => Ok(Some(message)),
            Some(Answer::End(result)) => {
                self.ended = true;
                result.map(|()| None)
            }
            None => {
                self.ended = true;
                Err(Error::Stopped.into())
            }
        }
    }

    /// Sends the next request of a stream of requests.
    pub fn message(&self, body: Bytes) {
        self.send(Input::Message { to: self.to, body });
    }

    pub fn half_close(&self) {
        self.send(Input::HalfClosed { to: self.to });
    }

    fn send(&self, input: Input) {
        // A full inbox loses the message with its stream: the caller sees it end.
        drop(self.local.inbox.push(PortWork::Local(LocalInput::More(input))));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.send(Input::Gone { to: self.to });
        }
    }
}

fn run(inbox: &Inbox<PortWork>, mut port: Port) {
    let mut calls = Calls::default();
    let mut arrived = VecDeque::new();
    let mut work = VecDeque::new();
    let mut inputs = Vec::new();
    loop {
        let wait = if port.has_work() { Duration::ZERO } else { IDLE };
        if inbox.wait(wait) == Waited::Closed {
            return;
        }
        inbox.take(&mut arrived);
        for item in arrived.drain(..) {
            if let PortWork::Local(input) = item {
                inputs.extend(calls.begin(input));
            } else {
                work.push_back(item);
            }
        }
        port.collect(&mut work, &mut calls);
        port.submit(&mut inputs, &mut calls);
    }
}

#[derive(Default)]
struct Calls {
    callers: HashMap<ReplyTo, Waiting>,
    /// Messages that have not come to their end.
    partial: HashMap<ReplyTo, Whole>,
}

impl Calls {
    fn begin(&mut self, input: LocalInput) -> Option<Input> {
        match input {
            LocalInput::Begin { input, caller } => {
                if let Input::Call { to, .. } | Input::Open { to, .. } = &input {
                    self.callers.insert(*to, caller);
                }
                Some(input)
            }
            LocalInput::More(input) => {
                if let Input::Gone { to } = &input {
                    self.callers.remove(to);
                    self.partial.remove(to);
                }
                Some(input)
            }
        }
    }

    fn send(&mut self, to: ReplyTo, answer: Answer) {
        if let Some(caller) = self.callers.get(&to)
            && caller.answers.try_send(answer).is_err()
        {
            self.callers.remove(&to); // The task is gone, or was sent more than its room.
        }
    }
}

impl Outlet for Calls {
    fn reply(&mut self, to: ReplyTo, message: Bytes) {
        self.send(to, Answer::Message(message));
        self.finish(to, Ok(()));
    }

    fn message(&mut self, to: ReplyTo, message: Bytes) {
        self.send(to, Answer::Message(message));
    }

    fn begin(&mut self, to: ReplyTo, len: u32) {
        if self.callers.get(&to).is_some_and(|caller| !caller.in_pieces) {
            self.partial.insert(to, Whole::new(len));
        }
    }

    fn part(&mut self, to: ReplyTo, part: Bytes) {
        let message = match self.partial.get_mut(&to) {
            Some(whole) => whole.push(&part),
            None => Some(part),
        };
        if let Some(message) = message {
            self.send(to, Answer::Message(message));
        }
    }

    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>) {
        self.partial.remove(&to);
        self.send(to, Answer::End(result));
        self.callers.remove(&to);
    }

    fn room(&mut self, to: ReplyTo) -> usize {
        self.callers.get(&to).map_or(ROOM, Waiting::room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Answer {
        Answer::Message(Bytes::new())
    }

    #[test]
    fn a_stream_that_was_refused_room_is_sent_for_when_half_is_free() {
        let (caller, receiver) = Waiting::new(false);
        let mut calls = Calls::default();
        let to = ReplyTo { connection: 0, stream: 1, generation: 0 };
        let starved = Arc::clone(&caller.starved);
        calls.callers.insert(to, caller);
        while calls.room(to) > 0 {
            calls.message(to, Bytes::new());
        }
        let inbox = Arc::new(Inbox::new(MESSAGES_MAX));
        let local = Local { inbox: Arc::clone(&inbox), next: Arc::default() };
        let mut stream = Stream { local, to, receiver, starved, ended: false };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut n_taken = 0;
        while inbox.is_empty() {
            runtime.block_on(stream.next()).expect("no end").expect("a message");
            n_taken += 1;
        }
        assert_eq!(n_taken, MESSAGES_MAX / 2 - RESERVE);
        let mut work = VecDeque::new();
        inbox.take(&mut work);
        assert!(matches!(work[0], PortWork::Local(LocalInput::More(Input::Room { .. }))));
    }

    /// The two orders in which a last message can be taken and room refused.
    #[test]
    fn who_refuses_room_looks_again() {
        let (caller, mut receiver) = Waiting::new(false);
        while caller.answers.capacity() > RESERVE {
            caller.answers.try_send(message()).expect("a place");
        }
        assert_eq!(caller.room(), 0);
        assert!(caller.starved.load(Ordering::SeqCst));
        receiver.try_recv().expect("a message");
        assert_eq!(caller.room(), ROOM);
    }
}
