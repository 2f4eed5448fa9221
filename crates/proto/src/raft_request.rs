//! A log entry's payload, put together and taken apart without touching the request inside.
//!
//! etcd logs an `InternalRaftRequest`: a header, and one of some thirty requests in the field of
//! its kind. The request's bytes are the client's own, so framing is one copy and splitting none:
//!
//! ```text
//! ┌─────────┬─────┬──────────────────────────┬──────────┬─────┬──────────────────┐
//! │ tag 100 │ len │ id, username, auth rev.  │ tag kind │ len │ the request      │
//! └─────────┴─────┴──────────────────────────┴──────────┴─────┴──────────────────┘
//!                   RequestHeader              4 = put …        as it came off the wire
//! ```
//!
//! Go writes the header behind the request. To a reader of protobuf that is the same.
//!
//! # Invariants
//!
//! - A body given to [`frame`] has been decoded once as its kind's message: etcd's members end
//!   themselves over an entry they can't decode.   (the caller's)
//! - [`split`] is total, and agrees with prost wherever both succeed.   (properties)
//!
//! # Not here
//!
//! What a request means. Entries of etcd's second version: 3.7 no longer reads them.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

use crate::etcdserverpb::RequestHeader;

/// The fields of `InternalRaftRequest` that are not a request.
const LEGACY_ID: u32 = 1;
const HEADER: u32 = 100;

/// One line a kind: its name, its field.
macro_rules! bodies {
    ($($name:ident $field:literal)*) => {
        /// Which request an entry holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Body { $($name),* }

        impl Body {
            pub const ALL: &[Body] = &[$(Body::$name),*];

            /// Its field's number in `InternalRaftRequest`.
            pub const fn field(self) -> u32 {
                match self { $(Body::$name => $field),* }
            }

            pub const fn from_field(field: u32) -> Option<Body> {
                match field {
                    $($field => Some(Body::$name),)*
                    _ => None,
                }
            }
        }
    };
}

bodies! {
    Range 3
    Put 4
    DeleteRange 5
    Txn 6
    Compaction 7
    LeaseGrant 8
    LeaseRevoke 9
    Alarm 10
    LeaseCheckpoint 11
    AuthEnable 1000
    AuthDisable 1011
    Authenticate 1012
    AuthStatus 1013
    AuthUserAdd 1100
    AuthUserDelete 1101
    AuthUserGet 1102
    AuthUserChangePassword 1103
    AuthUserGrantRole 1104
    AuthUserRevokeRole 1105
    AuthUserList 1106
    AuthRoleList 1107
    AuthRoleAdd 1200
    AuthRoleDelete 1201
    AuthRoleGet 1202
    AuthRoleGrantPermission 1203
    AuthRoleRevokePermission 1204
    ClusterVersionSet 1300
    ClusterMemberAttrSet 1301
    DowngradeInfoSet 1302
    DowngradeVersionTest 9900
}

/// Appends an entry's payload to `out`. `body` is the encoded request, copied as it is.
pub fn frame(kind: Body, header: &RequestHeader, body: &[u8], out: &mut BytesMut) {
    out.reserve(framed_len(kind, header, body.len()));
    encoding::message::encode(HEADER, header, out);
    encoding::encode_key(kind.field(), WireType::LengthDelimited, out);
    encoding::encode_varint(body.len() as u64, out);
    out.put_slice(body);
}

/// As [`frame`], for a request that was made here and has no bytes yet.
pub fn frame_message(kind: Body, header: &RequestHeader, body: &impl Message, out: &mut BytesMut) {
    out.reserve(framed_len(kind, header, body.encoded_len()));
    encoding::message::encode(HEADER, header, out);
    encoding::message::encode(kind.field(), body, out);
}

/// How many bytes [`frame`] appends.
pub fn framed_len(kind: Body, header: &RequestHeader, body_len: usize) -> usize {
    encoding::message::encoded_len(HEADER, header)
        + encoding::key_len(kind.field())
        + encoding::encoded_len_varint(body_len as u64)
        + body_len
}

