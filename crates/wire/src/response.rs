//! Header blocks of responses: HPACK, the writing half, which is a handful of constants.
//!
//! An answer is `:status: 200`, `content-type: application/grpc` and, after the message,
//! `grpc-status: 0`. Spelled out that is forty bytes; so the first answer of a connection puts the
//! last two into the peer's table, and from then on an answer's headers are two bytes and its
//! trailers one. Whatever else is said (errors) is spelled out each time and never remembered.
//!
//! # Invariants
//!
//! - Blocks are written in the order they are made: the peer's table follows ours.
//! - A peer that wants a smaller table than HTTP/2's default gets none at all.

use crate::status::{Status, base64, percent_encode};

/// The peer's table holds at least this, unless it said otherwise.
pub(crate) const TABLE_SIZE_DEFAULT: u32 = 4096;

/// What the peer's table holds of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// `content-type` stands at 62.
    ContentType,
    /// `grpc-status: 0` stands at 62, `content-type` at 63.
    Both,
    /// The table is not used; the peer is told so at the next occasion if it wasn't yet.
    Unused {
        told: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Blocks {
    known: Known,
}

const STATUS_200: u8 = 0x88;
const NEWEST: u8 = 0x80 | 62;
const SECOND_NEWEST: u8 = 0x80 | 63;
/// "The table's size is now 0."
const NO_TABLE: u8 = 0x20;

/// `content-type` (31 in the static table) with `application/grpc` in Huffman's code.
const CONTENT_TYPE_REMEMBERED: &[u8] =
    &[0x5f, 0x8b, 0x1d, 0x75, 0xd0, 0x62, 0x0d, 0x26, 0x3d, 0x4c, 0x4d, 0x65, 0x64];
const CONTENT_TYPE: &[u8] =
    &[0x0f, 0x10, 0x8b, 0x1d, 0x75, 0xd0, 0x62, 0x0d, 0x26, 0x3d, 0x4c, 0x4d, 0x65, 0x64];
/// `grpc-status` in Huffman's code; a remembered one starts with 0x40 instead of 0.
const GRPC_STATUS: &[u8] = &[0x88, 0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
const OK_REMEMBERED: &[u8] =
    &[0x40, 0x88, 0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f, 0x01, b'0'];
const OK: &[u8] = &[0x00, 0x88, 0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f, 0x01, b'0'];

const FIRST_HEADERS: &[u8] = &concat::<14>(&[STATUS_200], CONTENT_TYPE_REMEMBERED);
const PLAIN_HEADERS: &[u8] = &concat::<15>(&[STATUS_200], CONTENT_TYPE);
const PLAIN_HEADERS_NO_TABLE: &[u8] = &concat::<16>(&[NO_TABLE, STATUS_200], CONTENT_TYPE);
const OK_NO_TABLE: &[u8] = &concat::<13>(&[NO_TABLE], OK);

const fn concat<const N: usize>(a: &[u8], b: &[u8]) -> [u8; N] {
    assert!(a.len() + b.len() == N, "both, and nothing else");
    let mut both = [0; N];
    let mut i = 0;
    while i < N {
        both[i] = if i < a.len() { a[i] } else { b[i - a.len()] };
        i += 1;
    }
    both
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self { known: Known::Nothing }
    }

    /// The peer changed the size its table may have.
    pub(crate) fn on_table_size(&mut self, size: u32) {
        if size < TABLE_SIZE_DEFAULT && !matches!(self.known, Known::Unused { .. }) {
            self.known = Known::Unused { told: false };
        }
    }

    /// Whether the shortest of all blocks will do: see [`SHORT_HEADERS`], [`SHORT_OK`].
    #[inline]
    pub(crate) fn are_short(&self) -> bool {
        self.known == Known::Both
    }

    /// The block before the first message.
    pub(crate) fn headers(&mut self) -> &'static [u8] {
        match self.known {
            Known::Nothing => {
                self.known = Known::ContentType;
                FIRST_HEADERS
            }
            Known::ContentType => &[STATUS_200, NEWEST],
            Known::Both => &SHORT_HEADERS,
            Known::Unused { told: false } => {
                self.known = Known::Unused { told: true };
                PLAIN_HEADERS_NO_TABLE
            }
            Known::Unused { told: true } => PLAIN_HEADERS,
        }
    }

    /// The block after the last message, if all went well.
    pub(crate) fn ok(&mut self) -> &'static [u8] {
        match self.known {
            Known::ContentType => {
                self.known = Known::Both;
                OK_REMEMBERED
            }
            Known::Both => &SHORT_OK,
            Known::Unused { told: false } => {
                self.known = Known::Unused { told: true };
                OK_NO_TABLE
            }
            Known::Nothing | Known::Unused { told: true } => OK,
        }
    }

    /// Appends the fields that end a call: `status`, spelled out.
    pub(crate) fn put_status(&mut self, block: &mut Vec<u8>, status: &Status<'_>) {
        self.put_table_size(block);
        block.push(0);
        block.extend_from_slice(GRPC_STATUS);
        put_string(block, (status.code as u8).to_string().as_bytes());
        block.push(0);
        put_string(block, b"grpc-message");
        put_string(block, percent_encode(status.message).as_bytes());
        if let Some(details) = status.details {
            block.push(0);
            put_string(block, b"grpc-status-details-bin");
            put_string(block, base64(details).as_bytes());
        }
    }

    /// Appends the fields that begin an answer of nothing but headers.
    pub(crate) fn put_head(&mut self, block: &mut Vec<u8>, http: u16) {
        self.put_table_size(block);
        if http == 200 {
            block.push(STATUS_200);
        } else {
            block.push(0x08);
            put_string(block, http.to_string().as_bytes());
        }
        block.extend_from_slice(CONTENT_TYPE);
    }

    fn put_table_size(&mut self, block: &mut Vec<u8>) {
        if self.known == (Known::Unused { told: false }) {
            self.known = Known::Unused { told: true };
            block.push(NO_TABLE);
        }
    }
}

