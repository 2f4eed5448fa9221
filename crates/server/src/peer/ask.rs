//! What we ask other members: who they are, what they speak, and to do what only they can.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use proto::error::Error;
use proto::etcdserverpb::{
    HashKvResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, Member, ResponseHeader,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use proto::prost::Message;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::dial::Connection;
use super::remote::Remote;
use super::{Peers, Shared, head, word};

/// Between two probes of a member.
const PROBE_INTERVAL: Duration = Duration::from_secs(4);
/// How long one question may take. Whoever needs an answer asks again.
const QUESTION_MAX: Duration = Duration::from_secs(3);

/// Who belongs to a cluster, as one of its members says.
#[derive(Clone, Debug)]
pub struct Roster {
    pub cluster_id: u64,
    pub members: Vec<Member>,
}

/// Asks at each of `urls` in turn who belongs to the cluster there; for a member that has not begun
/// yet. `None` if nobody answers within `patience` each.
pub fn ask_for_roster(urls: &[String], patience: Duration) -> Option<Roster> {
    let urls = urls.to_vec();
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            for url in urls {
                if let Ok(Ok(roster)) = timeout(patience, roster(&url)).await {
                    return Some(roster);
                }
            }
            None
        })
    };
    // The caller may be on a runtime's thread, where no other may run.
    thread::spawn(ask).join().ok().flatten()
}

async fn roster(url: &str) -> io::Result<Roster> {
    let mut connection = Connection::open(url).await?;
    let (status, answer) = connection.ask(Request::get("/members"), Bytes::new()).await?;
    let cluster_id = head::id(answer.headers(), &head::CLUSTER_ID);
    match (status, cluster_id, members(answer.body())) {
        (StatusCode::OK, Some(cluster_id), Some(members)) => Ok(Roster { cluster_id, members }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no list of members")),
    }
}

/// Reads the members as `/members` shows them.
fn members(body: &[u8]) -> Option<Vec<Member>> {
    let list: Vec<Value> = serde_json::from_slice(body).ok()?;
    Some(list.iter().map(state::membership::member_of).collect())
}

/// Sees now and then how long the way to a member takes, for ever.
pub(super) async fn probe(remote: Arc<Remote>) {
    let mut connection: Option<Connection> = None;
    loop {
        let started = Instant::now();
        let probed = timeout(QUESTION_MAX, probe_once(&remote, &mut connection)).await;
        match probed {
            Ok(Ok(())) => remote.numbers.round_trip.observe(started.elapsed()),
            Ok(Err(_)) | Err(_) => {
                if let Some(broken) = connection.take() {
                    remote.blame(&broken.url);
                }
            }
        }
        sleep(PROBE_INTERVAL).await;
    }
}

async fn probe_once(remote: &Remote, connection: &mut Option<Connection>) -> io::Result<()> {
    if !connection.as_ref().is_some_and(Connection::is_open) {
        *connection = Some(Connection::reach(remote).await?);
    }
    let connection = connection.as_mut().expect("just opened");
    connection.ask(Request::get("/raft/probing"), Bytes::new()).await.map(drop)
}

impl Peers {
    /// What version another member's server is.
    pub async fn version(&self, id: u64) -> Result<String, Error> {
        let (_, body) = self.ask(id, |_| Request::get("/version"), Bytes::new()).await?;
        let said: Value = serde_json::from_slice(&body).map_err(|_| Error::Unhealthy)?;
        said["etcdserver"].as_str().map(str::to_owned).ok_or(Error::Unhealthy)
    }

    /// Has the leader renew a lease; its TTL.
    pub async fn renew_lease(&self, leader: u64, id: i64) -> Result<i64, Error> {
        let body = LeaseKeepAliveRequest { id }.encode_to_vec().into();
        let body = self.post_protobuf(leader, "/leases", body).await?;
        let answer = LeaseKeepAliveResponse::decode(body).map_err(|_| Error::Unhealthy)?;
        Ok(answer.ttl)
    }

    /// Asks the leader what is left of a lease.
    pub async fn time_to_live(
        &self,
        leader: u64,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let request = LeaseInternalRequest { lease_time_to_live_request: Some(request) };
        let body = request.encode_to_vec().into();
        let body = self.post_protobuf(leader, "/leases/internal", body).await?;
        let answer = LeaseInternalResponse::decode(body).map_err(|_| Error::Unhealthy)?;
        answer.lease_time_to_live_response.ok_or(Error::Unhealthy)
    }

    /// Has the leader promote a learner; the members there are then.
    pub async fn promote(
        &self,
        leader: u64,
        id: u64,
        token: Option<&str>,
    ) -> Result<Vec<Member>, Error> {
        let request = |_: &Shared| {
            let request = Request::post(format!("/members/promote/{id}"));
            match token {
                Some(token) => request.header(AUTHORIZATION, token),
                None => request,
            }
        };
        let (status, body) = self.ask(leader, request, Bytes::new()).await?;
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            return Err(word::heard(text.trim()).unwrap_or(Error::Unhealthy));
        }
        members(&body).ok_or(Error::Unhealthy)
    }

    /// The hash of another member's keys at a revision.
    pub async fn hash_kv(&self, id: u64, revision: i64) -> Result<HashKvResponse, Error> {
        let request = |shared: &Shared| {
            let request = Request::get("/members/hashkv");
            let cluster_id = head::hex(shared.config.cluster_id);
            request.header(head::CLUSTER_ID, cluster_id).header(CONTENT_TYPE, "application/json")
        };
        let body = json!({ "revision": revision }).to_string().into();
        let (status, body) = self.ask(id, request, body).await?;
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            return Err(word::heard(text.trim()).unwrap_or(Error::Unhealthy));
        }
        let said: Value = serde_json::from_slice(&body).map_err(|_| Error::Unhealthy)?;
        let hash = said["hash"].as_u64().and_then(|hash| u32::try_from(hash).ok());
        Ok(HashKvResponse {
            header: Some(ResponseHeader {
                member_id: id,
                revision: said["header"]["revision"].as_i64().unwrap_or_default(),
                ..ResponseHeader::default()
            }),
            hash: hash.unwrap_or_default(),
            compact_revision: said["compact_revision"].as_i64().unwrap_or_default(),
            hash_revision: said["hash_revision"].as_i64().unwrap_or_default(),
        })
    }

    async fn post_protobuf(&self, id: u64, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let request = |_: &Shared| Request::post(path).header(CONTENT_TYPE, "application/protobuf");
        match self.ask(id, request, body).await? {
            (StatusCode::OK, body) => Ok(body),
            (StatusCode::NOT_FOUND, _) => Err(Error::LeaseNotFound),
            (StatusCode::REQUEST_TIMEOUT, _) => Err(Error::TimeoutWaitAppliedIndex),
            _ => Err(Error::Unhealthy),
        }
    }

    /// Asks at each of a member's URLs until one answers.
    async fn ask(
        &self,
        id: u64,
        request: impl Fn(&Shared) -> hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let remote = self.shared.remote(id).ok_or(Error::NoLeader)?;
        for url in remote.urls() {
            let asked = async {
                let mut connection = Connection::open(&url).await?;
                connection.ask(request(&self.shared), body.clone()).await
            };
            if let Ok(Ok((status, answer))) = timeout(QUESTION_MAX, asked).await {
                return Ok((status, answer.into_body()));
            }
            remote.blame(&url);
        }
        Err(Error::NoLeader)
    }
}

/// The header by which a caller says who it is.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    headers.get(AUTHORIZATION)?.to_str().ok().map(str::to_owned)
}
