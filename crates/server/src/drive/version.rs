//! The version monitor: which version all members of the cluster speak.
//!
//! The leader asks every member now and then. The lowest minor version among them is the cluster's;
//! it is an entry of the log, and goes up only. While somebody does not answer, nobody knows: a
//! cluster that has no version yet then begins with the oldest one there can be.

use std::sync::Arc;
use std::time::Duration;

use proto::membershippb::ClusterVersionSetRequest;
use proto::raft_request::Body;
use tokio::time::{Instant, sleep};

use super::chores::propose;
use crate::engine::Engine;
use crate::log;
use crate::version;

/// Between two rounds of questions.
const INTERVAL: Duration = Duration::from_secs(4);
/// Between two looks at whether a cluster without a version has a leader.
const LOOK: Duration = Duration::from_millis(50);
/// How long a member has to say what it is.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Runs until the process ends.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut next = Instant::now();
    while !engine.is_stopping() {
        sleep(LOOK).await;
        let decided = engine.state().membership().version().is_some();
        if !engine.shown.is_leader() || (decided && Instant::now() < next) {
            continue;
        }
        next = Instant::now() + INTERVAL;
        decide(&engine).await;
    }
}

async fn decide(engine: &Engine) {
    let own = engine.identity.member_id;
    let (current, others): (Option<String>, Vec<u64>) = {
        let state = engine.state();
        let members = state.membership().members().map(|member| member.id);
        let others = members.filter(|&id| id != own).collect();
        (state.membership().version().map(str::to_owned), others)
    };
    let mut lowest = minor_of(version::ETCD);
    for id in others {
        let asked = tokio::time::timeout(ANSWER_MAX, engine.peers().version(id)).await;
        let said = asked.ok().and_then(Result::ok);
        lowest = lowest.min(said.as_deref().and_then(minor_of));
    }
    let Some(decided) = decision(current.as_deref(), lowest) else { return };
    log::info!(engine.logger, "updating cluster version", "to" = decided.as_str());
    propose(engine, Body::ClusterVersionSet, &ClusterVersionSetRequest { ver: decided });
    // The next look must find it applied, or it would be decided again.
    sleep(LOOK).await;
}

/// What to change the cluster's version to. `lowest` is `None` while a member's is not known.
fn decision(current: Option<&str>, lowest: Option<(u64, u64)>) -> Option<String> {
    match (current.map(minor_of), lowest) {
        (None, None) => Some(version::CLUSTER_MIN.to_owned()),
        (None, Some((major, minor))) => Some(format!("{major}.{minor}.0")),
        (Some(current), Some((major, minor))) if current < Some((major, minor)) => {
            Some(format!("{major}.{minor}.0"))
        }
        (Some(_), _) => None,
    }
}

/// Major and minor of `3.7.1`.
fn minor_of(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.').map(|part| part.parse::<u64>().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_speaks_what_its_oldest_member_does_and_never_less_than_before() {
        assert_eq!(decision(None, Some((3, 7))).as_deref(), Some("3.7.0"));
        assert_eq!(decision(None, None).as_deref(), Some("3.0.0"), "somebody is silent");
        assert_eq!(decision(Some("3.0.0"), Some((3, 6))).as_deref(), Some("3.6.0"));
        assert_eq!(decision(Some("3.0.0"), None), None);
        assert_eq!(decision(Some("3.7.0"), Some((3, 6))), None);
        assert_eq!(decision(Some("3.7.0"), Some((3, 7))), None);
    }
}
