//! Keys in line: what locks and elections are made of.
//!
//! Whoever wants something puts a key `<name>/<lease in hex>` and waits until no key under
//! `<name>/` is older. A key goes with its lease, so nobody waits for the dead.

use bytes::Bytes;
use proto::error::{Error, Status};
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
    PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, WatchCreateRequest,
    WatchRequest, WatchResponse, request_op,
};
use proto::method::Method;
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};
use proto::prost::Message;

use super::task::{Client, Stream};

/// What a caller without a lease is granted, in seconds. Nobody keeps it alive.
const LEASE_TTL: i64 = 60;

/// The keys that stand in line for `name`.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The place of `lease` in the line.
pub(super) fn key(prefix: &[u8], lease: i64) -> Bytes {
    // Go prints a negative number's hex with a sign.
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, sign.as_bytes(), format!("{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The caller's lease, or a new one.
pub(super) async fn lease(client: &Client, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest { ttl: LEASE_TTL, id: 0 };
    let granted: LeaseGrantResponse = client.call(Method::LeaseGrant, &request).await?;
    Ok(granted.id)
}

pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

pub(super) fn put_op(key: &Bytes, value: &Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

pub(super) fn get_op(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

pub(super) fn delete_op(key: &Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

pub(super) fn one(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// The oldest key in line.
pub(super) fn first(prefix: &Bytes) -> RangeRequest {
    by_creation(prefix, SortOrder::Ascend)
}

fn by_creation(prefix: &Bytes, order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        ..RangeRequest::default()
    }
}

/// The end of the range of all keys with this prefix.
fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

/// Waits until no key in line was created at or before `revision`.
pub(super) async fn wait_for_turn(
    client: &Client,
    prefix: &Bytes,
    revision: i64,
) -> Result<ResponseHeader, Status> {
    loop {
        let newest = by_creation(prefix, SortOrder::Descend);
        let range = RangeRequest { max_create_revision: revision, ..newest };
        let found: RangeResponse = client.call(Method::Range, &range).await?;
        let header = found.header.unwrap_or_default();
        let Some(ahead) = found.kvs.into_iter().next() else { return Ok(header) };
        let watch = watch(client, &ahead.key, Bytes::new(), header.revision);
        while next_events(&watch).await?.1.iter().all(|event| !is_delete(event)) {}
    }
}

/// Watches from `revision` on.
pub(super) fn watch(client: &Client, key: &Bytes, range_end: Bytes, revision: i64) -> Stream {
    let create = WatchCreateRequest {
        key: key.clone(),
        range_end,
        start_revision: revision,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    client.open(Method::Watch, &request)
}

/// As [`watch`], for every key in line.
pub(super) fn watch_line(client: &Client, prefix: &Bytes, revision: i64) -> Stream {
    watch(client, prefix, end_of(prefix), revision)
}

/// The next events of a watch, with the header they came under.
pub(super) async fn next_events(watch: &Stream) -> Result<(ResponseHeader, Vec<Event>), Status> {
    loop {
        let message = watch.next().await?.ok_or(Error::WatchCanceled)?;
        let response = WatchResponse::decode(message).map_err(|_| Error::WatchCanceled)?;
        if response.canceled {
            let compacted = response.compact_revision != 0;
            return Err(if compacted { Error::Compacted } else { Error::WatchCanceled }.into());
        }
        if !response.events.is_empty() {
            return Ok((response.header.unwrap_or_default(), response.events));
        }
    }
}

pub(super) fn is_delete(event: &Event) -> bool {
    event.r#type == EventType::Delete as i32
}

/// The first row a response op holds, if it is a range.
pub(super) fn row(op: Option<&proto::etcdserverpb::ResponseOp>) -> Option<&KeyValue> {
    use proto::etcdserverpb::response_op::Response;
    match op?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_) => {
            None
        }
    }
}

/// A place in line that is given up unless its owner gets what it waits for.
pub(super) struct Place<'a> {
    client: &'a Client,
    key: Bytes,
    kept: bool,
}

impl<'a> Place<'a> {
    pub(super) fn new(client: &'a Client, key: &Bytes) -> Self {
        Self { client, key: key.clone(), kept: false }
    }

    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let delete = DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
            self.client.send(Method::DeleteRange, &delete);
        }
    }
}

/// Deletes a key.
pub(super) async fn delete(client: &Client, key: &Bytes) -> Result<ResponseHeader, Status> {
    let request = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    let response: DeleteRangeResponse = client.call(Method::DeleteRange, &request).await?;
    Ok(response.header.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_line_is_named_by_its_lease_in_hex() {
        assert_eq!(key(&prefix(b"job"), 0x1f), Bytes::from_static(b"job/1f"));
        assert_eq!(key(&prefix(b"job"), -2), Bytes::from_static(b"job/-2"));
    }

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_have_it() {
        assert_eq!(end_of(&Bytes::from_static(b"a/")), Bytes::from_static(b"a0"));
        assert_eq!(end_of(&Bytes::from_static(b"a\xff")), Bytes::from_static(b"b"));
        assert_eq!(end_of(&Bytes::from_static(b"\xff")), Bytes::from_static(b"\0"));
    }
}
