//! Transports over real sockets, each with a host that only remembers what it was told.

mod recorded;

use std::net::{SocketAddr, TcpListener as SilentListener};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use hyper::{Request, Response, StatusCode};
use proto::etcdserverpb::LeaseKeepAliveRequest;
use proto::leasepb::LeaseInternalRequest;
use proto::prost::Message as _;
use raft::{AppendReply, Body, ConfState, EntryId, Index, NodeId, Snapshot, Term};
use stdx::port;
use storage::disk::SimulatedDisk;
use tokio::net::TcpSocket;

use super::dial::Connection;
use super::*;

const CLUSTER: u64 = 0xc1;
const DEADLINE: Duration = Duration::from_secs(30);
/// A lease of which nobody hears anything.
const UNDECIDED: i64 = 4;

#[derive(Default)]
struct Told {
    messages: Vec<Message>,
    unreachable: Vec<u64>,
    sent: Vec<(u64, bool)>,
    removed: bool,
    /// Members removed for ever, as this host knows.
    barred: Vec<u64>,
}

#[derive(Default)]
struct Listening {
    told: Mutex<Told>,
    changed: Condvar,
    numbers: metrics::Peers,
}

impl Listening {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.told());
        self.changed.notify_all();
    }

    /// Waits until the host has been told enough; what is then read of it.
    fn until<T>(&self, what: &str, mut enough: impl FnMut(&Told) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut told = self.told();
        loop {
            if let Some(found) = enough(&told) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}");
            told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn unasked<T: Send + 'static>() -> Answer<T> {
    Box::pin(async { Err(Error::NotLeader) })
}

impl Host for Listening {
    fn receive(&self, messages: &mut Vec<Message>) {
        self.note(|told| told.messages.append(messages));
    }

    fn unreachable(&self, id: u64) {
        self.note(|told| told.unreachable.push(id));
    }

    fn snapshot_sent(&self, id: u64, ok: bool) {
        self.note(|told| told.sent.push((id, ok)));
    }

    fn removed(&self) {
        self.note(|told| told.removed = true);
    }

    fn is_removed(&self, id: u64) -> bool {
        self.told().barred.contains(&id)
    }

    fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    fn cluster_version(&self) -> Option<String> {
        None
    }

    fn downgrade_enabled(&self) -> bool {
        false
    }

    fn numbers(&self, id: u64) -> Arc<metrics::Peer> {
        self.numbers.peer(id)
    }

    fn renew(&self, id: i64) -> Answer<i64> {
        if id == UNDECIDED { Box::pin(std::future::pending()) } else { unasked() }
    }

    fn time_to_live(&self, _: LeaseTimeToLiveRequest) -> Answer<LeaseTimeToLiveResponse> {
        unasked()
    }

    fn promote(&self, _: u64, _: Option<String>) -> Answer<Vec<Member>> {
        unasked()
    }

    fn hash_kv(&self, _: i64) -> Answer<HashKvResponse> {
        unasked()
    }
}

/// A transport, its host and where it is.
struct Seat {
    id: u64,
    at: SocketAddr,
    host: Arc<Listening>,
    disk: SimulatedDisk,
    peers: Peers,
    thread: Option<JoinHandle<()>>,
}

fn run<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

