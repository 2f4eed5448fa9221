//! Granting, revoking and checkpointing leases.

use bytes::Bytes;
use proto::error::Error;
use proto::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest};
use proto::prost::Message;

use super::Reply;
use crate::State;
use crate::encode;
use crate::fault::Stop;
use crate::lease::LeaseId;
use crate::state::table;

impl State {
    pub(super) fn lease_grant(
        &mut self,
        request: &LeaseGrantRequest,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let stored = self.leases.grant(LeaseId(request.id), request.ttl)?;
        let (id, ttl) = (stored.id, stored.ttl);
        self.mvcc.tally.granted_ttls.push(ttl);
        self.mvcc.log.table_set(table::LEASES, &id.to_be_bytes(), Some(&stored.encode_to_vec()));
        if let Some(out) = reply {
            encode::header(out, &self.header());
            encode::signed(out, 2, id);
            encode::signed(out, 3, ttl);
        }
        Ok(())
    }

    /// Deletes a lease's keys, in their order and in one revision, and the lease with them.
    pub(super) fn lease_revoke(
        &mut self,
        request: &LeaseRevokeRequest,
        reply: Reply<'_>,
    ) -> Result<(), Stop> {
        let id = LeaseId(request.id);
        for key in self.leases.keys_of(id).ok_or(Error::LeaseNotFound)? {
            self.mvcc.tally.deletes += 1;
            self.delete_key(&Bytes::copy_from_slice(&key))?;
        }
        self.leases.remove(id);
        self.mvcc.log.table_set(table::LEASES, &id.0.to_be_bytes(), None);
        self.finish()?;
        if let Some(out) = reply {
            encode::header(out, &self.header());
        }
        Ok(())
    }

    pub(super) fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest, reply: Reply<'_>) {
        let persist = self.persists_checkpoints();
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            let stored = self.leases.checkpoint(id, checkpoint.remaining_ttl);
            // One that is gone by now is passed over.
            if let Some(stored) = stored.filter(|_| persist) {
                let row = stored.encode_to_vec();
                self.mvcc.log.table_set(table::LEASES, &id.0.to_be_bytes(), Some(&row));
            }
        }
        if let Some(out) = reply {
            encode::header(out, &self.header());
        }
    }
}
