//! Clients that write and read at any member, and remember when they asked and what they were told.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::Method;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};
use stdx::Generator;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::client::{Client, Failure};

/// Few keys, so that clients meet.
pub(super) const N_KEYS: u64 = 20;
/// A client gives up waiting; what it asked for may still come true.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A client that was refused, or found nobody, tries elsewhere after this long.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Values are numbers; no two puts have the same.
    Put {
        key: u64,
        value: u64,
    },
    Delete {
        key: u64,
    },
    Read {
        key: u64,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) revision: i64,
    /// Of a read: the revision that made what was found, and the value.
    pub(super) found: Option<(i64, u64)>,
    /// Of a delete: how many keys it deleted.
    pub(super) deleted: i64,
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) asked: Asked,
    /// The newest revision anybody had been told of when this was asked.
    pub(super) known: i64,
    /// `None`: nobody said what came of it.
    pub(super) told: Option<Told>,
}

#[derive(Default)]
struct Shared {
    done: Mutex<Vec<Done>>,
    known: AtomicI64,
    fresh: AtomicU64,
    n_told: AtomicU64,
    enough: AtomicBool,
}

/// Clients under way.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `n` clients of the members at `ports`.
    pub(super) fn begin(n: u64, seed: u64, ports: &[u16]) -> Self {
        let shared = Arc::new(Shared::default());
        let task = |n| {
            let client = LoadClient {
                g: Generator::new(seed.wrapping_add(n)),
                ports: ports.to_vec(),
                connection: None,
                shared: Arc::clone(&shared),
            };
            tokio::spawn(client.run())
        };
        let tasks = (0..n).map(task).collect();
        Self { shared, tasks }
    }

    /// How many requests have been answered.
    pub(super) fn n_told(&self) -> u64 {
        self.shared.n_told.load(Ordering::Relaxed)
    }

    /// Lets the clients finish what they have begun.
    pub(super) async fn end(self) -> Vec<Done> {
        self.shared.enough.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client that does not panic");
        }
        std::mem::take(&mut *self.shared.done.lock().expect("no panic"))
    }
}

struct LoadClient {
    g: Generator,
    ports: Vec<u16>,
    connection: Option<Client>,
    shared: Arc<Shared>,
}

impl LoadClient {
    async fn run(mut self) {
        while !self.shared.enough.load(Ordering::Relaxed) {
            let Some(client) = self.connected().await else {
                sleep(PAUSE).await;
                continue;
            };
            let asked = self.choose();
            let known = self.shared.known.load(Ordering::SeqCst);
            let answered = timeout(ANSWER_MAX, ask(&client, &asked)).await;
            let told = answered.ok().and_then(Result::ok);
            if let Some(told) = &told {
                self.shared.known.fetch_max(told.revision, Ordering::SeqCst);
                self.shared.n_told.fetch_add(1, Ordering::Relaxed);
            } else {
                self.connection = None;
            }
            self.shared.done.lock().expect("no panic").push(Done { asked, known, told });
        }
    }

    /// Stays with a member for a while, then goes to another.
    async fn connected(&mut self) -> Option<Client> {
        if self.connection.is_none() || self.g.chance(2) {
            let port = *self.g.pick(&self.ports);
            let connected = timeout(ANSWER_MAX, Client::connect(port)).await;
            self.connection = connected.ok().and_then(Result::ok);
        }
        self.connection.clone()
    }

    fn choose(&mut self) -> Asked {
        let key = self.g.below(N_KEYS);
        match self.g.below(10) {
            0..5 => Asked::Put { key, value: self.shared.fresh.fetch_add(1, Ordering::Relaxed) },
            5 => Asked::Delete { key },
            _ => Asked::Read { key },
        }
    }
}

async fn ask(client: &Client, asked: &Asked) -> Result<Told, Failure> {
    match asked {
        Asked::Put { key, value } => {
            let request = PutRequest {
                key: key.to_be_bytes().to_vec().into(),
                value: value.to_be_bytes().to_vec().into(),
                ..PutRequest::default()
            };
            let answer: PutResponse = client.call(Method::Put, &request).await?;
            Ok(told(answer.header, None, 0))
        }
        Asked::Delete { key } => {
            let key = key.to_be_bytes().to_vec().into();
            let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
            let answer: DeleteRangeResponse = client.call(Method::DeleteRange, &request).await?;
            Ok(told(answer.header, None, answer.deleted))
        }
        Asked::Read { key } => {
            let key = key.to_be_bytes().to_vec().into();
            let request = RangeRequest { key, ..RangeRequest::default() };
            let answer: RangeResponse = client.call(Method::Range, &request).await?;
            let found = answer.kvs.first().map(|kv| (kv.mod_revision, number(&kv.value)));
            Ok(told(answer.header, found, 0))
        }
    }
}

fn told(header: Option<ResponseHeader>, found: Option<(i64, u64)>, deleted: i64) -> Told {
    Told { revision: header.expect("a header").revision, found, deleted }
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}
