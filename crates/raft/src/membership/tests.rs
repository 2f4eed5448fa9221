//! What every change must keep: somebody votes, and no two quorums miss each other.

use stdx::{Generator, each_seed};

use super::*;

const NODES: u64 = 5;

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not 0")
}

fn any_change(g: &mut Generator) -> ConfChange {
    let transition = Transition::from_number(g.below(3)).expect("three of them");
    let changes = g.vec(0..4, |g| ConfChangeSingle {
        kind: ConfChangeKind::from_number(g.below(4)).expect("four of them"),
        node: id(g.below(NODES) + 1),
    });
    ConfChange { transition, changes }
}

/// All sets of nodes, as bits, that are a quorum.
fn quorums(conf: &ConfState) -> Vec<u64> {
    let most = |voters: &[NodeId], set: u64| {
        let inside = voters.iter().filter(|id| set >> id.get() & 1 == 1).count();
        voters.is_empty() || 2 * inside > voters.len()
    };
    (0..1 << (NODES + 1))
        .filter(|&set| most(&conf.voters, set) && most(&conf.voters_outgoing, set))
        .collect()
}

#[test]
fn quorums_before_and_after_a_change_meet() {
    each_seed(|g| {
        let mut conf = ConfState::new((1..=g.below(NODES) + 1).map(id).collect(), Vec::new());
        for _ in 0..8 {
            let Ok(next) = conf.after(&any_change(g)) else { continue };
            assert!(next.is_well_formed(), "{next:?}");
            assert_eq!(next, next.clone().sorted());
            for one in quorums(&conf) {
                assert!(quorums(&next).iter().all(|two| one & two != 0), "{conf:?} {next:?}");
            }
            conf = next;
        }
    });
}

#[test]
fn a_demoted_voter_waits_for_the_end_of_the_joint_configuration() {
    let conf = ConfState::new(vec![id(1), id(2), id(3)], Vec::new());
    let demote = ConfChangeSingle { kind: ConfChangeKind::AddLearner, node: id(3) };
    let change = ConfChange { transition: Transition::JointExplicit, changes: vec![demote] };
    let joint = conf.after(&change).expect("possible");
    assert_eq!(joint.learners_next, vec![id(3)]);
    assert!(joint.learners.is_empty() && joint.is_voter(id(3)) && !joint.auto_leave);
    assert_eq!(joint.after(&change), Err(ConfChangeError::AlreadyJoint));
    let left = joint.after(&ConfChange::default()).expect("possible");
    assert_eq!(left, ConfState::new(vec![id(1), id(2)], vec![id(3)]));
    assert_eq!(left.after(&ConfChange::default()), Err(ConfChangeError::NotJoint));
}

#[test]
fn a_simple_change_moves_at_most_one_voter() {
    let conf = ConfState::new(vec![id(1)], Vec::new());
    let removal = ConfChange::single(ConfChangeKind::RemoveNode, id(1));
    assert_eq!(conf.after(&removal), Err(ConfChangeError::NoVotersLeft));
    let joint = ConfState { voters_outgoing: vec![id(1)], ..conf };
    let add = ConfChange::single(ConfChangeKind::AddNode, id(2));
    assert_eq!(joint.after(&add), Err(ConfChangeError::AlreadyJoint));
}
