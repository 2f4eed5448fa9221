//! Requests as they come off the wire: what is understood, what is passed over, what is refused.
//!
//! A field of a kind other than the schema's is a field nobody knows, to Go's protobuf: it is passed
//! over. Ours takes it for damage. So what is refused at first is looked at once more, field by field.

use bytes::{Buf, Bytes};
use proto::error::{Code, Status};
use proto::prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use proto::prost::{DecodeError, Message};

/// Decodes a request, or says why not as grpc-go does.
pub(crate) fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Status> {
    M::decode(body.clone()).or_else(|_| decode_leniently(body)).map_err(|_| {
        let text =
            "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
        Status::new(Code::Internal, text)
    })
}

#[cold]
fn decode_leniently<M: Message + Default>(body: &Bytes) -> Result<M, DecodeError> {
    let mut message = M::default();
    let mut rest = body.clone();
    while rest.has_remaining() {
        let start = body.len() - rest.len();
        let (tag, kind) = decode_key(&mut rest)?;
        skip_field(kind, tag, &mut rest, DecodeContext::default())?;
        let merged = message.merge(body.slice(start..body.len() - rest.len()));
        match kind {
            // The bytes are there; only damage inside them can be the trouble.
            WireType::LengthDelimited => merged?,
            // A whole number can't be damaged: it is not what the schema wants here.
            WireType::Varint | WireType::ThirtyTwoBit | WireType::SixtyFourBit => {}
            WireType::StartGroup | WireType::EndGroup => {}
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::PutRequest;

    #[test]
    fn a_field_of_another_kind_is_passed_over_and_damage_is_not() {
        let put = |bytes: &[u8]| decode::<PutRequest>(&Bytes::copy_from_slice(bytes));
        let odd = put(b"\x08\x01\x12\x01v\x0a\x01k").expect("a number for a key is nobody's");
        assert_eq!((&odd.key[..], &odd.value[..]), (&b"k"[..], &b"v"[..]));
        for damaged in [&b"\xff"[..], b"\x08", b"\x0a\x05abc", b"\x08\x01\x0a\x05abc"] {
            let status = put(damaged).expect_err("nothing to be understood");
            assert_eq!(status.code, Code::Internal);
        }
    }
}
