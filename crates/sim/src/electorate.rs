//! Who elects, and whether those who are left still can when a machine is lost for good.
//!
//! A member acts under the configuration that it has applied last. Others may have applied less, and a
//! power loss takes a member back to what is durable on its disk. So a minority is lost only if the
//! others are a majority in each configuration that any of them may act under, now or later:
//!
//! ```text
//! entry           3        12       40
//! configuration   1 2 3    1 2      1 2 5      and what uncommitted changes would make of it
//!                          ▲        ▲
//!                          │        member 1 acts under this one: 2 and 5 are a majority
//!                          member 2, whose disk knows no more than entry 39, under this one:
//!                          without member 1 it waits for ever
//! ```
//!
//! Who was removed has a say as long as somebody may not know of it. Who learns does as well: it
//! may have been made a voter, and refuse its vote to a log shorter than its own, and not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::ConfState;
use storage::disk::Disk;

use crate::process::knows;
use crate::world::World;

/// The configurations there are.
#[derive(Debug)]
pub(crate) struct Electorates {
    /// By the entry that made them.
    pub(crate) decided: BTreeMap<u64, ConfState>,
    /// What would follow from changes that are in some log, and that nobody has applied.
    pub(crate) proposed: Vec<ConfState>,
}

impl Electorates {
    /// Whether those who are `left` can elect a leader, whichever of the configurations they act
    /// under. Of each it is said up to which entry it surely knows what was agreed upon.
    pub(crate) fn can_elect(&self, left: &BTreeMap<u64, u64>) -> bool {
        let in_force = self.decided.range(self.oldest_in_force(left)..).map(|(_, conf)| conf);
        in_force.chain(&self.proposed).all(|conf| is_majority(conf, left))
    }

    /// Since when anybody who has a say may not have learned more. An older configuration may have
    /// members of its own, who know even less.
    fn oldest_in_force(&self, left: &BTreeMap<u64, u64>) -> u64 {
        let mut oldest = u64::MAX;
        loop {
            let from = self.as_of(oldest);
            let members = self.decided.range(from..).flat_map(|(_, conf)| conf.members());
            let known = members.filter_map(|id| left.get(&id.get())).min();
            let known = known.map_or(from, |known| self.as_of(*known));
            if known >= from {
                return from;
            }
            oldest = known;
        }
    }

    /// The entry that made the configuration of whoever knows this much. What is before the founding
    /// counts as the founding.
    fn as_of(&self, index: u64) -> u64 {
        let known = self.decided.range(..=index).next_back();
        known.or(self.decided.first_key_value()).map_or(0, |(from, _)| *from)
    }
}

fn is_majority(conf: &ConfState, left: &BTreeMap<u64, u64>) -> bool {
    let n_left = conf.voters.iter().filter(|id| left.contains_key(&id.get())).count();
    n_left > conf.voters.len() / 2
}

impl World {
    /// Whether the others can elect a leader if this machine is lost, whatever else loses power.
    pub(crate) fn can_do_without(&self, lost: usize) -> bool {
        let hosts = self.hosts.iter().enumerate();
        let left = hosts.filter(|(host, machine)| *host != lost && !machine.retired);
        let known = left.map(|(_, machine)| {
            let disk: Arc<dyn Disk> = Arc::new(machine.disk.at_rest());
            let known = knows(&disk, &machine.founding).expect("a sound disk can be started from");
            (machine.founding.id, known)
        });
        self.oracle.electorates().can_elect(&known.collect())
    }
}

#[cfg(test)]
mod tests {
    use raft::NodeId;

    use super::*;

    fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
        let nodes = |ids: &[u64]| ids.iter().map(|id| NodeId::new(*id).expect("not 0")).collect();
        ConfState::new(nodes(voters), nodes(learners))
    }

    fn decided(confs: &[(u64, &[u64], &[u64])]) -> Electorates {
        let decided = confs.iter().map(|(from, voters, learners)| (*from, conf(voters, learners)));
        Electorates { decided: decided.collect(), proposed: Vec::new() }
    }

    #[test]
    fn who_does_not_know_of_the_third_voter_cannot_do_without_the_second() {
        let members = decided(&[(3, &[1, 2, 3], &[]), (12, &[1, 2], &[]), (40, &[1, 2, 5], &[])]);
        assert!(!members.can_elect(&BTreeMap::from([(2, 39), (3, 12), (5, 40)])));
        assert!(members.can_elect(&BTreeMap::from([(2, 40), (3, 12), (5, 40)])));
    }

    #[test]
    fn who_does_not_know_of_a_removal_counts_on_whoever_is_gone() {
        let members = decided(&[(4, &[1, 2, 3, 4], &[]), (20, &[2, 3, 4], &[])]);
        // Member 1 is gone for good. Without member 2 as well there is no majority of four.
        assert!(!members.can_elect(&BTreeMap::from([(3, 19), (4, 20)])));
        assert!(members.can_elect(&BTreeMap::from([(3, 20), (4, 20)])));
    }

    #[test]
    fn who_was_removed_has_a_say_while_somebody_may_not_know() {
        let members = decided(&[(2, &[1, 2], &[]), (9, &[1, 2, 3], &[]), (15, &[1, 3, 4], &[])]);
        // Member 3 may ask member 2 for its vote, who knows of nobody but member 1.
        assert!(!members.can_elect(&BTreeMap::from([(2, 8), (3, 14), (4, 15)])));
        assert!(members.can_elect(&BTreeMap::from([(2, 8), (3, 15), (4, 15)])));
    }

    #[test]
    fn who_does_not_know_that_it_is_a_voter_has_to_learn_it() {
        let members = decided(&[(2, &[1, 2], &[3]), (30, &[1, 2, 3], &[])]);
        assert!(!members.can_elect(&BTreeMap::from([(2, 30), (3, 29)])));
        assert!(members.can_elect(&BTreeMap::from([(2, 30), (3, 30)])));
    }

    #[test]
    fn a_change_that_may_yet_be_committed_counts() {
        let mut members = decided(&[(3, &[1, 2, 3], &[])]);
        let left = BTreeMap::from([(2, 10), (3, 10)]);
        assert!(members.can_elect(&left));
        members.proposed.push(conf(&[1, 2], &[]));
        assert!(!members.can_elect(&left));
    }
}
