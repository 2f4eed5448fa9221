//! The `Api` with no transport at all: a port, an outlet that remembers, and a member behind them.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

use bytes::Bytes;
use member::inbox::Inbox;
use proto::error::Status;
use proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use proto::method::Method;
use proto::prost::Message;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use server::api::port::{Port, PortWork};
use server::api::{Caller, Input, Outlet, ReplyTo};
use server::config::{Config, Start, Surroundings, load};
use server::log::Logger;
use server::start::Core;

/// Longer than anything takes that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Work that may wait for the port.
const WORK_MAX: usize = 1024;
/// How long the port sleeps when nothing happens.
const IDLE: Duration = Duration::from_millis(20);
const ROOM: usize = 1 << 20;

/// What came of the calls.
#[derive(Default)]
struct Heard {
    messages: HashMap<ReplyTo, VecDeque<Bytes>>,
    ends: HashMap<ReplyTo, Result<(), Status>>,
    /// Messages that came in parts so far, with their lengths.
    partial: HashMap<ReplyTo, (usize, Vec<u8>)>,
}

impl Outlet for Heard {
    fn reply(&mut self, to: ReplyTo, message: Bytes) {
        self.message(to, message);
        self.finish(to, Ok(()));
    }

    fn message(&mut self, to: ReplyTo, message: Bytes) {
        self.messages.entry(to).or_default().push_back(message);
    }

    fn begin(&mut self, to: ReplyTo, len: u32) {
        self.partial.insert(to, (len as usize, Vec::new()));
    }

    fn part(&mut self, to: ReplyTo, part: Bytes) {
        let (len, message) = self.partial.get_mut(&to).expect("a message was begun");
        message.extend_from_slice(&part);
        assert!(message.len() <= *len, "no more than was announced");
        if message.len() == *len {
            let (_, message) = self.partial.remove(&to).expect("it is there");
            self.message(to, message.into());
        }
    }

    fn finish(&mut self, to: ReplyTo, result: Result<(), Status>) {
        let before = self.ends.insert(to, result);
        assert!(before.is_none(), "a call ends once");
    }

    fn room(&mut self, _: ReplyTo) -> usize {
        ROOM
    }
}

/// A member, its one port, and whoever drives it: this thread.
struct Member {
    core: Core,
    port: Port,
    inbox: Arc<Inbox<PortWork>>,
    heard: Heard,
    calls: u32,
    folder: PathBuf,
}

fn config(folder: &std::path::Path) -> Config {
    let mut data_dir = OsString::from("--data-dir=");
    data_dir.push(folder);
    let start = load(&Surroundings {
        arguments: vec![data_dir],
        environment: Vec::new(),
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        default_host: &|| None,
    });
    match start {
        Start::Serve(config, _) => *config,
        Start::Tell { .. } | Start::Malformed(_) | Start::Refuse(..) => panic!("not a good start"),
    }
}

impl Member {
    fn start() -> Self {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("retcd-api-{}-{call}", process::id()));
        Self::start_in(folder)
    }

    fn start_in(folder: PathBuf) -> Self {
        let inbox = Arc::new(Inbox::new(WORK_MAX));
        let ports = vec![Arc::clone(&inbox)];
        let core =
            Core::start(&config(&folder), &Logger::discard(), ports, Vec::new()).expect("a member");
        let port = Port::new(Arc::clone(core.engine()), 0);
        let mut member = Self { core, port, inbox, heard: Heard::default(), calls: 0, folder };
        member.until("a member that is ready", |member| {
            member.core.engine().is_ready().then_some(())
        });
        member
    }

    /// Ends the member; its folder stays.
    fn stop(self) -> PathBuf {
        let Self { core, port, folder, .. } = self;
        drop(port);
        core.stop();
        folder
    }

    fn fresh(&mut self) -> ReplyTo {
        self.calls += 1;
        ReplyTo { connection: 0, stream: self.calls, generation: 0 }
    }

    fn submit(&mut self, input: Input) {
        self.port.submit(&mut vec![input], &mut self.heard);
    }

    /// Lets the port work until `look` sees something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut work = VecDeque::new();
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            self.inbox.wait(IDLE);
            self.inbox.take(&mut work);
            self.port.collect(&mut work, &mut self.heard);
        }
    }

    fn begin(&mut self, method: Method, request: &impl Message) -> ReplyTo {
        let to = self.fresh();
        let body = request.encode_to_vec().into();
        self.submit(Input::Call { to, method, caller: Caller::default(), body });
        to
    }

    fn next<M: Message + Default>(&mut self, to: ReplyTo) -> M {
        let message = self.until("a message", |member| {
            member.heard.messages.get_mut(&to).and_then(VecDeque::pop_front)
        });
        M::decode(message).expect("an answer that can be read")
    }

    fn end(&mut self, to: ReplyTo) -> Result<(), Status> {
        self.until("the end of a call", |member| member.heard.ends.get(&to).cloned())
    }

    fn call<M: Message + Default>(
        &mut self,
        method: Method,
        request: &impl Message,
    ) -> Result<M, Status> {
        let to = self.begin(method, request);
        self.end(to).map(|()| self.next(to))
    }

    fn open(&mut self, method: Method) -> ReplyTo {
        let to = self.fresh();
        self.submit(Input::Open { to, method, caller: Caller::default() });
        to
    }

    fn send(&mut self, to: ReplyTo, request: &impl Message) {
        self.submit(Input::Message { to, body: request.encode_to_vec().into() });
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> i64 {
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        let answer: PutResponse = self.call(Method::Put, &request).expect("a put");
        answer.header.expect("a header").revision
    }

    fn get(&mut self, key: &'static str) -> Option<Bytes> {
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        let answer: RangeResponse = self.call(Method::Range, &request).expect("a range");
        answer.kvs.into_iter().next().map(|kv| kv.value)
    }
}

