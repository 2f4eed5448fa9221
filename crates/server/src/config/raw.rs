//! What was *said*: one field for each option, as typed, before anything is concluded from it.

use std::collections::BTreeSet;

use super::Tls;
use super::gate::Gates;
use super::table;
use super::url::Url;
use super::value::Span;

/// Everything that can be said. [`RawConfig::defaults`] is what holds if nothing is.
#[derive(Clone, Debug, Default)]
pub(super) struct RawConfig {
    /// Names of the flags that were said at all, wherever.
    pub said: BTreeSet<&'static str>,
    /// Options of earlier releases that were said, and do nothing.
    pub ignored: Vec<&'static str>,
    /// The file that is to be read instead of flags and environment.
    pub config_file: String,
    pub version: bool,

    pub name: String,
    pub data_dir: String,
    pub wal_dir: String,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    pub heartbeat_interval_ms: u64,
    pub election_timeout_ms: u64,
    pub initial_election_tick_advance: bool,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    pub listen_client_http_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub max_snapshots: u64,
    pub max_wals: u64,
    pub memory_mlock: bool,
    pub quota_backend_bytes: i64,
    pub bbolt_freelist_type: String,
    pub backend_batch_interval: Span,
    pub backend_batch_limit: i64,
    pub max_txn_ops: u64,
    pub max_request_bytes: u64,
    pub max_concurrent_streams: u32,
    pub grpc_keepalive_min_time: Span,
    pub grpc_keepalive_interval: Span,
    pub grpc_keepalive_timeout: Span,
    pub socket_reuse_port: bool,
    pub socket_reuse_address: bool,
    pub enable_grpc_gateway: bool,
    pub raft_read_timeout: Span,
    pub raft_write_timeout: Span,
    pub feature_gates: Gates,

    pub initial_advertise_peer_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    pub initial_cluster: String,
    pub initial_cluster_state: String,
    pub initial_cluster_token: String,
    pub discovery: RawDiscovery,
    pub strict_reconfig_check: bool,
    pub pre_vote: bool,
    pub auto_compaction_retention: String,
    pub auto_compaction_mode: String,

    pub client: Tls,
    pub peer: Tls,
    pub self_signed_cert_validity: u64,
    pub cipher_suites: Vec<String>,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub tls_min_version: String,
    pub tls_max_version: String,
    pub auth_token: String,
    pub bcrypt_cost: u64,
    pub auth_token_ttl: u64,

    pub enable_pprof: bool,
    pub metrics: String,
    pub logger: String,
    pub log_outputs: Vec<String>,
    pub log_level: String,
    pub log_format: String,
    pub enable_log_rotation: bool,
    pub log_rotation_config_json: String,
    pub warning_unary_request_duration: Span,
    pub tracing: RawTracing,

    pub corrupt_check_time: Span,
    pub compact_hash_check_time: Span,
    pub compaction_batch_limit: i64,
    pub compaction_sleep_interval: Span,
    pub watch_progress_notify_interval: Span,
    pub warning_apply_duration: Span,
    pub bootstrap_defrag_threshold_megabytes: u64,
    pub max_learners: i64,
    pub downgrade_check_time: Span,
    pub force_new_cluster: bool,
    pub unsafe_no_fsync: bool,
}

/// How to find the first cluster with the help of another service.
#[derive(Clone, Debug, Default)]
pub(super) struct RawDiscovery {
    pub token: String,
    pub endpoints: Vec<String>,
    pub dial_timeout: Span,
    pub request_timeout: Span,
    pub keepalive_time: Span,
    pub keepalive_timeout: Span,
    pub insecure_transport: bool,
    pub insecure_skip_tls_verify: bool,
    pub cert: String,
    pub key: String,
    pub cacert: String,
    pub user: String,
    pub password: String,
    pub fallback: String,
    pub srv: String,
    pub srv_name: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct RawTracing {
    pub enabled: bool,
    pub address: String,
    pub service_name: String,
    pub instance_id: String,
    pub sampling_rate: i64,
}

impl RawConfig {
    /// What holds if nothing is said: each flag's default, put in as if it had been typed.
    pub(super) fn defaults() -> Self {
        let mut raw = Self::default();
        for flag in table::all().filter(|flag| !flag.default.is_empty()) {
            let set = (flag.set)(&mut raw, flag.default);
            assert_eq!(set, Ok(()), "the default of --{} can be read", flag.name);
        }
        raw
    }

    pub(super) fn has_said(&self, name: &str) -> bool {
        self.said.contains(name)
    }
}
