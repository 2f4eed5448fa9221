//! Families whose labels come from tables of ours: each combination has its place from the start.
//!
//! # Invariants
//!
//! - What a peer says becomes a label only for [`VERSIONS_MAX`] different values.

use std::array;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use proto::raft_request::Body;

use super::number::{Counter, Gauge, Histogram, Scale};
use super::text::{Family, Kind, Samples};

macro_rules! operations {
    ($($name:ident)*) => {
        /// What is asked of the member, or applied by it, by the names etcd gives in its metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation { $($name),* }

        impl Operation {
            pub const ALL: &[Operation] = &[$(Operation::$name),*];

            pub const fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }
        }
    };
}

operations! {
    Alarm AuthDisable AuthEnable AuthRoleAdd AuthRoleDelete AuthRoleGet AuthRoleGrantPermission
    AuthRoleList AuthRoleRevokePermission AuthStatus AuthUserAdd AuthUserChangePassword
    AuthUserDelete AuthUserGet AuthUserGrantRole AuthUserList AuthUserRevokeRole Authenticate
    ClusterMemberAttrSet ClusterVersionSet Compaction DeleteRange DowngradeInfoSet
    DowngradeVersionTest LeaseCheckpoint LeaseGrant LeaseRevoke Put Range ReadonlyTxn Txn
}

macro_rules! operations_of_entries {
    ($($name:ident)*) => {
        impl From<Body> for Operation {
            fn from(kind: Body) -> Self {
                match kind { $(Body::$name => Operation::$name),* }
            }
        }
    };
}

operations_of_entries! {
    Alarm AuthDisable AuthEnable AuthRoleAdd AuthRoleDelete AuthRoleGet AuthRoleGrantPermission
    AuthRoleList AuthRoleRevokePermission AuthStatus AuthUserAdd AuthUserChangePassword
    AuthUserDelete AuthUserGet AuthUserGrantRole AuthUserList AuthUserRevokeRole Authenticate
    ClusterMemberAttrSet ClusterVersionSet Compaction DeleteRange DowngradeInfoSet
    DowngradeVersionTest LeaseCheckpoint LeaseGrant LeaseRevoke Put Range Txn
}

/// How many of each operation a batch held, told apart by whether they succeeded.
#[derive(Debug)]
pub struct Batch([[u64; 2]; Operation::ALL.len()]);

impl Default for Batch {
    fn default() -> Self {
        Self([[0; 2]; Operation::ALL.len()])
    }
}

impl Batch {
    #[inline]
    pub fn note(&mut self, operation: Operation, success: bool) {
        self.0[operation as usize][usize::from(success)] += 1;
    }

    pub fn get(&self, operation: Operation, success: bool) -> u64 {
        self.0[operation as usize][usize::from(success)]
    }
}

/// How long operations took, told apart by whether they succeeded.
#[derive(Debug)]
pub struct ByOperation {
    /// The label that holds the operation's name.
    label: &'static str,
    /// Whether a label says that this is version 3 of the interface.
    versioned: bool,
    /// At `2 * operation + success`.
    took: Vec<Histogram>,
}

impl ByOperation {
    pub(super) fn new(label: &'static str, versioned: bool, scale: Scale) -> Self {
        let took = (0..2 * Operation::ALL.len()).map(|_| Histogram::new(scale)).collect();
        Self { label, versioned, took }
    }

    #[inline]
    pub fn of(&self, operation: Operation, success: bool) -> &Histogram {
        &self.took[2 * operation as usize + usize::from(success)]
    }

    /// Counts all of a batch as taking `each`, and empties it.
    pub fn observe_batch(&self, batch: &mut Batch, each: Duration) {
        let each = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        for (histogram, n) in self.took.iter().zip(batch.0.as_flattened_mut()) {
            if *n > 0 {
                histogram.observe_many(each, std::mem::take(n));
            }
        }
    }
}

impl Family for ByOperation {
    const KIND: Kind = Kind::Histogram;

    fn samples(&self, samples: &mut Samples<'_>) {
        for (at, histogram) in self.took.iter().enumerate().filter(|(_, h)| h.count() > 0) {
            let name = Operation::ALL[at / 2].name();
            let mut labels = vec![(self.label, name), ("success", bool_name(at % 2 == 1))];
            if self.versioned {
                labels.push(("version", "v3"));
            }
            labels.sort_unstable();
            samples.histogram(&labels, histogram);
        }
    }
}

/// How long something took, told apart by whether it succeeded.
#[derive(Debug)]
pub struct BySuccess([Histogram; 2]);

impl BySuccess {
    pub(super) fn new(scale: Scale) -> Self {
        Self(array::from_fn(|_| Histogram::new(scale)))
    }

