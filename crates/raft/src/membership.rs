//! Who counts: voters, learners, and how one configuration becomes the next.
//!
//! ```text
//! simple    {1 2 3}  ──add 4──►  {1 2 3 4}         one voter at a time: the old and the new
//!                                                  majorities cannot miss each other
//! joint     {1 2 3}  ──enter──►  {1 4 5}&&{1 2 3}  ──leave──►  {1 4 5}
//!                                both majorities must agree
//! ```
//!
//! A voter that is to become a learner while it still votes in the outgoing half waits in
//! `learners_next` until the joint configuration is left.
//!
//! # Invariants
//!
//! - Every list is sorted and without repetition; learners and voters (of either half) never meet.
//! - There is always a voter, but in a node that has not yet heard of any cluster.
//! - A simple change adds or removes at most one voter.
//!
//! # Not here
//!
//! When a change is accepted and when it takes effect: `node/confchange.rs`.

use crate::number::NodeId;

/// A configuration, as it is kept in snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// The other half of a joint configuration; empty if it is not joint.
    pub voters_outgoing: Vec<NodeId>,
    pub learners_next: Vec<NodeId>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

/// What is to be done with a member. The numbers are raftpb's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeKind {
    AddNode = 0,
    RemoveNode = 1,
    /// Its addresses changed: nothing to raft.
    UpdateNode = 2,
    AddLearner = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfChangeSingle {
    pub kind: ConfChangeKind,
    pub node: NodeId,
}

/// How several changes take effect. The numbers are raftpb's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transition {
    /// Through a joint configuration if there is more than one change.
    #[default]
    Auto = 0,
    /// Through a joint configuration that the leader leaves by itself.
    JointImplicit = 1,
    /// Through a joint configuration that somebody has to leave by a change without changes.
    JointExplicit = 2,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    pub transition: Transition,
    /// Empty (and `Auto`): leave the joint configuration.
    pub changes: Vec<ConfChangeSingle>,
}

/// Why a change cannot follow the present configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeError {
    AlreadyJoint,
    NotJoint,
    NoVotersLeft,
    /// More than one voter at once, without a joint configuration.
    TooManyVoters,
}

impl ConfChangeKind {
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::AddNode),
            1 => Some(Self::RemoveNode),
            2 => Some(Self::UpdateNode),
            3 => Some(Self::AddLearner),
            4.. => None,
        }
    }
}

impl Transition {
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Auto),
            1 => Some(Self::JointImplicit),
            2 => Some(Self::JointExplicit),
            3.. => None,
        }
    }
}

impl ConfChange {
    /// The only shape etcd proposes: one change.
    pub fn single(kind: ConfChangeKind, node: NodeId) -> Self {
        Self { transition: Transition::Auto, changes: vec![ConfChangeSingle { kind, node }] }
    }

    fn leaves_joint(&self) -> bool {
        self.changes.is_empty() && self.transition == Transition::Auto
    }

    /// Whether it enters a joint configuration, and if so whether that is left by itself.
    fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            Transition::Auto => (self.changes.len() > 1).then_some(true),
            Transition::JointImplicit => Some(true),
            Transition::JointExplicit => Some(false),
        }
    }
}

impl ConfState {
    pub fn new(voters: Vec<NodeId>, learners: Vec<NodeId>) -> Self {
        Self { voters, learners, ..Self::default() }.sorted()
    }

    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether `node` votes, in either half.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.voters_outgoing.contains(&node)
    }

    pub fn is_learner(&self, node: NodeId) -> bool {
        self.learners.contains(&node)
    }

    /// Whether `node` is a member at all.
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.is_learner(node)
    }

    /// Whether one member alone is the majority of everything.
    pub fn has_one_voter(&self) -> bool {
        self.voters.len() == 1 && !self.is_joint()
    }

    /// All members, each once, in order.
    pub fn members(&self) -> Vec<NodeId> {
        let mut all = self.voters.clone();
        all.extend_from_slice(&self.voters_outgoing);
        all.extend_from_slice(&self.learners);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same configuration with every list in order. Lists off a wire or disk may come in any.
    pub fn sorted(mut self) -> Self {
        for list in [
            &mut self.voters,
            &mut self.learners,
            &mut self.voters_outgoing,
            &mut self.learners_next,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    pub(crate) fn is_well_formed(&self) -> bool {
        let apart = self.learners.iter().all(|&id| !self.is_voter(id));
        let staged = self.learners_next.iter().all(|id| self.voters_outgoing.contains(id));
        let leaves = self.is_joint() || !self.auto_leave;
        !self.voters.is_empty() && apart && staged && leaves
    }

    /// The configuration after `change`.
    pub fn after(&self, change: &ConfChange) -> Result<Self, ConfChangeError> {
        let next = if change.leaves_joint() {
            self.after_leaving()?
        } else if let Some(auto_leave) = change.enters_joint() {
            self.after_entering(change, auto_leave)?
        } else {
            self.after_simple(change)?
        };
        assert!(next.is_well_formed(), "{change:?} made {next:?} of {self:?}");
        Ok(next)
    }

    fn after_simple(&self, change: &ConfChange) -> Result<Self, ConfChangeError> {
        if self.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        let mut next = self.clone();
        next.apply(&change.changes)?;
        let joined = next.voters.iter().filter(|id| !self.voters.contains(id)).count();
        let left = self.voters.iter().filter(|id| !next.voters.contains(id)).count();
        if joined + left > 1 {
            return Err(ConfChangeError::TooManyVoters);
        }
        Ok(next)
    }

    fn after_entering(
        &self,
        change: &ConfChange,
        auto_leave: bool,
    ) -> Result<Self, ConfChangeError> {
        if self.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if self.voters.is_empty() {
            return Err(ConfChangeError::NoVotersLeft);
        }
        let mut next = self.clone();
        next.voters_outgoing = next.voters.clone();
        next.auto_leave = auto_leave;
        next.apply(&change.changes)?;
        Ok(next)
    }

    fn after_leaving(&self) -> Result<Self, ConfChangeError> {
        if !self.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        let mut learners = self.learners.clone();
        learners.extend_from_slice(&self.learners_next);
        Ok(Self::new(self.voters.clone(), learners))
    }

    fn apply(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        for &ConfChangeSingle { kind, node } in changes {
            match kind {
                ConfChangeKind::AddNode => {
                    self.strike(node);
                    insert(&mut self.voters, node);
                }
                ConfChangeKind::AddLearner => {
                    self.strike(node);
                    let still_votes = self.voters_outgoing.contains(&node);
                    let list =
                        if still_votes { &mut self.learners_next } else { &mut self.learners };
                    insert(list, node);
                }
                ConfChangeKind::RemoveNode => self.strike(node),
                ConfChangeKind::UpdateNode => {}
            }
        }
        if self.voters.is_empty() { Err(ConfChangeError::NoVotersLeft) } else { Ok(()) }
    }

    /// Takes `node` off every list but the outgoing half, which is history.
    fn strike(&mut self, node: NodeId) {
        for list in [&mut self.voters, &mut self.learners, &mut self.learners_next] {
            list.retain(|&id| id != node);
        }
    }
}

fn insert(list: &mut Vec<NodeId>, node: NodeId) {
    if let Err(at) = list.binary_search(&node) {
        list.insert(at, node);
    }
}

#[cfg(test)]
mod tests;
