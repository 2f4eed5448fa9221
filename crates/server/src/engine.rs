//! What the threads of a member share.
//!
//! Each thing has one owner who changes it; the others read, or leave work in its inbox:
//!
//! | what | changed by | read by |
//! |---|---|---|
//! | [`State`] | apply thread | ports, chores (read lock) |
//! | [`Shown`] | member thread | everybody (atomics) |
//! | inboxes | anybody pushes | the thread they are named for |

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use member::inbox::Inbox;
use member::leasing::Reign;
use member::{Event, View};
use proto::error::{Error, Status};
use proto::etcdserverpb::{AlarmType, ResponseHeader};
use raft::PeerStatus;
use state::{State, Stop};
use storage::disk::Disk;
use storage::pace::{self, Pace};

use crate::api::port::PortWork;
use crate::api::waiting::{Origin, PORTS_MAX};
use crate::drive::apply::ApplyWork;
use crate::drive::chores::Chore;
use crate::drive::keeper::Keeping;
use crate::drive::log::LogWork;
use crate::drive::outgoing::Outgoing;
use crate::drive::own::{self, Own};
use crate::drive::worker::Job;
use crate::local::Local;
use crate::log::{self, Logger};
use crate::metrics::{Metrics, Operation};
use crate::peer::{Peers, snapshot_path};

/// Who this member is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub name: String,
}

/// What a request may cost, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an encoded proposal.
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    /// After which a proposal or read is given up.
    pub request_timeout_ms: u64,
    /// What a lease gets on top when this member begins to lead: nobody could renew it before.
    pub lease_extend_ms: u64,
    /// Entries applied between two checkpoints.
    pub snapshot_count: u64,
    /// Entries kept in memory behind a checkpoint, for slow followers.
    pub snapshot_catchup_entries: u64,
    /// Between two progress notifications of a watcher that asked for them.
    pub progress_notify_ms: u64,
    /// Applying that takes longer than this is worth a line in the log.
    pub slow_apply: Duration,
    /// Of each HTTP/2 connection.
    pub wire: Arc<wire::Limits>,
}

/// How this member takes part in its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether changes that put the quorum at risk are refused.
    pub strict_reconfig: bool,
    pub tick: Duration,
    pub election_timeout: Duration,
}

/// Where this member's data live.
#[derive(Clone)]
pub struct Home {
    pub disk: Arc<dyn Disk>,
    /// Holds the log, the store, and the snapshots that came.
    pub member_dir: PathBuf,
    pub snapshot_dir: PathBuf,
    /// How the state is opened.
    pub state: state::Config,
}

impl Home {
    /// The snapshots that came and are not part of the state yet: their indexes, newest last.
    pub(crate) fn snapshots(&self) -> Vec<u64> {
        let names = self.disk.list(&self.snapshot_dir).unwrap_or_default();
        let index = |name: &String| u64::from_str_radix(name.strip_suffix(".snap.db")?, 16).ok();
        let mut found: Vec<u64> = names.iter().filter_map(index).collect();
        found.sort_unstable();
        found
    }

    /// Removes the snapshots up to entry `upto`: the state is past them.
    pub(crate) fn remove_snapshots(&self, upto: u64, pace: &mut dyn Pace) -> io::Result<()> {
        let mut passed = self.snapshots().into_iter().filter(|index| *index <= upto);
        passed.try_for_each(|index| pace::remove(&*self.disk, &self.snapshot(index), pace))
    }

    /// The file of the snapshot up to entry `index`.
    pub(crate) fn snapshot(&self, index: u64) -> PathBuf {
        snapshot_path(&self.snapshot_dir, index)
    }
}

/// The member thread's view of raft, for everybody to read.
#[derive(Debug, Default)]
pub struct Shown {
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    last: AtomicU64,
    applied: AtomicU64,
    is_leader: AtomicBool,
    is_learner: AtomicBool,
    lone: AtomicBool,
    /// When the present leader became known, by the engine's clock; 0 before the first.
    leader_since_ms: AtomicU64,
    /// When raft last heard that time passes, by the engine's clock.
    ticked_ms: AtomicU64,
}

