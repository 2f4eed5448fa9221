//! The whole of HTTP against a member made of answers, over a pipe instead of a socket.

mod form;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::error::{Code, Error, Status};
use proto::etcdserverpb as pb;
use proto::method::Method;
use proto::prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::*;
use crate::api::Caller;
use crate::metrics::Metrics;

/// Longer than any test takes that goes well.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes a pipe holds before its writer waits.
const PIPE: usize = 4096;

/// What a streaming call does and says, by the test's hand.
struct FakeStream {
    answers: mpsc::Receiver<Result<Bytes, Status>>,
    heard: mpsc::UnboundedSender<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Opened(Method, Caller),
    Message(Bytes),
    HalfClosed,
    Gone,
}

impl Stream for FakeStream {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        self.answers.recv().await.transpose()
    }

    fn message(&self, body: Bytes) {
        drop(self.heard.send(Heard::Message(body)));
    }

    fn half_close(&self) {
        drop(self.heard.send(Heard::HalfClosed));
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        drop(self.heard.send(Heard::Gone));
    }
}

/// A member that answers each put with a revision, each range with the caller's token as an error.
struct Fake {
    metrics: Metrics,
    vitals: Mutex<Vitals>,
    probe: Mutex<Result<(), Status>>,
    stream: Mutex<Option<FakeStream>>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Service for Fake {
    type Stream = FakeStream;

    async fn call(&self, method: Method, _: Caller, body: Bytes) -> Result<Bytes, Status> {
        if method == Method::Put {
            let put = pb::PutRequest::decode(body).expect("a put");
            let revision = put.value.len() as i64;
            let header = pb::ResponseHeader { revision, ..Default::default() };
            Ok(pb::PutResponse { header: Some(header), prev_kv: None }.encode_to_vec().into())
        } else if method == Method::Compact {
            std::future::pending().await
        } else {
            Err(Error::NoLeader.into())
        }
    }

    fn pieces(&self, _: Method, caller: Caller, _: Bytes) -> Result<FakeStream, Status> {
        let token = caller.token.unwrap_or_default().into_string();
        Err(Status::new(Code::Unauthenticated, token))
    }

    fn stream(&self, method: Method, caller: Caller, body: Bytes) -> Result<FakeStream, Status> {
        let stream = self.open(method, caller)?;
        stream.message(body);
        Ok(stream)
    }

    fn open(&self, method: Method, caller: Caller) -> Result<FakeStream, Status> {
        drop(self.heard.send(Heard::Opened(method, caller)));
        self.stream.lock().expect("no panic").take().ok_or_else(|| Error::NoLeader.into())
    }

    async fn probe(&self, _: bool) -> Result<(), Status> {
        self.probe.lock().expect("no panic").clone()
    }

    fn vitals(&self) -> Vitals {
        self.vitals.lock().expect("no panic").clone()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn refresh(&self, metrics: &Metrics) {
        metrics.has_leader.set(1);
    }
}

/// A server with one connection, and both ends of its one stream.
struct World {
    runtime: Runtime,
    context: Arc<Context<Fake>>,
    stopping: watch::Sender<bool>,
    heard: mpsc::UnboundedReceiver<Heard>,
    says: mpsc::Sender<Result<Bytes, Status>>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Context<Fake>)) -> Self {
        let (heard_by, heard) = mpsc::unbounded_channel();
        let (says, answers) = mpsc::channel(1000);
        let (stopping, stops) = watch::channel(false);
        let raft = RaftStatus { id: 10, leader: 10, role: "StateLeader", ..Default::default() };
        let mut context = Context {
            service: Fake {
                metrics: Metrics::new(false),
                vitals: Mutex::new(Vitals { raft, ..Vitals::default() }),
                probe: Mutex::new(Ok(())),
                stream: Mutex::new(Some(FakeStream { answers, heard: heard_by.clone() })),
                heard: heard_by,
            },
            access: Access::default(),
            gateway: true,
            request_bytes_max: 1 << 20,
            server_version: "3.7.1",
            logger: Logger::discard(),
            stopping: stops,
        };
        change(&mut context);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, context: Arc::new(context), stopping, heard, says }
    }

    fn connect(&self, door: Door) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.runtime.spawn(serve(theirs, Arc::clone(&self.context), door));
        ours
    }

    /// Sends a whole request (its first line, and headers behind it) on a connection of its own, and reads until the server closes it.
    fn ask_at(&self, door: Door, head: &str, body: &str) -> String {
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, "X: y"));
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n\r\n{body}"
        );
        let mut pipe = self.connect(door);
        let mut answer = Vec::new();
        self.within(async {
            pipe.write_all(request.as_bytes()).await.expect("the server reads");
            pipe.read_to_end(&mut answer).await.expect("the server answers");
        });
        let answer = String::from_utf8(answer).expect("text");
        let dated = answer.lines().filter(|line| !line.starts_with("Date: "));
        dated.map(|line| format!("{line}\n")).collect()
    }

    fn get(&self, path: &str) -> String {
        self.ask_at(Door::Plain, &format!("GET {path}"), "")
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.ask_at(Door::Plain, &format!("POST {path}"), body)
    }

    fn within<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(DEADLINE, work).await.expect("in time") })
    }

    /// Sends the head of a chunked request and some of its body, and keeps the connection.
    fn begin(&self, path: &str, body: &str) -> DuplexStream {
        let mut pipe = self.connect(Door::Plain);
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        self.within(async {
            pipe.write_all(head.as_bytes()).await.expect("the server reads");
            pipe.write_all(chunk(body).as_bytes()).await.expect("the server reads");
        });
        pipe
    }

    fn read_until(&self, pipe: &mut DuplexStream, end: &str) -> String {
        let mut read = Vec::new();
        self.within(async {
            while !read.ends_with(end.as_bytes()) {
                read.push(pipe.read_u8().await.expect("there is more"));
            }
        });
        String::from_utf8(read).expect("text")
    }

    fn hear(&mut self) -> Heard {
        let Self { runtime, heard, .. } = self;
        runtime.block_on(async {
            timeout(DEADLINE, heard.recv()).await.expect("in time").expect("somebody speaks")
        })
    }

    fn say(&self, message: Result<Bytes, Status>) {
        self.says.try_send(message).expect("there is room");
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn watched(id: i64) -> Bytes {
    pb::WatchResponse { watch_id: id, ..Default::default() }.encode_to_vec().into()
}

fn body(answer: &str) -> &str {
    answer.split_once("\n\n").map_or("", |(_, body)| body)
}

#[test]
fn health_is_told_in_etcds_words() {
    let world = World::new();
    let head = "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\n";
    let allowed = "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\n\
                   Access-Control-Allow-Origin: *\n\
                   Access-Control-Allow-Headers: accept, content-type, authorization\n";
    let well = "{\"health\":\"true\",\"reason\":\"\"}\n";
    let healthy = world.get("/health");
    assert!(healthy.starts_with(head) && healthy.contains(allowed), "{healthy}");
    assert_eq!(body(&healthy), well);

    world.context.service.vitals.lock().expect("no panic").alarms = vec![Alarm::NoSpace];
    let ill = world.get("/health");
    assert!(ill.starts_with("HTTP/1.1 503 Service Unavailable\n"), "{ill}");
    assert_eq!(body(&ill), "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
    assert_eq!(body(&world.get("/health?exclude=CORRUPT&exclude=NOSPACE")), well);
    assert_eq!(body(&world.get("/readyz")), "ok\n", "a full member is ready");

    let vitals = &world.context.service.vitals;
    *vitals.lock().expect("no panic") = Vitals::default();
    let leaderless = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!(body(&world.get("/health")), leaderless);
    assert_eq!(body(&world.get("/health?serializable=true")), well);
    *world.context.service.probe.lock().expect("no panic") = Err(Error::Timeout.into());
    let slow = "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n";
    assert_eq!(body(&world.get("/health?serializable=true")), slow);
}

#[test]
fn checks_say_what_failed_and_can_be_left_out() {
    let world = World::new();
    assert_eq!(body(&world.get("/livez")), "ok\n");
    assert_eq!(body(&world.get("/livez?verbose")), "[+]serializable_read ok\nok\n");
    assert_eq!(body(&world.get("/livez?verbose&exclude=serializable_read")), "ok\n");
    assert_eq!(body(&world.get("/readyz/non_learner?verbose")), "[+]non_learner ok\nok\n");
    world.context.service.vitals.lock().expect("no panic").alarms = vec![Alarm::Corrupt];
    let failed = world.get("/readyz");
    assert!(failed.starts_with("HTTP/1.1 503 "), "{failed}");
    assert_eq!(
        body(&failed),
        "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
         [+]linearizable_read ok\n[+]non_learner ok\n\n"
    );
    assert_eq!(body(&world.get("/readyz?exclude=data_corruption")), "ok\n");
    let scrape = world.get("/metrics");
    let line = "etcd_server_healthchecks_total{name=\"data_corruption\",status=\"error\",\
                type=\"readyz\"} 1\n";
    assert!(scrape.contains(line) && scrape.contains("\netcd_server_has_leader 1\n"), "{scrape}");
}

#[test]
fn pages_are_where_etcd_has_them() {
    let world = World::new();
    let version = "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"not_decided\",\
                   \"storage\":\"unknown\"}\n";
    assert_eq!(body(&world.get("/version")), version);
    for path in ["/", "/livez/", "/health/x", "/debug/pprof/", "/v2/keys", "/members"] {
        assert_eq!(body(&world.get(path)), "404 page not found\n", "{path}");
    }
    for path in ["/health", "/livez", "/readyz/non_learner", "/version", "/debug/vars"] {
        let refused = world.post(path, "x");
        assert!(refused.starts_with("HTTP/1.1 405 Method Not Allowed\n"), "{refused}");
        assert!(refused.contains("Allow: GET\n"), "{refused}");
    }
    assert!(world.post("/metrics", "").starts_with("HTTP/1.1 200 OK\n"));
    let tidy = world.get("//health?x=1");
    assert!(tidy.starts_with("HTTP/1.1 307 ") && tidy.contains("Location: /health?x=1\n"));
    assert!(world.get("/debug/vars").contains("\"raft.status\": {\"applied\":0,"));
    assert!(world.get("/v3").contains("Location: /v3/\n"));
}

#[test]
fn the_port_for_metrics_has_nothing_else() {
    let world = World::new();
    for path in ["/metrics", "/health", "/livez", "/readyz/linearizable_read"] {
        let found = world.ask_at(Door::Metrics, &format!("GET {path}"), "");
        assert!(found.starts_with("HTTP/1.1 200 OK\n") && !found.contains("Access"), "{found}");
    }
    for path in ["/version", "/debug/vars", "/v3/kv/range"] {
        let found = world.ask_at(Door::Metrics, &format!("GET {path}"), "");
        assert!(found.starts_with("HTTP/1.1 404 "), "{found}");
    }
}

#[test]
fn strange_hosts_and_origins_are_kept_out() {
    let world = World::with(|context| {
        context.access.hosts = vec!["localhost".to_owned()];
        context.access.origins = vec!["http://a.b:80".to_owned()];
    });
    assert!(!world.get("/version").contains("Access-Control"));
    let mut pipe = world.connect(Door::Plain);
    let strange = b"OPTIONS /v3/kv/put HTTP/1.1\r\nHost: evil.com:80\r\n\r\n";
    world.within(pipe.write_all(strange)).expect("the server reads");
    let refused = world.read_until(&mut pipe, "CVE-2018-5702");
    assert!(refused.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{refused}");

    let mut pipe = world.connect(Door::Plain);
    let known =
        b"OPTIONS /v3/kv/put HTTP/1.1\r\nHost: localhost:1\r\nOrigin: http://a.b:80\r\n\r\n";
    world.within(pipe.write_all(known)).expect("the server reads");
    let allowed = world.read_until(&mut pipe, "\r\n\r\n");
    assert!(allowed.starts_with("HTTP/1.1 200 OK\r\n"), "{allowed}");
    assert!(allowed.contains("Access-Control-Allow-Origin: http://a.b:80\r\n"), "{allowed}");
}

#[test]
fn a_certificates_name_does_not_count_at_the_gateway() {
    let world = World::new();
    world.context.service.vitals.lock().expect("no panic").auth_enabled = true;
    let door = Door::Tls { named: true };
    assert!(world.ask_at(door, "POST /v3/kv/put", "{}").starts_with("HTTP/1.1 400 "));
    assert!(world.ask_at(door, "GET /health", "").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_call_through_the_gateway_is_answered_or_refused() {
    let world = World::new();
    let put = world.post("/v3/kv/put", r#"{"key":"YQ==","value":"YWJj"} and more"#);
    assert!(put.starts_with("HTTP/1.1 200 OK\nContent-Type: application/json\n"), "{put}");
    assert!(put.contains("Grpc-Metadata-Content-Type: application/grpc\n"), "{put}");
    assert_eq!(body(&put), "{\"header\":{\"revision\":\"3\"}}\n");
    assert!(world.post("/v3beta/kv/put", "").starts_with("HTTP/1.1 200 OK\n"));
    assert_eq!(body(&world.post("/v3/lease/grant", "{}")), NO_LEADER);
    let cases = [
        ("/v3/kv/nothere", "{}", "404", "{\"code\":5,\"message\":\"Not Found\"}\n"),
        ("/v3/kv/put", "{", "400", "{\"code\":3,\"message\":\"unexpected EOF\"}\n"),
    ];
    for (path, request, status, said) in cases {
        let answer = world.post(path, request);
        assert_eq!((&answer[9..12], body(&answer)), (status, said));
    }
    let wrong = world.get("/v3/kv/put");
    assert!(wrong.starts_with("HTTP/1.1 501 "), "{wrong}");
    assert_eq!(body(&wrong), "{\"code\":12,\"message\":\"Method Not Allowed\"}\n");
    let head = "POST /v3/kv/range\r\nAuthorization: Bearer t";
    let refused = world.ask_at(Door::Plain, head, "{}");
    assert!(refused.contains("Www-Authenticate: Bearer t\n"), "{refused}");
    assert_eq!(body(&refused), "{\"code\":16,\"message\":\"Bearer t\"}\n");
    let scrape = world.get("/metrics");
    let line = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",\
                grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 2\n";
    assert!(scrape.contains(line));
}

const NO_LEADER: &str = "{\"code\":14,\"message\":\"etcdserver: no leader\"}\n";

#[test]
fn a_call_ends_with_its_deadline() {
    let world = World::new();
    let head = "POST /v3/kv/compaction\r\nGrpc-Timeout: 1m";
    let late = world.ask_at(Door::Plain, head, "{}");
    assert!(late.starts_with("HTTP/1.1 504 "), "{late}");
    let head = "POST /v3/kv/compaction\r\nGrpc-Timeout: x";
    let said = "{\"code\":3,\"message\":\"invalid grpc-timeout: x\"}\n";
    assert_eq!(body(&world.ask_at(Door::Plain, head, "{}")), said);
}

#[test]
fn without_the_gateway_there_is_no_v3() {
    let world = World::with(|context| context.gateway = false);
    for path in ["/v3", "/v3/kv/put"] {
        assert_eq!(body(&world.post(path, "{}")), "404 page not found\n");
    }
}

#[test]
fn a_watch_outlives_its_request_and_ends_with_its_client() {
    let mut world = World::new();
    let mut pipe = world.begin("/v3/watch", "{\"create_request\":{}}{\"progress");
    assert_eq!(world.hear(), Heard::Opened(Method::Watch, Caller::default()));
    assert!(matches!(world.hear(), Heard::Message(_)));
    world.say(Ok(watched(0)));
    let head = world.read_until(&mut pipe, "\r\n\r\n");
    assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    world.read_until(&mut pipe, "{\"result\":{}}\n\r\n");

    let rest = chunk("_request\":{}}") + "0\r\n\r\n";
    world.within(pipe.write_all(rest.as_bytes())).expect("the server reads");
    assert!(matches!(world.hear(), Heard::Message(_)));
    assert_eq!(world.hear(), Heard::HalfClosed);
    world.say(Ok(watched(7)));
    world.read_until(&mut pipe, "{\"result\":{\"watch_id\":\"7\"}}\n\r\n");

    drop(pipe);
    assert_eq!(world.hear(), Heard::Gone);
    let line = "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",\
                grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 1\n";
    assert!(world.get("/metrics").contains(line));
}

#[test]
fn a_stream_fails_with_a_status_before_its_first_line_and_with_a_line_after() {
    let world = World::new();
    world.say(Err(Error::InvalidAuthToken.into()));
    let at_once = world.post("/v3/watch", "{}");
    assert!(at_once.starts_with("HTTP/1.1 401 "), "{at_once}");
    let said = "{\"error\":{\"code\":16,\"message\":\"etcdserver: invalid auth token\"}}\n";
    assert_eq!(body(&at_once), said);

    let world = World::new();
    world.say(Ok(Bytes::new()));
    world.say(Err(Error::Compacted.into()));
    let later = world.post("/v3/maintenance/snapshot", "");
    assert!(later.starts_with("HTTP/1.1 200 OK\n"), "{later}");
    assert!(later.contains("{\"result\":{}}\n"), "{later}");
    assert!(later.contains("{\"error\":{\"code\":11,\"message\":\"etcdserver: mvcc: "), "{later}");

    let world = World::new();
    let nonsense = world.post("/v3/election/observe", "x");
    let said =
        "{\"code\":3,\"message\":\"invalid character 'x' looking for beginning of value\"}\n";
    assert_eq!(body(&nonsense), said);
}

#[test]
fn nonsense_ends_the_requests_and_not_the_call() {
    let mut world = World::new();
    let mut pipe = world.begin("/v3/lease/keepalive", "{\"ID\":1}{\"ID\":[]}");
    assert!(matches!(world.hear(), Heard::Opened(Method::LeaseKeepAlive, _)));
    assert_eq!(world.hear(), Heard::Message(Bytes::from_static(&[8, 1])));
    assert_eq!(world.hear(), Heard::HalfClosed);
    world.say(Ok(Bytes::new()));
    world.read_until(&mut pipe, "{\"result\":{}}\n\r\n");
}

#[test]
fn a_client_that_does_not_read_is_not_read_for() {
    let mut world = World::new();
    let pipe = world.begin("/v3/watch", "{}");
    assert!(matches!(world.hear(), Heard::Opened(..)));
    assert!(matches!(world.hear(), Heard::Message(_)));
    let event = pb::WatchResponse { cancel_reason: "x".repeat(10_000), ..Default::default() };
    let n_said = world.says.max_capacity();
    for _ in 0..n_said {
        world.say(Ok(event.encode_to_vec().into()));
    }
    // Whatever can happen has happened once a call behind it is answered.
    assert!(world.get("/version").starts_with("HTTP/1.1 200"));
    let n_taken = world.says.capacity();
    assert!(n_taken < 100, "{n_taken} of {n_said} messages were taken for nobody");
    drop(pipe);
    assert_eq!(world.hear(), Heard::Gone);
}

#[test]
fn the_servers_end_ends_idle_connections_and_streams() {
    let mut world = World::new();
    let mut idle = world.connect(Door::Plain);
    let mut watch = world.begin("/v3/watch", "{}");
    assert!(matches!(world.hear(), Heard::Opened(..)));
    world.say(Ok(watched(1)));
    world.read_until(&mut watch, "{\"result\":{\"watch_id\":\"1\"}}\n\r\n");
    world.stopping.send(true).expect("the server listens");
    let mut rest = String::new();
    world.within(watch.read_to_string(&mut rest)).expect("text");
    assert!(rest.contains("etcdserver: server stopped"), "{rest}");
    world.within(idle.read_to_string(&mut rest)).expect("closed");
}

#[test]
fn a_call_whose_client_has_gone_counts_as_cancelled() {
    let world = World::new();
    let pipe = world.begin("/v3/kv/compaction", "{}");
    let count = |code: &str| {
        let line = format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Compact\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}} 1\n"
        );
        world.get("/metrics").contains(&line)
    };
    assert!(!count("Canceled"));
    drop(pipe);
    // The task that held the call has run once another request is answered.
    assert!(count("Canceled"));
}

/// Says `first` and then a letter a second, in time that passes whenever all wait; how long until the
/// server ends the connection, and what it said.
fn trickled(first: &str) -> (Duration, String) {
    let world = World::new();
    let mut pipe = world.connect(Door::Plain);
    world.runtime.block_on(async {
        pipe.write_all(first.as_bytes()).await.expect("the server reads");
        tokio::time::pause();
        let (began, mut said) = (tokio::time::Instant::now(), Vec::new());
        loop {
            match timeout(Duration::from_secs(1), pipe.read_buf(&mut said)).await {
                Ok(Ok(n)) if n > 0 => {}
                Ok(_) => return (began.elapsed(), String::from_utf8(said).expect("text")),
                Err(_) => drop(pipe.write_all(b"x").await),
            }
            assert!(began.elapsed() < HEAD_TIMEOUT * 2, "waited for ever");
        }
    })
}

#[test]
fn a_head_that_trickles_for_ever_is_ended_in_time() {
    let limit = HEAD_TIMEOUT..HEAD_TIMEOUT + Duration::from_secs(2);
    for first in ["G", "GET /version HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let (took, said) = trickled(first);
        assert!(limit.contains(&took), "{took:?}");
        assert_eq!(said, "");
    }
    let (took, said) =
        trickled("GET /version HTTP/1.1\r\nHost: a\r\n\r\nGET /version HTTP/1.1\r\nX: ");
    assert!(limit.contains(&took), "{took:?}");
    assert!(said.starts_with("HTTP/1.1 200 OK"), "the first was whole: {said}");
}
