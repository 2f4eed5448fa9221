//! Protobuf by hand: for what the hot paths write without building a message first.
//!
//! A row goes from the store into a response, an event into a watch: both are bytes already, and what
//! is missing is the few fields around them. These functions write fields as proto3 has them: in the
//! order they are called, zero and empty left out.
//!
//! # Not here
//!
//! Decoding, and messages off the hot path: `prost` does those.

use proto::etcdserverpb::ResponseHeader;

/// Appends `value` in base 128.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A number; 0 is left out.
pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        varint(out, u64::from(field << 3));
        varint(out, value);
    }
}

/// A signed number, as `int64` has it: ten bytes if negative.
pub(crate) fn signed(out: &mut Vec<u8>, field: u32, value: i64) {
    number(out, field, value as u64);
}

pub(crate) fn flag(out: &mut Vec<u8>, field: u32, value: bool) {
    number(out, field, u64::from(value));
}

/// Bytes or text; empty ones are left out.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        prefix(out, field, value.len());
        out.extend_from_slice(value);
    }
}

/// What stands before a message, or bytes, of `len` bytes.
pub(crate) fn prefix(out: &mut Vec<u8>, field: u32, len: usize) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, len as u64);
}

/// A message whose length is known only once `body` has written it.
pub(crate) fn nested<T>(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    varint(out, u64::from(field << 3 | 2));
    let at = out.len();
    out.push(0);
    let result = body(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return result;
    }
    // The guess of one byte was short: move the body by what is missing.
    let extra = varint_len(len as u64) - 1;
    out.resize(out.len() + extra, 0);
    out.copy_within(at + 1..at + 1 + len, at + 1 + extra);
    let mut rest = len as u64;
    for byte in &mut out[at..at + extra] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + extra] = rest as u8;
    result
}

/// The fields of a `ResponseHeader`.
pub(crate) fn header_fields(out: &mut Vec<u8>, header: &ResponseHeader) {
    number(out, 1, header.cluster_id);
    number(out, 2, header.member_id);
    signed(out, 3, header.revision);
    number(out, 4, header.raft_term);
}

/// A `ResponseHeader` as field 1, where every response has it.
pub(crate) fn header(out: &mut Vec<u8>, header: &ResponseHeader) {
    nested(out, 1, |out| header_fields(out, header));
}

/// What a `KeyValue` consists of, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct KeyValueParts<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
}

/// The fields of a `mvccpb.KeyValue` in the order of their numbers: the bytes every member stores, and hashes.
pub(crate) fn key_value_fields(out: &mut Vec<u8>, kv: KeyValueParts<'_>) {
    bytes(out, 1, kv.key);
    signed(out, 2, kv.create_revision);
    signed(out, 3, kv.mod_revision);
    signed(out, 4, kv.version);
    bytes(out, 5, kv.value);
    signed(out, 6, kv.lease);
}

#[cfg(test)]
mod tests {
    use proto::mvccpb::KeyValue;
    use proto::prost::Message;
    use stdx::each_seed;

    use super::*;

    #[test]
    fn a_key_value_by_hand_equals_the_generated_encoding() {
        each_seed(|g| {
            let pick = |g: &mut stdx::Generator| (g.number() >> g.below(64)) as i64;
            let kv = KeyValue {
                key: g.bytes(0..300).into(),
                create_revision: pick(g),
                mod_revision: pick(g),
                version: pick(g),
                value: g.bytes(0..300).into(),
                lease: pick(g),
            };
            let mut out = Vec::new();
            key_value_fields(
                &mut out,
                KeyValueParts {
                    key: &kv.key,
                    create_revision: kv.create_revision,
                    mod_revision: kv.mod_revision,
                    version: kv.version,
                    value: &kv.value,
                    lease: kv.lease,
                },
            );
            assert_eq!(out, kv.encode_to_vec());
        });
    }

    #[test]
    fn a_nested_message_of_any_length_gets_the_right_prefix() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 3_000_000] {
            let body = vec![7; len];
            let mut by_guess = Vec::new();
            nested(&mut by_guess, 3, |out| out.extend_from_slice(&body));
            let mut known = Vec::new();
            prefix(&mut known, 3, len);
            known.extend_from_slice(&body);
            assert!(by_guess == known, "length {len}");
        }
    }

    #[test]
    fn a_varint_is_as_long_as_it_says() {
        each_seed(|g| {
            let value = g.number() >> g.below(64);
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
        });
    }
}