    #[inline]
    pub fn of(&self, success: bool) -> &Histogram {
        &self.0[usize::from(success)]
    }
}

impl Family for BySuccess {
    const KIND: Kind = Kind::Histogram;

    fn samples(&self, samples: &mut Samples<'_>) {
        for (histogram, success) in self.0.iter().zip([false, true]) {
            if histogram.count() > 0 {
                samples.histogram(&[("success", bool_name(success))], histogram);
            }
        }
    }
}

fn bool_name(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

/// A gauge that is always 1 and says something in its label.
#[derive(Debug)]
pub struct Info {
    label: &'static str,
    value: RwLock<Option<Box<str>>>,
}

impl Info {
    pub(super) fn new(label: &'static str) -> Self {
        Self { label, value: RwLock::new(None) }
    }

    pub fn set(&self, value: &str) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Some(value.into());
    }
}

impl Family for Info {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self, samples: &mut Samples<'_>) {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = value.as_deref() {
            samples.number(&[(self.label, value)], 1.0);
        }
    }
}

/// Which feature gates there are, and which are open.
#[derive(Debug, Default)]
pub struct Features(OnceLock<Vec<Feature>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// `ALPHA` or `BETA`.
    pub stage: &'static str,
    pub enabled: bool,
}

impl Features {
    /// Says them, once: gates don't move while the process runs.
    pub fn set(&self, features: Vec<Feature>) {
        assert!(self.0.set(features).is_ok(), "the gates were said before");
    }
}

impl Family for Features {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self, samples: &mut Samples<'_>) {
        for feature in self.0.get().into_iter().flatten() {
            let labels = [("name", feature.name), ("stage", feature.stage)];
            samples.number(&labels, f64::from(u8::from(feature.enabled)));
        }
    }
}

/// The alarms that are or were raised, by member.
#[derive(Debug, Default)]
pub struct Alarms(RwLock<Vec<(u64, &'static str, bool)>>);

/// Alarms that are remembered: two kinds for far more members than a cluster has.
const ALARMS_MAX: usize = 256;

impl Alarms {
    /// Says which are raised: member, and `NOSPACE` or `CORRUPT`. Others that were are lowered.
    pub fn set(&self, raised: &[(u64, &'static str)]) {
        let mut alarms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for alarm in alarms.iter_mut() {
            alarm.2 = raised.contains(&(alarm.0, alarm.1));
        }
        for &(member, kind) in raised {
            let is_new = !alarms.iter().any(|(m, k, _)| (*m, *k) == (member, kind));
            if is_new && alarms.len() < ALARMS_MAX {
                alarms.push((member, kind, true));
            }
        }
    }
}

impl Family for Alarms {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self, samples: &mut Samples<'_>) {
        let alarms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for &(member, kind, raised) in alarms.iter() {
            let member = format!("{member:x}");
            let labels = [("alarm_type", kind), ("server_id", member.as_str())];
            samples.number(&labels, f64::from(u8::from(raised)));
        }
    }
}

/// How a client calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallType {
    Unary,
    Stream,
}

/// What clients say of themselves, as far as it is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientVersion(usize);

/// Versions that get a label of their own; a client beyond them counts as unknown.
const VERSIONS_MAX: usize = 32;
/// Bytes of a version that is worth a label.
const VERSION_LEN_MAX: usize = 64;

/// Requests by what the client says its version is.
#[derive(Debug)]
pub struct ClientRequests {
    /// The first is that of clients that say nothing.
    names: [OnceLock<Box<str>>; VERSIONS_MAX],
    counts: [[Counter; 2]; VERSIONS_MAX],
}

impl ClientRequests {
    pub(super) fn new() -> Self {
        let names = array::from_fn(|_| OnceLock::new());
        names[0].get_or_init(|| "unknown".into());
        Self { names, counts: array::from_fn(|_| Default::default()) }
    }

    /// Finds the place of a version, once for each connection or call.
    pub fn version(&self, said: Option<&str>) -> ClientVersion {
        let Some(said) = said.filter(|said| said.len() <= VERSION_LEN_MAX) else {
            return ClientVersion(0);
        };
        let is_it = |name: &OnceLock<Box<str>>| &**name.get_or_init(|| said.into()) == said;
        ClientVersion(self.names.iter().position(is_it).unwrap_or(0))
    }

    #[inline]
    pub fn count(&self, version: ClientVersion, how: CallType) {
        self.add(version, how, 1);
    }

    #[inline]
    pub fn add(&self, version: ClientVersion, how: CallType, n: u64) {
        self.counts[version.0][how as usize].add(n);
    }
}

impl Family for ClientRequests {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        for (name, counts) in self.names.iter().zip(&self.counts) {
            let Some(name) = name.get() else { return };
            for (count, how) in counts.iter().zip(["unary", "stream"]) {
                if count.get() > 0 {
                    let labels = [("client_api_version", &**name), ("type", how)];
                    samples.number(&labels, count.get() as f64);
                }
            }
        }
    }
}

/// Where a stream broke.
#[derive(Debug, Default)]
pub struct StreamFailures {
    pub lease_receive: Counter,
    pub lease_send: Counter,
    pub watch_receive: Counter,
    pub watch_send: Counter,
}

impl Family for StreamFailures {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        let all = [
            ("lease-keepalive", "receive", &self.lease_receive),
            ("lease-keepalive", "send", &self.lease_send),
            ("watch", "receive", &self.watch_receive),
            ("watch", "send", &self.watch_send),
        ];
        for (api, kind, counter) in all.into_iter().filter(|(.., counter)| counter.get() > 0) {
            samples.number(&[("API", api), ("Type", kind)], counter.get() as f64);
        }
    }
}