/// Headers and trailers of an answer once the peer knows ours.
pub(crate) const SHORT_HEADERS: [u8; 2] = [STATUS_200, SECOND_NEWEST];
pub(crate) const SHORT_OK: [u8; 1] = [NEWEST];

/// A string as it is. (Huffman's code would save bytes where we save none: in errors.)
fn put_string(block: &mut Vec<u8>, text: &[u8]) {
    put_length(block, text.len());
    block.extend_from_slice(text);
}

fn put_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX_MAX: usize = 127;
    if length < PREFIX_MAX {
        return block.push(length as u8);
    }
    block.push(PREFIX_MAX as u8);
    let mut rest = length - PREFIX_MAX;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Route;
    use crate::hpack::{Decoder, Field, Sink};
    use crate::status::Code;

    struct Text(String);

    impl Sink for Text {
        fn field(&mut self, field: Field<'_>) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.0 += &format!("{}={} ", text(field.name), text(field.value));
        }
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> String {
        let mut text = Text(String::new());
        decoder.decode(block, &mut text).unwrap();
        text.0
    }

    #[test]
    fn the_peer_reads_the_same_in_every_block() {
        let mut peer = Decoder::new(4096, |_| Route::UnknownService);
        let mut blocks = Blocks::new();
        for _ in 0..3 {
            assert_eq!(
                read(&mut peer, blocks.headers()),
                ":status=200 content-type=application/grpc "
            );
            assert_eq!(read(&mut peer, blocks.ok()), "grpc-status=0 ");
        }
        assert!(blocks.are_short());
        blocks.on_table_size(100);
        for _ in 0..2 {
            assert_eq!(
                read(&mut peer, blocks.headers()),
                ":status=200 content-type=application/grpc "
            );
            assert_eq!(read(&mut peer, blocks.ok()), "grpc-status=0 ");
        }
    }

    #[test]
    fn an_error_is_spelled_out() {
        let (mut blocks, mut block) = (Blocks::new(), Vec::new());
        blocks.on_table_size(0);
        blocks.put_head(&mut block, 415);
        let long = "x".repeat(300);
        let status = Status { code: Code::Unauthenticated, message: &long, details: Some(b"fo") };
        blocks.put_status(&mut block, &status);
        let mut peer = Decoder::new(4096, |_| Route::UnknownService);
        assert_eq!(
            read(&mut peer, &block),
            format!(
                ":status=415 content-type=application/grpc grpc-status=16 grpc-message={long} \
                 grpc-status-details-bin=Zm8 "
            )
        );
    }
}
