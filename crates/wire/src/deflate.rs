//! Reading gzip (RFC 1951, RFC 1952).

use bytes::Bytes;

use crate::message::Flaw;
use crate::status::Code;

/// Unpacks a message.
pub(crate) fn gunzip(_packed: &[u8], _max: usize) -> Result<Bytes, Flaw> {
    Err(Flaw { code: Code::Unimplemented, text: "gzip".to_owned() })
}
