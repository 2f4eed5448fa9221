//! A cluster of one: the smallest that elects, replicates, commits and reads.

use bytes::Bytes;

use super::*;
use crate::entry::EntryKind;

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not 0")
}

fn alone() -> Node {
    let conf_state = ConfState::new(vec![id(1)], vec![]);
    Node::new(Config::new(id(1), 1), Recovered { conf_state, ..Recovered::default() })
        .expect("an empty disk is consistent")
}

/// Does what the effects say about the disk and the state machine.
fn act(node: &mut Node, effects: &mut Effects) {
    while let Some(stable) = effects.persist.take() {
        node.step(Input::Persisted { stable }, effects);
    }
    if let Some(last) = effects.commit.last() {
        let index = last.index;
        node.step(Input::Applied { index }, effects);
    }
}

#[test]
fn a_member_alone_elects_itself_and_commits_what_is_durable() {
    let mut node = alone();
    let mut effects = Effects::default();
    node.step(Input::Campaign, &mut effects);
    assert_eq!(node.status().role, RoleKind::Candidate, "its own vote is not durable yet");
    act(&mut node, &mut effects);
    assert_eq!(node.status().role, RoleKind::Leader);
    assert_eq!(node.status().commit, Index(1));

    effects.clear();
    let entries = vec![(EntryKind::Normal, Bytes::from_static(b"a")); 3];
    node.step(Input::Propose { entries }, &mut effects);
    assert_eq!(effects.append.len(), 3);
    assert!(effects.commit.is_empty(), "not before it is durable");
    act(&mut node, &mut effects);
    assert_eq!(effects.commit.last().map(|e| e.index), Some(Index(4)));

    effects.clear();
    node.step(Input::ReadIndex { context: Context(1) }, &mut effects);
    assert_eq!(effects.reads[0].index, Index(4));
    assert!(effects.send.is_empty());
}