impl Shown {
    pub(crate) fn show(&self, view: &View) {
        // `lone` guards reads: it falls before anything else tells of what made it fall.
        if !view.lone {
            self.lone.store(false, Ordering::SeqCst);
        }
        self.term.store(view.term, Ordering::Relaxed);
        self.leader.store(view.leader, Ordering::Relaxed);
        self.commit.store(view.commit, Ordering::Relaxed);
        self.last.store(view.last, Ordering::Relaxed);
        self.is_leader.store(view.is_leader, Ordering::Relaxed);
        self.is_learner.store(view.is_learner, Ordering::Relaxed);
        if view.lone {
            self.lone.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn show_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
    }

    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// 0 when there is none.
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    pub fn commit(&self) -> u64 {
        self.commit.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    pub fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    pub(crate) fn show_leader_since(&self, now_ms: u64) {
        self.leader_since_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn show_tick(&self, now_ms: u64) {
        self.ticked_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When raft last heard that time passes. Long ago means that what is shown may be history:
    /// the process was held up, and others may have gone on without it.
    pub fn ticked_ms(&self) -> u64 {
        self.ticked_ms.load(Ordering::Relaxed)
    }

    /// When the present leader (or else the last one) became known, by the engine's clock.
    pub fn leader_since_ms(&self) -> u64 {
        self.leader_since_ms.load(Ordering::Relaxed)
    }

    /// Whether what is applied here is all that anybody was told of.
    pub fn lone(&self) -> bool {
        self.lone.load(Ordering::SeqCst)
    }
}

/// What the threads of a member share.
pub struct Engine {
    pub identity: Identity,
    pub limits: Limits,
    pub rules: Rules,
    pub home: Home,
    pub origin: Origin,
    pub shown: Shown,
    pub metrics: Metrics,
    pub ports: Vec<Arc<Inbox<PortWork>>>,
    pub member: Inbox<Event>,
    pub log: Inbox<LogWork>,
    pub apply: Inbox<ApplyWork>,
    pub chores: Inbox<Chore>,
    pub keeper: Inbox<Keeping>,
    pub worker: Inbox<Job>,
    pub logger: Logger,
    /// The last entry that was in the log before this process: nobody waits for those.
    pub replayed: u64,
    /// How many snapshots are being sent to clients.
    pub(crate) snapshots: AtomicUsize,
    /// Snapshots on their way to other members.
    pub(crate) outgoing: Outgoing,
    /// Held by whoever changes the store's files: its keeper, or an install that replaces them.
    pub(crate) store_turn: Mutex<()>,
    /// How far the other members are, as of the last tick; empty unless this member leads.
    progress: Mutex<Vec<PeerStatus>>,
    peers: OnceLock<Peers>,
    local: OnceLock<Local>,
    started: Instant,
    state: RwLock<State>,
    stopping: AtomicBool,
    ready: AtomicBool,
    removed: AtomicBool,
    /// Proposals that no port waits for.
    pub(crate) own: Own,
}

/// Bounds of the inboxes, in items. A batch of proposals is one item.
const MEMBER_INBOX_MAX: usize = 65_536;
const WORKER_INBOX_MAX: usize = 1024;
/// The others hold what was admitted before; their bounds are never asked.
const INBOX_MAX: usize = 65_536;

/// What an engine is made of.
pub struct Parts {
    pub identity: Identity,
    pub limits: Limits,
    pub rules: Rules,
    pub home: Home,
    pub origin: Origin,
    pub ports: Vec<Arc<Inbox<PortWork>>>,
    pub logger: Logger,
    pub replayed: u64,
    pub extensive_metrics: bool,
}

impl Engine {
    pub fn new(parts: Parts, state: State) -> Self {
        let Parts { identity, limits, rules, home, origin, .. } = parts;
        let Parts { ports, logger, replayed, extensive_metrics, .. } = parts;
        assert!(ports.len() < PORTS_MAX, "the last port number is for requests of our own");
        let shown = Shown::default();
        shown.show_applied(state.applied().0);
        Self {
            identity,
            limits,
            rules,
            home,
            origin,
            shown,
            metrics: Metrics::new(extensive_metrics),
            ports,
            member: Inbox::new(MEMBER_INBOX_MAX),
            log: Inbox::new(INBOX_MAX),
            apply: Inbox::new(INBOX_MAX),
            chores: Inbox::new(INBOX_MAX),
            keeper: Inbox::new(INBOX_MAX),
            worker: Inbox::new(WORKER_INBOX_MAX),
            logger,
            replayed,
            snapshots: AtomicUsize::new(0),
            outgoing: Outgoing::default(),
            store_turn: Mutex::new(()),
            progress: Mutex::default(),
            peers: OnceLock::new(),
            local: OnceLock::new(),
            started: Instant::now(),
            state: RwLock::new(state),
            stopping: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            own: Own::default(),
        }
    }

    /// What answers say of who answers, but for the revision.
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision: 0,
            raft_term: self.shown.term(),
        }
    }

    /// Says, once, by whom other members are reached.
    pub(crate) fn connect(&self, peers: Peers) {
        assert!(self.peers.set(peers).is_ok(), "one transport a member");
    }

    /// The other members.
    pub(crate) fn peers(&self) -> &Peers {
        self.peers.get().expect("threads start after the transport")
    }

    /// Says, once, how calls are made from inside the process.
    pub(crate) fn lend(&self, local: Local) {
        assert!(self.local.set(local).is_ok(), "one port for calls from inside");
    }

    /// Calls from inside the process; `None` before there are any front ends.
    pub(crate) fn local(&self) -> Option<&Local> {
        self.local.get()
    }

    /// How many of the voters have been connected since then without a break, this member included.
    pub(crate) fn n_connected(&self, voters: &[u64], since: Instant) -> usize {
        let connected = |&&id: &&u64| id == self.identity.member_id || self.is_connected(id, since);
        voters.iter().filter(connected).count()
    }

    pub(crate) fn is_connected(&self, id: u64, since: Instant) -> bool {
        self.peers().active_since(id).is_some_and(|active| active <= since)
    }

    /// Why a request that was made at `since` has not been answered in time.
    pub(crate) fn timeout_of(&self, since: Instant) -> Error {
        let elected_ms = self.shown.leader_since_ms();
        let lost_ms = elected_ms.saturating_sub(millis(2 * self.rules.election_timeout));
        let since_ms = self.ms_at(since);
        if since_ms > lost_ms && since_ms < elected_ms {
            return Error::TimeoutDueToLeaderFail;
        }
        let leader = self.shown.leader();
        let connected = if leader == self.identity.member_id {
            let voters = voters(&self.state());
            self.n_connected(&voters, since) > voters.len() / 2
        } else {
            leader == 0 || self.is_connected(leader, since)
        };
        if connected { Error::Timeout } else { Error::TimeoutDueToConnectionLost }
    }

    /// Has the transport know the members there are, as this member has applied it.
    pub(crate) fn follow_members(&self) {
        let own = self.identity.member_id;
        let others: Vec<(u64, Vec<String>)> = {
            let state = self.state();
            let members = state.membership().members().filter(|member| member.id != own);
            members.map(|member| (member.id, member.peer_urls.clone())).collect()
        };
        self.peers().set_members(&others);
    }

    pub(crate) fn show_progress(&self, progress: Vec<PeerStatus>) {
        *self.lock_progress() = progress;
    }

    /// How far the other members are; empty unless this member leads.
    pub(crate) fn progress(&self) -> Vec<PeerStatus> {
        self.lock_progress().clone()
    }

    fn lock_progress(&self) -> MutexGuard<'_, Vec<PeerStatus>> {
        // It is replaced whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member was removed from its cluster: it is done.
    pub(crate) fn show_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// An id for a proposal that no port waits for.
    pub(crate) fn own_proposal_id(&self, operation: Operation) -> u64 {
        let patience = Duration::from_millis(self.limits.request_timeout_ms);
        self.own.begin(self.origin, operation, patience, &self.metrics.request)
    }

    /// Tells whoever waits for proposal `id` that it came to nothing.
    pub(crate) fn refuse(&self, id: u64, error: Error) {
        let Some(port) = self.origin.port_of(id) else { return };
        self.metrics.proposals_failed.inc();
        if port == own::PORT {
            self.own.end(id, false, &self.metrics.request);
        } else if let Some(inbox) = self.ports.get(port) {
            inbox.push_admitted([PortWork::Refused { id, error }]);
        }
    }

    /// Shows which alarms are raised, and keeps showing those that were.
    pub(crate) fn show_alarms(&self, state: &State) {
        let raised = state.alarms().list(AlarmType::None);
        let raised = raised.iter().map(|alarm| (alarm.member_id, alarm.alarm().as_str_name()));
        self.metrics.alarms.set(&raised.collect::<Vec<_>>());
    }

    /// Tells the ports that a compaction has been carried out.
    pub(crate) fn compaction_finished(&self) {
        for port in &self.ports {
            port.push_admitted([PortWork::Pruned]);
        }
    }

    pub(crate) fn tell_chores(&self, chore: Chore) {
        // A full inbox is full of chores like this one.
        drop(self.chores.push(chore));
    }

    pub(crate) fn tell_keeper(&self, keeping: Keeping) {
        drop(self.keeper.push(keeping));
    }

    /// Asks for something that takes long.
    pub(crate) fn tell_worker(&self, job: Job) -> Result<(), Status> {
        self.worker.push(job).map_err(|_| Error::RequestTooManyRequests.into())
    }

    /// A refusal is an answer; anything worse is the end.
    pub(crate) fn refusal_of<T>(&self, result: Result<T, Stop>) -> Result<T, Status> {
        result.map_err(|stop| match stop {
            Stop::Refused(status) => status,
            Stop::Fatal(fatal) => self.die(&fatal.to_string()),
        })
    }

    /// What this member knows at `now_ms` of its own reign.
    pub(crate) fn reign(&self, now_ms: u64) -> Reign {
        let (leads, ticked_ms) = (self.shown.is_leader(), self.shown.ticked_ms());
        let commit = self.shown.commit();
        Reign { leads, commit, now_ms, ticked_ms, tick_ms: self.rules.tick.as_millis() as u64 }
    }

    /// Milliseconds since this member started: the clock of leases and deadlines.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// The same clock, at a time that was taken before.
    pub(crate) fn ms_at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).expect("584 million years have passed")
    }

