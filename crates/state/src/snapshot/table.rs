//! The small buckets of a snapshot, as etcd keeps them.
//!
//! | bucket | key | value |
//! |---|---|---|
//! | meta | `consistent_index`, `term` | 8 bytes, big-endian |
//! | | `scheduledCompactRev`, `finishedCompactRev` | a revision, as in the bucket of keys |
//! | | `confState`, `storageVersion` | JSON, text |
//! | lease | id, big-endian | `leasepb.Lease` |
//! | alarm | `AlarmMember` | nothing |
//! | cluster | `clusterVersion`, `downgrade` | text, JSON |
//! | members | id in hex | JSON |
//! | `members_removed` | id in hex | `removed` |
//! | auth | `authRevision` | 8 bytes, big-endian |
//!
//! A row that etcd would not have written yet is left out. `authUsers` and `authRoles` are there and
//! empty: nobody can be told apart so far.

use std::collections::BTreeMap;
use std::io;

use proto::etcdserverpb::{AlarmType, Member};
use proto::leasepb;
use proto::prost::Message;
use storage::bolt::writer::{Bucket, EachRow, Rows};

use super::Records;
use crate::State;
use crate::membership::{Downgrade, Membership};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// What etcd's store of users begins with.
const AUTH_REVISION_FIRST: u64 = 1;

/// All buckets but that of the keys, as of one moment.
pub(super) struct Tables {
    applied: (u64, u64),
    roster: Vec<(u64, bool)>,
    meta: Table,
    leases: Leases,
    alarms: Table,
    cluster: Table,
    members: Table,
    removed: Table,
    auth: Table,
    none: Table,
}

impl Tables {
    pub(super) fn of(state: &State, storage_version: &str) -> Self {
        let alarms = state.alarms.list(AlarmType::None);
        let members = state.membership.members();
        let removed = state.membership.removed.iter();
        Self {
            applied: state.applied(),
            roster: state.membership.members().map(|m| (m.id, m.is_learner)).collect(),
            meta: meta(state, storage_version),
            leases: Leases::of(state),
            alarms: alarms.iter().map(|alarm| (alarm.encode_to_vec(), Vec::new())).collect(),
            cluster: cluster(&state.membership),
            members: members.map(|m| (hex(m.id), member(m).into_bytes())).collect(),
            removed: removed.map(|id| (hex(*id), b"removed".to_vec())).collect(),
            auth: Table::from([row("authRevision", AUTH_REVISION_FIRST.to_be_bytes())]),
            none: Table::new(),
        }
    }

    pub(super) fn applied(&self) -> (u64, u64) {
        self.applied
    }

    pub(super) fn roster(&self) -> &[(u64, bool)] {
        &self.roster
    }

    pub(super) fn buckets<'a>(&'a self, keys: &'a Records) -> Vec<Bucket<'a>> {
        let buckets: [(&str, &dyn Rows); 10] = [
            ("key", keys),
            ("meta", &self.meta),
            ("lease", &self.leases),
            ("alarm", &self.alarms),
            ("cluster", &self.cluster),
            ("members", &self.members),
            ("members_removed", &self.removed),
            ("auth", &self.auth),
            ("authUsers", &self.none),
            ("authRoles", &self.none),
        ];
        buckets.into_iter().map(|(name, rows)| Bucket { name: name.as_bytes(), rows }).collect()
    }
}

