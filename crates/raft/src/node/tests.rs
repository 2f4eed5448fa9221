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

/// A leader alone, its first entry committed.
fn leading() -> (Node, Effects) {
    let (mut node, mut effects) = (alone(), Effects::default());
    node.step(Input::Campaign, &mut effects);
    act(&mut node, &mut effects);
    effects.clear();
    (node, effects)
}

fn batch(n: usize) -> Vec<Proposal> {
    vec![(EntryKind::Normal, Bytes::from_static(b"value")); n]
}

#[test]
fn a_busy_leader_reuses_the_room_its_effects_have() {
    let (mut node, mut effects) = leading();
    let mut room = None;
    for round in 0..200 {
        node.step(Input::Propose { entries: batch(500) }, &mut effects);
        act(&mut node, &mut effects);
        assert_eq!((effects.append.len(), effects.commit.len()), (500, 500));
        node.compact(node.status().applied);
        let now = (effects.append.capacity(), effects.commit.capacity());
        assert!(round == 0 || room == Some(now), "grew in round {round}");
        room = Some(now);
        effects.clear();
    }
    assert_eq!(node.status().first, node.status().last.next());
}

#[test]
fn steps_between_two_syncs_share_one() {
    let (mut node, mut effects) = leading();
    for _ in 0..10 {
        node.step(Input::Propose { entries: batch(3) }, &mut effects);
    }
    let stable = effects.persist.take().expect("something to sync");
    assert_eq!(effects.append.len(), 30);
    node.step(Input::Persisted { stable }, &mut effects);
    assert_eq!(effects.commit.len(), 30);
}

#[test]
fn an_idle_tick_of_a_member_alone_owes_nothing() {
    let (mut node, mut effects) = leading();
    for _ in 0..100 {
        node.step(Input::Tick, &mut effects);
    }
    assert!(effects.is_empty());
}

#[test]
fn a_disk_that_makes_no_sense_starts_no_node() {
    let config = || Config::new(id(1), 1);
    let conf_state = ConfState::new(vec![id(1)], vec![]);
    let hard_state = HardState { term: Term(1), vote: None, commit: Index(2) };
    let recovered = Recovered { hard_state, conf_state, ..Recovered::default() };
    let refusal = Node::new(config(), recovered.clone()).expect_err("committed, yet not there");
    assert_eq!(refusal, Inconsistent::LogTooShort { last: Index(0), needed: Index(2) });
    let entry = |index, term| crate::entry::Entry {
        term: Term(term),
        index: Index(index),
        kind: EntryKind::Normal,
        data: Bytes::new(),
    };
    let gap = Recovered { entries: vec![entry(1, 1), entry(3, 1)], ..recovered.clone() };
    assert!(matches!(Node::new(config(), gap), Err(Inconsistent::Gap { .. })));
    let future = Recovered { entries: vec![entry(1, 1), entry(2, 2)], ..recovered };
    // A crash tore off the hard state that was written with the entry.
    let status = Node::new(config(), future).expect("a log to go on with").status();
    assert_eq!((status.term, status.vote), (Term(2), None));
}
