//! Changes of membership on their way through the log.
//!
//! A conf change entry holds a `raftpb.ConfChange` whose context is the member as JSON, in the
//! form etcd gives it. Raft is told the change only when the entry is applied.

use bytes::Bytes;
use proto::prost::Message;
use proto::raftpb;
use raft::{ConfChange, ConfChangeKind, NodeId};

/// An entry that claims to change the membership, and says nothing we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A decoded conf change entry: what raft is told, and the member it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct MembershipChange {
    /// The request id its proposer waits on.
    pub id: u64,
    pub kind: ConfChangeKind,
    /// 0 in an entry whose change was refused before it was proposed anew.
    pub node_id: u64,
    /// The member as JSON.
    pub context: Bytes,
}

impl MembershipChange {
    pub fn decode(data: Bytes) -> Result<Self, Malformed> {
        let change = raftpb::ConfChange::decode(data).map_err(|_| Malformed)?;
        let number = u64::try_from(change.r#type.unwrap_or_default()).unwrap_or(u64::MAX);
        let kind = ConfChangeKind::from_number(number).ok_or(Malformed)?;
        Ok(Self {
            id: change.id.unwrap_or_default(),
            kind,
            node_id: change.node_id.unwrap_or_default(),
            context: change.context.unwrap_or_default(),
        })
    }

    pub fn encode(&self) -> Bytes {
        let change = raftpb::ConfChange {
            id: Some(self.id),
            r#type: Some(self.kind as i32),
            node_id: Some(self.node_id),
            context: Some(self.context.clone()),
        };
        change.encode_to_vec().into()
    }

    /// What raft is told; `None` for a change that names nobody.
    pub fn for_raft(&self) -> Option<ConfChange> {
        Some(ConfChange::single(self.kind, NodeId::new(self.node_id)?))
    }
}
