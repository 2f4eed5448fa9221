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

/// Leads, as far as its own disk is concerned; what it wrote meanwhile.
fn elected(member: &mut Member, effects: &mut Effects) -> Vec<Entry> {
    let mut written = Vec::new();
    member.step(Event::Campaign, effects);
    while let Some(persist) = effects.raft.persist.take() {
        written.append(&mut effects.raft.append);
        member.step(Event::Persisted(persist), effects);
    }
    written
}

#[test]
fn what_is_asked_before_there_is_a_leader_is_done_once_by_the_next_one() {
    let mut member = restarted(5);
    let mut effects = Effects::default();
    let data = Bytes::from_static(b"y");
    member.step(Event::Propose(vec![Proposal { id: 8, data: data.clone() }]), &mut effects);
    let ticket = ReadTicket { port: 1, round: 1 };
    member.step(Event::Read(ticket), &mut effects);
    assert!(effects.refused.is_empty() && effects.reads.is_empty(), "nobody is refused");

    let written = elected(&mut member, &mut effects);
    let times = written.iter().filter(|entry| entry.data == data).count();
    assert_eq!(times, 1, "{written:?}");
    for _ in 0..PATIENCE.retry_ticks {
        member.step(Event::Tick, &mut effects);
    }
    let answered: Vec<_> =
        effects.reads.iter().map(|(ticket, result)| (*ticket, result.is_ok())).collect();
    assert_eq!(answered, [(ticket, true)]);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_done() {
    let mut member = restarted(5);
    let mut effects = Effects::default();
    let data = Bytes::from_static(b"y");
    member.step(Event::Propose(vec![Proposal { id: 8, data: data.clone() }]), &mut effects);
    for _ in 0..PATIENCE.give_up_ticks {
        // It may stand for election by itself; nobody's disk lets it win.
        member.step(Event::Tick, &mut effects);
    }
    effects.clear();
    let mut written = elected(&mut member, &mut effects);
    written.retain(|entry| entry.data == data);
    assert_eq!(written, []);
}

/// Lets the disk and the state machine keep up; conf changes are carried out as they say.
fn catch_up(member: &mut Member, effects: &mut Effects) {
    loop {
        if let Some(persist) = effects.raft.persist.take() {
            member.step(Event::Persisted(persist), effects);
            continue;
        }
        let committed = std::mem::take(&mut effects.raft.commit);
        let Some(last) = committed.last().map(|entry| entry.index) else { return };
        for entry in committed.into_iter().filter(|e| e.kind == EntryKind::ConfChange) {
            let change = MembershipChange::decode(entry.data).expect("one of ours").for_raft();
            member.step(Event::ConfChangeApplied { index: entry.index, change }, effects);
        }
        member.step(Event::Applied(last), effects);
    }
}

fn change(kind: raft::ConfChangeKind, node_id: u64) -> Event {
    Event::Change(MembershipChange { id: 1, kind, node_id, context: Bytes::new() })
}

#[test]
fn a_leader_that_left_the_cluster_to_one_other_reads_nothing_without_asking_it() {
    let mut member = restarted(0);
    let mut effects = Effects::default();
    member.step(Event::Campaign, &mut effects);
    catch_up(&mut member, &mut effects);
    assert!(member.view().lone);

    member.step(change(raft::ConfChangeKind::AddNode, 2), &mut effects);
    catch_up(&mut member, &mut effects);
    assert!(!member.view().lone, "there are two");

    member.step(change(raft::ConfChangeKind::RemoveNode, 1), &mut effects);
    let last = member.view().last;
    let (from, to) = (NodeId::new(2).expect("not 0"), NodeId::new(1).expect("not 0"));
    let body = raft::Body::AppendReply(raft::AppendReply::Accepted { last: Index(last) });
    let reply = Message { from, to, term: Term(member.view().term), body };
    member.step(Event::Receive(reply), &mut effects);
    catch_up(&mut member, &mut effects);
    let view = member.view();
    assert_eq!((view.is_leader, view.commit), (true, last), "it leads until the other does");
    assert!(!view.lone, "the other may lead by now, and write");
}

#[test]
fn what_a_leader_decided_is_not_proposed_in_another_term() {
    let mut member = restarted(5);
    let mut effects = Effects::default();
    elected(&mut member, &mut effects);
    let term = member.view().term;
    let proposal = |id| Proposal { id, data: Bytes::from_static(b"y") };
    let earlier = Event::Rule { term: term - 1, proposals: vec![proposal(7)] };
    member.step(earlier, &mut effects);
    assert_eq!(effects.refused, [(7, Error::LeaderChanged)]);
    effects.clear();
    member.step(Event::Rule { term, proposals: vec![proposal(8)] }, &mut effects);
    assert_eq!((effects.refused.len(), member.view().last), (0, 7), "its own is written");
}
