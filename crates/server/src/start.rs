//! From a configuration to a running server, and to its end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use member::Event;
use member::inbox::Inbox;
use proto::membershippb::Attributes;
use raft::{Index, NodeId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::api::port::PortWork;
use crate::api::waiting::Origin;
use crate::boot::{self, Booted};
use crate::config::{Config, Gate, Url};
use crate::drive::corruption::{self, Checks};
use crate::drive::keeper::Keeping;
use crate::drive::{
    self, apply, chores, keeper, log as log_thread, member as member_thread, worker,
};
use crate::engine::{self, Engine, Identity, Limits, Parts, Rules};
use crate::host::Host;
use crate::http::{self, Door};
use crate::listen::{Doors, Listener};
use crate::local::Local;
use crate::log::{self, Logger, Value};
use crate::metrics::Feature;
use crate::peer::{self, Peers};
use crate::shard::Seat;
use crate::version;

/// Work a port may have waiting before deliveries to it are thrown away; see `drive::apply`.
const PORT_INBOX_MAX: usize = 65_536;
/// A server that could not elect itself says so after this long, and goes on trying.
const READY_WARNING: Duration = Duration::from_secs(10);
/// How long clients have to take their last answers when the process is asked to end.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Between two looks at who leads, while something waits for a change.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_FOR_REMOVAL: Duration = Duration::from_millis(100);
/// How long a member that was removed stays to tell the others how far it has come.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the server could not start: one line for whoever started it.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Why a server that ran has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The number of the signal that asked for it.
    Signal(i32),
    /// The member belongs to its cluster no more.
    Removed,
}

/// Runs a member until a signal ends it, or its removal.
pub fn run(config: &Config, logger: &Logger) -> Result<Ending, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, logger))
}

async fn serve(config: &Config, logger: &Logger) -> Result<Ending, StartError> {
    announce(config, logger);
    // Go's runtime lets these pass, for which the system would end the process.
    for passed_over in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        drop(signal(passed_over)?);
    }
    let peers = bind(&config.peer_port.listen_urls).await?;
    let clients = bind(&config.client_port.listen_urls).await?;
    let https = bind(&config.client_port.listen_http_urls).await?;
    let metrics = bind(&config.monitoring.listen_metrics_urls).await?;
    let server = Server::start(config, logger, peers)?;
    if !server.wait_until_ready().await {
        server.stop();
        return Ok(Ending::Removed);
    }
    if config.gates.is_open(Gate::InitialCorruptCheck)
        && !corruption::is_sound(&server.engine).await
    {
        server.stop();
        let text = "etcdserver: found data inconsistency with peers";
        return Err(StartError(text.into()));
    }
    server.engine.peers().spawn(corruption::run(Arc::clone(&server.engine), checks(config)));
    let (stopping, stopped) = watch::channel(false);
    let mut listening = server.open(config, clients, https, metrics, stopped);
    for url in &config.client_port.listen_urls {
        log::info!(
            logger,
            "serving client traffic insecurely; this is strongly discouraged!",
            "traffic" = "grpc+http",
            "address" = url.as_str()
        );
    }
    log::info!(logger, "ready to serve client requests");
    let ending = ending(&server.engine).await?;
    match ending {
        Ending::Signal(signal) => {
            log::info!(logger, "received signal; shutting down", "signal" = signal);
            hand_over(&server.engine).await;
        }
        Ending::Removed => sleep(FAREWELL).await,
    }
    // The doors close first: a client that is sent away must not come back in.
    listening.shutdown().await;
    server.engine.stop();
    end_http(stopping).await;
    server.stop();
    Ok(ending)
}