/// Why learners were not promoted: each reason is a text of etcd's own.
#[derive(Debug, Default)]
pub struct PromoteFailures(RwLock<Vec<(&'static str, u64)>>);

impl PromoteFailures {
    pub fn inc(&self, reason: &'static str) {
        let mut reasons = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, n)) => *n += 1,
            None => reasons.push((reason, 1)),
        }
    }
}

impl Family for PromoteFailures {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        for (reason, n) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            samples.number(&[("Reason", reason)], *n as f64);
        }
    }
}

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    LivezSerializableRead,
    ReadyzDataCorruption,
    ReadyzLinearizableRead,
    ReadyzNonLearner,
    ReadyzSerializableRead,
}

impl Check {
    pub const ALL: [Check; 5] = [
        Check::ReadyzDataCorruption,
        Check::ReadyzLinearizableRead,
        Check::ReadyzNonLearner,
        Check::LivezSerializableRead,
        Check::ReadyzSerializableRead,
    ];

    pub const fn endpoint(self) -> &'static str {
        match self {
            Check::LivezSerializableRead => "livez",
            Check::ReadyzDataCorruption
            | Check::ReadyzLinearizableRead
            | Check::ReadyzNonLearner
            | Check::ReadyzSerializableRead => "readyz",
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Check::ReadyzDataCorruption => "data_corruption",
            Check::ReadyzLinearizableRead => "linearizable_read",
            Check::ReadyzNonLearner => "non_learner",
            Check::LivezSerializableRead | Check::ReadyzSerializableRead => "serializable_read",
        }
    }
}

/// What the last run of each check said; shown once it has run.
#[derive(Debug, Default)]
pub struct LastChecks {
    ran: [Counter; Check::ALL.len()],
    last: [Gauge; Check::ALL.len()],
}

impl LastChecks {
    pub fn set(&self, check: Check, success: bool) {
        self.ran[check as usize].inc();
        self.last[check as usize].set_bool(success);
    }
}

impl Family for LastChecks {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self, samples: &mut Samples<'_>) {
        for check in Check::ALL.into_iter().filter(|&check| self.ran[check as usize].get() > 0) {
            let labels = [("name", check.name()), ("type", check.endpoint())];
            samples.number(&labels, self.last[check as usize].get() as f64);
        }
    }
}

/// How often each check ended well, and how often not.
#[derive(Debug, Default)]
pub struct CheckRuns([[Counter; 2]; Check::ALL.len()]);

impl CheckRuns {
    pub fn inc(&self, check: Check, success: bool) {
        self.0[check as usize][usize::from(success)].inc();
    }
}

impl Family for CheckRuns {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        for check in Check::ALL {
            for (n, status) in self.0[check as usize].iter().zip(["error", "success"]) {
                if n.get() > 0 {
                    let (name, kind) = (check.name(), check.endpoint());
                    let labels = [("name", name), ("status", status), ("type", kind)];
                    samples.number(&labels, n.get() as f64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_invent_labels_without_end() {
        let requests = ClientRequests::new();
        for i in 0..1000 {
            let version = requests.version(Some(&format!("3.{i}")));
            requests.count(version, CallType::Unary);
            assert_eq!(version, requests.version(Some(&format!("3.{i}"))));
        }
        let named = requests.names.iter().filter(|name| name.get().is_some()).count();
        let total: u64 = requests.counts.iter().flatten().map(Counter::get).sum();
        assert_eq!((named, total), (VERSIONS_MAX, 1000));
        assert_eq!(requests.version(None), requests.version(Some("unknown")));
    }
}
