//! Blocks byte by byte, and the examples of RFC 7541, appendix C.

use super::*;
use stdx::each_seed;

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

#[test]
fn what_the_first_request_says_the_later_ones_repeat_in_seven_bytes() {
    let mut server = Decoder::new();
    let first = fields(&mut server, &first_block("/a.B/C", "host:1")).expect("a block");
    let repeat = fields(&mut server, &REPEAT_BLOCK).expect("a block");
    assert_eq!(first, repeat);
    assert_eq!(first[2], (":path".to_owned(), "/a.B/C".to_owned()));
    assert_eq!(first[3], (":authority".to_owned(), "host:1".to_owned()));
    assert_eq!(first.len(), 7);
}

#[test]
fn a_lone_block_says_the_same_and_leaves_the_table_as_it_was() {
    let (mut server, mut other) = (Decoder::new(), Decoder::new());
    let lone = fields(&mut server, &lone_block("/a.B/C", "host:1")).expect("a block");
    assert_eq!(lone, fields(&mut other, &first_block("/a.B/C", "host:1")).expect("a block"));
    assert_eq!(fields(&mut server, &[INDEXED | 62]), Err(Malformed));
}

#[test]
fn a_block_has_the_bytes_that_hpack_prescribes() {
    let block = first_block("/p", "h");
    assert_eq!(block[..9], *b"\x83\x86\x40\x05:path");
    assert_eq!(block[9..12], *b"\x02/p");
}

/// C.6: three answers with Huffman coding, in a table that has to evict.
#[test]
fn the_table_evicts_as_in_the_specification() {
    let mut decoder = Decoder::new();
    let shrink = [0x3f, 0xe1, 0x01]; // to 256
    assert_eq!(fields(&mut decoder, &shrink), Ok(vec![]));
    let first = [
        0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0, 0x7a,
        0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0,
        0x82, 0xa6, 0x2d, 0x1b, 0xff, 0x6e, 0x91, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f,
        0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3,
    ];
    let said = fields(&mut decoder, &first).expect("a block");
    assert_eq!(said[0], (":status".to_owned(), "302".to_owned()));
    assert_eq!(said[3], ("location".to_owned(), "https://www.example.com".to_owned()));
    assert_eq!((decoder.size, decoder.table.len()), (222, 4));

    let second = [0x48, 0x83, 0x64, 0x0e, 0xff, 0xc1, 0xc0, 0xbf];
    let said = fields(&mut decoder, &second).expect("a block");
    assert_eq!(said[0], (":status".to_owned(), "307".to_owned()));
    assert_eq!(said[1], ("cache-control".to_owned(), "private".to_owned()));
    assert_eq!((decoder.size, decoder.table.len()), (222, 4));
}

#[test]
fn whatever_a_server_sends_the_decoder_returns() {
    each_seed(|g| {
        let mut decoder = Decoder::new();
        for _ in 0..8 {
            if fields(&mut decoder, &g.bytes(0..64)).is_err() {
                return;
            }
        }
    });
}