#[test]
fn what_was_put_is_read_also_after_a_restart() {
    let mut member = Member::start();
    assert_eq!(member.put("a", "1"), 2);
    assert_eq!(member.put("a", "2"), 3);
    assert_eq!(member.get("a"), Some("2".into()));
    let folder = member.stop();

    let mut member = Member::start_in(folder);
    assert_eq!(member.get("a"), Some("2".into()));
    assert_eq!(member.put("b", "3"), 4);
    let folder = member.stop();
    fs::remove_dir_all(folder).expect("a folder");
}

#[test]
fn a_refusal_is_an_end_without_a_message() {
    let mut member = Member::start();
    let empty = PutRequest::default();
    let to = member.begin(Method::Put, &empty);
    let status = member.end(to).expect_err("a key must be given");
    assert_eq!(status.message, "etcdserver: key is not provided");
    assert!(!member.heard.messages.contains_key(&to));
    fs::remove_dir_all(member.stop()).expect("a folder");
}

#[test]
fn a_txn_sees_what_it_compares() {
    let mut member = Member::start();
    member.put("a", "1");
    let put = PutRequest { key: "a".into(), value: "2".into(), ..PutRequest::default() };
    let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let txn = TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Version.into(),
            key: "a".into(),
            target_union: Some(TargetUnion::Version(1)),
            ..Compare::default()
        }],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(read)) }],
    };
    let first: TxnResponse = member.call(Method::Txn, &txn).expect("a txn");
    assert!(first.succeeded);
    let second: TxnResponse = member.call(Method::Txn, &txn).expect("a txn");
    assert!(!second.succeeded);
    let Some(Response::ResponseRange(range)) = &second.responses[0].response else {
        panic!("not a range: {second:?}")
    };
    assert_eq!((&range.kvs[0].value[..], range.kvs[0].version), (&b"2"[..], 2));
    fs::remove_dir_all(member.stop()).expect("a folder");
}

#[test]
fn a_watch_tells_history_and_goes_on() {
    let mut member = Member::start();
    member.put("a", "1");
    let watch = member.open(Method::Watch);
    let create =
        WatchCreateRequest { key: "a".into(), start_revision: 1, ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    member.send(watch, &request);
    assert!(member.next::<WatchResponse>(watch).created);
    let told: WatchResponse = member.next(watch);
    assert_eq!(told.events[0].kv.as_ref().expect("a key").value, "1");
    member.put("b", "unheard");
    member.put("a", "2");
    let told: WatchResponse = member.next(watch);
    assert_eq!(told.events[0].kv.as_ref().expect("a key").value, "2");
    member.submit(Input::Gone { to: watch });
    member.put("a", "3");
    assert!(!member.heard.ends.contains_key(&watch), "nobody is there to be told of the end");
    fs::remove_dir_all(member.stop()).expect("a folder");
}

#[test]
fn a_lease_is_kept_alive_and_ends_with_its_keys() {
    let mut member = Member::start();
    let request = LeaseGrantRequest { id: 7, ttl: 100 };
    let granted: LeaseGrantResponse = member.call(Method::LeaseGrant, &request).expect("a lease");
    assert_eq!((granted.id, granted.ttl), (7, 100));
    let put = PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() };
    member.call::<PutResponse>(Method::Put, &put).expect("a put");
    let alive = member.open(Method::LeaseKeepAlive);
    member.send(alive, &LeaseKeepAliveRequest { id: 7 });
    assert_eq!(member.next::<LeaseKeepAliveResponse>(alive).ttl, 100);
    member.submit(Input::HalfClosed { to: alive });
    assert_eq!(member.end(alive), Ok(()));
    let revoke = LeaseRevokeRequest { id: 7 };
    member.call::<LeaseRevokeResponse>(Method::LeaseRevoke, &revoke).expect("a lease");
    assert_eq!(member.get("a"), None);
    fs::remove_dir_all(member.stop()).expect("a folder");
}

#[test]
fn a_lock_is_held_by_one_and_waited_for_by_the_next() {
    let mut member = Member::start();
    for id in [1, 2] {
        let request = LeaseGrantRequest { id, ttl: 100 };
        member.call::<LeaseGrantResponse>(Method::LeaseGrant, &request).expect("a lease");
    }
    let lock = |lease| LockRequest { name: "l".into(), lease };
    let first: LockResponse = member.call(Method::Lock, &lock(1)).expect("a lock");
    assert_eq!(first.key, "l/1");
    let second = member.begin(Method::Lock, &lock(2));
    let place = member.until("a place in line", |member| member.get("l/2"));
    assert_eq!(place, Bytes::new());
    assert!(!member.heard.ends.contains_key(&second), "one holder at a time");
    let unlock = UnlockRequest { key: first.key };
    member.call::<UnlockResponse>(Method::Unlock, &unlock).expect("an end");
    assert_eq!(member.end(second), Ok(()));
    assert_eq!(member.next::<LockResponse>(second).key, "l/2");
    fs::remove_dir_all(member.stop()).expect("a folder");
}
