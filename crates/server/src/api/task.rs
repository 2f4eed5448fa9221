//! Calls that take several steps: a small executor inside a port.
//!
//! A lock waits for the keys before it; a campaign waits for the leader to resign. Such a call is an
//! `async` function over a [`Client`], which makes ordinary calls of the same port. The futures
//! here wait for nothing but those calls, so running them needs no executor but this: whoever got
//! an answer is polled, on the port's own thread.
//!
//! # Invariants
//!
//! - A task ends with exactly one answer, or with its caller; then all it had under way is given up.
//! - At most [`TASKS_MAX`] run; more are refused.
//! - A task that fails ends as Unknown, whatever failed in it, with the text of what did.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{self, Future};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proto::error::{Code, Error, Status};
use proto::method::Method;
use proto::prost::Message;

use super::whole::Whole;
use super::{Caller, Input, Outlet, ROOM, ReplyTo};

/// Tasks of one port: a lock with more waiters than these refuses the next.
const TASKS_MAX: usize = 65_536;
/// The connection number of calls made by tasks. No front end uses it.
const INSIDE: u32 = u32::MAX;

type TaskId = u64;

/// Ends as a unary call does, or by itself when it streams.
type Run = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Status>>>>;

struct Running {
    to: ReplyTo,
    run: Run,
}

/// The tasks of one port.
pub(crate) struct Tasks {
    desk: Rc<RefCell<Desk>>,
    running: BTreeMap<TaskId, Running>,
    of_call: BTreeMap<ReplyTo, TaskId>,
    next: TaskId,
}

/// What tasks and their port exchange.
#[derive(Default)]
struct Desk {
    /// Calls the tasks make.
    inputs: Vec<Input>,
    /// Messages tasks send to those who called them.
    outputs: Vec<(ReplyTo, Bytes)>,
    lines: BTreeMap<u32, Line>,
    ready: Vec<TaskId>,
    next_line: u32,
}

/// A call of a task, and what it was answered.
#[derive(Default)]
struct Line {
    task: TaskId,
    messages: VecDeque<Bytes>,
    partial: Whole,
    end: Option<Result<(), Status>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { desk: Rc::default(), running: BTreeMap::new(), of_call: BTreeMap::new(), next: 1 }
    }

    /// Starts the task that `begin` makes, to answer `to`.
    pub(crate) fn start<F>(
        &mut self,
        to: ReplyTo,
        caller: Caller,
        begin: impl FnOnce(Client) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Option<Bytes>, Status>> + 'static,
    {
        if self.running.len() >= TASKS_MAX {
            return Err(Error::RequestTooManyRequests);
        }
        let task = self.next;
        self.next += 1;
        let client = Client { desk: Rc::clone(&self.desk), task, to, caller };
        self.running.insert(task, Running { to, run: Box::pin(begin(client)) });
        self.of_call.insert(to, task);
        self.desk.borrow_mut().ready.push(task);
        Ok(())
    }

    /// Nobody waits for the task's answer any longer.
    pub(crate) fn drop_call(&mut self, to: ReplyTo) {
        if let Some(task) = self.of_call.remove(&to) {
            drop(self.running.remove(&task));
        }
    }

    /// Drops all tasks; their callers have to be told.
    pub(crate) fn drain(&mut self) -> Vec<ReplyTo> {
        self.running.clear();
        std::mem::take(&mut self.of_call).into_keys().collect()
    }

    /// Polls the tasks that were answered, and moves the calls they make to `inputs`.
    pub(crate) fn run(&mut self, inputs: &mut Vec<Input>, outlet: &mut dyn Outlet) {
        let ready = mem::take(&mut self.desk.borrow_mut().ready);
        for task in ready {
            let Some(running) = self.running.get_mut(&task) else { continue };
            let to = running.to;
            let poll = running.run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = poll {
                self.running.remove(&task);
                self.of_call.remove(&to);
                self.send_outputs(outlet);
                match result {
                    Ok(Some(message)) => outlet.reply(to, message),
                    Ok(None) => outlet.finish(to, Ok(())),
                    // In etcd the steps are a client's calls, and a client's errors have lost their code.
                    Err(status) => outlet.finish(to, Err(Status { code: Code::Unknown, ..status })),
                }
            }
        }
        self.send_outputs(outlet);
        inputs.append(&mut self.desk.borrow_mut().inputs);
    }

    fn send_outputs(&self, outlet: &mut dyn Outlet) {
        for (to, message) in mem::take(&mut self.desk.borrow_mut().outputs) {
            outlet.message(to, message);
        }
    }

    /// An outlet that brings the answers to tasks' own calls back to them.
    pub(crate) fn routed<'a>(&self, outer: &'a mut dyn Outlet) -> Routed<'a> {
        Routed { outer, desk: Rc::clone(&self.desk) }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

/// See [`Tasks::routed`].
pub(crate) struct Routed<'a> {
    outer: &'a mut dyn Outlet,
    desk: Rc<RefCell<Desk>>,
}

impl Routed<'_> {
    fn answer(&self, to: ReplyTo, message: Option<Bytes>, end: Option<Result<(), Status>>) {
        let mut desk = self.desk.borrow_mut();
        if let Some(line) = desk.lines.get_mut(&to.stream) {
            line.messages.extend(message);
            line.end = end.or(line.end.take());
            let task = line.task;
            desk.ready.push(task);
        }
    }
}

