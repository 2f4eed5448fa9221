//! Packed by zlib, unpacked by us; and everything that is not packed at all.

use super::*;
use stdx::each_seed;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// `etcd, but faster` with the fixed codes.
const FIXED: &str = "1f8b08000000000002034b2d494ed151482a2d51484b2c2e492d020008a15ff810000000";
/// `stored`, as it is.
const STORED: &str = "1f8b0800000000000403010600f9ff73746f7265640bf9435606000000";
/// [`PLAIN`], with codes of its own.
const DYNAMIC: &str = "1f8b0800000000000203b58ec975030108430b73317a20b6789b64e2bd7a6bdc83b981be902e93f8bbfe\
     f0005f97fb19b53cb0bf9e7effb1dc72c545f2d15e4fc4d2bbcff61d188982c62660f49a6838c2109d6c\
     3a8121cd22c8ac1019dc34abd6c12b65d5b13c2b07c519d0d2506de86afd35c8e031a5a01c179bd61e4a\
     2d6e765783a48b924c9888b6d8b041d3f4a11429b99d5d34f5520614849acc51c906dfce08c5154f0100\
     00";
const PLAIN: &str = "the_quick_brown_fox_jumps_over_the_lazy_dog;_the_quick_brown_fox_jumps_over_the_lazy\
     _dog;_the_quick_brown_fox_jumps_over_the_lazy_dog;__e_f____ahd_acbfhdg_b_da_dgecgcbc\
     __hccaaddccefd___dc_dgeafgccebfe__a___fbefeh_fchh_caea_fga_gfg_aha_c_dbdhf_f_ehb__fe\
     agbdf__fcfe__be_fecb_c__ehc_ab__gad__feh_gca_ahfdc__c_gbcgfcagech_c_hh__fheehgcbg_c";
/// A hundred thousand zeros.
const BOMB_SIZE: usize = 100_000;
const BOMB: &str = "1f8b0800000000000203edc13101000000c2a0f54f6d0d0fa00000000000000000000000000000000000\
     000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
     000000000000000000000000000000000000000000000000000000000000000000000000008057037d95\
     11d4a0860100";

#[test]
fn blocks_of_every_kind_are_unpacked() {
    assert_eq!(gunzip(&hex(FIXED), 16).unwrap(), "etcd, but faster");
    assert_eq!(gunzip(&hex(STORED), 6).unwrap(), "stored");
    assert_eq!(gunzip(&hex(DYNAMIC), PLAIN.len()).unwrap(), PLAIN);
    assert!(gunzip(&hex(BOMB), BOMB_SIZE).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn members_follow_each_other() {
    let both = [hex(FIXED), hex(STORED)].concat();
    assert_eq!(gunzip(&both, 100).unwrap(), "etcd, but fasterstored");
}

#[test]
fn no_more_comes_out_than_is_allowed() {
    for packed in [FIXED, STORED, DYNAMIC, BOMB] {
        let flaw = gunzip(&hex(packed), 5).unwrap_err();
        assert_eq!(flaw.code, Code::ResourceExhausted);
        assert_eq!(flaw.text, "grpc: received message after decompression larger than max 5");
    }
}

#[test]
fn what_is_broken_is_named_in_grpc_gos_words() {
    let text = |packed: &[u8]| gunzip(packed, 1000).unwrap_err().text;
    let header = "grpc: failed to decompress the message: ";
    let data = "grpc: failed to read decompressed data: ";
    assert_eq!(text(&[]), format!("{header}EOF"));
    assert_eq!(text(&[1, 2, 3]), format!("{header}unexpected EOF"));
    assert_eq!(text(&[0; 10]), format!("{header}gzip: invalid header"));
    let packed = hex(FIXED);
    assert_eq!(text(&packed[..14]), format!("{data}unexpected EOF"));
    assert_eq!(text(&packed[..packed.len() - 1]), format!("{data}unexpected EOF"));
    assert_eq!(text(&[&packed[..], &[1, 2, 3]].concat()), format!("{data}unexpected EOF"));
    let mut wrong = packed.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(text(&wrong), format!("{data}gzip: invalid checksum"));
}

#[test]
fn optional_parts_of_a_header_are_skipped() {
    let mut packed = hex(FIXED);
    packed[3] = 2 | 4 | 8 | 16;
    packed.splice(10..10, *b"\x02\x00xxname\0comment\0cc");
    assert_eq!(gunzip(&packed, 100).unwrap(), "etcd, but faster");
}

#[test]
fn no_bytes_make_it_panic() {
    each_seed(|g| {
        let mut packed = hex(g.pick::<&str>(&[FIXED, STORED, DYNAMIC]));
        for _ in 0..g.int(1..=4) {
            let at = g.int(10..=packed.len() - 1);
            packed[at] = g.number() as u8;
        }
        if let Ok(text) = gunzip(&packed, 1000) {
            assert!(text.len() <= 1000);
        }
    });
}
