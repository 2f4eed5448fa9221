//! The examples of RFC 7541, appendix C; every block a test encoder can make; and rubbish.

use super::*;
use stdx::{Generator, each_seed};

use crate::field::Route;

#[derive(Default)]
struct Text(String);

impl Sink for Text {
    fn field(&mut self, field: Field<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.0 += &format!("{}: {}\n", text(field.name), text(field.value));
    }
}

fn decoder(size_max: usize) -> Decoder {
    Decoder::new(size_max, |_| Route::UnknownService)
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<String, Broken> {
    let mut text = Text::default();
    decoder.decode(block, &mut text).map(|()| text.0)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Decodes the blocks one after the other; after each the table has the given size.
fn example(size_max: usize, blocks: &[(&str, &str, usize)]) {
    let mut decoder = decoder(size_max);
    for (block, fields, size) in blocks {
        assert_eq!(read(&mut decoder, &hex(block)).unwrap(), *fields);
        assert_eq!(decoder.table.size(), *size);
    }
}

#[test]
fn c_2_single_fields() {
    example(
        4096,
        &[
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header\n",
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 55),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 55),
            ("82", ":method: GET\n", 55),
        ],
    );
}

const GET: &str = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
const GET_NO_CACHE: &str =
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n";
const GET_CUSTOM: &str = ":method: GET\n:scheme: https\n:path: /index.html\n\
    :authority: www.example.com\ncustom-key: custom-value\n";

#[test]
fn c_3_requests_without_huffman() {
    example(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", GET, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", GET_NO_CACHE, 110),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                GET_CUSTOM,
                164,
            ),
        ],
    );
}

#[test]
fn c_4_requests_with_huffman() {
    example(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", GET, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", GET_NO_CACHE, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", GET_CUSTOM, 164),
        ],
    );
}

const FOUND: &str = ":status: 302\ncache-control: private\n\
    date: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n";
const FOUND_AGAIN: &str = ":status: 307\ncache-control: private\n\
    date: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n";
const OK_COOKIE: &str = ":status: 200\ncache-control: private\n\
    date: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
    content-encoding: gzip\n\
    set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";

#[test]
fn c_5_responses_without_huffman_evict_what_no_longer_fits() {
    example(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                FOUND,
                222,
            ),
            ("4803 3330 37c1 c0bf", FOUND_AGAIN, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
                 3d31",
                OK_COOKIE,
                215,
            ),
        ],
    );
}

#[test]
fn c_6_responses_with_huffman_evict_the_same() {
    example(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                FOUND,
                222,
            ),
            ("4883 640e ffc1 c0bf", FOUND_AGAIN, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                OK_COOKIE,
                215,
            ),
        ],
    );
}

/// The encoder's idea of the dynamic table: a list, newest first.
struct Model {
    entries: Vec<(String, String)>,
    size_max: usize,
}

impl Model {
    fn evict(&mut self) {
        let size = |(name, value): &(String, String)| name.len() + value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.size_max {
            self.entries.pop();
        }
    }

    fn remember(&mut self, name: &str, value: &str) {
        self.entries.insert(0, (name.to_owned(), value.to_owned()));
        self.evict(); // An entry larger than the table empties it and is gone itself.
    }
}

/// A number after the bits of `mark` (RFC 7541, 5.1).
pub(crate) fn put_integer(block: &mut Vec<u8>, mark: u8, prefix: u32, value: usize) {
    let max = (1 << prefix) - 1;
    if value < max {
        return block.push(mark | value as u8);
    }
    block.push(mark | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn put_string(g: &mut Generator, block: &mut Vec<u8>, text: &str) {
    if g.chance(50) {
        let code = huffman::encode(text.as_bytes());
        put_integer(block, 0x80, 7, code.len());
        block.extend_from_slice(&code);
    } else {
        put_integer(block, 0, 7, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

fn some_text(g: &mut Generator) -> String {
    let length_max = *g.pick(&[1, 3, 20, 200]);
    g.vec(0..length_max + 1, |g| char::from(b'a' + g.below(26) as u8)).into_iter().collect()
}

/// Writes a field in one of the ways the tables allow.
fn put_field(g: &mut Generator, block: &mut Vec<u8>, model: &mut Model) -> String {
    if !model.entries.is_empty() && g.chance(40) {
        let at = g.int(0..=model.entries.len() - 1);
        put_integer(block, 0x80, 7, 62 + at);
        let (name, value) = &model.entries[at];
        return format!("{name}: {value}\n");
    }
    let (mark, prefix) = *g.pick(&[(0x40, 6), (0x00, 4), (0x10, 4)]);
    let name = if !model.entries.is_empty() && g.chance(40) {
        let at = g.int(0..=model.entries.len() - 1);
        put_integer(block, mark, prefix, 62 + at);
        model.entries[at].0.clone()
    } else {
        let name = some_text(g);
        put_integer(block, mark, prefix, 0);
        put_string(g, block, &name);
        name
    };
    let value = some_text(g);
    put_string(g, block, &value);
    if mark == 0x40 {
        model.remember(&name, &value);
    }
    format!("{name}: {value}\n")
}

#[test]
fn whatever_an_encoder_writes_is_read_as_it_was_meant() {
    each_seed(|g| {
        let size_max = g.int(0..=600);
        let mut decoder = decoder(size_max);
        let mut model = Model { entries: Vec::new(), size_max };
        for _ in 0..g.int(1..=20) {
            let mut block = Vec::new();
            if g.chance(10) {
                model.size_max = g.int(0..=size_max);
                model.evict();
                put_integer(&mut block, 0x20, 5, model.size_max);
            }
            let fields: String =
                (0..g.int(1..=12)).map(|_| put_field(g, &mut block, &mut model)).collect();
            assert_eq!(read(&mut decoder, &block).unwrap(), fields);
            if g.chance(20) {
                decoder.release();
            }
        }
    });
}

#[test]
fn no_bytes_make_it_panic_or_outgrow_its_table() {
    each_seed(|g| {
        let mut decoder = decoder(200);
        for _ in 0..20 {
            let block = g.bytes(0..100);
            let _ = read(&mut decoder, &block);
            assert!(decoder.table.size() <= 200);
        }
    });
}

#[test]
fn sizes_stand_at_the_beginning_and_within_the_limit() {
    let mut decoder = decoder(100);
    assert!(read(&mut decoder, &hex("20 3f 45 82")).is_ok()); // 0, then 100
    assert_eq!(read(&mut decoder, &hex("3f 46")), Err(Broken)); // 101
    assert_eq!(read(&mut decoder, &hex("82 20")), Err(Broken)); // after a field
    assert_eq!(read(&mut decoder, &hex("80")), Err(Broken)); // no index 0
    assert_eq!(read(&mut decoder, &hex("ff 80 80 80 80 00")), Err(Broken)); // a number too long
}
