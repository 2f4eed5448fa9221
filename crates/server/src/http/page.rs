//! Pages that only show something: `/version`, `/metrics`, `/debug/vars`.

use std::collections::BTreeMap;
use std::env;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::{Context, RaftStatus, Service};
use crate::metrics;

pub(super) fn version<S: Service>(context: &Context<S>) -> Answer {
    let vitals = context.service.vitals();
    let cluster = vitals.cluster_version.unwrap_or_else(|| "not_decided".to_owned());
    let storage = vitals.storage_version.unwrap_or_else(|| "unknown".to_owned());
    let [server, cluster, storage] =
        [Value::from(context.server_version), Value::from(cluster), Value::from(storage)];
    let body =
        format!("{{\"etcdserver\":{server},\"etcdcluster\":{cluster},\"storage\":{storage}}}");
    answer::whole(StatusCode::OK, answer::JSON, body)
}

pub(super) fn metrics<S: Service>(context: &Context<S>) -> Answer {
    let metrics = context.service.metrics();
    metrics.scrapes_in_flight.inc();
    let text = metrics.render(|metrics| context.service.refresh(metrics));
    metrics.scrapes_in_flight.dec();
    metrics.scrapes.inc();
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    answer::whole(StatusCode::OK, kind, text)
}

/// What Go programs show of themselves, as far as it makes sense for us.
pub(super) fn vars<S: Service>(context: &Context<S>) -> Answer {
    let arguments: Vec<_> = env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let whole = |number: Option<f64>| number.map_or(0, |n| n as u64);
    let resident = whole(metrics::resident_bytes());
    let memory = json!({"Alloc": resident, "Sys": resident, "HeapAlloc": resident, "NumGC": 0});
    let vars = [
        ("cmdline", json!(arguments)),
        ("file_descriptor_limit", json!(whole(metrics::fd_limit()))),
        ("memstats", memory),
        ("raft.status", raft(&context.service.vitals().raft)),
    ];
    let lines: Vec<_> = vars.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    let body = format!("{{\n{}\n}}\n", lines.join(",\n"));
    answer::whole(StatusCode::OK, "application/json; charset=utf-8", body)
}

fn raft(status: &RaftStatus) -> Value {
    let id = |id: u64| format!("{id:x}");
    let progress: BTreeMap<_, _> = status
        .progress
        .iter()
        .map(|p| (id(p.member), json!({"match": p.matched, "next": p.next, "state": p.state})))
        .collect();
    json!({
        "id": id(status.id),
        "term": status.term,
        "vote": id(status.vote),
        "commit": status.commit,
        "lead": id(status.leader),
        "raftState": status.role,
        "applied": status.applied,
        "progress": progress,
        "leadtransferee": id(status.transferee),
    })
}