/// A payload taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// By which the proposal is known to whoever waits for it: the header's, or, before there
    /// were headers, the entry's own.
    pub id: u64,
    pub header: RequestHeader,
    pub kind: Body,
    /// The encoded request; a slice of the payload.
    pub body: Bytes,
}

/// Why a payload could not be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// It is no protobuf.
    Malformed(prost::DecodeError),
    /// It ends within its request.
    Truncated,
    /// It holds no request; perhaps one, in this field, that only later versions know.
    NoBody { unknown_field: Option<u32> },
    /// It holds two; nobody writes such.
    TwoBodies(Body, Body),
}

impl From<prost::DecodeError> for SplitError {
    fn from(error: prost::DecodeError) -> Self {
        SplitError::Malformed(error)
    }
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitError::Malformed(error) => error.fmt(f),
            SplitError::Truncated => f.write_str("a request that ends too early"),
            SplitError::NoBody { unknown_field: None } => f.write_str("a request without a body"),
            SplitError::NoBody { unknown_field: Some(field) } => {
                write!(f, "a request of a kind we do not know: field {field}")
            }
            SplitError::TwoBodies(a, b) => write!(f, "a request with two bodies: {a:?}, {b:?}"),
        }
    }
}

impl std::error::Error for SplitError {}

/// The id of the request, if it stands where [`frame`] puts it: at the front of the header at the
/// front. Cheaper than [`split`], for whoever only asks whose entry it is.
pub fn request_id(payload: &[u8]) -> Option<u64> {
    // The tags of field 100 (length-delimited) and, within it, of field 1 (a varint).
    let mut rest = payload.strip_prefix(&[0xa2, 0x06])?;
    encoding::decode_varint(&mut rest).ok()?;
    let mut rest = rest.strip_prefix(&[0x08])?;
    encoding::decode_varint(&mut rest).ok()
}

/// Takes a payload apart. The request in it stays encoded, and shares the payload's bytes.
pub fn split(payload: &Bytes) -> Result<Split, SplitError> {
    let mut rest = payload.clone();
    let mut header = RequestHeader::default();
    let mut legacy_id = 0;
    let mut body: Option<(Body, Pieces)> = None;
    let mut unknown_field = None;
    while rest.has_remaining() {
        let (field, wire_type) = encoding::decode_key(&mut rest)?;
        match (field, Body::from_field(field)) {
            (HEADER, _) => {
                let context = DecodeContext::default();
                encoding::message::merge(wire_type, &mut header, &mut rest, context)?;
            }
            (LEGACY_ID, _) => {
                let context = DecodeContext::default();
                encoding::uint64::merge(wire_type, &mut legacy_id, &mut rest, context)?;
            }
            (_, Some(kind)) => {
                encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
                let piece = take(&mut rest)?;
                match &mut body {
                    None => body = Some((kind, Pieces { first: piece, more: BytesMut::new() })),
                    Some((same, pieces)) if *same == kind => pieces.more.put(piece),
                    Some((other, _)) => return Err(SplitError::TwoBodies(*other, kind)),
                }
            }
            (_, None) => {
                unknown_field = Some(field);
                encoding::skip_field(wire_type, field, &mut rest, DecodeContext::default())?;
            }
        }
    }
    let (kind, pieces) = body.ok_or(SplitError::NoBody { unknown_field })?;
    let id = if legacy_id == 0 { header.id } else { legacy_id };
    Ok(Split { id, header, kind, body: pieces.join() })
}

/// Takes what a length at the start of `rest` measures out.
fn take(rest: &mut Bytes) -> Result<Bytes, SplitError> {
    let len = encoding::decode_varint(rest)?;
    match usize::try_from(len) {
        Ok(len) if len <= rest.len() => Ok(rest.split_to(len)),
        Ok(_) | Err(_) => Err(SplitError::Truncated),
    }
}

/// Protobuf lets a message come in pieces, and joins them end to end. Nobody writes such, but it
/// is legal; it is the one case that copies.
struct Pieces {
    first: Bytes,
    more: BytesMut,
}

impl Pieces {
    fn join(self) -> Bytes {
        if self.more.is_empty() {
            return self.first;
        }
        [self.first, self.more.freeze()].concat().into()
    }
}

#[cfg(test)]
mod tests;
