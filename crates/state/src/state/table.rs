//! What a restart finds: the small tables, and the index built anew.
//!
//! | table | key | value |
//! |---|---|---|
//! | leases | id, big-endian | `leasepb.Lease` |
//! | alarms | `AlarmMember` | nothing |
//! | members | id, big-endian | `etcdserverpb.Member` |
//! | removed members | id, big-endian | nothing |
//! | cluster | `clusterVersion`, `downgrade` | text; 1 byte and text |

use bytes::Bytes;
use proto::etcdserverpb::{AlarmMember, AlarmType, Member};
use proto::leasepb;
use proto::prost::Message;
use storage::revlog::{Entries, Mark, Revlog, Tables};

use super::{OpenError, State};
use crate::membership::Downgrade;
use crate::mvcc::Mvcc;
use crate::mvcc::index::{Fate, Index, Point};

pub(crate) const LEASES: u8 = 1;
pub(crate) const ALARMS: u8 = 2;
pub(crate) const MEMBERS: u8 = 3;
pub(crate) const REMOVED: u8 = 4;
pub(crate) const CLUSTER: u8 = 5;

pub(crate) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub(crate) const DOWNGRADE: &[u8] = b"downgrade";

/// Builds the index from the records there are, without what was compacted away.
pub(super) fn rebuild(log: Revlog, mark: Mark, mut entries: Entries) -> Result<Mvcc, OpenError> {
    let mut points: Vec<(Box<[u8]>, Point)> = Vec::new();
    while let Some(entry) = entries.next()? {
        let sub = u32::try_from(entry.meta.revision.sub).map_err(|_| OpenError::Table {
            table: 0,
            what: "a revision with more changes than any request has",
        })?;
        let point = Point {
            main: entry.meta.revision.main,
            sub,
            tombstone: entry.meta.tombstone,
            leased: entry.meta.lease != 0,
            place: entry.place,
            create_revision: entry.meta.create_revision,
            version: entry.meta.version,
        };
        points.push((entry.key.into(), point));
    }
    let mut index = Index::build(points);
    let compacted = mark.compacted.max(mark.scheduled);
    let mut dropped = Vec::new();
    index.prune(&[], usize::MAX, compacted, |fate, point| {
        if fate == Fate::Dropped {
            dropped.push(point.place);
        }
    });
    let mut mvcc = Mvcc::new(log, index, mark.head, compacted);
    mvcc.bury(&dropped);
    Ok(mvcc)
}

fn row<M: Message + Default>(table: u8, bytes: &[u8]) -> Result<M, OpenError> {
    M::decode(Bytes::copy_from_slice(bytes))
        .map_err(|_| OpenError::Table { table, what: "a row that can't be decoded" })
}

fn id(table: u8, key: &[u8]) -> Result<u64, OpenError> {
    let bytes = key.try_into();
    let bytes = bytes.map_err(|_| OpenError::Table { table, what: "a key that is no id" })?;
    Ok(u64::from_be_bytes(bytes))
}

impl State {
    pub(super) fn restore(&mut self, tables: &Tables) -> Result<(), OpenError> {
        for ((table, key), value) in tables {
            match *table {
                LEASES => self.leases.restore(&row::<leasepb::Lease>(LEASES, value)?),
                ALARMS => self.restore_alarm(key)?,
                MEMBERS => {
                    let member = row::<Member>(MEMBERS, value)?;
                    self.membership.members.insert(id(MEMBERS, key)?, member);
                }
                REMOVED => drop(self.membership.removed.insert(id(REMOVED, key)?)),
                CLUSTER => self.restore_cluster(key, value)?,
                table => return Err(OpenError::Table { table, what: "rows we never wrote" }),
            }
        }
        Ok(())
    }

    fn restore_alarm(&mut self, key: &[u8]) -> Result<(), OpenError> {
        let alarm = row::<AlarmMember>(ALARMS, key)?;
        let of = AlarmType::try_from(alarm.alarm)
            .map_err(|_| OpenError::Table { table: ALARMS, what: "an alarm of no known type" })?;
        self.alarms.raise(of, alarm.member_id);
        Ok(())
    }

    fn restore_cluster(&mut self, key: &[u8], value: &[u8]) -> Result<(), OpenError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (key, value) {
            (CLUSTER_VERSION, version) => self.membership.version = Some(text(version)),
            (DOWNGRADE, [enabled, target @ ..]) => {
                let enabled = *enabled != 0;
                self.membership.downgrade = Downgrade { enabled, target: text(target) };
            }
            (_, _) => {
                return Err(OpenError::Table { table: CLUSTER, what: "a row we never wrote" });
            }
        }
        Ok(())
    }
}
