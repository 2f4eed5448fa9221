//! Is it well? `/health`, for those who have always asked it, `/livez` and `/readyz` for
//! orchestrators.
//!
//! ```text
//! /health   alarms, leader, a read    {"health":"true","reason":""}
//! /livez    serializable_read         ok
//! /readyz   data_corruption, serializable_read, linearizable_read, non_learner
//! ```

use hyper::StatusCode;
use proto::error::Status;
use serde_json::Value;

use super::answer::{self, Answer};
use super::router::percent_decoded;
use super::{Alarm, Context, Service};
use crate::log;
use crate::metrics::Check;

/// What `/readyz` looks at. NOSPACE is not among it: a full member still answers reads.
pub(super) const READYZ: &[Check] = &[
    Check::ReadyzDataCorruption,
    Check::ReadyzSerializableRead,
    Check::ReadyzLinearizableRead,
    Check::ReadyzNonLearner,
];

pub(super) async fn health<S: Service>(context: &Context<S>, query: &str) -> Answer {
    let reason = illness(context, query).await;
    let metrics = context.service.metrics();
    let Some(reason) = reason else {
        metrics.health_success.inc();
        return answer::whole(
            StatusCode::OK,
            answer::TEXT,
            "{\"health\":\"true\",\"reason\":\"\"}",
        );
    };
    metrics.health_failures.inc();
    log::warn!(context.logger, "told /health that this member is not well", "reason" = &*reason);
    let body = format!("{{\"health\":\"false\",\"reason\":{}}}", Value::from(reason));
    answer::error(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// Why the member is not healthy, if it isn't.
async fn illness<S: Service>(context: &Context<S>, query: &str) -> Option<String> {
    let vitals = context.service.vitals();
    let excluded: Vec<_> = values(query, "exclude").collect();
    let raised = vitals.alarms.iter().find(|alarm| !excluded.iter().any(|e| e == alarm.name()));
    if let Some(alarm) = raised {
        return Some(format!("ALARM {}", alarm.name()));
    }
    let serializable = values(query, "serializable").next().is_some_and(|value| value == "true");
    if !serializable && vitals.raft.leader == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = context.service.probe(!serializable).await;
    read.err().map(|status| format!("RANGE ERROR:{}", status.message))
}

/// Runs `checks`, but those a group was asked to leave out.
pub(super) async fn check<S: Service>(
    context: &Context<S>,
    checks: &[Check],
    query: &str,
    is_group: bool,
) -> Answer {
    let excluded: Vec<_> = if is_group { values(query, "exclude").collect() } else { Vec::new() };
    let mut lines = String::new();
    let mut all_well = true;
    for &check in checks.iter().filter(|check| !excluded.iter().any(|e| e == check.name())) {
        let result = run(context, check).await;
        let metrics = context.service.metrics();
        metrics.last_checks.set(check, result.is_ok());
        metrics.check_runs.inc(check, result.is_ok());
        match result {
            Ok(()) => lines += &format!("[+]{} ok\n", check.name()),
            Err(why) => {
                all_well = false;
                lines += &format!("[-]{} failed: {why}\n", check.name());
            }
        }
    }
    if !all_well {
        log::error!(context.logger, "a health check failed", "checks" = &*lines);
        return answer::error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    let verbose = values(query, "verbose").next().is_some();
    answer::text(StatusCode::OK, if verbose { lines + "ok\n" } else { "ok\n".to_owned() })
}

async fn run<S: Service>(context: &Context<S>, check: Check) -> Result<(), String> {
    let service = &context.service;
    let said = |status: Status| status.message.into_owned();
    match check {
        Check::LivezSerializableRead | Check::ReadyzSerializableRead => {
            service.probe(false).await.map_err(said)
        }
        Check::ReadyzLinearizableRead => service.probe(true).await.map_err(said),
        Check::ReadyzDataCorruption if service.vitals().alarms.contains(&Alarm::Corrupt) => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        Check::ReadyzNonLearner if service.vitals().is_learner => {
            Err("not supported for learner".to_owned())
        }
        Check::ReadyzDataCorruption | Check::ReadyzNonLearner => Ok(()),
    }
}

/// The values of a parameter of the query, in order.
fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(key) == name).then(|| percent_decoded(&value.replace('+', " ")))
    })
}
