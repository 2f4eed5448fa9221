//! What a node says about itself, for operators and for the member's own decisions.

use crate::effects::RoleKind;
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

impl Node {
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

    fn peers(&self) -> Vec<PeerStatus> {
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