/// Lets another voter lead before this member goes: the one that has been connected the longest.
async fn hand_over(engine: &Engine) {
    let own = engine.identity.member_id;
    let voters = engine::voters(&engine.state());
    let connected =
        voters.into_iter().filter_map(|id| Some((engine.peers().active_since(id)?, id)));
    let heir = connected.min().and_then(|(_, id)| NodeId::new(id));
    let Some(heir) = heir.filter(|_| engine.shown.is_leader()) else { return };
    log::info!(
        engine.logger,
        "leadership transfer starting",
        "local-member-id" = Value::Id(own),
        "transferee-member-id" = Value::Id(heir.get())
    );
    engine.tell_member(Event::TransferLeader(heir));
    let left = async {
        while engine.shown.leader() == own {
            sleep(LOOK).await;
        }
    };
    drop(timeout(engine.rules.election_timeout, left).await);
}

fn announce(config: &Config, logger: &Logger) {
    log::info!(
        logger,
        "starting an etcd server",
        "etcd-version" = version::ETCD,
        "retcd-version" = env!("CARGO_PKG_VERSION"),
        "name" = config.name.as_str(),
        "data-dir" = &config.storage.data_dir.display().to_string()
    );
}

async fn bind(urls: &[Url]) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for url in urls {
        let bound = Listener::bind(url).await;
        listeners.push(bound.map_err(|e| StartError(format!("listen {}: {e}", url.as_str())))?);
    }
    Ok(listeners)
}

/// Has every connection that speaks HTTP/1.1 say its last: each holds a receiver until it ends.
async fn end_http(stopping: watch::Sender<bool>) {
    stopping.send_replace(true);
    drop(timeout(GRACE, stopping.closed()).await);
}

async fn ending(engine: &Engine) -> io::Result<Ending> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let removed = async {
        while !engine.is_removed() {
            sleep(LOOK_FOR_REMOVAL).await;
        }
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => Ending::Signal(SignalKind::interrupt().as_raw_value()),
        _ = terminate.recv() => Ending::Signal(SignalKind::terminate().as_raw_value()),
        () = removed => Ending::Removed,
    })
}

/// A member without a front end: the threads behind the ports.
///
/// Whoever starts it brings the ports' inboxes, and gives each of them an owner.
#[derive(Debug)]
pub struct Core {
    engine: Arc<Engine>,
    drivers: Vec<JoinHandle<()>>,
    transport: JoinHandle<()>,
}

impl Core {
    /// Starts the member of `config`'s folder, whose ports are found in `ports` by their index. Other
    /// members come through `doors`.
    pub fn start(
        config: &Config,
        logger: &Logger,
        ports: Vec<Arc<Inbox<PortWork>>>,
        doors: Vec<Listener>,
    ) -> Result<Self, StartError> {
        let Booted { cluster_id, member_id, member, state, wal, last, others } =
            boot::boot(config, logger)?;
        let (applied, _) = state.applied();
        let name = config.name.clone();
        let parts = Parts {
            identity: Identity { cluster_id, member_id, name },
            limits: limits(config),
            rules: rules(config),
            home: boot::home(config),
            origin: Origin::new(member_id, boot::now_ms()),
            ports,
            logger: logger.clone(),
            replayed: last,
            extensive_metrics: config.monitoring.extensive_metrics,
        };
        let engine = Arc::new(Engine::new(parts, state));
        let gates = config.gates.all();
        let gates = gates.map(|(name, stage, enabled)| Feature { name, stage, enabled });
        engine.metrics.features.set(gates.collect());
        let (peers, transport) =
            Peers::start(peer_config(config, &engine), Arc::new(Host::new(&engine)), doors)?;
        peers.set_members(&others);
        engine.connect(peers);
        if others.is_empty() {
            engine.follow_members();
        }
        engine.peers().spawn(drive::version::run(Arc::clone(&engine)));
        let drivers = start_drivers(config, &engine, member, wal, applied)?;
        // If this member turns out to be the only voter, it leads at once; see `Member`.
        engine.tell_member(Event::Applied(Index(applied)));
        Ok(Self { engine, drivers, transport })
    }

    /// What the ports share.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Tells the ports' owners that it is time to go.
    fn close_ports(&self) {
        self.engine.stop();
        for port in &self.engine.ports {
            port.close();
        }
    }

