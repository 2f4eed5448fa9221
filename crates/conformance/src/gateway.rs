//! The JSON gateway: which method lies where, and what its answers mean.

use anyhow::{Context, bail, ensure};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value as Json;

use crate::notation::from_gateway;

/// etcd's routes, all of them POST. A method with two has the shorter one here.
const ROUTES: &[(&str, &str)] = &[
    ("KV.Range", "/v3/kv/range"),
    ("KV.Put", "/v3/kv/put"),
    ("KV.DeleteRange", "/v3/kv/deleterange"),
    ("KV.Txn", "/v3/kv/txn"),
    ("KV.Compact", "/v3/kv/compaction"),
    ("Watch.Watch", "/v3/watch"),
    ("Lease.LeaseGrant", "/v3/lease/grant"),
    ("Lease.LeaseRevoke", "/v3/lease/revoke"),
    ("Lease.LeaseKeepAlive", "/v3/lease/keepalive"),
    ("Lease.LeaseTimeToLive", "/v3/lease/timetolive"),
    ("Lease.LeaseLeases", "/v3/lease/leases"),
    ("Cluster.MemberAdd", "/v3/cluster/member/add"),
    ("Cluster.MemberRemove", "/v3/cluster/member/remove"),
    ("Cluster.MemberUpdate", "/v3/cluster/member/update"),
    ("Cluster.MemberList", "/v3/cluster/member/list"),
    ("Cluster.MemberPromote", "/v3/cluster/member/promote"),
    ("Maintenance.Alarm", "/v3/maintenance/alarm"),
    ("Maintenance.Status", "/v3/maintenance/status"),
    ("Maintenance.Defragment", "/v3/maintenance/defragment"),
    ("Maintenance.Hash", "/v3/maintenance/hash"),
    ("Maintenance.HashKV", "/v3/maintenance/hashkv"),
    ("Maintenance.Snapshot", "/v3/maintenance/snapshot"),
    ("Maintenance.MoveLeader", "/v3/maintenance/transfer-leadership"),
    ("Maintenance.Downgrade", "/v3/maintenance/downgrade"),
    ("Auth.AuthEnable", "/v3/auth/enable"),
    ("Auth.AuthDisable", "/v3/auth/disable"),
    ("Auth.AuthStatus", "/v3/auth/status"),
    ("Auth.Authenticate", "/v3/auth/authenticate"),
    ("Auth.UserAdd", "/v3/auth/user/add"),
    ("Auth.UserGet", "/v3/auth/user/get"),
    ("Auth.UserList", "/v3/auth/user/list"),
    ("Auth.UserDelete", "/v3/auth/user/delete"),
    ("Auth.UserChangePassword", "/v3/auth/user/changepw"),
    ("Auth.UserGrantRole", "/v3/auth/user/grant"),
    ("Auth.UserRevokeRole", "/v3/auth/user/revoke"),
    ("Auth.RoleAdd", "/v3/auth/role/add"),
    ("Auth.RoleGet", "/v3/auth/role/get"),
    ("Auth.RoleList", "/v3/auth/role/list"),
    ("Auth.RoleDelete", "/v3/auth/role/delete"),
    ("Auth.RoleGrantPermission", "/v3/auth/role/grant"),
    ("Auth.RoleRevokePermission", "/v3/auth/role/revoke"),
    ("Lock.Lock", "/v3/lock/lock"),
    ("Lock.Unlock", "/v3/lock/unlock"),
    ("Election.Campaign", "/v3/election/campaign"),
    ("Election.Proclaim", "/v3/election/proclaim"),
    ("Election.Leader", "/v3/election/leader"),
    ("Election.Observe", "/v3/election/observe"),
    ("Election.Resign", "/v3/election/resign"),
];

pub(crate) fn route(method: &MethodDescriptor) -> anyhow::Result<&'static str> {
    let name = format!("{}.{}", method.parent_service().name(), method.name());
    let route = ROUTES.iter().find(|(method, _)| *method == name);
    route.map(|(_, path)| *path).with_context(|| format!("the gateway has no route to {name}"))
}

/// An answer's meaning, whatever carried it.
pub(crate) enum Meaning {
    Message(DynamicMessage),
    Error { code: i32, message: String, http: Option<u16> },
}

/// What a whole body, or one line of a stream, says.
pub(crate) fn meaning(
    method: &MethodDescriptor,
    status: u16,
    json: &Json,
) -> anyhow::Result<Meaning> {
    if status != 200 {
        return error(json, status);
    }
    if !method.is_server_streaming() {
        return Ok(Meaning::Message(from_gateway(&method.output(), json)?));
    }
    match (json.get("result"), json.get("error")) {
        (Some(result), None) => Ok(Meaning::Message(from_gateway(&method.output(), result)?)),
        (None, Some(failure)) => error(failure, status),
        (None, None) | (Some(_), Some(_)) => bail!("neither result nor error: {json}"),
    }
}

fn error(json: &Json, http: u16) -> anyhow::Result<Meaning> {
    let fields = json.as_object().context("an error is an object")?;
    let odd = fields.keys().find(|k| !matches!(k.as_str(), "code" | "message"));
    ensure!(odd.is_none(), "an error has only code and message: {json}");
    let code = json["code"].as_i64().context("an error has a code")?;
    let message = json["message"].as_str().context("an error has a message")?;
    Ok(Meaning::Error { code: code.try_into()?, message: message.to_owned(), http: Some(http) })
}
