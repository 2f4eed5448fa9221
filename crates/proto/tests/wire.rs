//! Go's bytes and ours: every message that reaches a disk or another member, both ways.

use std::fmt::Write;

use proto::prost::Message;
use proto::{authpb, etcdserverpb, leasepb, membershippb, mvccpb, raftpb, snappb, walpb};

fn answer<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> String {
    let message = match M::decode(bytes) {
        Ok(message) => message,
        Err(error) => return format!("refused: {error}\n"),
    };
    let written = message.encode_to_vec();
    let mut answer = format!("{message:?}\n");
    if written != bytes {
        let hex: String = written.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(answer, "but written {hex}").expect("a string takes all");
    }
    answer
}

fn interpret(line: &str) -> String {
    let (name, hex) = line.split_once(' ').expect("a message's name, and its bytes");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    match name {
        "authpb.Role" => answer::<authpb::Role>(&bytes),
        "authpb.User" => answer::<authpb::User>(&bytes),
        "etcdserverpb.Metadata" => answer::<etcdserverpb::Metadata>(&bytes),
        "leasepb.Lease" => answer::<leasepb::Lease>(&bytes),
        "leasepb.LeaseInternalRequest" => answer::<leasepb::LeaseInternalRequest>(&bytes),
        "membershippb.Member" => answer::<membershippb::Member>(&bytes),
        "mvccpb.Event" => answer::<mvccpb::Event>(&bytes),
        "mvccpb.KeyValue" => answer::<mvccpb::KeyValue>(&bytes),
        "raftpb.ConfChange" => answer::<raftpb::ConfChange>(&bytes),
        "raftpb.ConfChangeV2" => answer::<raftpb::ConfChangeV2>(&bytes),
        "raftpb.Entry" => answer::<raftpb::Entry>(&bytes),
        "raftpb.HardState" => answer::<raftpb::HardState>(&bytes),
        "raftpb.Message" => answer::<raftpb::Message>(&bytes),
        "snappb.snapshot" => answer::<snappb::Snapshot>(&bytes),
        "walpb.Record" => answer::<walpb::Record>(&bytes),
        "walpb.Snapshot" => answer::<walpb::Snapshot>(&bytes),
        _ => panic!("no message {name}"),
    }
}

#[test]
fn what_go_wrote_is_read_and_written_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire");
    stdx::script::run_folder(folder, || {
        |lines: &[&str]| lines.iter().map(|line| interpret(line)).collect()
    });
}