    /// Makes the next start quick, and ends the threads. No port may have an owner any more.
    pub fn stop(self) {
        let (done, finished) = mpsc::sync_channel(1);
        self.engine.tell_keeper(Keeping::Stop { done });
        let _ = finished.recv();
        self.engine.close();
        self.engine.peers().stop();
        join(self.drivers);
        join(vec![self.transport]);
    }
}

/// A member and its front ends.
struct Server {
    core: Core,
    engine: Arc<Engine>,
    accepted: Vec<Arc<Inbox<crate::shard::Socket>>>,
    local: Local,
    shards: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(config: &Config, logger: &Logger, doors: Vec<Listener>) -> Result<Self, StartError> {
        let n_shards =
            thread::available_parallelism().map_or(1, usize::from).div_ceil(4).clamp(1, 8);
        let seats: Vec<Seat> =
            (0..n_shards).map(|_| Seat::new(PORT_INBOX_MAX)).collect::<io::Result<_>>()?;
        let accepted = seats.iter().map(|seat| Arc::clone(&seat.accepted)).collect();
        let mut ports: Vec<_> = seats.iter().map(|seat| Arc::clone(&seat.work)).collect();
        ports.push(Arc::new(Inbox::new(PORT_INBOX_MAX)));
        let core = Core::start(config, logger, ports, doors)?;
        let engine = Arc::clone(core.engine());
        let mut shards = Vec::new();
        for (index, seat) in (0..).zip(seats) {
            shards.push(seat.start(&engine, index)?);
        }
        let (local, thread) = Local::start(&engine, shards.len() as u16)?;
        engine.lend(local.clone());
        shards.push(thread);
        Ok(Self { core, engine, accepted, local, shards })
    }

    /// Opens the doors: from here on clients are served.
    fn open(
        &self,
        config: &Config,
        clients: Vec<Listener>,
        https: Vec<Listener>,
        metrics: Vec<Listener>,
        stopping: watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let port = &config.client_port;
        let context = Arc::new(http::Context {
            service: http::Member::new(self.local.clone(), Arc::clone(&self.engine)),
            access: http::Access { origins: port.cors.clone(), hosts: port.host_whitelist.clone() },
            gateway: port.grpc_gateway,
            request_bytes_max: config.limits.request_size_max,
            server_version: version::ETCD,
            logger: self.engine.logger.clone(),
            stopping,
        });
        let shards = Arc::new(self.accepted.clone());
        let none = Arc::new(Vec::new());
        let logger = &self.engine.logger;
        let mut listening = JoinSet::new();
        let mut spawn = |listeners: Vec<Listener>, shards: &Arc<_>, door: Option<Door>| {
            for listener in listeners {
                let http = door.map(|door| (Arc::clone(&context), door));
                let doors = Doors { shards: Arc::clone(shards), http, logger: logger.clone() };
                listening.spawn(listener.run(doors));
            }
        };
        // With listeners of its own, HTTP/1.1 is not spoken on the others.
        let plain = https.is_empty().then_some(Door::Plain);
        spawn(clients, &shards, plain);
        spawn(https, &none, Some(Door::Plain));
        spawn(metrics, &none, Some(Door::Metrics));
        listening
    }

    /// Waits until the cluster knows this member, and all it was told before is applied. False if it
    /// turns out that it was removed.
    async fn wait_until_ready(&self) -> bool {
        let mut warning = tokio::time::interval(READY_WARNING);
        warning.tick().await;
        let mut look = tokio::time::interval(LOOK);
        while !self.engine.is_ready() {
            if self.engine.is_removed() {
                return false;
            }
            tokio::select! {
                _ = look.tick() => {}
                _ = warning.tick() => {
                    log::warn!(self.engine.logger, "no leader elected yet",
                        "local-member-id" = Value::Id(self.engine.identity.member_id));
                }
            }
        }
        true
    }

    /// Lets what runs finish, and ends.
    fn stop(self) {
        self.core.close_ports();
        join(self.shards);
        self.core.stop();
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        drop(thread.join()); // One that panicked has said so already.
    }
}

