//! Between JSON and protobuf, method by method.

use bytes::Bytes;
use proto::error::{Code, Status};
use proto::etcdserverpb as pb;
use proto::method::Method;
use proto::prost::Message;
use proto::{v3electionpb, v3lockpb};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How a method's messages are converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec {
    request: fn(&[u8]) -> Result<Vec<u8>, serde_json::Error>,
    response: fn(&Bytes, &mut Vec<u8>) -> Result<(), Status>,
}

macro_rules! codecs {
    (without a route: $($unrouted:ident)*; $($method:ident $request:ty => $response:ty;)*) => {
        impl Codec {
            /// The codec of a method the gateway has.
            pub(super) fn of(method: Method) -> Option<Self> {
                match method {
                    $(Method::$method => Some(Self::between::<$request, $response>()),)*
                    $(Method::$unrouted => None,)*
                }
            }
        }
    };
}

codecs! {
    without a route: RangeStream HealthCheck HealthList HealthWatch;
    Range pb::RangeRequest => pb::RangeResponse;
    Put pb::PutRequest => pb::PutResponse;
    DeleteRange pb::DeleteRangeRequest => pb::DeleteRangeResponse;
    Txn pb::TxnRequest => pb::TxnResponse;
    Compact pb::CompactionRequest => pb::CompactionResponse;
    Watch pb::WatchRequest => pb::WatchResponse;
    LeaseGrant pb::LeaseGrantRequest => pb::LeaseGrantResponse;
    LeaseRevoke pb::LeaseRevokeRequest => pb::LeaseRevokeResponse;
    LeaseKeepAlive pb::LeaseKeepAliveRequest => pb::LeaseKeepAliveResponse;
    LeaseTimeToLive pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse;
    LeaseLeases pb::LeaseLeasesRequest => pb::LeaseLeasesResponse;
    MemberAdd pb::MemberAddRequest => pb::MemberAddResponse;
    MemberRemove pb::MemberRemoveRequest => pb::MemberRemoveResponse;
    MemberUpdate pb::MemberUpdateRequest => pb::MemberUpdateResponse;
    MemberList pb::MemberListRequest => pb::MemberListResponse;
    MemberPromote pb::MemberPromoteRequest => pb::MemberPromoteResponse;
    Alarm pb::AlarmRequest => pb::AlarmResponse;
    Status pb::StatusRequest => pb::StatusResponse;
    Defragment pb::DefragmentRequest => pb::DefragmentResponse;
    Hash pb::HashRequest => pb::HashResponse;
    HashKV pb::HashKvRequest => pb::HashKvResponse;
    Snapshot pb::SnapshotRequest => pb::SnapshotResponse;
    MoveLeader pb::MoveLeaderRequest => pb::MoveLeaderResponse;
    Downgrade pb::DowngradeRequest => pb::DowngradeResponse;
    AuthEnable pb::AuthEnableRequest => pb::AuthEnableResponse;
    AuthDisable pb::AuthDisableRequest => pb::AuthDisableResponse;
    AuthStatus pb::AuthStatusRequest => pb::AuthStatusResponse;
    Authenticate pb::AuthenticateRequest => pb::AuthenticateResponse;
    UserAdd pb::AuthUserAddRequest => pb::AuthUserAddResponse;
    UserGet pb::AuthUserGetRequest => pb::AuthUserGetResponse;
    UserList pb::AuthUserListRequest => pb::AuthUserListResponse;
    UserDelete pb::AuthUserDeleteRequest => pb::AuthUserDeleteResponse;
    UserChangePassword pb::AuthUserChangePasswordRequest => pb::AuthUserChangePasswordResponse;
    UserGrantRole pb::AuthUserGrantRoleRequest => pb::AuthUserGrantRoleResponse;
    UserRevokeRole pb::AuthUserRevokeRoleRequest => pb::AuthUserRevokeRoleResponse;
    RoleAdd pb::AuthRoleAddRequest => pb::AuthRoleAddResponse;
    RoleGet pb::AuthRoleGetRequest => pb::AuthRoleGetResponse;
    RoleList pb::AuthRoleListRequest => pb::AuthRoleListResponse;
    RoleDelete pb::AuthRoleDeleteRequest => pb::AuthRoleDeleteResponse;
    RoleGrantPermission pb::AuthRoleGrantPermissionRequest => pb::AuthRoleGrantPermissionResponse;
    RoleRevokePermission pb::AuthRoleRevokePermissionRequest => pb::AuthRoleRevokePermissionResponse;
    Lock v3lockpb::LockRequest => v3lockpb::LockResponse;
    Unlock v3lockpb::UnlockRequest => v3lockpb::UnlockResponse;
    Campaign v3electionpb::CampaignRequest => v3electionpb::CampaignResponse;
    Proclaim v3electionpb::ProclaimRequest => v3electionpb::ProclaimResponse;
    Leader v3electionpb::LeaderRequest => v3electionpb::LeaderResponse;
    Observe v3electionpb::LeaderRequest => v3electionpb::LeaderResponse;
    Resign v3electionpb::ResignRequest => v3electionpb::ResignResponse;
}

impl Codec {
    fn between<Request, Response>() -> Self
    where
        Request: Message + DeserializeOwned,
        Response: Message + Default + Serialize,
    {
        Self {
            request: |json| Ok(serde_json::from_slice::<Request>(json)?.encode_to_vec()),
            response: |message, json| {
                let message = Response::decode(message.clone()).map_err(internal)?;
                serde_json::to_writer(json, &message).map_err(internal)
            },
        }
    }

    /// The bytes of the request that `json`, one whole value, describes.
    pub(super) fn request(self, json: &[u8], len_max: usize) -> Result<Bytes, Status> {
        let json = json.trim_ascii_start();
        if !json.starts_with(b"{") {
            let token = if json.starts_with(b"[") { b"[" } else { json };
            let token = String::from_utf8_lossy(token);
            return Err(invalid(format!(
                "proto: syntax error (line 1:1): unexpected token {token}"
            )));
        }
        let bytes = (self.request)(json).map_err(|e| invalid(explain(&e)))?;
        if bytes.len() > len_max {
            return Err(too_large(bytes.len(), len_max));
        }
        Ok(bytes.into())
    }

    /// The JSON of a response.
    pub(super) fn response(self, message: &Bytes) -> Result<Vec<u8>, Status> {
        let mut json = Vec::with_capacity(2 * message.len());
        (self.response)(message, &mut json)?;
        Ok(json)
    }

    /// The JSON of a stream's message: a line of its own.
    pub(super) fn line(self, message: &Bytes) -> Result<Bytes, Status> {
        let mut line = Vec::with_capacity(2 * message.len());
        line.extend_from_slice(b"{\"result\":");
        (self.response)(message, &mut line)?;
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }
}

/// What is wrong and where, in the shape of Go's protojson: `proto: (line 1:8): …`.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    format!("proto: (line {}:{}): {what}", error.line(), error.column())
}

pub(super) fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Status {
    Status::new(Code::InvalidArgument, what)
}

/// What gRPC says of a message beyond its bound.
pub(super) fn too_large(len: usize, len_max: usize) -> Status {
    let what = format!("grpc: received message larger than max ({len} vs. {len_max})");
    Status::new(Code::ResourceExhausted, what)
}

pub(super) fn internal(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Internal, error.to_string())
}
