//! The rival: `h2` as the server, with as much of gRPC on top as ours has built in.
//!
//! Nothing here waits: the connection is polled by hand, a bounded number of times, over a pipe in
//! memory that is large enough to take all that either side ever sends.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::sign::{Answer, Reader, Sign, answer, known, lookup};
use crate::{Limits, message};

const PIPE: usize = 1 << 20;
/// More turns than any move makes the rival take.
const TURNS_MAX: usize = 200;

/// See the module.
pub(super) struct Theirs {
    /// `None` once it has ended.
    connection: Option<server::Connection<DuplexStream, Bytes>>,
    pipe: DuplexStream,
    calls: BTreeMap<u32, Call>,
    pub(super) reader: Reader,
}

struct Call {
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    body: RecvStream,
    method: u16,
    streaming: bool,
    known: String,
    received: Vec<u8>,
    n_messages: usize,
    announced: bool,
    half_closed: bool,
    /// Answered in full, but the client still sends: so many turns, and it is stopped.
    cut_in: Option<u32>,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Theirs {
    /// `greeting` is the preface and the client's settings.
    pub(super) fn new(limits: &Limits, greeting: &[u8]) -> Self {
        let (mut pipe, theirs) = tokio::io::duplex(PIPE);
        let mut builder = server::Builder::new();
        builder
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(limits.header_list_size_max as u32)
            .max_concurrent_reset_streams(1000)
            .max_local_error_reset_streams(None)
            .data_frame_budget(1 << 20);
        let mut handshake = Box::pin(builder.handshake::<_, Bytes>(theirs));
        write(&mut pipe, greeting);
        let connection =
            (0..TURNS_MAX).find_map(|_| match handshake.as_mut().poll(&mut context()) {
                Poll::Ready(connection) => Some(connection.expect("a sound greeting")),
                Poll::Pending => None,
            });
        let connection = Some(connection.expect("a handshake that ends"));
        Self { connection, pipe, calls: BTreeMap::new(), reader: Reader::default() }
    }

    /// What it does about these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        if self.connection.is_some() {
            write(&mut self.pipe, bytes);
        }
        for _ in 0..TURNS_MAX {
            let accepted = self.accept(&mut signs);
            let moved = self.serve(&mut signs);
            let output = read(&mut self.pipe);
            let said = signs.len();
            self.reader.read(&output, &mut signs);
            self.forget_ended(&signs[said..]);
            if !accepted && !moved && output.is_empty() {
                return signs;
            }
        }
        panic!("the rival turns without end: {signs:?}");
    }

    /// Lets the connection work; true if that brought a request or ended it.
    fn accept(&mut self, signs: &mut Vec<Sign>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match connection.poll_accept(&mut context()) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok((request, respond)))) => {
                self.on_request(request, respond, signs);
                true
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.connection = None;
                true
            }
        }
    }

    fn on_request(
        &mut self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        signs: &mut Vec<Sign>,
    ) {
        let stream = respond.stream_id().as_u32();
        let headers = request.headers();
        let text = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let fields = [text("token"), text("authorization"), text("client-api-version")];
        let has_leader = headers.get_all("hasleader").iter().any(|value| value == "true");
        let known = known(fields, has_leader);
        let content_type = headers.get_all("content-type").iter().next_back();
        let is_grpc = content_type.is_some_and(|kind| kind == "application/grpc");
        let found = lookup(request.uri().path().as_bytes())
            .filter(|_| is_grpc && request.method() == Method::POST);
        let (method, streaming) = found.unwrap_or_default();
        let mut call = Call {
            respond,
            sending: None,
            body: request.into_body(),
            method,
            streaming,
            known,
            received: Vec::new(),
            n_messages: 0,
            announced: false,
            half_closed: false,
            cut_in: None,
        };
        if found.is_none() {
            call.refuse();
        } else if streaming {
            call.announce(stream, signs);
            if answer(stream, true) == Answer::AtOnce {
                if call.body.is_end_stream() {
                    signs.push(Sign::HalfClosed { stream });
                }
                call.refuse();
            }
        }
        self.calls.insert(stream, call);
    }

    /// Serves every call; true if any got on.
    fn serve(&mut self, signs: &mut Vec<Sign>) -> bool {
        let mut moved = false;
        self.calls.retain(|&stream, call| {
            let step = call.step(stream, signs);
            moved |= step != Step::Waits;
            step != Step::Over
        });
        moved
    }

    /// A stream both sides have ended is nobody's business any more.
    fn forget_ended(&mut self, signs: &[Sign]) {
        for sign in signs {
            if let Sign::End { stream } = sign
                && self.calls.get(stream).is_some_and(|call| call.half_closed)
            {
                self.calls.remove(stream);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waits,
    GetsOn,
    Over,
}

impl Call {
    fn announce(&mut self, stream: u32, signs: &mut Vec<Sign>) {
        self.announced = true;
        signs.push(Sign::Call { stream, method: self.method, known: self.known.clone() });
    }

    /// Answers with a status alone. A client that still sends is stopped once that is on its way: a
    /// reset takes back what is not.
    fn refuse(&mut self) {
        self.half_closed = self.body.is_end_stream();
        self.cut_in = (!self.half_closed).then_some(1);
        let sent = self.respond.send_response(Response::new(()), true);
        self.sending = Some(sent.expect("a stream just opened or ended"));
    }

    fn step(&mut self, stream: u32, signs: &mut Vec<Sign>) -> Step {
        match &mut self.cut_in {
            Some(0) => {
                self.respond.send_reset(Reason::NO_ERROR);
                return Step::Over;
            }
            Some(turns) => {
                *turns -= 1;
                return Step::GetsOn;
            }
            None => {}
        }
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(&mut context()),
            None => self.respond.poll_reset(&mut context()),
        };
        if reset.is_ready() {
            return self.gone(stream, signs);
        }
        if self.half_closed {
            return Step::Waits;
        }
        match self.body.poll_data(&mut context()) {
            Poll::Ready(Some(Ok(data))) => {
                self.body.flow_control().release_capacity(data.len()).expect("what was received");
                self.on_data(stream, &data, signs);
                Step::GetsOn
            }
            Poll::Ready(Some(Err(_))) => self.gone(stream, signs),
            Poll::Ready(None) => match self.body.poll_trailers(&mut context()) {
                Poll::Ready(Ok(_)) => {
                    self.half_closed = true;
                    self.on_end(stream, signs);
                    Step::GetsOn
                }
                Poll::Ready(Err(_)) => self.gone(stream, signs),
                Poll::Pending => Step::Waits,
            },
            Poll::Pending => Step::Waits,
        }
    }

    fn gone(&self, stream: u32, signs: &mut Vec<Sign>) -> Step {
        if self.announced && self.sending.is_none() {
            signs.push(Sign::Gone { stream });
        }
        Step::Over
    }

    fn on_data(&mut self, stream: u32, data: &[u8], signs: &mut Vec<Sign>) {
        self.received.extend_from_slice(data);
        while self.streaming
            && let Some(body) = self.take_message()
        {
            signs.push(Sign::Message { stream, body });
        }
    }

    /// Takes the next message off the front of what was received.
    fn take_message(&mut self) -> Option<Vec<u8>> {
        let ([_, length @ ..], rest) = self.received.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let body = rest.get(..length)?.to_vec();
        self.received.drain(..5 + length);
        self.n_messages += 1;
        Some(body)
    }

    /// The client has sent all it will.
    fn on_end(&mut self, stream: u32, signs: &mut Vec<Sign>) {
        if !self.streaming {
            let Some(body) = self.take_message() else { return self.refuse() };
            self.announce(stream, signs);
            signs.push(Sign::Message { stream, body });
        } else if self.received.len() >= message::PREFIX_SIZE {
            signs.push(Sign::Gone { stream });
            return self.refuse();
        }
        signs.push(Sign::HalfClosed { stream });
        if let Answer::AtTheEnd(size) = answer(stream, self.streaming) {
            let answer = [&message::prefix(size)[..], &vec![b'a'; size]].concat();
            let sent = self.respond.send_response(Response::new(()), false);
            let mut sending = sent.expect("a stream not answered yet");
            sending.send_data(answer.into(), false).expect("an open stream");
            sending.send_trailers(HeaderMap::new()).expect("an open stream");
            self.sending = Some(sending);
        }
    }
}

fn write(pipe: &mut DuplexStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match Pin::new(&mut *pipe).poll_write(&mut context(), bytes) {
            Poll::Ready(Ok(n)) => bytes = &bytes[n..],
            Poll::Ready(Err(_)) => return, // It has hung up.
            Poll::Pending => panic!("the pipe takes all that is sent at once"),
        }
    }
}

/// All that is in the pipe.
fn read(pipe: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        let polled = Pin::new(&mut *pipe).poll_read(&mut context(), &mut buffer);
        match polled {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                bytes.extend_from_slice(buffer.filled());
            }
            Poll::Ready(_) | Poll::Pending => return bytes,
        }
    }
}
