//! Flags about the cluster: who is in it, how it is found, how it keeps its history short.

use super::{Flag, Parsed, list, list_of_urls, one_of, put, say, switch, text, time};
use crate::config::value::{boolean, span, unique_parts};

pub(super) const FLAGS: &[Flag] = &[
    text(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "Addresses at which other members find this one.",
        |raw, v| list_of_urls(&mut raw.initial_advertise_peer_urls, v),
    ),
    text(
        "initial-cluster",
        "",
        "The first members, as name=url,name=url; this member alone if not said.",
        |raw, v| say(&mut raw.initial_cluster, v),
    ),
    text(
        "initial-cluster-state",
        "new",
        "'new' to found a cluster, 'existing' to join one. Without meaning on a restart.",
        |raw, v| one_of(&mut raw.initial_cluster_state, &["new", "existing"], v),
    ),
    text(
        "initial-cluster-token",
        "etcd-cluster",
        "Tells clusters with equal members apart: the ids depend on it.",
        |raw, v| say(&mut raw.initial_cluster_token, v),
    ),
    text(
        "advertise-client-urls",
        "http://localhost:2379",
        "Addresses at which clients find this member.",
        |raw, v| list_of_urls(&mut raw.advertise_client_urls, v),
    ),
    text("discovery-token", "", "Discovery: the token of the cluster to be founded.", |raw, v| {
        say(&mut raw.discovery.token, v)
    })
    .at("discovery-config.token"),
    list("discovery-endpoints", "", "Discovery: the cluster that keeps the registry.", |raw, v| {
        put(&mut raw.discovery.endpoints, Ok(unique_parts(v)))
    })
    .at("discovery-config.client.endpoints"),
    time("discovery-dial-timeout", "2s", "Discovery: time to connect.", |raw, v| {
        put(&mut raw.discovery.dial_timeout, span(v))
    })
    .at("discovery-config.client.dial-timeout"),
    time("discovery-request-timeout", "5s", "Discovery: time to answer.", |raw, v| {
        put(&mut raw.discovery.request_timeout, span(v))
    })
    .at("discovery-config.client.request-timeout"),
    time("discovery-keepalive-time", "2s", "Discovery: time between pings.", |raw, v| {
        put(&mut raw.discovery.keepalive_time, span(v))
    })
    .at("discovery-config.client.keepalive-time"),
    time("discovery-keepalive-timeout", "6s", "Discovery: time to answer a ping.", |raw, v| {
        put(&mut raw.discovery.keepalive_timeout, span(v))
    })
    .at("discovery-config.client.keepalive-timeout"),
    switch("discovery-insecure-transport", "true", "Discovery: no TLS.", |raw, v| {
        put(&mut raw.discovery.insecure_transport, boolean(v))
    })
    .at("discovery-config.client.secure.insecure-transport"),
    switch("discovery-insecure-skip-tls-verify", "false", "Discovery: trust anyone.", |raw, v| {
        put(&mut raw.discovery.insecure_skip_tls_verify, boolean(v))
    })
    .at("discovery-config.client.secure.insecure-skip-tls-verify"),
    text("discovery-cert", "", "Discovery: certificate to show.", |raw, v| {
        say(&mut raw.discovery.cert, v)
    })
    .at("discovery-config.client.secure.cert"),
    text("discovery-key", "", "Discovery: key of that certificate.", |raw, v| {
        say(&mut raw.discovery.key, v)
    })
    .at("discovery-config.client.secure.key"),
    text("discovery-cacert", "", "Discovery: who signs the service's certificate.", |raw, v| {
        say(&mut raw.discovery.cacert, v)
    })
    .at("discovery-config.client.secure.cacert"),
    text("discovery-user", "", "Discovery: user, or user:password.", |raw, v| {
        say(&mut raw.discovery.user, v)
    })
    .at("discovery-config.client.auth.username"),
    text("discovery-password", "", "Discovery: the user's password.", |raw, v| {
        say(&mut raw.discovery.password, v)
    })
    .at("discovery-config.client.auth.password"),
    text("discovery-fallback", "exit", "What to do if discovery fails: 'exit'.", |raw, v| {
        one_of(&mut raw.discovery.fallback, &["exit", "proxy"], v)
    })
    .not_in_file(),
    text("discovery-srv", "", "DNS domain whose SRV records name the first members.", |raw, v| {
        say(&mut raw.discovery.srv, v)
    }),
    text("discovery-srv-name", "", "Suffix of the service name asked of DNS.", |raw, v| {
        say(&mut raw.discovery.srv_name, v)
    }),
    switch(
        "strict-reconfig-check",
        "true",
        "Refuse changes of membership that would leave the cluster without a quorum.",
        |raw, v| put(&mut raw.strict_reconfig_check, boolean(v)),
    ),
    switch(
        "pre-vote",
        "true",
        "Ask whether an election could be won before holding one, so that a member that was cut \
         off doesn't disturb the others when it comes back.",
        |raw, v| put(&mut raw.pre_vote, boolean(v)),
    ),
    text(
        "auto-compaction-retention",
        "0",
        "History to keep: a time such as 30m (hours if without unit), or a number of revisions. \
         0 keeps all.",
        |raw, v| say(&mut raw.auto_compaction_retention, v),
    ),
    text(
        "auto-compaction-mode",
        "periodic",
        "What --auto-compaction-retention is: 'periodic' (a time) or 'revision' (a number).",
        |raw, v| say(&mut raw.auto_compaction_mode, v),
    ),
    text("v2-deprecation", "write-only", "Accepted, and without effect. Deprecated.", |_, v| {
        check_v2_deprecation(v)
    })
    .not_in_file(),
];

/// Stages of the v2 store's removal, which is over: only their names are checked.
fn check_v2_deprecation(value: &str) -> Parsed<()> {
    const STAGES: [&str; 4] =
        ["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];
    match value.split(',').find(|stage| !STAGES.contains(stage)) {
        Some(unknown) => Err(format!("invalid value {unknown:?}")),
        None => Ok(()),
    }
}