/// What a thread does from its beginning to its end.
type Driver = Box<dyn FnOnce(&Arc<Engine>) + Send>;

fn start_drivers(
    config: &Config,
    engine: &Arc<Engine>,
    member: member::Member,
    mut wal: storage::wal::Wal,
    applied: u64,
) -> io::Result<Vec<JoinHandle<()>>> {
    wal.prepare_in_background();
    let tick = Duration::from_millis(config.raft.heartbeat_interval_ms);
    let client_urls =
        config.client_port.advertise_urls.iter().map(|url| url.as_str().to_owned()).collect();
    let about = Attributes { name: config.name.clone(), client_urls };
    let compaction = config.upkeep.auto_compaction;
    let spawn = |name: &str, run: Driver| {
        let engine = Arc::clone(engine);
        thread::Builder::new().name(name.into()).spawn(move || run(&engine))
    };
    Ok(vec![
        spawn("log", Box::new(move |engine| log_thread::run(engine, wal)))?,
        spawn("apply", Box::new(apply::run))?,
        spawn("member", Box::new(move |engine| member_thread::run(engine, member, tick)))?,
        spawn("keeper", Box::new(move |engine| keeper::run(engine, applied)))?,
        spawn("chores", Box::new(move |engine| chores::run(engine, &about, compaction)))?,
        spawn("worker", Box::new(worker::run))?,
    ])
}

/// How long a request is waited for, in milliseconds; etcd's reckoning.
pub(crate) fn request_timeout_ms(config: &Config) -> u64 {
    5000 + 2 * config.raft.election_timeout_ms
}

/// Who we are to the other members.
fn peer_config(config: &Config, engine: &Engine) -> peer::Config {
    let urls = config.peer_port.advertise_urls.iter().map(|url| url.as_str().to_owned());
    peer::Config {
        cluster_id: engine.identity.cluster_id,
        member_id: engine.identity.member_id,
        advertise_urls: urls.collect(),
        snapshot_dir: engine.home.snapshot_dir.clone(),
        disk: Arc::clone(&engine.home.disk),
        logger: engine.logger.clone(),
    }
}

fn checks(config: &Config) -> Checks {
    let upkeep = &config.upkeep;
    let compactions = config.gates.is_open(Gate::CompactHashCheck);
    Checks {
        periodic: upkeep.corrupt_check_time,
        compactions: compactions.then_some(upkeep.compact_hash_check_time),
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        strict_reconfig: config.raft.strict_reconfig_check,
        tick: Duration::from_millis(config.raft.heartbeat_interval_ms),
        election_timeout: Duration::from_millis(config.raft.election_timeout_ms),
    }
}

/// Bytes of a message beyond those of its request, as etcd allows them.
const MESSAGE_OVERHEAD: usize = 512 * 1024;

fn limits(config: &Config) -> Limits {
    let election_ms = config.raft.election_timeout_ms;
    let port = &config.client_port;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let keepalive = port.keepalive;
    let wire = wire::Limits {
        streams_max: config.limits.concurrent_streams_max,
        message_size_max: config.limits.request_size_max + MESSAGE_OVERHEAD,
        output_high_water: crate::shard::OUTPUT_MAX,
        ping_interval_min_ms: millis(port.keepalive_min_time),
        keepalive_ms: keepalive.map_or(0, |keepalive| millis(keepalive.interval)),
        keepalive_timeout_ms: keepalive.map_or(0, |keepalive| millis(keepalive.timeout)),
        ..wire::Limits::default()
    };
    Limits {
        request_bytes_max: config.limits.request_size_max,
        txn_ops_max: config.limits.txn_ops_max,
        request_timeout_ms: request_timeout_ms(config),
        lease_extend_ms: election_ms,
        snapshot_count: config.raft.snapshot_count,
        snapshot_catchup_entries: config.raft.snapshot_catchup_entries,
        progress_notify_ms: millis(config.upkeep.watch_progress_notify_interval),
        slow_apply: config.monitoring.warning_apply_duration,
        wire: Arc::new(wire),
    }
}
