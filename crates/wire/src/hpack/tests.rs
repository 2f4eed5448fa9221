//! The examples of RFC 7541, appendix C; every block a test encoder can make; and rubbish.

use super::*;
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
