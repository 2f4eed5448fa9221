//! Calls from inside the process: how the JSON gateway, health checks and chores reach the member.
//!
//! A thread of its own owns a [`Port`], as a shard owns one for its connections. Tasks hand it
//! [`Input`]s through its inbox and wait on a channel of their own, bounded by [`MESSAGES_MAX`]
//! messages: a caller that doesn't read holds up its own stream and nobody else's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use member::inbox::{Inbox, Waited};
use proto::error::{Error, Status};
use proto::method::Method;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::api::port::{Port, PortWork};
use crate::api::{Caller, Input, Outlet, ReplyTo};
use crate::engine::Engine;

/// Messages one call may have waiting for its task.
const MESSAGES_MAX: usize = 64;
/// Of these, places kept free: a stream may send once more before it asks, and has to end.
const RESERVE: usize = 2;
/// What a stream is told of its room while its channel has a place.
const ROOM: usize = 1 << 20;
/// How long the thread sleeps when nothing comes in: deadlines are looked at this often.
const IDLE: Duration = Duration::from_millis(100);

/// What a task sends to the thread.
#[derive(Debug)]
pub enum LocalInput {
    /// A call begins; its answers go to `answers`.
    Begin { input: Input, answers: Sender<Answer> },
    /// More of a call that has begun.
    More(Input),
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
        let mut stream = self.begin(to, Input::Call { to, method, caller, body })?;
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
        self.begin(to, Input::Call { to, method, caller, body })
    }

    /// Begins a call whose request is a stream too.
    pub fn open(&self, method: Method, caller: Caller) -> Result<Stream, Status> {
        let to = self.fresh();
        self.begin(to, Input::Open { to, method, caller })
    }

    fn begin(&self, to: ReplyTo, input: Input) -> Result<Stream, Status> {
        let (answers, receiver) = mpsc::channel(MESSAGES_MAX);
        let begin = PortWork::Local(LocalInput::Begin { input, answers });
        match self.inbox.push(begin) {
            Ok(()) => Ok(Stream { local: self.clone(), to, receiver, ended: false }),
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
    ended: bool,
}

impl Stream {
    /// The next message; `None` when the stream has ended well.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.ended {
            return Ok(None);
        }
        let was_full = self.receiver.len() >= MESSAGES_MAX - RESERVE;
        let answer = self.receiver.recv().await;
        if was_full {
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
    while inbox.wait(IDLE) != Waited::Closed {
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
    answers: HashMap<ReplyTo, Sender<Answer>>,
}

impl Calls {
    fn begin(&mut self, input: LocalInput) -> Option<Input> {
        match input {
            LocalInput::Begin { input, answers } => {
                if let Input::Call { to, .. } | Input::Open { to, .. } = &input {
                    self.answers.insert(*to, answers);
                }
                Some(input)
            }
            LocalInput::More(input) => {
                if let Input::Gone { to } = &input {
                    self.answers.remove(to);
                }
                Some(input)
            }
        }
    }

    fn send(&mut self, to: ReplyTo, answer: Answer) {
        if let Some(sender) = self.answers.get(&to)
            && sender.try_send(answer).is_err()
        {
            self.answers.remove(&to); // The task is gone, or was sent more than its room.
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

    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>) {
        self.send(to, Answer::End(result));
        self.answers.remove(&to);
    }

    fn room(&mut self, to: ReplyTo) -> usize {
        match self.answers.get(&to) {
            Some(sender) if sender.capacity() <= RESERVE => 0,
            Some(_) | None => ROOM,
        }
    }
}
