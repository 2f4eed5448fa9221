//! What an entry asks for.

use bytes::Bytes;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseCheckpointRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, TxnRequest,
};
use proto::membershippb::{
    ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use proto::prost::{DecodeError, Message};
use proto::raft_request::Body;

/// One variant per kind of request that is carried out.
pub(super) enum Command {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    Alarm(AlarmRequest),
    ClusterVersionSet(ClusterVersionSetRequest),
    ClusterMemberAttrSet(ClusterMemberAttrSetRequest),
    DowngradeInfoSet(DowngradeInfoSetRequest),
    DowngradeVersionTest,
    Auth(Body),
}

impl Command {
    pub(super) fn decode(kind: Body, body: Bytes) -> Result<Self, DecodeError> {
        Ok(match kind {
            Body::Range => Self::Range(Message::decode(body)?),
            Body::Put => Self::Put(Message::decode(body)?),
            Body::DeleteRange => Self::DeleteRange(Message::decode(body)?),
            Body::Txn => Self::Txn(Message::decode(body)?),
            Body::Compaction => Self::Compaction(Message::decode(body)?),
            Body::LeaseGrant => Self::LeaseGrant(Message::decode(body)?),
            Body::LeaseRevoke => Self::LeaseRevoke(Message::decode(body)?),
            Body::LeaseCheckpoint => Self::LeaseCheckpoint(Message::decode(body)?),
            Body::Alarm => Self::Alarm(Message::decode(body)?),
            Body::ClusterVersionSet => Self::ClusterVersionSet(Message::decode(body)?),
            Body::ClusterMemberAttrSet => Self::ClusterMemberAttrSet(Message::decode(body)?),
            Body::DowngradeInfoSet => Self::DowngradeInfoSet(Message::decode(body)?),
            Body::DowngradeVersionTest => Self::DowngradeVersionTest,
            Body::AuthEnable
            | Body::AuthDisable
            | Body::Authenticate
            | Body::AuthStatus
            | Body::AuthUserAdd
            | Body::AuthUserDelete
            | Body::AuthUserGet
            | Body::AuthUserChangePassword
            | Body::AuthUserGrantRole
            | Body::AuthUserRevokeRole
            | Body::AuthUserList
            | Body::AuthRoleList
            | Body::AuthRoleAdd
            | Body::AuthRoleDelete
            | Body::AuthRoleGet
            | Body::AuthRoleGrantPermission
            | Body::AuthRoleRevokePermission => Self::Auth(kind),
        })
    }
}
