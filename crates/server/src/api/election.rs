//! The Election service.

use bytes::Bytes;
use proto::error::{Code, Status};
use proto::etcdserverpb::{RangeResponse, ResponseHeader, TxnRequest, TxnResponse};
use proto::method::Method;
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use super::port::{Call, Port, decode};
use super::queue::{self, Place};
use super::task::Client;

pub(super) fn campaign(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: CampaignRequest = decode(&call.body)?;
    let run = move |client| async move { win(&client, request).await.map(Some) };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

pub(super) fn proclaim(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: ProclaimRequest = decode(&call.body)?;
    let leader = request.leader.ok_or_else(missing_leader)?;
    let run = move |client: Client| async move {
        let header = Some(put(&client, &leader, &request.value).await?);
        Ok(Some(ProclaimResponse { header }.encode_to_vec().into()))
    };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

pub(super) fn leader(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: LeaderRequest = decode(&call.body)?;
    let run = move |client: Client| async move {
        let oldest = queue::first(&queue::prefix(&request.name));
        let found: RangeResponse = client.call(Method::Range, &oldest).await?;
        let kv = found.kvs.into_iter().next();
        let kv = kv.ok_or_else(|| Status::new(Code::Unknown, "election: no leader"))?;
        let response = LeaderResponse { header: found.header, kv: Some(kv) };
        Ok(Some(response.encode_to_vec().into()))
    };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

pub(super) fn resign(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: ResignRequest = decode(&call.body)?;
    let leader = request.leader.ok_or_else(missing_leader)?;
    let run = move |client: Client| async move {
        let txn = TxnRequest {
            compare: vec![queue::created_at(&leader.key, leader.rev)],
            success: vec![queue::delete_op(&leader.key)],
            failure: Vec::new(),
        };
        let done: TxnResponse = client.call(Method::Txn, &txn).await?;
        Ok(Some(ResignResponse { header: done.header }.encode_to_vec().into()))
    };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

pub(super) fn observe(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: LeaderRequest = decode(&call.body)?;
    let run = move |client: Client| async move {
        let prefix = queue::prefix(&request.name);
        loop {
            follow_one_leader(&client, &prefix).await?;
        }
    };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

fn missing_leader() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

async fn win(client: &Client, request: CampaignRequest) -> Result<Bytes, Status> {
    let lease = queue::lease(client, request.lease).await?;
    let prefix = queue::prefix(&request.name);
    let key = queue::key(&prefix, lease);
    let txn = TxnRequest {
        compare: vec![queue::created_at(&key, 0)],
        success: vec![queue::put_op(&key, &request.value, lease)],
        failure: vec![queue::get_op(queue::one(&key))],
    };
    let entered: TxnResponse = client.call(Method::Txn, &txn).await?;
    let header = entered.header.unwrap_or_default();
    let mut place = Place::new(client, &key);
    let mut leader = LeaderKey { name: request.name, key, rev: header.revision, lease };
    if let Some(row) = queue::row(entered.responses.first()).filter(|_| !entered.succeeded) {
        leader.rev = row.create_revision;
        if row.value != request.value {
            put(client, &leader, &request.value).await?;
        }
    }
    queue::wait_for_turn(client, &prefix, leader.rev - 1).await?;
    place.keep();
    let response = CampaignResponse { header: Some(header), leader: Some(leader) };
    Ok(response.encode_to_vec().into())
}

/// Gives the leader's key another value, if the leader is still who it claims to be.
async fn put(client: &Client, leader: &LeaderKey, value: &Bytes) -> Result<ResponseHeader, Status> {
    let txn = TxnRequest {
        compare: vec![queue::created_at(&leader.key, leader.rev)],
        success: vec![queue::put_op(&leader.key, value, leader.lease)],
        failure: Vec::new(),
    };
    let done: TxnResponse = client.call(Method::Txn, &txn).await?;
    if !done.succeeded {
        return Err(Status::new(Code::Unknown, "election: not leader"));
    }
    Ok(done.header.unwrap_or_default())
}

/// Tells of the next leader and all it proclaims, until its key is gone.
async fn follow_one_leader(client: &Client, prefix: &Bytes) -> Result<(), Status> {
    let (mut header, mut kv) = next_leader(client, prefix).await?;
    let key = kv.key.clone();
    let watch = queue::watch(client, &key, Bytes::new(), header.revision + 1);
    loop {
        client.message(&LeaderResponse { header: Some(header), kv: Some(kv) });
        let newer = loop {
            let (now, events) = queue::next_events(&watch).await?;
            header = now;
            let mut puts = Vec::new();
            for event in events {
                if queue::is_delete(&event) {
                    return Ok(());
                }
                puts.extend(event.kv);
            }
            if let Some(last) = puts.pop() {
                for kv in puts {
                    client.message(&LeaderResponse { header: Some(header), kv: Some(kv) });
                }
                break last;
            }
        };
        kv = newer;
    }
}

/// Whoever leads now, or the first to enter an empty line.
async fn next_leader(
    client: &Client,
    prefix: &Bytes,
) -> Result<(ResponseHeader, KeyValue), Status> {
    let found: RangeResponse = client.call(Method::Range, &queue::first(prefix)).await?;
    let header = found.header.unwrap_or_default();
    if let Some(kv) = found.kvs.into_iter().next() {
        return Ok((header, kv));
    }
    let watch = queue::watch_line(client, prefix, header.revision);
    loop {
        let (header, events) = queue::next_events(&watch).await?;
        let put = events.into_iter().find(|event| !queue::is_delete(event));
        if let Some(kv) = put.and_then(|event| event.kv) {
            return Ok((ResponseHeader { revision: kv.mod_revision, ..header }, kv));
        }
    }
}