impl Outlet for Routed<'_> {
    fn reply(&mut self, to: ReplyTo, message: Bytes) {
        if to.connection == INSIDE {
            return self.answer(to, Some(message), Some(Ok(())));
        }
        self.outer.reply(to, message);
    }

    fn message(&mut self, to: ReplyTo, message: Bytes) {
        if to.connection == INSIDE {
            return self.answer(to, Some(message), None);
        }
        self.outer.message(to, message);
    }

    fn pieces(&mut self, to: ReplyTo, pieces: &[&[u8]]) {
        if to.connection == INSIDE {
            return self.answer(to, Some(pieces.concat().into()), None);
        }
        self.outer.pieces(to, pieces);
    }

    fn begin(&mut self, to: ReplyTo, len: u32) {
        if to.connection != INSIDE {
            return self.outer.begin(to, len);
        }
        if let Some(line) = self.desk.borrow_mut().lines.get_mut(&to.stream) {
            line.partial = Whole::new(len);
        }
    }

    fn part(&mut self, to: ReplyTo, part: Bytes) {
        if to.connection != INSIDE {
            return self.outer.part(to, part);
        }
        let mut desk = self.desk.borrow_mut();
        let line = desk.lines.get_mut(&to.stream);
        let whole = line.and_then(|line| line.partial.push(&part));
        drop(desk);
        if whole.is_some() {
            self.answer(to, whole, None);
        }
    }

    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>) {
        if to.connection == INSIDE {
            return self.answer(to, None, Some(result));
        }
        self.outer.finish(to, result);
    }

    fn room(&mut self, to: ReplyTo) -> usize {
        if to.connection == INSIDE { ROOM } else { self.outer.room(to) }
    }
}

/// How a task makes calls: with the rights of whoever called it.
#[derive(Clone)]
pub(crate) struct Client {
    desk: Rc<RefCell<Desk>>,
    task: TaskId,
    to: ReplyTo,
    caller: Caller,
}

impl Client {
    /// Makes a unary call and waits for its answer.
    pub(crate) async fn call<Q: Message, R: Message + Default>(
        &self,
        method: Method,
        request: &Q,
    ) -> Result<R, Status> {
        let body = request.encode_to_vec().into();
        let stream = self.begin(|to, caller| Input::Call { to, method, caller, body });
        match stream.next().await? {
            Some(message) => R::decode(message).map_err(|_| Error::Stopped.into()),
            None => Err(Error::Stopped.into()),
        }
    }

    /// Makes a call whose answer nobody waits for: it outlives the task.
    pub(crate) fn send<Q: Message>(&self, method: Method, request: &Q) {
        let to = ReplyTo { connection: INSIDE, stream: 0, generation: 0 };
        let body = request.encode_to_vec().into();
        let caller = self.caller.clone();
        self.desk.borrow_mut().inputs.push(Input::Call { to, method, caller, body });
    }

    /// Opens a stream with its first request.
    pub(crate) fn open<Q: Message>(&self, method: Method, request: &Q) -> Stream {
        let stream = self.begin(|to, caller| Input::Open { to, method, caller });
        let message = Input::Message { to: stream.to(), body: request.encode_to_vec().into() };
        self.desk.borrow_mut().inputs.push(message);
        stream
    }

    /// Sends one message to whoever called this task.
    pub(crate) fn message<R: Message>(&self, message: &R) {
        let message = message.encode_to_vec().into();
        self.desk.borrow_mut().outputs.push((self.to, message));
    }

    fn begin(&self, input: impl FnOnce(ReplyTo, Caller) -> Input) -> Stream {
        let mut desk = self.desk.borrow_mut();
        // Line 0 is nobody's: what is sent there is dropped.
        desk.next_line = desk.next_line.wrapping_add(1).max(1);
        let line = desk.next_line;
        desk.lines.insert(line, Line { task: self.task, ..Line::default() });
        let stream = Stream { desk: Rc::clone(&self.desk), line };
        desk.inputs.push(input(stream.to(), self.caller.clone()));
        stream
    }
}

/// A call of a task under way. Dropping it gives the call up.
pub(crate) struct Stream {
    desk: Rc<RefCell<Desk>>,
    line: u32,
}

impl Stream {
    fn to(&self) -> ReplyTo {
        ReplyTo { connection: INSIDE, stream: self.line, generation: 0 }
    }

    /// The next message; `None` when the stream has ended well.
    pub(crate) async fn next(&self) -> Result<Option<Bytes>, Status> {
        future::poll_fn(|_| self.poll()).await
    }

    fn poll(&self) -> Poll<Result<Option<Bytes>, Status>> {
        let mut line = self.line();
        if let Some(message) = line.messages.pop_front() {
            return Poll::Ready(Ok(Some(message)));
        }
        match &line.end {
            Some(result) => Poll::Ready(result.clone().map(|()| None)),
            None => Poll::Pending,
        }
    }

    fn line(&self) -> RefMut<'_, Line> {
        RefMut::map(self.desk.borrow_mut(), |desk| {
            desk.lines.get_mut(&self.line).expect("a line lasts as long as its stream")
        })
    }

    fn has_ended(&self) -> bool {
        let line = Ref::map(self.desk.borrow(), |desk| &desk.lines[&self.line]);
        line.end.is_some()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let ended = self.has_ended();
        let mut desk = self.desk.borrow_mut();
        desk.lines.remove(&self.line);
        if !ended {
            desk.inputs.push(Input::Gone { to: self.to() });
        }
    }
}