    /// The state, to read. Held for one turn at most.
    ///
    /// A thread that panicked under the lock has left the state halfway: nobody may look at it.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|_| self.die("the state was left halfway by a panic"))
    }

    /// The state, to change: for the apply thread, and for chores in short steps.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|_| self.die("the state was left halfway by a panic"))
    }

    /// Tells the member thread what came of work it has given out.
    pub(crate) fn tell_member(&self, event: Event) {
        self.member.push_admitted([event]);
    }

    /// Whether the process is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends the threads behind the ports.
    pub(crate) fn close(&self) {
        self.member.close();
        self.log.close();
        self.apply.close();
        self.chores.close();
        self.keeper.close();
        self.worker.close();
    }

    /// Whether the cluster knows this member, and all it was told before this start is applied.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn show_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Unwraps what the disk answered. A member whose disk fails says so and ends: going on could
    /// acknowledge what is lost.
    pub(crate) fn or_die<T, E: Display>(&self, part: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|e| self.die(&format!("{part}: {e}")))
    }

    /// Ends the process with one clear line.
    pub(crate) fn die(&self, what: &str) -> ! {
        log::fatal!(self.logger, "this member cannot go on", "error" = what);
        process::exit(1)
    }
}

/// The members that vote.
pub(crate) fn voters(state: &State) -> Vec<u64> {
    let members = state.membership().members();
    members.filter(|member| !member.is_learner).map(|member| member.id).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("identity", &self.identity).finish_non_exhaustive()
    }
}
