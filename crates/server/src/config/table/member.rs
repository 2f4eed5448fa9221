//! Flags about one member: its name, its files, its ports, its limits.

use super::{Flag, Parsed, list_of_urls, number, put, say, switch, text, time};
use crate::config::value::{boolean, signed, span, unsigned, unsigned_32};

pub(super) const FLAGS: &[Flag] = &[
    text("name", "default", "What people call this member.", |raw, v| say(&mut raw.name, v)),
    text("data-dir", "", "Where the data are; '${name}.etcd' if not said.", |raw, v| {
        say(&mut raw.data_dir, v)
    }),
    text("wal-dir", "", "Where the log is, if on a disk of its own.", |raw, v| {
        say(&mut raw.wal_dir, v)
    }),
    number("snapshot-count", "10000", "Commits between two snapshots on disk.", |raw, v| {
        put(&mut raw.snapshot_count, unsigned(v))
    }),
    number("heartbeat-interval", "100", "Milliseconds between heartbeats.", |raw, v| {
        put(&mut raw.heartbeat_interval_ms, unsigned(v))
    }),
    number(
        "election-timeout",
        "1000",
        "Milliseconds without a leader before an election: 5 heartbeats at least, 50000 at most.",
        |raw, v| put(&mut raw.election_timeout_ms, unsigned(v)),
    ),
    switch(
        "initial-election-tick-advance",
        "true",
        "Elect sooner after a start, by counting most of the first election timeout as passed.",
        |raw, v| put(&mut raw.initial_election_tick_advance, boolean(v)),
    ),
    text(
        "listen-peer-urls",
        "http://localhost:2380",
        "Addresses to listen on for other members.",
        |raw, v| list_of_urls(&mut raw.listen_peer_urls, v),
    ),
    text(
        "listen-client-urls",
        "http://localhost:2379",
        "Addresses to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is set.",
        |raw, v| list_of_urls(&mut raw.listen_client_urls, v),
    ),
    text(
        "listen-client-http-urls",
        "",
        "Addresses for clients that speak HTTP only; the others then speak gRPC only.",
        |raw, v| list_of_urls(&mut raw.listen_client_http_urls, v),
    ),
    number("max-snapshots", "5", "Snapshot files to keep; 0 keeps all. Deprecated.", |raw, v| {
        put(&mut raw.max_snapshots, unsigned(v))
    }),
    number("max-wals", "5", "Log files to keep; 0 keeps all.", |raw, v| {
        put(&mut raw.max_wals, unsigned(v))
    }),
    switch("memory-mlock", "false", "Keep the process's pages in memory.", |raw, v| {
        put(&mut raw.memory_mlock, boolean(v))
    }),
    number(
        "quota-backend-bytes",
        "0",
        "Bytes the store may take before it turns read-only; 0 means 2 GiB, less than 0 no limit.",
        |raw, v| put(&mut raw.quota_backend_bytes, signed(v)),
    ),
    text(
        "backend-bbolt-freelist-type",
        "map",
        "Accepted for etcd's sake: array or map.",
        |raw, v| say(&mut raw.bbolt_freelist_type, v),
    ),
    time("backend-batch-interval", "0s", "Accepted for etcd's sake; 0 means 100ms.", |raw, v| {
        put(&mut raw.backend_batch_interval, span(v))
    }),
    number("backend-batch-limit", "0", "Accepted for etcd's sake; 0 means 10000.", |raw, v| {
        put(&mut raw.backend_batch_limit, signed(v))
    }),
    number("max-txn-ops", "128", "Operations a transaction may have.", |raw, v| {
        put(&mut raw.max_txn_ops, unsigned(v))
    }),
    number("max-request-bytes", "1572864", "Bytes a client's request may have.", |raw, v| {
        put(&mut raw.max_request_bytes, unsigned(v))
    }),
    number(
        "max-concurrent-streams",
        "4294967295",
        "Streams a client may have open on one connection.",
        |raw, v| put(&mut raw.max_concurrent_streams, unsigned_32(v)),
    ),
    time("grpc-keepalive-min-time", "5s", "A client pinging more often is sent away.", |raw, v| {
        put(&mut raw.grpc_keepalive_min_time, span(v))
    }),
    time(
        "grpc-keepalive-interval",
        "2h",
        "Idle time before a client is pinged; 0 for never.",
        |raw, v| put(&mut raw.grpc_keepalive_interval, span(v)),
    ),
    time("grpc-keepalive-timeout", "20s", "Time a client has to answer a ping.", |raw, v| {
        put(&mut raw.grpc_keepalive_timeout, span(v))
    }),
    switch("socket-reuse-port", "false", "Set SO_REUSEPORT on listeners.", |raw, v| {
        put(&mut raw.socket_reuse_port, boolean(v))
    })
    .at("socket-options.reuse-port"),
    switch("socket-reuse-address", "false", "Set SO_REUSEADDR on listeners.", |raw, v| {
        put(&mut raw.socket_reuse_address, boolean(v))
    })
    .at("socket-options.reuse-address"),
    switch("enable-grpc-gateway", "true", "Serve the API as JSON, too.", |raw, v| {
        put(&mut raw.enable_grpc_gateway, boolean(v))
    }),
    time(
        "raft-read-timeout",
        "5s",
        "Longest silence on a peer's connection; 5s at least.",
        |raw, v| put(&mut raw.raft_read_timeout, span(v)),
    )
    .not_in_file(),
    time(
        "raft-write-timeout",
        "5s",
        "Longest write to a peer's connection; 5s at least.",
        |raw, v| put(&mut raw.raft_write_timeout, span(v)),
    )
    .not_in_file(),
    text("feature-gates", "", "Features to open or close, as Name=true,Other=false:", set_gates),
];

fn set_gates(raw: &mut super::RawConfig, value: &str) -> Parsed<()> {
    raw.feature_gates.set(value)
}
