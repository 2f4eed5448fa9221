//! The other members: how raft's messages and snapshots get there and back.
//!
//! A thread of its own runs it all. Between two members there are up to two streams each way, dialled
//! by whoever receives; while there is none, messages are posted one by one. Snapshots travel apart.
//!
//! ```text
//! member thread ──send──► queue ─► stream writer ─► the remote, which has dialled us
//!                           └────► posts, while it has not
//! member inbox ◄─receive── stream reader ◄─ the remote, which we have dialled
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`frame`] | the two framings, without I/O |
//! | [`head`] | the headers by which members know each other |
//! | [`remote`] | one other member: its queues, whether it is there |
//! | [`stranger`] | senders we do not know yet |
//! | [`stream`], [`post`], [`snapshot`] | the three ways |
//! | [`door`] | what other members ask for, and are answered |
//! | [`page`] | which paths there are, and how answers look |
//! | [`ask`] | what we ask them |
//! | [`word`] | how errors are told |
//!
//! # Invariants
//!
//! - Sending never blocks and never waits: queues are bounded, and what does not fit is dropped.
//! - Whoever belongs to another cluster, or was removed from this one, is told so and not listened to.
//!
//! # Not here
//!
//! What a message means, and TLS: `dial` and `door` are where it will go.

mod ask;
mod dial;
mod door;
mod frame;
mod head;
mod page;
mod post;
mod remote;
mod snapshot;
mod stranger;
mod stream;
#[cfg(test)]
mod tests;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use proto::error::Error;
use proto::etcdserverpb::{
    HashKvResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Member,
};
use raft::Message;
use storage::disk::Disk;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

pub use ask::{Roster, ask_for_roster};
pub(crate) use snapshot::path as snapshot_path;

use self::frame::Kind;
use self::remote::Remote;
use self::stranger::Strangers;
use crate::listen::Listener;
use crate::log::Logger;
use crate::metrics;

/// An answer on its way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What the transport asks of the member it serves.
pub trait Host: Send + Sync + 'static {
    /// Messages have come; a snapshot's only once its file is whole and durable. Does not block.
    fn receive(&self, messages: &mut Vec<Message>);

    /// Something sent to this member was probably lost.
    fn unreachable(&self, id: u64);

    fn snapshot_sent(&self, id: u64, ok: bool);

    /// Others say that this member was removed.
    fn removed(&self);

    /// Whether `id` was removed from the cluster, for ever.
    fn is_removed(&self, id: u64) -> bool;

    fn members(&self) -> Vec<Member>;

    /// What the whole cluster speaks, once that is decided.
    fn cluster_version(&self) -> Option<String>;

    fn downgrade_enabled(&self) -> bool;

    /// The numbers shown of another member.
    fn numbers(&self, id: u64) -> Arc<metrics::Peer>;

    /// Renews a lease, if this member leads: its TTL, 0 if there is no such lease.
    fn renew(&self, id: i64) -> Answer<i64>;

    fn time_to_live(&self, request: LeaseTimeToLiveRequest) -> Answer<LeaseTimeToLiveResponse>;

    fn promote(&self, id: u64, token: Option<String>) -> Answer<Vec<Member>>;

    fn hash_kv(&self, revision: i64) -> Answer<HashKvResponse>;
}

/// Who we are to the others.
#[derive(Clone)]
pub struct Config {
    pub cluster_id: u64,
    pub member_id: u64,
    pub advertise_urls: Vec<String>,
    /// Where snapshots that come are kept until they are installed.
    pub snapshot_dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub logger: Logger,
}

struct Shared {
    config: Config,
    host: Arc<dyn Host>,
    remotes: RwLock<BTreeMap<u64, Known>>,
    /// Senders who are no members here yet; see [`stranger`].
    strangers: Strangers,
}

/// A remote, and the tasks that keep it in touch.
struct Known {
    remote: Arc<Remote>,
    tasks: Vec<AbortHandle>,
}

impl Shared {
    fn remote(&self, id: u64) -> Option<Arc<Remote>> {
        let remotes = self.remotes.read().unwrap_or_else(PoisonError::into_inner);
        remotes.get(&id).map(|known| Arc::clone(&known.remote))
    }
}

