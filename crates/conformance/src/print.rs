//! An answer as a script shows it: one line, with names for what differs from run to run.
//!
//! ```text
//! {"header":"*@2","kvs":[{"key":"foo","create_revision":2,…}],"count":1}
//!            │└ the revision, exact
//!            └ cluster, member and term: there, and not zero
//! ```
//!
//! Fields come in the order of their numbers, zeros are left out, bytes are text (`\xHH` where
//! they are not), long ones are cut. What cannot be the same twice (sizes, raft's indexes, the
//! time a lease has left) shows as `*`, but only if it is plausible.

use std::fmt::Write;

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use crate::names::Names;
use crate::notation::enum_name;

/// Texts longer than this are cut: a script is for reading.
const TEXT_SHOWN_MAX: usize = 160;
const TEXT_SHOWN_OF_LONG: usize = 16;

/// The time that may have passed between a grant and the question how much is left.
const TTL_SLACK_SECONDS: i64 = 10;

/// Fields that hold a lease's id.
const LEASES: &[&str] = &[
    "etcdserverpb.LeaseGrantResponse.ID",
    "etcdserverpb.LeaseKeepAliveResponse.ID",
    "etcdserverpb.LeaseTimeToLiveResponse.ID",
    "etcdserverpb.LeaseStatus.ID",
    "mvccpb.KeyValue.lease",
    "v3electionpb.LeaderKey.lease",
];

/// Fields that hold a member's id.
const MEMBERS: &[&str] = &[
    "etcdserverpb.AlarmMember.memberID",
    "etcdserverpb.Member.ID",
    "etcdserverpb.StatusResponse.leader",
];

/// Fields of which a script knows no more than that they are not zero.
const VOLATILE: &[&str] = &[
    "etcdserverpb.HashResponse.hash",
    "etcdserverpb.SnapshotResponse.blob",
    "etcdserverpb.SnapshotResponse.remaining_bytes",
    "etcdserverpb.StatusResponse.dbSize",
    "etcdserverpb.StatusResponse.dbSizeInUse",
    "etcdserverpb.StatusResponse.raftAppliedIndex",
    "etcdserverpb.StatusResponse.raftIndex",
    "etcdserverpb.StatusResponse.raftTerm",
];

/// Fields that are there or not, as it happens: etcd learns its storage version by and by.
const BY_CHANCE: &[&str] = &["etcdserverpb.StatusResponse.storageVersion"];

/// Fields whose order has no meaning.
const UNORDERED: &[&str] =
    &["etcdserverpb.AlarmResponse.alarms", "etcdserverpb.LeaseTimeToLiveResponse.keys"];

pub(crate) fn message(message: &DynamicMessage, names: &mut Names) -> String {
    let mut line = String::new();
    Printer { names, line: &mut line }.message(message);
    line
}

struct Printer<'a> {
    names: &'a mut Names,
    line: &'a mut String,
}

impl Printer<'_> {
    fn message(&mut self, message: &DynamicMessage) {
        if let Some(revision) = identified_header(message) {
            let _ = write!(self.line, "\"*@{revision}\"");
            return;
        }
        self.line.push('{');
        let fields = message.fields().filter(|(f, _)| !BY_CHANCE.contains(&f.full_name()));
        for (at, (field, value)) in fields.enumerate() {
            if at > 0 {
                self.line.push(',');
            }
            let _ = write!(self.line, "\"{}\":", field.name());
            if is_time_left(message, &field, value) {
                self.line.push_str("\"*\"");
            } else if let Some(items) = value.as_list() {
                self.list(&field, items);
            } else {
                self.value(&field, value);
            }
        }
        for unknown in message.unknown_fields() {
            let _ = write!(self.line, ",UNKNOWN FIELD {}", unknown.number());
        }
        self.line.push('}');
    }

    fn list(&mut self, field: &FieldDescriptor, items: &[Value]) {
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let mut line = String::new();
            Printer { names: self.names, line: &mut line }.value(field, item);
            texts.push(line);
        }
        if UNORDERED.contains(&field.full_name()) {
            texts.sort();
        }
        let _ = write!(self.line, "[{}]", texts.join(","));
    }

    fn value(&mut self, field: &FieldDescriptor, value: &Value) {
        if VOLATILE.contains(&field.full_name()) {
            self.line.push_str("\"*\"");
        } else if let Some(name) = self.name_of(field, value) {
            let _ = write!(self.line, "\"{name}\"");
        } else if let Some(message) = value.as_message() {
            self.message(message);
        } else if let Some(bytes) = value.as_bytes() {
            self.text(bytes);
        } else if let Some(text) = value.as_str() {
            self.text(text.as_bytes());
        } else if let Some(name) = value.as_enum_number().and_then(|n| enum_name(field, n)) {
            let _ = write!(self.line, "\"{name}\"");
        } else {
            let _ = write!(self.line, "{value}");
        }
    }

    fn name_of(&mut self, field: &FieldDescriptor, value: &Value) -> Option<String> {
        if LEASES.contains(&field.full_name()) {
            self.names.lease(value.as_i64()?)
        } else if MEMBERS.contains(&field.full_name()) {
            self.names.member(value.as_u64()?).map(str::to_owned)
        } else {
            None
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        let text = self.names.hide(&text(bytes));
        let _ = write!(self.line, "\"{text}\"");
    }
}

/// Bytes as a script writes them, without the quotes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let shown = if bytes.len() > TEXT_SHOWN_MAX { &bytes[..TEXT_SHOWN_OF_LONG] } else { bytes };
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\0'..='\x1f' | '\x7f' => {
                    let _ = write!(text, "\\x{:02x}", u32::from(c));
                }
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if shown.len() < bytes.len() {
        let _ = write!(text, "… {} bytes", bytes.len());
    }
    text
}

/// The revision of a header that says who answered; nested answers have headers that do not.
fn identified_header(message: &DynamicMessage) -> Option<i64> {
    if message.descriptor().full_name() != "etcdserverpb.ResponseHeader" {
        return None;
    }
    for name in ["cluster_id", "member_id", "raft_term"] {
        if message.get_field_by_name(name)?.as_u64()? == 0 {
            return None;
        }
    }
    message.get_field_by_name("revision")?.as_i64()
}

/// Whether this is what a living lease has left, and as much as it should be.
fn is_time_left(message: &DynamicMessage, field: &FieldDescriptor, value: &Value) -> bool {
    if field.full_name() != "etcdserverpb.LeaseTimeToLiveResponse.TTL" {
        return false;
    }
    let granted = message.get_field_by_name("grantedTTL").and_then(|v| v.as_i64()).unwrap_or(0);
    let left = value.as_i64().unwrap_or(0);
    left >= 0 && left <= granted && granted - left <= TTL_SLACK_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::{bytes_of, parse};

    #[test]
    fn what_is_printed_is_read_back_as_it_was() {
        stdx::each_seed(|g| {
            let bytes = g.bytes(0..TEXT_SHOWN_MAX);
            let json = parse(&format!("\"{}\"", text(&bytes))).expect("JSON");
            assert_eq!(bytes_of(json.as_str().expect("a text")), bytes);
        });
    }
}
