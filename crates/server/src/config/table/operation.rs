//! Flags about running a member: what it tells, what it checks, what it may not do in earnest.

use super::{Flag, list, list_of_urls, number, put, say, switch, text, time};
use crate::config::value::{boolean, signed, span, unique_parts, unsigned};

/// Flags that decide what the process does at all. The help explains them before all others.
pub(super) const START: &[Flag] = &[
    text("config-file", "", "A file to read instead of flags and environment.", |raw, v| {
        say(&mut raw.config_file, v)
    })
    .not_in_file(),
    switch("version", "false", "Show the version and exit.", |raw, v| {
        put(&mut raw.version, boolean(v))
    })
    .not_in_file(),
];

pub(super) const MONITORING: &[Flag] = &[
    switch("enable-pprof", "false", "Serve profiles below /debug/pprof/.", |raw, v| {
        put(&mut raw.enable_pprof, boolean(v))
    }),
    text("metrics", "basic", "'extensive' adds histograms of each gRPC method.", |raw, v| {
        say(&mut raw.metrics, v)
    }),
    text("listen-metrics-urls", "", "Further addresses for /metrics and /health.", |raw, v| {
        list_of_urls(&mut raw.listen_metrics_urls, v)
    }),
];

pub(super) const LOGGING: &[Flag] = &[
    text("logger", "zap", "Form of the log: 'zap'.", |raw, v| say(&mut raw.logger, v)),
    list("log-outputs", "default", "'default', 'stdout', 'stderr', or files.", |raw, v| {
        put(&mut raw.log_outputs, Ok(unique_parts(v)))
    }),
    text("log-level", "info", "debug, info, warn, error, panic or fatal.", |raw, v| {
        say(&mut raw.log_level, v)
    }),
    text("log-format", "json", "'json' or 'console'.", |raw, v| say(&mut raw.log_format, v)),
    switch("enable-log-rotation", "false", "Begin a new log file when one is full.", |raw, v| {
        put(&mut raw.enable_log_rotation, boolean(v))
    }),
    text(
        "log-rotation-config-json",
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When a log file is full (megabytes), how long full ones are kept (days), and how many.",
        |raw, v| say(&mut raw.log_rotation_config_json, v),
    ),
    time("warning-unary-request-duration", "300ms", "Log requests that took longer.", |raw, v| {
        put(&mut raw.warning_unary_request_duration, span(v))
    }),
];

pub(super) const TRACING: &[Flag] = &[
    switch("enable-distributed-tracing", "false", "Send traces to a collector.", |raw, v| {
        put(&mut raw.tracing.enabled, boolean(v))
    }),
    text("distributed-tracing-address", "localhost:4317", "The collector.", |raw, v| {
        say(&mut raw.tracing.address, v)
    }),
    text("distributed-tracing-service-name", "etcd", "The cluster's name in traces.", |raw, v| {
        say(&mut raw.tracing.service_name, v)
    }),
    text("distributed-tracing-instance-id", "", "This member's name in traces.", |raw, v| {
        say(&mut raw.tracing.instance_id, v)
    }),
    number("distributed-tracing-sampling-rate", "0", "Traces to send of a million.", |raw, v| {
        put(&mut raw.tracing.sampling_rate, signed(v))
    }),
];

pub(super) const FEATURES: &[Flag] = &[
    time("corrupt-check-time", "0s", "Time between comparisons of the members' data.", |raw, v| {
        put(&mut raw.corrupt_check_time, span(v))
    }),
    time("compact-hash-check-time", "1m", "The same, for what was compacted.", |raw, v| {
        put(&mut raw.compact_hash_check_time, span(v))
    }),
    number("compaction-batch-limit", "1000", "Revisions a compaction drops at once.", |raw, v| {
        put(&mut raw.compaction_batch_limit, signed(v))
    }),
    switch(
        "peer-skip-client-san-verification",
        "false",
        "Don't compare the names in a peer's certificate with its address.",
        |raw, v| put(&mut raw.peer.skip_client_san_verification, boolean(v)),
    )
    .at("peer-transport-security.skip-client-san-verification"),
    time("watch-progress-notify-interval", "10m", "Time between notes of progress.", |raw, v| {
        put(&mut raw.watch_progress_notify_interval, span(v))
    }),
    time("warning-apply-duration", "100ms", "Log commands that took longer to apply.", |raw, v| {
        put(&mut raw.warning_apply_duration, span(v))
    }),
    number(
        "bootstrap-defrag-threshold-megabytes",
        "0",
        "Give space back at the start if it is as much as this; 0 for never.",
        |raw, v| put(&mut raw.bootstrap_defrag_threshold_megabytes, unsigned(v)),
    ),
    number("max-learners", "1", "Members without a vote the cluster may have.", |raw, v| {
        put(&mut raw.max_learners, signed(v))
    }),
    time("compaction-sleep-interval", "0s", "Pause between two such batches.", |raw, v| {
        put(&mut raw.compaction_sleep_interval, span(v))
    }),
    time("downgrade-check-time", "5s", "Time between looks at a downgrade.", |raw, v| {
        put(&mut raw.downgrade_check_time, span(v))
    }),
    number("snapshot-catchup-entries", "5000", "Entries kept for slow followers.", |raw, v| {
        put(&mut raw.snapshot_catchup_entries, unsigned(v))
    }),
];

pub(super) const UNSAFE: &[Flag] = &[
    switch("force-new-cluster", "false", "Make this member a cluster of one.", |raw, v| {
        put(&mut raw.force_new_cluster, boolean(v))
    }),
    switch("unsafe-no-fsync", "false", "Don't wait for the disk. Loses data.", |raw, v| {
        put(&mut raw.unsafe_no_fsync, boolean(v))
    }),
];