impl Seat {
    fn take(id: u64) -> Self {
        Self::take_at(id, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn take_at(id: u64, at: SocketAddr) -> Self {
        Self::take_in(CLUSTER, id, at, None)
    }

    /// In another cluster, or with another URL than where it is.
    fn take_in(cluster_id: u64, id: u64, at: SocketAddr, url: Option<String>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let bound = runtime.block_on(tokio::net::TcpListener::bind(at)).expect("a port");
        let at = bound.local_addr().expect("bound");
        let disk = SimulatedDisk::new(id);
        let config = Config {
            cluster_id,
            member_id: id,
            advertise_urls: vec![url.unwrap_or_else(|| format!("http://{at}"))],
            snapshot_dir: "/snap".into(),
            disk: Arc::new(disk.clone()),
            logger: Logger::discard(),
        };
        let host = Arc::new(Listening::default());
        let doors = vec![Listener::Tcp(bound)];
        let listening = Arc::<Listening>::clone(&host);
        let (peers, thread) = Peers::start(config, listening, doors).expect("a thread");
        Self { id, at, host, disk, peers, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    fn meet(&self, other: &Self) {
        self.peers.set_members(&[(other.id, vec![other.url()])]);
    }

    fn send(&self, to: &Self, numbers: std::ops::Range<u64>) {
        let mut messages = numbers.map(|n| reply(self.id, to.id, n)).collect();
        self.peers.send(&mut messages);
    }

    /// Sends until something has come: before there is any connection, messages are lost.
    fn reach(&self, to: &Self) {
        let deadline = Instant::now() + DEADLINE;
        while to.host.told().messages.is_empty() {
            assert!(Instant::now() < deadline, "{} does not reach {}", self.id, to.id);
            self.send(to, 0..1);
            let told = to.host.told();
            drop(to.host.changed.wait_timeout(told, Duration::from_millis(20)));
        }
    }

    /// Waits until it hears the other on both streams.
    fn settle(&self, other: &Self) {
        let deadline = Instant::now() + DEADLINE;
        let heard = || {
            self.peers.shared.remote(other.id).is_some_and(|r| r.n_live.load(Ordering::SeqCst) == 2)
        };
        while !heard() {
            assert!(Instant::now() < deadline, "{} does not hear {}", self.id, other.id);
            thread::yield_now();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.peers.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not 0")
}

/// A message that bears a number.
fn reply(from: u64, to: u64, n: u64) -> Message {
    let body = Body::AppendReply(AppendReply::Accepted { last: Index(n) });
    Message { from: node(from), to: node(to), term: Term(1), body }
}

fn numbers(told: &Told) -> Vec<u64> {
    let number = |message: &Message| {
        let Body::AppendReply(AppendReply::Accepted { last }) = &message.body else {
            panic!("sent by nobody: {message:?}")
        };
        last.0
    };
    told.messages.iter().map(number).collect()
}

#[test]
fn messages_arrive_once_and_in_their_order() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    a.meet(&b);
    b.meet(&a);
    b.settle(&a);
    for first in (0..3000).step_by(100) {
        a.send(&b, first..first + 100);
    }
    let came =
        b.host.until("3000 messages", |told| (told.messages.len() >= 3000).then(|| numbers(told)));
    assert_eq!(came, (0..3000).collect::<Vec<_>>());
    assert!(b.peers.active_since(1).is_some());
}

#[test]
fn a_member_that_comes_back_at_its_old_place_is_reached_again() {
    // Nobody else may have got the place in between.
    let at = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let (a, b) = (Seat::take(1), Seat::take_at(2, at));
    a.meet(&b);
    b.meet(&a);
    a.reach(&b);
    drop(b);
    let b = Seat::take_at(2, at);
    b.meet(&a);
    a.reach(&b);
    b.settle(&a);
    a.settle(&b);
}

#[test]
fn what_does_not_fit_is_dropped_and_raft_is_told() {
    let a = Seat::take(1);
    let silent = SilentListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    a.peers.set_members(&[(2, vec![url])]);
    let mut messages: Vec<_> = (0..1000).map(|n| reply(1, 2, n)).collect();
    a.peers.send(&mut messages);
    assert!(messages.is_empty());
    assert!(a.host.told().unreachable.contains(&2));
    assert!(a.host.numbers(2).sent_failures.get() > 800);
}

#[test]
fn a_sender_nobody_knows_yet_is_answered_all_the_same() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    a.meet(&b); // b has not heard of a.
    a.reach(&b);
    b.reach(&a);
}

fn snapshot(index: u64) -> Message {
    let conf_state = ConfState::new(vec![node(1), node(2)], Vec::new());
    let (index, term) = (Index(index), Term(3));
    let snapshot = Snapshot { index, term, conf_state, data: Bytes::new() };
    Message { from: node(1), to: node(2), term: Term(3), body: Body::Snapshot(Box::new(snapshot)) }
}

/// Sends `n` pieces of a file that was said to have `size` bytes; whether it arrived.
fn send_file(a: &Seat, index: u64, size: u64, pieces: &[Bytes]) -> bool {
    let (sender, file) = mpsc::channel(2);
    a.peers.send_snapshot(snapshot(index), size, file);
    for piece in pieces {
        // A receiver that went away is told about below.
        drop(sender.blocking_send(piece.clone()));
    }
    drop(sender);
    a.host.until("the end of a snapshot", |told| told.sent.last().map(|(_, ok)| *ok))
}

#[test]
fn a_snapshot_arrives_whole_before_raft_hears_of_it() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    a.meet(&b);
    let pieces: Vec<Bytes> = (0..64_u8).map(|n| vec![n; 64 << 10].into()).collect();
    assert!(send_file(&a, 0x1f, 64 * (64 << 10), &pieces));
    b.host.until("the message", |told| (told.messages == [snapshot(0x1f)]).then_some(()));

    let file = b.disk.open(Path::new("/snap/000000000000001f.snap.db")).expect("the file");
    let mut content = Vec::new();
    file.copy_to(0, 64 * (64 << 10), &mut content).expect("all of it");
    assert_eq!(file.len().expect("a length"), content.len() as u64);
    assert_eq!(content, pieces.concat());
    assert_eq!(b.disk.list(Path::new("/snap")).expect("the folder").len(), 1);
}

#[test]
fn a_snapshot_that_is_cut_short_leaves_nothing() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    a.meet(&b);
    let pieces = vec![Bytes::from(vec![7; 64 << 10]); 4];
    assert!(!send_file(&a, 5, 1 << 20, &pieces));
    // The next one finds the place free once the cut one is cleared away.
    let deadline = Instant::now() + DEADLINE;
    // Cut early enough, it has not even made the folder.
    while b.disk.list(Path::new("/snap")).is_ok_and(|names| !names.is_empty()) {
        assert!(Instant::now() < deadline, "something is left");
        thread::yield_now();
    }
    assert!(b.host.told().messages.is_empty());
}

/// A URL where nobody is, nor comes to be as long as the socket is held.
fn nowhere() -> (TcpSocket, String) {
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let url = format!("http://{}", held.local_addr().expect("bound"));
    (held, url)
}

#[test]
fn a_member_that_is_not_at_its_first_url_gets_its_snapshot_at_the_next() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    let (_held, dead) = nowhere();
    // Known to no task that would find out before.
    let remote = Arc::new(Remote::new(2, vec![dead, b.url()], a.host.numbers(2)));
    let (sender, file) = mpsc::channel(1);
    sender.try_send(Bytes::from_static(b"the file")).expect("room");
    run(snapshot::send(Arc::clone(&a.peers.shared), remote, snapshot(6), 8, file));
    assert_eq!(a.host.told().sent, [(2, true)]);
    b.host.until("the message", |told| (told.messages == [snapshot(6)]).then_some(()));
}

#[test]
fn where_a_member_was_found_is_tried_first_from_then_on() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    let ((_held, dead), (_held_too, dead_too)) = (nowhere(), nowhere());
    let urls = vec![dead.clone(), b.url(), dead_too.clone()];
    let remote = Remote::new(2, urls, a.host.numbers(2));
    let reached = run(Connection::reach(&remote)).expect("a connection");
    assert_eq!(reached.url, b.url());
    assert_eq!(remote.urls(), [b.url(), dead_too.clone(), dead.clone()]);
    remote.blame(&dead); // Somebody else was as late to find out.
    assert_eq!(remote.urls()[0], b.url());
    remote.blame(&b.url());
    assert_eq!(remote.urls(), [dead_too, dead, b.url()]);
}

