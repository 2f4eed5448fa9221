//! Answers as a script shows them.

use std::fmt::Write;

use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    AlarmType, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
    WatchResponse,
};
use proto::mvccpb::event::EventType;
use proto::mvccpb::{Event, KeyValue};

pub(super) fn bytes(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.expect("every response has a header").revision
}

/// `a=1 (create 2, mod 3, version 2, lease 5)`
pub(super) fn key_value(kv: &KeyValue) -> String {
    let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
    let mut out = format!("{}={}", bytes(key), bytes(value));
    let _ = write!(out, " (create {create_revision}, mod {mod_revision}, version {version}");
    if *lease != 0 {
        let _ = write!(out, ", lease {lease}");
    }
    out + ")"
}

fn previous<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> String {
    kvs.into_iter().map(|kv| format!("\n  was {}", key_value(kv))).collect()
}

pub(super) fn range(response: &RangeResponse) -> String {
    let RangeResponse { header, kvs, more, count } = response;
    let mut out = String::new();
    if let Some(header) = header {
        let _ = write!(out, "rev {}, ", header.revision);
    }
    let _ = write!(out, "count {count}{}", if *more { ", more" } else { "" });
    for kv in kvs {
        let _ = write!(out, "\n  {}", key_value(kv));
    }
    out
}

pub(super) fn put(response: &PutResponse) -> String {
    format!("rev {}{}", revision(response.header.as_ref()), previous(&response.prev_kv))
}

pub(super) fn delete(response: &DeleteRangeResponse) -> String {
    let DeleteRangeResponse { header, deleted, prev_kvs } = response;
    format!("rev {}, deleted {deleted}{}", revision(header.as_ref()), previous(prev_kvs))
}

pub(super) fn txn(response: &TxnResponse) -> String {
    let TxnResponse { header, succeeded, responses } = response;
    let branch = if *succeeded { "then" } else { "else" };
    let mut out = format!("rev {}, {branch}", revision(header.as_ref()));
    for op in responses {
        let op = match op.response.as_ref().expect("every operation is answered") {
            Response::ResponseRange(response) => format!("get: {}", range(response)),
            Response::ResponsePut(response) => format!("put: {}", put(response)),
            Response::ResponseDeleteRange(response) => format!("del: {}", delete(response)),
            Response::ResponseTxn(response) => format!("txn: {}", txn(response)),
        };
        for line in op.lines() {
            let _ = write!(out, "\n  {line}");
        }
    }
    out
}

fn event(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event is about a key");
    let mut out = match event.r#type() {
        EventType::Put => format!("put {}", key_value(kv)),
        EventType::Delete => {
            let bare = KeyValue {
                key: kv.key.clone(),
                mod_revision: kv.mod_revision,
                ..KeyValue::default()
            };
            assert_eq!(*kv, bare, "a deletion has a key and a revision");
            format!("delete {} (mod {})", bytes(&kv.key), kv.mod_revision)
        }
    };
    if let Some(kv) = &event.prev_kv {
        let _ = write!(out, " was {}", key_value(kv));
    }
    out
}

pub(super) fn watch(response: &WatchResponse) -> String {
    let mut out = format!("id {} rev {}", response.watch_id, revision(response.header.as_ref()));
    for (said, word) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        out += if said { word } else { "" };
    }
    if response.compact_revision != 0 {
        let _ = write!(out, " compacted {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        let _ = write!(out, " {:?}", response.cancel_reason);
    }
    if response.events.is_empty() && !response.created && !response.canceled {
        out += " progress";
    }
    for e in &response.events {
        let _ = write!(out, "\n  {}", event(e));
    }
    out
}

pub(super) fn alarm(number: i32) -> &'static str {
    AlarmType::try_from(number).expect("an alarm there is").as_str_name()
}
