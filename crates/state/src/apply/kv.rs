//! Put, delete and compact.

use bytes::Bytes;
use proto::error::Error;
use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, ResponseHeader};

use super::Reply;
use crate::State;
use crate::encode;
use crate::fault::{Fatal, Stop};
use crate::lease::LeaseId;
use crate::mvcc::index::Span;

// The fields of a PutResponse and a DeleteRangeResponse.
const PREV_KV: u32 = 2;
const DELETED: u32 = 2;
const PREV_KVS: u32 = 3;

impl State {
    pub(super) fn put(&mut self, request: &PutRequest, reply: Reply<'_>) -> Result<(), Stop> {
        self.check_put(request)?;
        let header = self.header();
        let before = self.write_put(request)?;
        self.finish()?;
        if let Some(out) = reply {
            reply_to_put(&ResponseHeader { revision: self.head(), ..header }, before.as_ref(), out);
        }
        Ok(())
    }

    /// Whether a put can be carried out: nothing may stop it once it is begun.
    pub(super) fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !self.leases.exists(LeaseId(request.lease)) {
            return Err(Error::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        let exists = || self.mvcc.index.at(&request.key, self.mvcc.now()).is_some();
        if keeps && !exists() { Err(Error::KeyNotFound) } else { Ok(()) }
    }

    /// Writes; returns the record that was there before, if the request is for it.
    ///
    /// # Panics
    ///
    /// If what is to be kept isn't there: the request has been checked.
    pub(super) fn write_put(&mut self, request: &PutRequest) -> Result<Option<Bytes>, Fatal> {
        let keeps = request.ignore_value || request.ignore_lease;
        let mut before = None;
        if keeps || request.prev_kv {
            let point = self.mvcc.index.at(&request.key, self.mvcc.now());
            before = point.map(|point| self.mvcc.record(&point)).transpose()?;
        }
        let (mut value, mut lease) = (request.value.clone(), request.lease);
        if keeps {
            let record = before.clone().expect("a key that is there, as was checked");
            let kept = crate::mvcc::decode(record)?;
            if request.ignore_value {
                value = kept.value;
            }
            if request.ignore_lease {
                lease = kept.lease;
            }
        }
        let had_lease = self.mvcc.put(&request.key, &value, lease)?;
        if had_lease || lease != 0 {
            self.leases.attach(&request.key, LeaseId(lease));
        }
        Ok(before.filter(|_| request.prev_kv))
    }

    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let header = self.header();
        self.write_delete(request, header, reply)?;
        Ok(self.finish()?)
    }

    /// Deletes, and answers under a header that still lacks its revision.
    pub(super) fn write_delete(
        &mut self,
        request: &DeleteRangeRequest,
        header: ResponseHeader,
        reply: Reply<'_>,
    ) -> Result<(), Fatal> {
        self.mvcc.tally.deletes += 1;
        let doomed = self.mvcc.live(&Span::new(&request.key, &request.range_end));
        for (key, _) in &doomed {
            self.delete_key(key)?;
        }
        let Some(out) = reply else { return Ok(()) };
        encode::header(out, &ResponseHeader { revision: self.mvcc.now(), ..header });
        encode::signed(out, DELETED, doomed.len() as i64);
        if request.prev_kv {
            for (_, point) in &doomed {
                self.mvcc.copy(PREV_KVS, point, out)?;
            }
        }
        Ok(())
    }

    pub(super) fn delete_key(&mut self, key: &Bytes) -> Result<(), Fatal> {
        if self.mvcc.delete(key)? {
            self.leases.detach(key);
        }
        Ok(())
    }

    pub(super) fn compact(
        &mut self,
        request: &CompactionRequest,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        self.mvcc.compact(request.revision)?;
        if let Some(out) = reply {
            encode::header(out, &self.header());
        }
        Ok(())
    }
}

pub(super) fn reply_to_put(header: &ResponseHeader, before: Option<&Bytes>, out: &mut Vec<u8>) {
    encode::header(out, header);
    if let Some(record) = before {
        encode::bytes(out, PREV_KV, record);
    }
}