#[test]
fn a_removed_member_is_told() {
    let (a, b) = (Seat::take(1), Seat::take(2));
    b.host.note(|told| told.barred.push(1));
    b.meet(&a);
    a.meet(&b);
    a.host.until("the news", |told| told.removed.then_some(()));
}

/// What a stream is answered with: status, headers, body.
fn ask_for_stream(b: &Seat, cluster: &str, version: &str, from: &str) -> Response<Bytes> {
    run(async {
        let mut connection = Connection::open(&b.url()).await.expect("a connection");
        let request = Request::get(format!("/raft/stream/msgapp/{from}"))
            .header("x-server-from", from)
            .header("x-server-version", version)
            .header("x-min-cluster-version", "3.0.0")
            .header("x-etcd-cluster-id", cluster)
            .header("x-raft-to", "2");
        connection.ask(request, Bytes::new()).await.expect("an answer").1
    })
}

/// Recorded from etcd 3.7.1: each refusal bears the cluster's id and the server's version.
#[test]
fn who_has_no_stream_to_get_is_told_why_in_etcds_words() {
    let b = Seat::take(2);
    b.host.note(|told| told.barred.push(9));
    let gone = StatusCode::GONE;
    for (cluster, version, from, status, body) in [
        ("c2", "3.7.1", "1", StatusCode::PRECONDITION_FAILED, Some("cluster ID mismatch\n")),
        ("c1", "2.3.0", "1", StatusCode::PRECONDITION_FAILED, Some("incompatible version\n")),
        ("c1", "3.7.1", "1", StatusCode::NOT_FOUND, Some("error sender not found\n")),
        ("c1", "3.7.1", "9", gone, None),
    ] {
        let answer = ask_for_stream(&b, cluster, version, from);
        assert_eq!(answer.status(), status, "{cluster} {version} {from}");
        if let Some(body) = body {
            assert_eq!(answer.body(), body);
        }
        assert_eq!(answer.headers()["x-etcd-cluster-id"], "c1");
        assert_eq!(answer.headers()["x-server-version"], "3.7.1");
    }
}

