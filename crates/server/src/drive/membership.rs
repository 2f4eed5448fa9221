//! Members as JSON: the context of a conf change, in etcd's form.

use bytes::Bytes;
use member::conf_change::MembershipChange;
use proto::etcdserverpb::Member;
use raft::ConfChangeKind;
use serde_json::{Map, Value, json};
use state::membership::MemberChange;

/// The member as conf changes carry it.
pub(crate) fn encode(member: &Member) -> Bytes {
    let mut object = Map::new();
    object.insert("id".into(), member.id.into());
    object.insert("peerURLs".into(), json!(member.peer_urls));
    if member.is_learner {
        object.insert("isLearner".into(), true.into());
    }
    if !member.name.is_empty() {
        object.insert("name".into(), json!(member.name));
    }
    if !member.client_urls.is_empty() {
        object.insert("clientURLs".into(), json!(member.client_urls));
    }
    Value::Object(object).to_string().into()
}

/// What a change says about the members; `None` if it says nothing that can be understood.
pub(crate) fn meaning(change: &MembershipChange) -> Option<MemberChange> {
    let id = change.node_id;
    if change.kind == ConfChangeKind::RemoveNode {
        return Some(MemberChange::Remove { id });
    }
    let context: Value = serde_json::from_slice(&change.context).ok()?;
    let member = decode(id, &context);
    match change.kind {
        ConfChangeKind::AddNode if flag(&context, "isPromote") => {
            Some(MemberChange::Promote { id })
        }
        ConfChangeKind::AddNode | ConfChangeKind::AddLearner => Some(MemberChange::Add(member)),
        ConfChangeKind::UpdateNode => {
            Some(MemberChange::Update { id, peer_urls: member.peer_urls })
        }
        ConfChangeKind::RemoveNode => None,
    }
}

fn decode(id: u64, context: &Value) -> Member {
    Member {
        id,
        name: context["name"].as_str().unwrap_or_default().to_owned(),
        peer_urls: texts(context, "peerURLs"),
        client_urls: texts(context, "clientURLs"),
        is_learner: flag(context, "isLearner"),
    }
}

fn flag(context: &Value, name: &str) -> bool {
    context[name].as_bool().unwrap_or_default()
}

fn texts(context: &Value, name: &str) -> Vec<String> {
    let items = context[name].as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_understood_as_it_was_written() {
        let member = Member {
            id: 0x8e9e_05c5_2164_694d,
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: Vec::new(),
            is_learner: false,
        };
        let context = encode(&member);
        let change = MembershipChange {
            id: 0,
            kind: ConfChangeKind::AddNode,
            node_id: member.id,
            context: context.clone(),
        };
        assert_eq!(meaning(&change), Some(MemberChange::Add(member)));
        let text = "{\"id\":10276657743932975437,\"name\":\"default\",\"peerURLs\":[\"http://localhost:2380\"]}";
        assert_eq!(context, text);
    }
}
