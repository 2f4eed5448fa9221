//! Majorities: of votes, and of numbers that members have reached.
//!
//! A joint configuration is two of them, and both must agree.

use std::collections::BTreeMap;

use crate::membership::ConfState;
use crate::number::NodeId;

/// What the votes cast so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Won,
    Lost,
    Pending,
}

/// Counts `votes`; those of strangers count for nothing.
pub(crate) fn tally(conf: &ConfState, votes: &BTreeMap<NodeId, bool>) -> Tally {
    let one = tally_of(&conf.voters, votes);
    let other = if conf.is_joint() { tally_of(&conf.voters_outgoing, votes) } else { one };
    match (one, other) {
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        (Tally::Pending, _) | (_, Tally::Pending) => Tally::Pending,
        (Tally::Won, Tally::Won) => Tally::Won,
    }
}

fn tally_of(voters: &[NodeId], votes: &BTreeMap<NodeId, bool>) -> Tally {
    let granted = voters.iter().filter(|id| votes.get(id) == Some(&true)).count();
    let refused = voters.iter().filter(|id| votes.get(id) == Some(&false)).count();
    let quorum = majority(voters);
    if granted >= quorum {
        Tally::Won
    } else if voters.len() - refused < quorum {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

/// The greatest number that a quorum has reached. Each member's number is asked of `reached`.
///
/// Quadratic in the voters, of which there are a handful; in return it needs no memory.
pub(crate) fn reached_by_quorum(conf: &ConfState, reached: impl Fn(NodeId) -> u64) -> u64 {
    let one = reached_by_majority(&conf.voters, &reached);
    if conf.is_joint() {
        one.min(reached_by_majority(&conf.voters_outgoing, &reached))
    } else {
        one
    }
}

fn reached_by_majority(voters: &[NodeId], reached: impl Fn(NodeId) -> u64) -> u64 {
    let quorum = majority(voters);
    let mut best = 0;
    for &voter in voters {
        let number = reached(voter);
        if number > best && voters.iter().filter(|&&v| reached(v) >= number).count() >= quorum {
            best = number;
        }
    }
    best
}

fn majority(voters: &[NodeId]) -> usize {
    voters.len() / 2 + 1
}

#[cfg(test)]
mod tests {
    use stdx::{Generator, each_seed};

    use super::*;

    fn ids(g: &mut Generator, percent: u64) -> Vec<NodeId> {
        (1..=7).filter(|_| g.chance(percent)).filter_map(NodeId::new).collect()
    }

    fn conf(g: &mut Generator) -> ConfState {
        let voters_outgoing = if g.chance(40) { ids(g, 50) } else { Vec::new() };
        ConfState { voters: ids(g, 60), voters_outgoing, ..ConfState::default() }
    }

    /// Every set of members that outnumbers the rest, in both halves.
    fn is_quorum(conf: &ConfState, set: &[NodeId]) -> bool {
        let more_than_half = |voters: &[NodeId]| {
            let inside = voters.iter().filter(|id| set.contains(id)).count();
            inside > voters.len() - inside
        };
        more_than_half(&conf.voters)
            && (conf.voters_outgoing.is_empty() || more_than_half(&conf.voters_outgoing))
    }

    #[test]
    fn an_election_is_won_by_a_quorum_and_lost_when_none_is_left() {
        each_seed(|g| {
            let conf = conf(g);
            let mut votes = BTreeMap::new();
            for id in ids(g, 70) {
                votes.insert(id, g.chance(60));
            }
            let yes: Vec<NodeId> = votes.iter().filter(|v| *v.1).map(|v| *v.0).collect();
            let may: Vec<NodeId> = (1..=7)
                .filter_map(NodeId::new)
                .filter(|id| votes.get(id) != Some(&false))
                .collect();
            let expected = if is_quorum(&conf, &yes) {
                Tally::Won
            } else if is_quorum(&conf, &may) {
                Tally::Pending
            } else {
                Tally::Lost
            };
            assert_eq!(tally(&conf, &votes), expected, "{conf:?} {votes:?}");
        });
    }

    #[test]
    fn a_number_is_reached_by_a_quorum_if_those_at_or_above_it_are_one() {
        each_seed(|g| {
            let conf = conf(g);
            let numbers: Vec<u64> = (0..8).map(|_| g.below(6)).collect();
            let at = |id: NodeId| numbers[id.get() as usize];
            let all: Vec<NodeId> = (1..=7).filter_map(NodeId::new).collect();
            let expected = (0..6)
                .filter(|&n| {
                    let above: Vec<NodeId> = all.iter().copied().filter(|&i| at(i) >= n).collect();
                    is_quorum(&conf, &above)
                })
                .max();
            assert_eq!(reached_by_quorum(&conf, at), expected.unwrap_or(0), "{conf:?} {numbers:?}");
        });
    }
}
