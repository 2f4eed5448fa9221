//! HTTP as it is: status, content type and body, with what differs from run to run hidden.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value as Json;

use crate::command;
use crate::http;
use crate::names::Names;

/// Fields of JSON bodies of which no more is known than that they are there and not zero.
const VOLATILE: &[&str] = &[
    "cluster_id",
    "dbSize",
    "dbSizeInUse",
    "leader",
    "member_id",
    "raftAppliedIndex",
    "raftIndex",
    "raftTerm",
    "raft_term",
    "storage",
];

/// Fields that are there or not, as it happens: etcd learns its storage version by and by.
const BY_CHANCE: &[&str] = &["storageVersion"];

/// A page of advice for whoever runs the server, on flags and their dangers: each server has its own.
const MISDIRECTED: u16 = 421;

/// Metrics of the language's runtime, not of etcd.
const RUNTIME_METRICS: &[&str] = &["go_", "process_", "promhttp_"];

/// A whole exchange, as a script shows it.
pub(crate) async fn exchange(
    address: SocketAddr,
    http: &command::Http,
    names: &mut Names,
) -> anyhow::Result<Vec<String>> {
    let (mut head, mut answer) = open(address, http).await?;
    let body = answer.body().await?;
    if answer.status == MISDIRECTED {
        head.push_str(" *");
        return Ok(vec![head]);
    }
    let body = String::from_utf8_lossy(&body);
    let body = body.trim_end();
    if body.is_empty() {
        return Ok(vec![head]);
    }
    let lines = body.lines().map(|line| match http.any_message {
        true => without_message(line),
        false => line.to_owned(),
    });
    let mut body: Vec<String> = lines.map(|line| body_line(&line, names)).collect();
    // Health checks run in no order.
    let checks = body.iter().take_while(|line| line.starts_with("[+]") || line.starts_with("[-]"));
    let n_checks = checks.count();
    body[..n_checks].sort();
    if let [line] = body.as_slice() {
        head.push(' ');
        head.push_str(line);
        return Ok(vec![head]);
    }
    Ok([head]
        .into_iter()
        .chain(body.into_iter().map(|line| format!("| {line}").trim_end().to_owned()))
        .collect())
}

/// The head of an answer, as a script shows it, and the answer.
pub(crate) async fn open(
    address: SocketAddr,
    http: &command::Http,
) -> anyhow::Result<(String, http::Answer)> {
    let command::Http { headers, shown, any_message: _, method, path, body } = http;
    let request = http::Request { method, path, headers, body: body.as_bytes() };
    let answer = http::send(address, &request).await?;
    let mut head = answer.status.to_string();
    if let Some(kind) = answer.header("content-type") {
        head.push_str(&format!(" {kind}"));
    }
    for name in shown {
        head.push_str(&format!(" [{name}: {}]", answer.header(name).unwrap_or("absent")));
    }
    Ok((head, answer))
}

/// A line of a body. JSON gets its keys sorted, because their order has no meaning.
pub(crate) fn body_line(line: &str, names: &mut Names) -> String {
    match serde_json::from_str::<Json>(line) {
        Ok(json) if json.is_object() => shown(&json, names),
        Ok(_) | Err(_) => names.hide(line),
    }
}

/// The same error with a `*` for its message.
fn without_message(line: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<Json>(line) else { return line.to_owned() };
    for place in ["/message", "/error/message"] {
        if let Some(message) = json.pointer_mut(place) {
            *message = Json::String("*".to_owned());
        }
    }
    json.to_string()
}

fn shown(json: &Json, names: &mut Names) -> String {
    match json {
        Json::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| !BY_CHANCE.contains(&name.as_str()));
            let fields: BTreeMap<_, _> = fields.collect();
            let has = |name: &str| fields.keys().any(|key| *key == name);
            let (is_hash_of_file, is_time_left) = (!has("hash_revision"), has("grantedTTL"));
            let fields = fields.into_iter().map(|(name, value)| {
                let hidden = VOLATILE.contains(&name.as_str())
                    || name == "hash" && is_hash_of_file
                    || name == "TTL" && is_time_left;
                let value = match (hidden, lease(name, value, names)) {
                    (true, _) if !is_zero(value) => "\"*\"".to_owned(),
                    (false, Some(lease)) => format!("\"{lease}\""),
                    (true | false, _) => shown(value, names),
                };
                format!("{name:?}:{value}")
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, names)).collect();
            format!("[{}]", items.join(","))
        }
        Json::String(text) => Json::String(names.hide(text)).to_string(),
        Json::Null | Json::Bool(_) | Json::Number(_) => json.to_string(),
    }
}

fn is_zero(json: &Json) -> bool {
    matches!(json.as_str(), Some("" | "0")) || json.as_u64() == Some(0)
}

fn lease(name: &str, value: &Json, names: &mut Names) -> Option<String> {
    if !matches!(name, "ID" | "lease") {
        return None;
    }
    let id: u64 = value.as_str()?.parse().ok()?;
    names.member(id).map(str::to_owned).or_else(|| names.lease(i64::try_from(id).ok()?))
}

/// The name and type of each metric the server offers.
pub(crate) async fn metrics(address: SocketAddr) -> anyhow::Result<Vec<String>> {
    let request = http::Request { method: "GET", path: "/metrics", headers: &[], body: b"" };
    let body = http::send(address, &request).await?.body().await?;
    let body = String::from_utf8(body)?;
    let metrics = body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let metrics = metrics.filter(|line| !RUNTIME_METRICS.iter().any(|p| line.starts_with(p)));
    let mut metrics: Vec<String> = metrics.map(str::to_owned).collect();
    metrics.sort();
    Ok(metrics)
}
