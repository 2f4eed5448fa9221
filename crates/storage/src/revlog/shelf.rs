//! The shelf: the segments in the order of their revisions, and how much of each is dead.
//!
//! # Invariants
//!
//! - A record's death is noted once, in the segment it lies in; at 4 bytes each this is the only thing in
//!   memory that grows with the number of records, and the collector keeps it below the number of live ones.

use std::collections::BTreeMap;

use super::ledger::item::Dead;
use super::record::{Place, SegmentId};

#[derive(Default)]
pub(super) struct Shelf {
    order: Vec<SegmentId>,
    accounts: BTreeMap<SegmentId, Account>,
    bytes: u64,
    dead_bytes: u64,
}

/// What a segment comes with.
pub(super) struct Holding {
    pub bytes: u64,
    pub n_records: u64,
    pub dead: Dead,
}

#[derive(Default)]
pub(super) struct Account {
    /// Of all its records.
    pub bytes: u64,
    pub n_records: u64,
    pub dead: Dead,
    /// So many of the deaths, and of their bytes, are in a checkpoint already.
    captured: usize,
    captured_bytes: u64,
}

impl Shelf {
    /// Puts a segment behind all others.
    pub(super) fn push(&mut self, segment: SegmentId) {
        self.order.push(segment);
        self.insert(segment, Account::default());
    }

    /// As `push`, of records and deaths that the ledger knows.
    pub(super) fn push_known(&mut self, segment: SegmentId, holding: Holding) {
        self.order.push(segment);
        let Holding { bytes, n_records, dead } = holding;
        let (captured, captured_bytes) = (dead.offsets.len(), dead.bytes);
        self.insert(segment, Account { bytes, n_records, dead, captured, captured_bytes });
    }

    fn insert(&mut self, segment: SegmentId, account: Account) {
        assert!(account.dead.bytes <= account.bytes, "more is dead than there is");
        self.bytes += account.bytes;
        self.dead_bytes += account.dead.bytes;
        assert!(self.accounts.insert(segment, account).is_none(), "a number is used once");
    }

    fn remove(&mut self, segment: SegmentId) -> Account {
        let account = self.accounts.remove(&segment).expect("a segment of the shelf");
        self.bytes -= account.bytes;
        self.dead_bytes -= account.dead.bytes;
        account
    }

    pub(super) fn grow(&mut self, segment: SegmentId, bytes: u64) {
        let account = self.accounts.get_mut(&segment).expect("a segment of the shelf");
        account.bytes += bytes;
        account.n_records += 1;
        self.bytes += bytes;
    }

    /// Notes a death. A record of unknown size is taken for one as the others alive, on the average.
    pub(super) fn dead(&mut self, place: Place, bytes: Option<u64>) {
        let account = self.accounts.get_mut(&place.segment()).expect("a segment of the shelf");
        let n_live = account.n_records.checked_sub(account.dead.offsets.len() as u64);
        let n_live = n_live.filter(|n| *n > 0).expect("no more die than there were");
        let live_bytes = account.bytes - account.dead.bytes;
        let bytes = bytes.unwrap_or(live_bytes / n_live).min(live_bytes);
        account.dead.offsets.push(place.offset());
        account.dead.bytes += bytes;
        self.dead_bytes += bytes;
    }

    /// The segments in the order of their revisions, the active one last.
    pub(super) fn order(&self) -> &[SegmentId] {
        &self.order
    }

    pub(super) fn account(&self, segment: SegmentId) -> &Account {
        self.accounts.get(&segment).expect("a segment of the shelf")
    }

    /// Puts `new`, if there is one, where the neighbours `old` were; the answer is their accounts.
    pub(super) fn replace(
        &mut self,
        old: &[SegmentId],
        new: Option<(SegmentId, Holding)>,
    ) -> Vec<Account> {
        let at = self.order.iter().position(|s| *s == old[0]).expect("a segment of the shelf");
        assert_eq!(&self.order[at..at + old.len()], old, "victims are neighbours");
        self.order.splice(at..at + old.len(), new.iter().map(|(segment, _)| *segment));
        let accounts = old.iter().map(|segment| self.remove(*segment)).collect();
        if let Some((segment, Holding { bytes, n_records, dead })) = new {
            self.insert(segment, Account { bytes, n_records, dead, ..Account::default() });
        }
        accounts
    }

    /// The deaths that no checkpoint has yet; from now on one has.
    pub(super) fn capture(&mut self) -> Vec<(SegmentId, Dead)> {
        let mut all = Vec::new();
        for (segment, account) in &mut self.accounts {
            let offsets = account.dead.offsets[account.captured..].to_vec();
            if offsets.is_empty() {
                continue;
            }
            let bytes = account.dead.bytes - account.captured_bytes;
            account.captured = account.dead.offsets.len();
            account.captured_bytes = account.dead.bytes;
            all.push((*segment, Dead { offsets, bytes }));
        }
        all
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.bytes - self.dead_bytes
    }
}
