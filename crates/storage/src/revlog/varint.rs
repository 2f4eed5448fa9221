//! Numbers in as few bytes as they need: seven bits a byte, low ones first (LEB128, as protobuf has it).

/// The most bytes a number takes.
pub(super) const LENGTH_MAX: usize = 10;

pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front of `input`; `None` if there is no whole one that fits 64 bits.
pub(super) fn take(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (i, byte) in input.iter().take(LENGTH_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == LENGTH_MAX - 1 && bits > 1 {
            return None;
        }
        number |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *input = &input[i + 1..];
            return Some(number);
        }
    }
    None
}

/// Takes a number and then as many bytes.
pub(super) fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(input)?).ok()?;
    take_exactly(input, length)
}

pub(super) fn take_exactly<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    #[test]
    fn every_number_comes_back_and_a_cut_one_does_not() {
        each_seed(|g| {
            let number = g.number() >> g.below(64);
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert!(bytes.len() <= LENGTH_MAX);
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(number));
            assert_eq!(rest, [7]);
        });
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert_eq!(take(&mut [0xff; 11].as_slice()), None);
        let mut largest = Vec::new();
        put(&mut largest, u64::MAX);
        assert_eq!(take(&mut largest.as_slice()), Some(u64::MAX));
        *largest.last_mut().expect("ten bytes") = 2;
        assert_eq!(take(&mut largest.as_slice()), None);
    }
}
