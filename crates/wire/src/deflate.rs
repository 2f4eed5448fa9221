//! Unpacking gzip (RFC 1951, RFC 1952): etcd links grpc-go's, so clients may use it.
//!
//! ```text
//! member   header ── blocks ── crc32 · length          a message is one or more members
//! block    last? · kind ─┬─ stored   length, bytes
//!                        ├─ fixed    codes everybody knows
//!                        └─ dynamic  code lengths, themselves coded; then as fixed
//! ```
//!
//! Codes are read bit by bit, for nothing here is hot: clients in a hurry don't pack.
//!
//! # Invariants
//!
//! - What comes out is never more than the limit, however little went in.
//!
//! # Not here
//!
//! Packing: answers are sent as they are, which every client takes.

use bytes::Bytes;

use crate::message::Flaw;
use crate::status::Code;

/// What is wrong with packed bytes, in Go's words.
type Why = &'static str;

const CUT_SHORT: Why = "unexpected EOF";
const BAD_HEADER: Why = "gzip: invalid header";
const BAD_CHECKSUM: Why = "gzip: invalid checksum";
const CORRUPT: Why = "flate: corrupt input";

/// Why unpacking stopped.
enum Stop {
    TooLarge,
    Broken(Why),
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        Self::Broken(why)
    }
}

/// Unpacks a message of at most `max` bytes.
pub(crate) fn gunzip(packed: &[u8], max: usize) -> Result<Bytes, Flaw> {
    let internal = |text: String| Flaw { code: Code::Internal, text };
    let mut rest = after_header(packed).map_err(|why| {
        let why = if packed.is_empty() { "EOF" } else { why };
        internal(format!("grpc: failed to decompress the message: {why}"))
    })?;
    let mut text = Vec::new();
    loop {
        let next = member(rest, &mut text, max).and_then(|rest| {
            if rest.is_empty() { Ok(None) } else { Ok(Some(after_header(rest)?)) }
        });
        match next {
            Ok(None) => return Ok(text.into()),
            Ok(Some(next)) => rest = next,
            Err(Stop::TooLarge) => {
                let text =
                    format!("grpc: received message after decompression larger than max {max}");
                return Err(Flaw { code: Code::ResourceExhausted, text });
            }
            Err(Stop::Broken(why)) => {
                return Err(internal(format!("grpc: failed to read decompressed data: {why}")));
            }
        }
    }
}

/// Skips a member's header.
fn after_header(packed: &[u8]) -> Result<&[u8], Why> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (head, mut rest) = packed.split_first_chunk::<10>().ok_or(CUT_SHORT)?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else { return Err(BAD_HEADER) };
    if flags & EXTRA != 0 {
        let (length, tail) = rest.split_first_chunk().ok_or(CUT_SHORT)?;
        rest = tail.get(usize::from(u16::from_le_bytes(*length))..).ok_or(CUT_SHORT)?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or(CUT_SHORT)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(CUT_SHORT)?;
    }
    Ok(rest)
}

/// Unpacks the blocks of a member and checks its end; returns what follows it.
fn member<'a>(packed: &'a [u8], text: &mut Vec<u8>, max: usize) -> Result<&'a [u8], Stop> {
    let start = text.len();
    let mut bits = Bits { rest: packed, window: 0, n: 0 };
    let mut writer = Writer { text, start, max };
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut writer)?,
            1 => coded(&mut bits, &mut writer, &fixed())?,
            2 => {
                let codes = dynamic(&mut bits)?;
                coded(&mut bits, &mut writer, &codes)?;
            }
            _ => return Err(CORRUPT.into()),
        }
        if last {
            break;
        }
    }
    let ([c0, c1, c2, c3, l0, l1, l2, l3], rest) =
        bits.bytes().split_first_chunk().ok_or(CUT_SHORT)?;
    let checksum = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
    let unpacked = &text[start..];
    if checksum != crc32(unpacked) || length != unpacked.len() as u32 {
        return Err(BAD_CHECKSUM.into());
    }
    Ok(rest)
}

/// Bits, the lowest of each byte first.
struct Bits<'a> {
    rest: &'a [u8],
    window: u32,
    n: u32,
}

impl<'a> Bits<'a> {
    fn take(&mut self, n: u32) -> Result<usize, Why> {
        while self.n < n {
            let (&byte, rest) = self.rest.split_first().ok_or(CUT_SHORT)?;
            self.rest = rest;
            self.window |= u32::from(byte) << self.n;
            self.n += 8;
        }
        let bits = self.window & ((1 << n) - 1);
        self.window >>= n;
        self.n -= n;
        Ok(bits as usize)
    }

    /// What follows the byte the last bit was in. (Never more than seven bits are left over.)
    fn bytes(&mut self) -> &'a [u8] {
        self.window = 0;
        self.n = 0;
        self.rest
    }
}

struct Writer<'a> {
    text: &'a mut Vec<u8>,
    /// Where this member's text starts: references don't reach before it.
    start: usize,
    max: usize,
}

