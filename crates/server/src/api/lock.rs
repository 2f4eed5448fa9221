//! The Lock service.

use bytes::Bytes;
use proto::error::{Code, Status};
use proto::etcdserverpb::{RangeResponse, TxnRequest, TxnResponse};
use proto::method::Method;
use proto::prost::Message;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::port::{Call, Port, decode};
use super::queue::{self, Place};
use super::task::Client;

pub(super) fn lock(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: LockRequest = decode(&call.body)?;
    let run = move |client| async move { take(&client, request).await.map(Some) };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

pub(super) fn unlock(port: &mut Port, call: Call) -> Result<(), Status> {
    let request: UnlockRequest = decode(&call.body)?;
    let run = move |client: Client| async move {
        let header = Some(queue::delete(&client, &request.key).await?);
        Ok(Some(UnlockResponse { header }.encode_to_vec().into()))
    };
    Ok(port.tasks.start(call.to, call.caller, run)?)
}

async fn take(client: &Client, request: LockRequest) -> Result<Bytes, Status> {
    let lease = queue::lease(client, request.lease).await?;
    let prefix = queue::prefix(&request.name);
    let key = queue::key(&prefix, lease);
    let owner = queue::get_op(queue::first(&prefix));
    let txn = TxnRequest {
        compare: vec![queue::created_at(&key, 0)],
        success: vec![queue::put_op(&key, &Bytes::new(), lease), owner.clone()],
        failure: vec![queue::get_op(queue::one(&key)), owner],
    };
    let entered: TxnResponse = client.call(Method::Txn, &txn).await?;
    let mut header = entered.header.unwrap_or_default();
    let mine = match queue::row(entered.responses.first()) {
        Some(row) if !entered.succeeded => row.create_revision,
        Some(_) | None => header.revision,
    };
    let owner = queue::row(entered.responses.get(1));
    if owner.is_some_and(|owner| owner.create_revision != mine) {
        let mut place = Place::new(client, &key);
        queue::wait_for_turn(client, &prefix, mine - 1).await?;
        place.keep();
        // The lease may have ended while we waited, and our place in line with it.
        let own: RangeResponse = client.call(Method::Range, &queue::one(&key)).await?;
        if own.kvs.is_empty() {
            return Err(Status::new(Code::Unknown, "mutex: session is expired"));
        }
        header = own.header.unwrap_or_default();
    }
    Ok(LockResponse { header: Some(header), key }.encode_to_vec().into())
}
