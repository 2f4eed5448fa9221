//! Members as JSON: the context of a conf change, in etcd's form.

use bytes::Bytes;
use proto::etcdserverpb::Member;
use raft::{ConfChangeKind, ConfState, Index, NodeId, Term};
use serde_json::{Map, Value, json};
use state::State;
use state::membership::{MemberChange, Membership, member_of};

use crate::conf_change::MembershipChange;

/// The member as conf changes carry it.
pub fn encode(member: &Member) -> Bytes {
    Value::Object(object(member)).to_string().into()
}

fn object(member: &Member) -> Map<String, Value> {
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
    object
}

/// The change as it is proposed; its id is for the proposer to fill in.
pub fn propose(change: &MemberChange, membership: &Membership) -> MembershipChange {
    let (kind, member) = match change {
        MemberChange::Add(member) if member.is_learner => {
            (ConfChangeKind::AddLearner, Some(encode(member)))
        }
        MemberChange::Add(member) => (ConfChangeKind::AddNode, Some(encode(member))),
        MemberChange::Remove { .. } => (ConfChangeKind::RemoveNode, None),
        MemberChange::Update { id, peer_urls } => {
            let updated = Member { id: *id, peer_urls: peer_urls.clone(), ..Member::default() };
            (ConfChangeKind::UpdateNode, Some(encode(&updated)))
        }
        MemberChange::Promote { id } => {
            let known = membership.member(*id).cloned().unwrap_or_default();
            let mut promoted = object(&Member { is_learner: false, ..known });
            promoted.insert("isPromote".into(), true.into());
            (ConfChangeKind::AddNode, Some(Value::Object(promoted).to_string().into()))
        }
    };
    let context = member.unwrap_or_default();
    MembershipChange { id: 0, kind, node_id: change.id(), context }
}

/// What a change says about the members; `None` if it says nothing that can be understood.
pub fn meaning(change: &MembershipChange) -> Option<MemberChange> {
    let id = change.node_id;
    if change.kind == ConfChangeKind::RemoveNode {
        return Some(MemberChange::Remove { id });
    }
    let context: Value = serde_json::from_slice(&change.context).ok()?;
    let member = Member { id, ..member_of(&context) };
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

fn flag(context: &Value, name: &str) -> bool {
    context[name].as_bool().unwrap_or_default()
}

/// The members of a state as raft counts them.
pub fn conf_state(state: &State) -> ConfState {
    counted(state.membership().members().map(|member| (member.id, member.is_learner)))
}

/// A snapshot as raft knows it. The state travels apart from it.
pub fn described(snapshot: &state::Snapshot) -> raft::Snapshot {
    let (index, term) = snapshot.applied();
    let conf_state = counted(snapshot.members());
    raft::Snapshot { index: Index(index), term: Term(term), conf_state, data: Bytes::new() }
}

fn counted(members: impl Iterator<Item = (u64, bool)>) -> ConfState {
    let (learners, voters): (Vec<_>, Vec<_>) = members.partition(|&(_, is_learner)| is_learner);
    let ids = |of: Vec<(u64, bool)>| of.into_iter().filter_map(|(id, _)| NodeId::new(id)).collect();
    ConfState::new(ids(voters), ids(learners))
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
