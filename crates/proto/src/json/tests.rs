use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::{etcdserverpb as pb, v3electionpb, v3lockpb};

/// Reads a message, and shows its bytes and its JSON.
fn answer<M>(json: &str) -> String
where
    M: Message + Default + Serialize + DeserializeOwned + PartialEq,
{
    let Ok(message) = serde_json::from_str::<M>(json) else { return "refused\n".to_owned() };
    let bytes = message.encode_to_vec();
    assert!(M::decode(bytes.as_slice()).as_ref() == Ok(&message), "its bytes say the same");
    let text = serde_json::to_string(&message).expect("JSON has a form for every message");
    // Through a map, which sorts the keys: Go and we don't write them in the same order.
    let sorted: Value = serde_json::from_str(&text).expect("what was written is JSON");
    format!("bytes {}\n{sorted}\n", hex(&bytes)).replace("bytes \n", "bytes\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

macro_rules! interpreter {
    ($($module:ident::$name:ident)*) => {
        fn interpret(line: &str) -> String {
            let (name, json) = line.split_once(' ').expect("a message's name, and its JSON");
            $(if name == stringify!($name) || name == concat!(stringify!($module), ".", stringify!($name)) {
                return answer::<$module::$name>(json);
            })*
            match name {
                "HashKVResponse" => answer::<pb::HashKvResponse>(json),
                _ => panic!("no message {name}"),
            }
        }
    };
}

interpreter! {
    pb::AlarmRequest pb::AlarmResponse pb::AuthRoleGetResponse pb::AuthStatusResponse
    pb::AuthUserAddRequest pb::AuthenticateRequest pb::Compare pb::DowngradeRequest
    pb::LeaseCheckpointRequest pb::LeaseGrantRequest pb::LeaseGrantResponse
    pb::LeaseTimeToLiveResponse pb::MemberAddRequest pb::MemberListResponse
    pb::MemberRemoveRequest pb::MoveLeaderRequest pb::PutRequest pb::PutResponse pb::RangeRequest
    pb::RangeResponse pb::SnapshotResponse pb::StatusResponse pb::TxnRequest pb::TxnResponse
    pb::WatchCreateRequest pb::WatchRequest pb::WatchResponse
    v3electionpb::CampaignResponse v3electionpb::LeaderResponse v3lockpb::LockRequest
}

#[test]
fn json_says_and_understands_what_protojson_does() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/json");
    stdx::script::run_folder(folder, || {
        |lines: &[&str]| lines.iter().map(|line| interpret(line)).collect()
    });
}

#[test]
fn any_text_is_read_as_an_integer_or_refused() {
    let alphabet = b"0123456789.eE+-0000 ";
    stdx::each_seed(|g| {
        let text: String = g.vec(0..12, |g| char::from(*g.pick(alphabet))).into_iter().collect();
        // A number JSON itself would take, and whole: then a float sees it too.
        let float = serde_json::from_str::<f64>(&text)
            .ok()
            .filter(|f| text.trim() == text && f.fract() == 0.0);
        match (integer(&text), float) {
            (Some(number), Some(float)) => assert_eq!(number as f64, float, "{text}"),
            (Some(number), None) => panic!("{text} is no number, and was read as {number}"),
            // A tiny one looks whole, for a float rounds it to 0.
            (None, Some(0.0)) => assert!(text.contains("e-") || text.contains("E-"), "{text}"),
            (None, Some(float)) => assert!(float.abs() >= 1e19, "{text} was refused"),
            (None, None) => {}
        }
    });
}

#[test]
fn a_message_nested_without_end_is_refused() {
    let deep = "{\"success\":[{\"request_txn\":".repeat(10_000);
    assert!(serde_json::from_str::<pb::TxnRequest>(&deep).is_err());
}