impl Writer<'_> {
    fn room(&self, n: usize) -> Result<(), Stop> {
        if self.text.len() + n > self.max { Err(Stop::TooLarge) } else { Ok(()) }
    }

    /// Repeats `length` bytes from `distance` back, which may overlap what they write.
    fn repeat(&mut self, distance: usize, length: usize) -> Result<(), Stop> {
        self.room(length)?;
        if distance > self.text.len() - self.start {
            return Err(CORRUPT.into());
        }
        for _ in 0..length {
            self.text.push(self.text[self.text.len() - distance]);
        }
        Ok(())
    }
}

fn stored(bits: &mut Bits<'_>, writer: &mut Writer<'_>) -> Result<(), Stop> {
    let ([l0, l1, n0, n1], rest) = bits.bytes().split_first_chunk().ok_or(CUT_SHORT)?;
    let length = u16::from_le_bytes([*l0, *l1]);
    if length != !u16::from_le_bytes([*n0, *n1]) {
        return Err(CORRUPT.into());
    }
    let (bytes, rest) = rest.split_at_checked(length.into()).ok_or(CUT_SHORT)?;
    writer.room(bytes.len())?;
    writer.text.extend_from_slice(bytes);
    bits.rest = rest;
    Ok(())
}

const BITS_MAX: usize = 15;
const END_OF_BLOCK: usize = 256;
const N_LITERALS_MAX: usize = 286;
const N_DISTANCES: usize = 30;

/// Base and extra bits of lengths (symbols 257 …) and of distances.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(u16, u8); N_DISTANCES] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// A canonical code: how many codes each length has, and the symbols in their order.
struct Codes {
    counts: [u16; BITS_MAX + 1],
    symbols: Vec<u16>,
}

impl Codes {
    /// From the length of each symbol's code; a code that overlaps itself is none.
    fn new(lengths: &[u8]) -> Result<Self, Why> {
        let mut counts = [0; BITS_MAX + 1];
        let mut symbols: Vec<u16> = (0..lengths.len() as u16).collect();
        symbols.retain(|&symbol| lengths[usize::from(symbol)] > 0);
        symbols.sort_by_key(|&symbol| lengths[usize::from(symbol)]);
        for &symbol in &symbols {
            counts[usize::from(lengths[usize::from(symbol)])] += 1;
        }
        let mut free = 1i32;
        for &count in &counts[1..] {
            free = free * 2 - i32::from(count);
            if free < 0 {
                return Err(CORRUPT);
            }
        }
        Ok(Self { counts, symbols })
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<usize, Why> {
        let (mut code, mut first, mut at) = (0, 0, 0);
        for &count in &self.counts[1..] {
            let count = usize::from(count);
            code |= bits.take(1)?;
            if code < first + count {
                return Ok(usize::from(self.symbols[at + code - first]));
            }
            at += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(CORRUPT)
    }
}

struct BlockCodes {
    literals: Codes,
    distances: Codes,
}

fn fixed() -> BlockCodes {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    let codes = |lengths: &[u8]| Codes::new(lengths).expect("the RFC's own code");
    BlockCodes { literals: codes(&lengths), distances: codes(&[5; N_DISTANCES]) }
}

/// Reads the codes of a dynamic block.
fn dynamic(bits: &mut Bits<'_>) -> Result<BlockCodes, Why> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let n_literals = bits.take(5)? + 257;
    let n_distances = bits.take(5)? + 1;
    let n_lengths = bits.take(4)? + 4;
    if n_literals > N_LITERALS_MAX || n_distances > N_DISTANCES {
        return Err(CORRUPT);
    }
    let mut lengths = [0; ORDER.len()];
    for &symbol in &ORDER[..n_lengths] {
        lengths[symbol] = bits.take(3)? as u8;
    }
    let meta = Codes::new(&lengths)?;
    let mut lengths = Vec::with_capacity(n_literals + n_distances);
    while lengths.len() < n_literals + n_distances {
        let (value, times) = match meta.symbol(bits)? {
            length @ 0..=15 => (length as u8, 1),
            16 => (*lengths.last().ok_or(CORRUPT)?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            _ => (0, bits.take(7)? + 11),
        };
        lengths.resize(lengths.len() + times, value);
    }
    if lengths.len() > n_literals + n_distances || lengths[END_OF_BLOCK] == 0 {
        return Err(CORRUPT);
    }
    let (literals, distances) = lengths.split_at(n_literals);
    Ok(BlockCodes { literals: Codes::new(literals)?, distances: Codes::new(distances)? })
}

/// Unpacks a block of literals and references.
fn coded(bits: &mut Bits<'_>, writer: &mut Writer<'_>, codes: &BlockCodes) -> Result<(), Stop> {
    let number = |bits: &mut Bits<'_>, (base, extra): (u16, u8)| -> Result<usize, Why> {
        Ok(usize::from(base) + bits.take(extra.into())?)
    };
    loop {
        let symbol = codes.literals.symbol(bits)?;
        if symbol < END_OF_BLOCK {
            writer.room(1)?;
            writer.text.push(symbol as u8);
        } else if symbol == END_OF_BLOCK {
            return Ok(());
        } else {
            let row = LENGTHS.get(symbol - END_OF_BLOCK - 1).ok_or(CORRUPT)?;
            let length = number(bits, *row)?;
            let row = DISTANCES.get(codes.distances.symbol(bits)?).ok_or(CORRUPT)?;
            let distance = number(bits, *row)?;
            writer.repeat(distance, length)?;
        }
    }
}

/// gzip's checksum.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests;
