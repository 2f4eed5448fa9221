//! Was it linearizable? Judged by revisions, in linear time.
//!
//! Every write has a revision of its own, and every answer says at which revision it was given. So the
//! order is known, and all there is to check is that it explains every answer and agrees with time:
//!
//! - what was acknowledged is at the revision it was acknowledged with, and nowhere else;
//! - what is there was asked for;
//! - a read found what its revision left;
//! - no answer is older than what anybody had been told before it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use proto::Method;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use proto::mvccpb::event::EventType;

use super::load::{Asked, Done, number};
use crate::support::client::Client;

/// What a revision did: to which key, and the value it left, if any.
type Change = (u64, Option<u64>);

/// The whole history of a member, up to `head`, as a watch tells it.
pub(super) async fn history(client: &Client, head: i64) -> BTreeMap<i64, Change> {
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut stream = client.open(Method::Watch).await.expect("a watch");
    stream.send(&request, false).expect("a stream");
    let mut changes = BTreeMap::new();
    while changes.last_key_value().map_or(1, |(revision, _)| *revision) < head {
        let response: WatchResponse = stream.next().await.expect("a stream").expect("more");
        assert!(!response.canceled, "the watch was ended: {response:?}");
        for event in response.events {
            let is_put = event.r#type() == EventType::Put;
            let kv = event.kv.expect("a key");
            let change = (number(&kv.key), is_put.then(|| number(&kv.value)));
            let before = changes.insert(kv.mod_revision, change);
            assert_eq!(before, None, "two changes at revision {}", kv.mod_revision);
        }
    }
    changes
}

/// Finds every answer true. Returns how many there were.
pub(super) fn judge(history: &BTreeMap<i64, Change>, all: &[Done]) -> usize {
    let mut keys: BTreeMap<u64, BTreeMap<i64, Option<u64>>> = BTreeMap::new();
    let mut values = BTreeSet::new();
    for (revision, (key, value)) in history {
        keys.entry(*key).or_default().insert(*revision, *value);
        if let Some(value) = value {
            assert!(values.insert(*value), "{value} was put twice, again at {revision}");
        }
    }
    explain(history, all);
    let mut n = 0;
    for Done { asked, known, told } in all {
        let Some(told) = told else { continue };
        n += 1;
        assert!(told.revision >= *known, "stale: {asked:?} {told:?}, though {known} was known");
        match asked {
            Asked::Put { key, value } => {
                let found = history.get(&told.revision);
                assert_eq!(found, Some(&(*key, Some(*value))), "lost: {asked:?} {told:?}");
                assert!(told.revision > *known, "out of order: {asked:?} {told:?}");
            }
            Asked::Delete { key } if told.deleted > 0 => {
                let found = history.get(&told.revision);
                assert_eq!(found, Some(&(*key, None)), "lost: {asked:?} {told:?}");
            }
            Asked::Delete { key } | Asked::Read { key } => {
                let left =
                    keys.get(key).and_then(|changes| changes.range(..=told.revision).next_back());
                let left = left.and_then(|(revision, value)| Some((*revision, (*value)?)));
                assert_eq!(left, told.found, "not as it was: {asked:?} {told:?}");
            }
        }
    }
    n
}

/// Every change was asked for.
fn explain(history: &BTreeMap<i64, Change>, all: &[Done]) {
    let mut puts = BTreeSet::new();
    let mut deletes = BTreeSet::new();
    for done in all {
        match done.asked {
            Asked::Put { key, value } => drop(puts.insert((key, value))),
            Asked::Delete { key } => drop(deletes.insert(key)),
            Asked::Read { .. } => {}
        }
    }
    for (revision, (key, value)) in history {
        let asked = match value {
            Some(value) => puts.contains(&(*key, *value)),
            None => deletes.contains(key),
        };
        assert!(asked, "nobody asked for revision {revision}: {key} {value:?}");
    }
}