/// In etcd's words: its sources have them, but its members rarely come to say them.
#[test]
fn who_asks_for_leases_in_vain_is_told_whether_to_ask_elsewhere() {
    let b = Seat::take(2);
    let ask = |path: &'static str, body: Vec<u8>| {
        run(async {
            let mut connection = Connection::open(&b.url()).await.expect("a connection");
            let (status, answer) =
                connection.ask(Request::post(path), body.into()).await.expect("an answer");
            (status.as_u16(), String::from_utf8(answer.into_body().into()).expect("a text"))
        })
    };
    let renew = |id| LeaseKeepAliveRequest { id }.encode_to_vec();
    let elsewhere = "not a primary lessor\n".to_owned();
    assert_eq!(ask("/leases", renew(1)), (400, elsewhere.clone()));
    let request = Some(LeaseTimeToLiveRequest { id: 1, keys: false });
    let request = LeaseInternalRequest { lease_time_to_live_request: request };
    assert_eq!(ask("/leases/internal", request.encode_to_vec()), (500, elsewhere));
    let later = "waiting for node to catch up its applied index has timed out\n".to_owned();
    assert_eq!(ask("/leases", renew(UNDECIDED)), (408, later));
}

fn post(b: &Seat, message: &Message) -> StatusCode {
    let mut body = bytes::BytesMut::new();
    member::message::encode(message, &mut body);
    run(async {
        let mut connection = Connection::open(&b.url()).await.expect("a connection");
        let request = head::introduce(Request::post("/raft"), &b.peers.shared.config);
        connection.ask(request, body.freeze()).await.expect("an answer").0
    })
}

#[test]
fn what_is_posted_is_taken_only_if_it_is_for_us_and_whole() {
    let b = Seat::take(2);
    assert_eq!(post(&b, &reply(1, 3, 1)), StatusCode::INTERNAL_SERVER_ERROR, "for another");
    assert_eq!(post(&b, &snapshot(4)), StatusCode::BAD_REQUEST, "without its file");
    assert!(b.host.told().messages.is_empty());
    let prev = EntryId::new(Index(6), Term(1));
    let body = Body::Append { prev, entries: Vec::new(), commit: Index(2) };
    let append = Message { from: node(1), to: node(2), term: Term(1), body };
    assert_eq!(post(&b, &append), StatusCode::NO_CONTENT);
    assert_eq!(b.host.told().messages, [append]);
}
