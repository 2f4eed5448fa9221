//! Configuration: what was said, and what is meant by it.
//!
//! ```text
//! command line ─┐                  ┌ defaults
//! environment ──┤► RawConfig ◄─────┘        ──► Config: checked, grouped by who receives it
//! file ─────────┘  what was said  (meaning)       or every mistake, a line each
//!                        ▲
//!                   one table of flags ──► help
//! ```
//!
//! Options, their spellings and their defaults are etcd 3.7.1's. A file, if there is one, stands
//! alone: flags and environment beside it are not looked at.
//!
//! # Invariants
//!
//! - Nothing reads the environment after [`load`]; each part gets its piece of [`Config`] by value.
//! - All mistakes are reported at once. What can't be kept is refused: an option that would make
//!   the member safer is never accepted without effect.
//! - [`load`] itself does no I/O but through [`Surroundings`].
//!
//! # Not here
//!
//! Nothing is opened, listened on or created, and whether the data directory exists makes no
//! difference: what matters on a first start only is in [`Bootstrap`].

mod arguments;
mod bootstrap;
mod environment;
mod file;
mod gate;
mod help;
mod meaning;
mod raw;
mod surroundings;
mod table;
#[cfg(test)]
mod tests;
mod url;
mod value;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use bootstrap::{Bootstrap, ClusterState, NamedMember, Resolve};
pub use gate::{Gate, Gates};
pub use help::ETCD_VERSION;
pub use surroundings::{Surroundings, load};
pub use url::{Place, Url};

use crate::log::{self, Level, Logger, Value};

/// What is meant: everything a member needs to be told, by the part that is told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: String,
    pub bootstrap: Bootstrap,
    pub storage: Storage,
    pub raft: Raft,
    pub limits: Limits,
    pub client_port: ClientPort,
    pub peer_port: PeerPort,
    pub auth: Auth,
    pub upkeep: Upkeep,
    pub monitoring: Monitoring,
    pub log: log::Settings,
    pub gates: Gates,
}

/// Where the data are, and how they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub data_dir: PathBuf,
    /// The log's own folder, `<data_dir>/member/wal` if not said.
    pub wal_dir: PathBuf,
    pub quota: Quota,
    /// 0 keeps all.
    pub wals_max: u64,
    /// 0 keeps all.
    pub snapshots_max: u64,
    /// Commands are acknowledged before they are on the disk. A crash loses some.
    pub unsafe_no_fsync: bool,
    pub memory_mlock: bool,
    /// Megabytes that must be to gain for space to be given back at the start; 0 for never.
    pub bootstrap_defrag_threshold_mb: u64,
}

/// How much the store may hold before it turns read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Unlimited,
    Bytes(u64),
}

/// Time and history of the consensus protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// One tick.
    pub heartbeat_interval_ms: u64,
    pub election_timeout_ms: u64,
    /// Ticks in an election timeout, rounded down; 5 at least.
    pub election_ticks: u64,
    pub initial_election_tick_advance: bool,
    pub pre_vote: bool,
    pub strict_reconfig_check: bool,
    pub learners_max: usize,
    /// Entries between two snapshots on disk.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot for slow followers.
    pub snapshot_catchup_entries: u64,
}

/// What a client may ask for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub txn_ops_max: usize,
    pub request_size_max: usize,
    pub concurrent_streams_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPort {
    pub listen_urls: Vec<Url>,
    /// If there are any, `listen_urls` serve gRPC only.
    pub listen_http_urls: Vec<Url>,
    pub advertise_urls: Vec<Url>,
    /// A client that pings more often is sent away.
    pub keepalive_min_time: Duration,
    /// `None`: silent clients are never asked whether they live.
    pub keepalive: Option<Keepalive>,
    pub grpc_gateway: bool,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub socket: SocketOptions,
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPort {
    pub listen_urls: Vec<Url>,
    pub advertise_urls: Vec<Url>,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    /// The address to call other members from, if it is not the system's to choose.
    pub local_address: Option<IpAddr>,
    pub socket: SocketOptions,
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

/// One port's certificates, keys and rules. An empty path is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub cert_file: String,
    pub key_file: String,
    pub client_cert_file: String,
    pub client_key_file: String,
    pub client_cert_auth: bool,
    pub trusted_ca_file: String,
    pub crl_file: String,
    pub allowed_cn: Vec<String>,
    pub allowed_hostname: Vec<String>,
    pub auto_tls: bool,
    pub skip_client_san_verification: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// From 4 to 31.
    pub bcrypt_cost: u32,
    /// How long a simple token lives without use.
    pub token_ttl: Duration,
}

/// What a member does by itself now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upkeep {
    pub auto_compaction: AutoCompaction,
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    /// `None`: never.
    pub corrupt_check_time: Option<Duration>,
    pub compact_hash_check_time: Duration,
    pub watch_progress_notify_interval: Duration,
    pub downgrade_check_time: Duration,
}

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// That of the last so long.
    Periodic(Duration),
    /// That of the last so many revisions.
    Revision(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    pub listen_metrics_urls: Vec<Url>,
    /// Histograms of each gRPC method, too.
    pub extensive_metrics: bool,
    pub pprof: bool,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub tracing: Tracing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    pub enabled: bool,
    pub address: String,
    pub service_name: String,
    pub instance_id: String,
    pub samples_per_million: u32,
}

/// What the process is to do.
#[derive(Debug, PartialEq)]
pub enum Start {
    /// Run a member. The notices go to its log once there is one.
    Serve(Box<Config>, Vec<Notice>),
    /// Write a text to standard error, another to standard output, and exit with 0.
    Tell { stderr: String, stdout: String },
    /// Write the text to standard error and exit with [`EXIT_MALFORMED`].
    Malformed(String),
    /// Log all this and exit with [`EXIT_REFUSED`].
    Refuse(Mistakes, Vec<Notice>),
}

/// The command line makes no sense.
pub const EXIT_MALFORMED: u8 = 2;
/// The configuration makes no sense.
pub const EXIT_REFUSED: u8 = 1;

/// All that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl Mistakes {
    pub fn log_to(&self, logger: &Logger) {
        for mistake in &self.0 {
            log::warn!(logger, "failed to verify flags", "error" = mistake);
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Something the log should say once there is a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub message: &'static str,
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    fn new(
        level: Level,
        message: &'static str,
        fields: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        Self { level, message, fields: fields.into_iter().collect() }
    }

    pub fn log_to(&self, logger: &Logger) {
        let fields = self.fields.iter().map(|(key, value)| (*key, Value::from(value)));
        log::event!(logger, self.level, self.message, &fields.collect::<Vec<_>>());
    }
}
