//! What a node says about itself, for operators and for the member's own decisions.

use crate::effects::{Reason, RoleKind};
use crate::node::{Node, Role};
use crate::number::{Index, NodeId, Term};
use crate::progress::Flow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: NodeId,
    pub term: Term,
    pub vote: Option<NodeId>,
    pub role: RoleKind,
    pub leader: Option<NodeId>,
    /// The first entry still in memory, or the one after the last.
    pub first: Index,
    pub last: Index,
    /// Everything up to here is on our own disk.
    pub stable: Index,
    pub commit: Index,
    pub applied: Index,
    /// Who is being made leader.
    pub heir: Option<NodeId>,
    /// The other members, in order; known to a leader alone.
    pub peers: Vec<PeerStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub id: NodeId,
    pub learner: bool,
    pub matched: Index,
    pub next: Index,
    pub flow: Flow,
    /// Heard of since the quorum was last checked.
    pub active: bool,
    pub paused: bool,
    pub in_flight: usize,
}

/// What is asked after every step: [`Status`] without what must be gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    pub id: NodeId,
    pub term: Term,
    pub role: RoleKind,
    pub leader: Option<NodeId>,
    pub last: Index,
    pub commit: Index,
    pub applied: Index,
}

impl Node {
    pub fn brief(&self) -> Brief {
        let core = &self.core;
        let now = self.role_now();
        Brief {
            id: core.id(),
            term: core.term,
            role: now.role,
            leader: now.leader,
            last: core.log.last().index,
            commit: core.log.commit(),
            applied: core.log.applied(),
        }
    }

    pub fn status(&self) -> Status {
        let core = &self.core;
        let now = self.role_now();
        let (heir, peers) = match &self.role {
            Role::Leader(leader) => (leader.heir, self.peers()),
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                (None, Vec::new())
            }
        };
        Status {
            id: core.id(),
            term: core.term,
            vote: core.vote,
            role: now.role,
            leader: now.leader,
            first: core.log.first(),
            last: core.log.last().index,
            stable: core.log.stable(),
            commit: core.log.commit(),
            applied: core.log.applied(),
            heir,
            peers,
        }
    }

    /// Why nobody would take a proposal in now; `None` if this node, or the leader it knows, would.
    /// Room is another matter: that may be refused all the same.
    pub fn takes_nothing(&self) -> Option<Reason> {
        match &self.role {
            Role::Leader(leader) if leader.heir.is_some() => Some(Reason::Transferring),
            Role::Leader(_) if !self.core.conf.is_voter(self.core.id()) => Some(Reason::Removed),
            Role::Leader(_) => None,
            Role::Follower(follower) if follower.leader.is_some() => None,
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                Some(Reason::NoLeader)
            }
        }
    }

    /// How far the other members are, in order; known to a leader alone.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let status = |peer: &crate::progress::Progress| PeerStatus {
            id: peer.node,
            learner: self.core.conf.is_learner(peer.node),
            matched: peer.matched,
            next: peer.next,
            flow: peer.flow,
            active: peer.active,
            paused: !peer.may_send(),
            in_flight: peer.n_in_flight(),
        };
        leader.peers.iter().map(status).collect()
    }
}