fn row(key: &str, value: impl Into<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

fn hex(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn meta(state: &State, storage_version: &str) -> Table {
    let (index, term) = state.applied();
    let mut meta = Table::from([
        row("consistent_index", index.to_be_bytes()),
        row("term", term.to_be_bytes()),
        row("confState", conf_state(&state.membership)),
        row("storageVersion", storage_version),
    ]);
    let compactions = [
        ("scheduledCompactRev", state.mvcc.compacted()),
        ("finishedCompactRev", state.mvcc.finished()),
    ];
    for (name, revision) in compactions {
        if revision > 0 {
            let revision = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
            meta.extend([row(name, revision)]);
        }
    }
    meta
}

fn cluster(membership: &Membership) -> Table {
    let mut cluster = Table::new();
    if let Some(version) = membership.version() {
        cluster.extend([row("clusterVersion", version)]);
    }
    let Downgrade { enabled, target } = membership.downgrade();
    if *enabled {
        let target = text(target);
        let json = format!("{{\"target-version\":{target},\"enabled\":true}}");
        cluster.extend([row("downgrade", json)]);
    }
    cluster
}

/// Who votes, as raft's `ConfState` in JSON.
fn conf_state(membership: &Membership) -> String {
    let ids = |learners| {
        let members = membership.members().filter(move |member| member.is_learner == learners);
        members.map(|member| member.id.to_string()).collect::<Vec<_>>().join(",")
    };
    let mut json = String::from("{");
    for (name, ids) in [("voters", ids(false)), ("learners", ids(true))] {
        if !ids.is_empty() {
            json += &format!("\"{name}\":[{ids}],");
        }
    }
    json + "\"auto_leave\":false}"
}

fn member(member: &Member) -> String {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    let mut json = format!("{{\"id\":{id},\"peerURLs\":{}", texts(peer_urls));
    if *is_learner {
        json += ",\"isLearner\":true";
    }
    if !name.is_empty() {
        json += &format!(",\"name\":{}", text(name));
    }
    if !client_urls.is_empty() {
        json += &format!(",\"clientURLs\":{}", texts(client_urls));
    }
    json + "}"
}

fn texts(of: &[String]) -> String {
    let texts: Vec<String> = of.iter().map(|one| text(one)).collect();
    format!("[{}]", texts.join(","))
}

/// A JSON string.
fn text(of: &str) -> String {
    let mut json = String::from("\"");
    for c in of.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_ascii_control() || "<>&\u{2028}\u{2029}".contains(c) => {
                json += &format!("\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json + "\""
}

/// The bucket of leases: there may be a million of them, so they are encoded one at a time.
struct Leases {
    /// By id as a number without sign: the order of the keys.
    rows: Vec<leasepb::Lease>,
}

impl Leases {
    fn of(state: &State) -> Self {
        let mut rows: Vec<_> = state.leases.stored(state.persists_checkpoints()).collect();
        rows.sort_unstable_by_key(|lease| lease.id as u64);
        Self { rows }
    }
}

impl Rows for Leases {
    fn rows(&self, each: &mut EachRow) -> io::Result<()> {
        let mut value = Vec::new();
        for lease in &self.rows {
            value.clear();
            lease.encode(&mut value)?;
            each(&lease.id.to_be_bytes(), &value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_etcd_writes_them() {
        let mut of = Member {
            id: 0x5c76_a90a_e78b_cee7,
            name: "default".into(),
            peer_urls: vec!["http://127.0.0.1:33380".into()],
            client_urls: vec!["http://127.0.0.1:33379".into()],
            is_learner: false,
        };
        let recorded = "{\"id\":6662698563040693991,\"peerURLs\":[\"http://127.0.0.1:33380\"],\
            \"name\":\"default\",\"clientURLs\":[\"http://127.0.0.1:33379\"]}";
        assert_eq!(member(&of), recorded);
        let mut membership = Membership::default();
        membership.members.insert(of.id, of.clone());
        assert_eq!(
            conf_state(&membership),
            "{\"voters\":[6662698563040693991],\"auto_leave\":false}"
        );

        of = Member { id: 1, name: "a\"&\n".into(), client_urls: vec![], is_learner: true, ..of };
        let escaped = "{\"id\":1,\"peerURLs\":[\"http://127.0.0.1:33380\"],\"isLearner\":true,\
            \"name\":\"a\\\"\\u0026\\u000a\"}";
        assert_eq!(member(&of), escaped);
        membership.members.insert(of.id, of);
        let both = "{\"voters\":[6662698563040693991],\"learners\":[1],\"auto_leave\":false}";
        assert_eq!(conf_state(&membership), both);
    }
}
