//! A request of any kind, and its answer as text that two servers can be compared by.

use std::fmt::Debug;

use proto::Method;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use proto::prost::Message;

use crate::support::client::{Client, Failure};

#[derive(Clone, Debug)]
pub(super) enum Request {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    Hash(HashKvRequest),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The revision its header told; 0 if it has none.
    pub(super) revision: i64,
    pub(super) text: String,
}

impl Request {
    pub(super) fn lease_keys(id: i64) -> Self {
        Self::TimeToLive(LeaseTimeToLiveRequest { id, keys: true })
    }

    pub(super) async fn ask(&self, client: &Client) -> Answer {
        let to = Asker { client };
        match self {
            Self::Put(r) => to.ask::<PutResponse>(Method::Put, r, |a| &mut a.header).await,
            Self::Delete(r) => {
                to.ask::<DeleteRangeResponse>(Method::DeleteRange, r, |a| &mut a.header).await
            }
            Self::Txn(r) => to.ask::<TxnResponse>(Method::Txn, r, |a| &mut a.header).await,
            Self::Range(r) => to.ask::<RangeResponse>(Method::Range, r, |a| &mut a.header).await,
            Self::Compact(r) => {
                to.ask::<CompactionResponse>(Method::Compact, r, |a| &mut a.header).await
            }
            Self::Grant(r) => {
                to.ask::<LeaseGrantResponse>(Method::LeaseGrant, r, |a| &mut a.header).await
            }
            Self::Revoke(r) => {
                to.ask::<LeaseRevokeResponse>(Method::LeaseRevoke, r, |a| &mut a.header).await
            }
            Self::Hash(r) => to.ask::<HashKvResponse>(Method::HashKV, r, |a| &mut a.header).await,
            Self::TimeToLive(r) => {
                let settle = |a: &mut LeaseTimeToLiveResponse| {
                    a.keys.sort(); // They come in no order.
                    a.ttl = a.ttl.signum(); // Their time runs.
                };
                to.ask_for(Method::LeaseTimeToLive, r, settle, |a| &mut a.header).await
            }
            Self::Leases => {
                let settle = |a: &mut LeaseLeasesResponse| a.leases.sort_by_key(|lease| lease.id);
                let request = LeaseLeasesRequest {};
                to.ask_for(Method::LeaseLeases, &request, settle, |a| &mut a.header).await
            }
        }
    }
}

struct Asker<'a> {
    client: &'a Client,
}

impl Asker<'_> {
    async fn ask<M: Message + Default + Debug>(
        &self,
        method: Method,
        request: &impl Message,
        header: impl FnOnce(&mut M) -> &mut Option<ResponseHeader>,
    ) -> Answer {
        self.ask_for(method, request, |_: &mut M| {}, header).await
    }

    /// `settle` makes equal what may differ.
    async fn ask_for<M: Message + Default + Debug>(
        &self,
        method: Method,
        request: &impl Message,
        settle: impl FnOnce(&mut M),
        header: impl FnOnce(&mut M) -> &mut Option<ResponseHeader>,
    ) -> Answer {
        match self.client.call::<M>(method, request).await {
            Ok(mut answer) => {
                settle(&mut answer);
                let header = header(&mut answer).as_mut().expect("a header");
                (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
                Answer { revision: header.revision, text: format!("{answer:?}") }
            }
            Err(Failure::Refused { code, message }) => {
                Answer { revision: 0, text: format!("refused with {code}: {message}") }
            }
            Err(Failure::Lost) => Answer { revision: 0, text: "lost".to_owned() },
        }
    }
}