/// A handle of the transport. Its clones share it.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    handle: Handle,
    stopping: Arc<Notify>,
}

impl Peers {
    /// Starts the thread, which serves `doors` until [`Peers::stop`].
    pub fn start(
        config: Config,
        host: Arc<dyn Host>,
        doors: Vec<Listener>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (remotes, strangers) = (RwLock::default(), Strangers::default());
        let shared = Arc::new(Shared { config, host, remotes, strangers });
        let stopping = Arc::new(Notify::new());
        let peers = Self {
            shared: Arc::clone(&shared),
            handle: runtime.handle().clone(),
            stopping: Arc::clone(&stopping),
        };
        for listener in doors {
            let listener = {
                let _within = runtime.enter();
                listener.adopted()?
            };
            runtime.spawn(door::serve(Arc::clone(&shared), listener));
        }
        let run = move || runtime.block_on(stopping.notified());
        let thread = thread::Builder::new().name("peers".into()).spawn(run)?;
        Ok((peers, thread))
    }

    /// Ends the thread and all that runs on it.
    pub fn stop(&self) {
        self.stopping.notify_one();
    }

    /// Runs a task where the transport runs.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(task));
    }

    /// Puts messages on their way, and leaves `messages` empty.
    pub fn send(&self, messages: &mut Vec<Message>) {
        let mut lost = Vec::new();
        {
            let shared = &self.shared;
            let remotes = shared.remotes.read().unwrap_or_else(PoisonError::into_inner);
            for message in messages.drain(..) {
                let to = message.to.get();
                let known = remotes.get(&to).map(|known| Arc::clone(&known.remote));
                // Whoever is not known either way has just left.
                let known = known.or_else(|| shared.strangers.get(to));
                let Some(remote) = known else { continue };
                if !remote.push(message) {
                    lost.push(to);
                }
            }
        }
        lost.dedup();
        for id in lost {
            self.shared.host.unreachable(id);
        }
    }

    /// Sends a snapshot: raft's message, and then the file of `size` bytes as it is made.
    pub fn send_snapshot(&self, message: Message, size: u64, file: mpsc::Receiver<Bytes>) {
        let to = message.to.get();
        match self.shared.remote(to) {
            Some(remote) => {
                let shared = Arc::clone(&self.shared);
                self.spawn(snapshot::send(shared, remote, message, size, file));
            }
            None => self.shared.host.snapshot_sent(to, false),
        }
    }

    /// The other members there are from now on: their ids and URLs.
    pub fn set_members(&self, members: &[(u64, Vec<String>)]) {
        let shared = &self.shared;
        let mut remotes = shared.remotes.write().unwrap_or_else(PoisonError::into_inner);
        remotes.retain(|id, known| {
            let stays = members.iter().any(|(member, _)| member == id);
            if !stays {
                known.tasks.iter().for_each(AbortHandle::abort);
                known.remote.detach_all();
                known.remote.numbers.is_known.set(0);
            }
            stays
        });
        for (id, urls) in members {
            shared.strangers.forget(*id);
            match remotes.get(id) {
                Some(known) => known.remote.set_urls(urls.clone()),
                None => drop(remotes.insert(*id, self.acquaint(*id, urls))),
            }
        }
    }

    fn acquaint(&self, id: u64, urls: &[String]) -> Known {
        let shared = &self.shared;
        let numbers = shared.host.numbers(id);
        numbers.is_known.set(1);
        let remote = Arc::new(Remote::new(id, urls.to_vec(), numbers));
        let mut tasks = Vec::new();
        for kind in Kind::ALL {
            let listen = stream::listen(Arc::clone(shared), Arc::clone(&remote), kind);
            tasks.push(self.handle.spawn(listen).abort_handle());
        }
        for _ in 0..post::WORKERS {
            let work = post::work(Arc::clone(shared), Arc::clone(&remote));
            tasks.push(self.handle.spawn(work).abort_handle());
        }
        let probe = ask::probe(Arc::clone(&remote));
        tasks.push(self.handle.spawn(probe).abort_handle());
        Known { remote, tasks }
    }

    /// Since when a member has been heard without a break; `None` if it is not heard now.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.shared.remote(id)?.active_since()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("own", &self.shared.config.member_id).finish_non_exhaustive()
    }
}
