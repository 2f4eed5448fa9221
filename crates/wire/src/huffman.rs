//! HPACK's Huffman code (RFC 7541, appendix B): reading it fast, refusing what is malformed.
//!
//! The code is canonical: ordered by length and then by symbol, each code is the one before plus
//! one. So the lengths are all there is to know, and every table here is computed from them by the
//! compiler. Codes up to eight bits, which is nearly all of a header, are looked up in one step;
//! longer ones are found by their length.
//!
//! # Invariants
//!
//! - The code is complete: every run of 30 bits starts with a symbol.   (asserted at compile time)
//! - Padding is shorter than a byte, all ones; the end-of-string symbol is never read as text.

/// Bits of each symbol's code; the last is the end of string.
const LENGTHS: [u8; SYMBOLS] = [
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

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const BITS_MAX: usize = 30;

/// Of each length: where its codes end, aligned to 32 bits, and how to get from code to symbol.
#[derive(Clone, Copy)]
struct Length {
    /// The first aligned code that is longer than this.
    end: u64,
    first: u32,
    at: u16,
}

struct Tables {
    /// By the next eight bits: symbol and bits; 0 bits where the code is longer.
    short: [(u8, u8); 256],
    lengths: [Length; BITS_MAX + 1],
    symbols: [u16; SYMBOLS],
    codes: [u32; SYMBOLS],
}

static TABLES: Tables = build();

const fn build() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 256],
        lengths: [Length { end: 0, first: 0, at: 0 }; BITS_MAX + 1],
        symbols: [0; SYMBOLS],
        codes: [0; SYMBOLS],
    };
    let (mut code, mut n, mut bits) = (0u32, 0, 1);
    while bits <= BITS_MAX {
        code <<= 1;
        let (first, at) = (code, n as u16);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == bits {
                tables.symbols[n] = symbol as u16;
                tables.codes[symbol] = code;
                if bits <= 8 {
                    let mut tail = 0;
                    while tail < 1 << (8 - bits) {
                        let slot = ((code as usize) << (8 - bits)) + tail;
                        tables.short[slot] = (symbol as u8, bits as u8);
                        tail += 1;
                    }
                }
                code += 1;
                n += 1;
            }
            symbol += 1;
        }
        tables.lengths[bits] = Length { end: (code as u64) << (32 - bits), first, at };
        bits += 1;
    }
    assert!(n == SYMBOLS && code == 1 << BITS_MAX, "the code is complete");
    tables
}

/// The bytes are not a Huffman-coded string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends to `text` what `code` stands for: at most 8/5 as many bytes as the code has.
pub(crate) fn decode(code: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    text.reserve(code.len() * 8 / 5 + 1);
    let (mut window, mut bits) = (0u64, 0usize); // The bits not yet decoded are the lowest.
    let mut rest = code;
    loop {
        while bits <= 32 {
            let Some((&byte, tail)) = rest.split_first() else { break };
            window = window << 8 | u64::from(byte);
            bits += 8;
            rest = tail;
        }
        if bits < 8 {
            return tail(window, bits, text);
        }
        while bits >= 8 {
            let (symbol, length) = TABLES.short[(window >> (bits - 8)) as usize & 0xff];
            if length == 0 {
                if bits < BITS_MAX && !rest.is_empty() {
                    break; // The rest of this code is not in the window yet.
                }
                let (symbol, length) = long(window, bits)?;
                text.push(symbol);
                bits -= length;
            } else {
                text.push(symbol);
                bits -= usize::from(length);
            }
        }
    }
}

/// The last bits, fewer than eight: short codes, and then ones.
fn tail(window: u64, mut bits: usize, text: &mut Vec<u8>) -> Result<(), Malformed> {
    while bits > 0 {
        let left = (window & ((1 << bits) - 1)) as usize;
        let padded = left << (8 - bits) | 0xff >> bits;
        let (symbol, length) = TABLES.short[padded];
        if length == 0 || usize::from(length) > bits {
            return if left == (1 << bits) - 1 { Ok(()) } else { Err(Malformed) };
        }
        text.push(symbol);
        bits -= usize::from(length);
    }
    Ok(())
}

/// A code of more than eight bits.
#[cold]
fn long(window: u64, bits: usize) -> Result<(u8, usize), Malformed> {
    // Aligned to 32 bits, with ones after the end: what is read of them is found too long below.
    let aligned = if bits >= 32 {
        window >> (bits - 32) & 0xffff_ffff
    } else {
        (window << (32 - bits) | 0xffff_ffff >> bits) & 0xffff_ffff
    };
    for (length, row) in TABLES.lengths.iter().enumerate().skip(9) {
        if aligned >= row.end {
            continue;
        }
        let offset = (aligned >> (32 - length)) as u32 - row.first;
        let symbol = TABLES.symbols[usize::from(row.at) + offset as usize];
        if symbol == END_OF_STRING || length > bits {
            return Err(Malformed);
        }
        return Ok((symbol as u8, length));
    }
    Err(Malformed)
}

#[cfg(test)]
pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut window, mut bits, mut code) = (0u64, 0, Vec::new());
    for &byte in text {
        let length = usize::from(LENGTHS[usize::from(byte)]);
        window = window << length | u64::from(TABLES.codes[usize::from(byte)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            code.push((window >> bits) as u8);
        }
    }
    if bits > 0 {
        code.push((window << (8 - bits)) as u8 | 0xff >> bits);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    fn decoded(code: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(code, &mut text).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        let code = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&code).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
    }

    #[test]
    fn every_text_comes_back_from_its_code() {
        each_seed(|g| {
            let rare = g.chance(50);
            let text =
                g.vec(0..200, |g| if rare { g.number() as u8 } else { b' ' + g.below(90) as u8 });
            assert_eq!(decoded(&encode(&text)).unwrap(), text);
        });
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[0x1f]).unwrap(), b"a"); // 00011 111
        assert_eq!(decoded(&[0x1e]), Err(Malformed)); // a zero in the padding
        assert_eq!(decoded(&[0x1f, 0xff]), Err(Malformed)); // a byte of it
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Malformed)); // end of string
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow_beyond_its_bound() {
        each_seed(|g| {
            let code = g.bytes(0..64);
            if let Ok(text) = decoded(&code) {
                assert!(text.len() <= code.len() * 8 / 5);
                assert_eq!(encode(&text), code, "only one code stands for a text");
            }
        });
    }
}
