//! HPACK's Huffman code (RFC 7541, appendix B), read bit by bit.
//!
//! The code is canonical: ordered by length and then by symbol, each code is the one before plus
//! one. So the lengths are all there is to know. Only what enters the header table and the texts of
//! errors are ever read, so nothing here is fast.

/// Bits of each symbol's code; the last is the end of string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const BITS_MAX: u8 = 30;

/// The text that was coded; bits that are no whole symbol end it.
pub(super) fn decode(coded: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let (mut code, mut bits) = (0u32, 0u8);
    for byte in coded {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            if let Some(symbol) = symbol(code, bits) {
                let Ok(symbol) = u8::try_from(symbol) else { return text };
                text.push(symbol);
                (code, bits) = (0, 0);
            } else if bits == BITS_MAX {
                return text;
            }
        }
    }
    text
}

fn symbol(code: u32, bits: u8) -> Option<usize> {
    let mut first = 0u32; // The first code of the length looked at.
    for length in 1..=bits {
        first <<= 1;
        let of_length = || LENGTHS.iter().enumerate().filter(move |(_, l)| **l == length);
        if length == bits {
            let nth = code.checked_sub(first)? as usize;
            return of_length().nth(nth).map(|(symbol, _)| symbol);
        }
        first += of_length().count() as u32;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_specification_are_read() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&host), b"www.example.com");
        assert_eq!(decode(&[0xae, 0xc3, 0x77, 0x1a, 0x4b]), b"private");
        assert_eq!(decode(&[0x64, 0x02]), b"302");
    }

    #[test]
    fn what_is_no_symbol_ends_the_text() {
        assert_eq!(decode(&[0xff; 8]), b"");
    }
}
