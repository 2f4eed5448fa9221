//! `grpc-timeout`: at most eight digits and a unit.

/// Milliseconds, rounded up; the error is grpc-go's text for it.
pub(crate) fn parse(text: &[u8]) -> Result<u64, String> {
    let shown = || format!("{:?}", String::from_utf8_lossy(text));
    if text.len() < 2 {
        return Err(format!("transport: timeout string is too short: {}", shown()));
    }
    if text.len() > 9 {
        return Err(format!("transport: timeout string is too long: {}", shown()));
    }
    let (unit, digits) = text.split_last().expect("two bytes at least");
    let in_ms = |n: u64| match unit {
        b'H' => Some(n * 3_600_000),
        b'M' => Some(n * 60_000),
        b'S' => Some(n * 1000),
        b'm' => Some(n),
        b'u' => Some(n.div_ceil(1000)),
        b'n' => Some(n.div_ceil(1_000_000)),
        _ => None,
    };
    let Some(_) = in_ms(0) else {
        return Err(format!("transport: timeout unit is not recognized: {}", shown()));
    };
    let number = digits.iter().try_fold(0u64, |n, digit| {
        digit.is_ascii_digit().then(|| n * 10 + u64::from(digit - b'0'))
    });
    number.and_then(in_ms).ok_or_else(|| {
        let digits = String::from_utf8_lossy(digits);
        format!("strconv.ParseUint: parsing {digits:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_unit_counts_in_milliseconds_rounded_up() {
        let cases: [(&[u8], u64); 7] = [
            (b"1H", 3_600_000),
            (b"2M", 120_000),
            (b"3S", 3000),
            (b"4m", 4),
            (b"4999984u", 5000),
            (b"1n", 1),
            (b"99999999H", 99_999_999 * 3_600_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(ms));
        }
    }

    #[test]
    fn what_is_no_timeout_is_named_in_grpc_gos_words() {
        let cases: [(&[u8], &str); 5] = [
            (b"S", "transport: timeout string is too short: \"S\""),
            (b"123456789S", "transport: timeout string is too long: \"123456789S\""),
            (b"1x", "transport: timeout unit is not recognized: \"1x\""),
            (b"-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            (b"1.5S", "strconv.ParseUint: parsing \"1.5\": invalid syntax"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error.to_owned()));
        }
    }
}
