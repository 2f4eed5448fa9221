//! Protobuf from strangers: requests as clients send them, entries as members log them.
//!
//! The first byte says which message the rest is taken for.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb as pb;
use proto::prost::Message;
use proto::raft_request::{Split, frame, request_id, split};
use proto::raftpb;

/// # Panics
///
/// If what was read is another after it was written and read again.
pub fn run(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match kind % 16 {
        0 => twice::<pb::RangeRequest>(bytes),
        1 => twice::<pb::PutRequest>(bytes),
        2 => twice::<pb::DeleteRangeRequest>(bytes),
        3 => twice::<pb::TxnRequest>(bytes),
        4 => twice::<pb::CompactionRequest>(bytes),
        5 => twice::<pb::WatchRequest>(bytes),
        6 => twice::<pb::LeaseGrantRequest>(bytes),
        7 => twice::<pb::AlarmRequest>(bytes),
        8 => twice::<pb::MemberAddRequest>(bytes),
        9 => twice::<pb::AuthUserAddRequest>(bytes),
        10 => twice::<pb::InternalRaftRequest>(bytes),
        11 => twice::<raftpb::Message>(bytes),
        12 => twice::<raftpb::Snapshot>(bytes),
        13 => twice::<raftpb::ConfChange>(bytes),
        14 => twice::<pb::TxnResponse>(bytes),
        _ => entry(bytes),
    }
}

fn twice<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(Bytes::copy_from_slice(bytes)) {
        let written = message.encode_to_vec();
        assert_eq!(M::decode(&*written).as_ref(), Ok(&message));
    }
}

fn entry(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    let Ok(Split { header, kind, body, .. }) = split(&payload) else { return };
    let mut again = BytesMut::new();
    frame(kind, &header, &body, &mut again);
    let again = again.freeze();
    if header.id != 0 {
        assert_eq!(request_id(&again), Some(header.id));
    }
    assert_eq!(split(&again), Ok(Split { id: header.id, header, kind, body }));
}
