use stdx::{Generator, each_seed};

use super::*;
use crate::etcdserverpb::{InternalRaftRequest, PutRequest, RangeRequest};

fn interpret(line: &str) -> String {
    let hex = line.strip_prefix("split").expect("split, and a payload").trim();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits");
    let payload: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    match split(&payload.into()) {
        Ok(Split { id, header, kind, body }) => format!("{id:#x} {kind:?} {body:?}\n{header:?}\n"),
        Err(error) => format!("refused: {error}\n"),
    }
}

#[test]
fn payloads_of_etcd_are_taken_apart() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/raft_request");
    stdx::script::run_folder(folder, || {
        |lines: &[&str]| lines.iter().map(|line| interpret(line)).collect()
    });
}

fn header(g: &mut Generator) -> RequestHeader {
    let username = if g.chance(50) { String::new() } else { "root".repeat(g.int(1..=40)) };
    RequestHeader { id: g.number(), username, auth_revision: g.below(3) }
}

fn put(g: &mut Generator) -> PutRequest {
    PutRequest {
        key: g.bytes(0..200).into(),
        value: g.bytes(0..200).into(),
        lease: g.number() as i64,
        prev_kv: g.chance(50),
        ..PutRequest::default()
    }
}

/// The obvious way: prost's view of the whole.
fn framed_by_prost(header: &RequestHeader, put: &PutRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        header: Some(header.clone()),
        put: Some(put.clone()),
        ..InternalRaftRequest::default()
    }
}

#[test]
fn a_framed_request_reads_as_if_prost_had_encoded_it() {
    each_seed(|g| {
        let (header, put) = (header(g), put(g));
        let (mut framed, mut made) = (BytesMut::new(), BytesMut::new());
        frame(Body::Put, &header, &put.encode_to_vec(), &mut framed);
        frame_message(Body::Put, &header, &put, &mut made);
        assert_eq!(framed, made);
        assert_eq!(framed.len(), framed_len(Body::Put, &header, put.encoded_len()));

        let framed = framed.freeze();
        let whole = InternalRaftRequest::decode(framed.clone()).expect("what was framed decodes");
        assert_eq!(whole, framed_by_prost(&header, &put));

        let parts = split(&framed).expect("what was framed is split");
        assert_eq!((parts.id, parts.kind), (header.id, Body::Put));
        assert_eq!(parts.header, header);
        assert_eq!(parts.body, put.encode_to_vec());
        assert!(framed.as_ptr_range().contains(&parts.body.as_ptr()) || parts.body.is_empty());
    });
}

/// Fields in any order, some in pieces, some unknown, some bytes wrong.
fn odd_payload(g: &mut Generator) -> Bytes {
    let mut fields = g.vec(1..6, |g| {
        let mut field = BytesMut::new();
        match g.below(7) {
            0 | 1 => encoding::message::encode(Body::Put.field(), &put(g), &mut field),
            2 => encoding::message::encode(HEADER, &header(g), &mut field),
            3 => encoding::uint64::encode(LEGACY_ID, &g.below(2), &mut field),
            4 => {
                encoding::message::encode(
                    Body::Range.field(),
                    &RangeRequest::default(),
                    &mut field,
                );
            }
            5 => encoding::fixed64::encode(12, &g.number(), &mut field),
            _ => {
                encoding::encode_key(2000, WireType::StartGroup, &mut field);
                encoding::encode_key(2000, WireType::EndGroup, &mut field);
            }
        }
        field
    });
    g.shuffle(&mut fields);
    let mut payload = fields.concat();
    if g.chance(50) {
        for _ in 0..g.int(1..=3) {
            let at = g.int(0..=payload.len() - 1);
            payload[at] = g.number() as u8;
        }
    }
    payload.into()
}

#[test]
fn splitting_agrees_with_prost_on_whatever_comes() {
    each_seed(|g| {
        let payload = odd_payload(g);
        let parts = split(&payload);
        let Ok(mut whole) = InternalRaftRequest::decode(payload.clone()) else { return };
        match parts {
            Ok(Split { id, header, kind, body }) => {
                let mut framed = BytesMut::new();
                frame(kind, &header, &body, &mut framed);
                let again = InternalRaftRequest::decode(framed).expect("its parts were sound");
                let header_id = whole.header.get_or_insert_default().id;
                assert_eq!(id, if whole.id == 0 { header_id } else { whole.id });
                whole.id = 0;
                assert_eq!(again, whole);
            }
            Err(SplitError::NoBody { .. }) => {
                assert_eq!((&whole.put, &whole.range), (&None, &None));
            }
            Err(SplitError::TwoBodies(..)) => {
                let mut copy = whole.clone();
                (copy.id, copy.header) = (0, None);
                (copy.put, copy.range) = (None, None);
                let others = copy != InternalRaftRequest::default();
                assert!(others || (whole.put.is_some() && whole.range.is_some()));
            }
            Err(error @ (SplitError::Malformed(_) | SplitError::Truncated)) => {
                panic!("prost read it, but: {error}")
            }
        }
    });
}

#[test]
fn any_bytes_are_split_or_refused() {
    each_seed(|g| {
        let _ = split(&g.bytes(0..40).into());
    });
}

#[test]
fn every_field_leads_to_its_kind_and_back() {
    let known = (0..20_000).filter_map(|field| Some((field, Body::from_field(field)?)));
    let known: Vec<_> = known.collect();
    assert_eq!(known.len(), Body::ALL.len());
    assert!(known.iter().all(|(field, kind)| kind.field() == *field));
}

/// The table against the .proto file, which was checked against etcd's.
#[test]
fn the_kinds_are_the_fields_of_internal_raft_request() {
    let file = include_str!("../../proto/etcdserverpb/raft_internal.proto");
    let (_, message) = file.split_once("message InternalRaftRequest {").expect("the message");
    let (message, _) = message.split_once("\n}").expect("its end");
    let fields = message.lines().filter_map(|line| {
        let (declaration, number) = line.split_once(';')?.0.split_once(" = ")?;
        let name = declaration.split_whitespace().nth(1)?;
        Some((name.replace('_', "").to_lowercase(), number.parse::<u32>().ok()?))
    });
    let declared: Vec<_> = fields.filter(|(_, n)| ![LEGACY_ID, HEADER].contains(n)).collect();
    let ours = Body::ALL.iter().map(|kind| (format!("{kind:?}").to_lowercase(), kind.field()));
    assert_eq!(declared, ours.collect::<Vec<_>>());
}
