//! A member alone, from its start to its first read.

use raft::{ConfState, Entry, EntryId, EntryKind, HardState, Node, Recovered, Term};

use super::*;

const PATIENCE: Patience = Patience { retry_ticks: 5, give_up_ticks: 70 };

/// A member that is the only voter, with `n` entries in its log that were committed before it died.
fn restarted(n: u64) -> Member {
    let id = NodeId::new(1).expect("not 0");
    let data = Bytes::from_static(b"x");
    let entry =
        |n| Entry { term: Term(1), index: Index(n), kind: EntryKind::Normal, data: data.clone() };
    let recovered = Recovered {
        hard_state: HardState { term: Term(1), vote: None, commit: Index(n) },
        conf_state: ConfState::new(vec![id], Vec::new()),
        snapshot: EntryId::new(Index(0), Term(0)),
        entries: (1..=n).map(entry).collect(),
        applied: Index(0),
    };
    let node = Node::new(raft::Config::new(id, 1), recovered).expect("a log that makes sense");
    Member::new(node, 1, PATIENCE)
}

#[test]
fn a_member_alone_reads_without_a_round_only_when_all_of_earlier_terms_is_applied() {
    let mut member = restarted(5);
    let mut effects = Effects::default();
    member.step(Event::Campaign, &mut effects);
    while let Some(persist) = effects.raft.persist.take() {
        member.step(Event::Persisted(persist), &mut effects);
    }
    let view = member.view();
    assert_eq!((view.is_leader, view.commit), (true, 6), "it leads, and its term has begun");
    for index in 1..=5 {
        assert!(!member.view().lone, "what was acknowledged before may lie past {}", index - 1);
        member.step(Event::Applied(Index(index)), &mut effects);
    }
    member.step(Event::Applied(Index(6)), &mut effects);
    assert!(member.view().lone);
}
