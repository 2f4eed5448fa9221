//! Values as Go's `flag` package reads them: the spellings that users of etcd have in their files.
//!
//! The texts of the errors are Go's, because they end up behind `invalid value "x" for flag -y: `
//! in front of people who search for them.

use std::fmt;
use std::num::IntErrorKind;
use std::time::Duration;

use crate::log::write_duration;

pub(super) type Parsed<T> = Result<T, String>;

const PARSE_ERROR: &str = "parse error";
const RANGE_ERROR: &str = "value out of range";

/// A Go duration: nanoseconds, and possibly fewer than none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub i64);

impl Span {
    /// As a length of time. A negative one is none: that is what etcd makes of it wherever 0 disables.
    pub(super) fn length(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// The length, or `default` where etcd takes 0 to mean "as usual".
    pub(super) fn length_or(self, default: Duration) -> Duration {
        if self.0 > 0 { self.length() } else { default }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = Vec::new();
        write_duration(Duration::from_nanos(self.0.unsigned_abs()), &mut shown);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", String::from_utf8_lossy(&shown))
    }
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(PARSE_ERROR.into()),
    }
}

pub(super) fn unsigned(text: &str) -> Parsed<u64> {
    let (radix, digits) = digits(text)?;
    u64::from_str_radix(&digits, radix).map_err(|e| number_error(e.kind()).into())
}

pub(super) fn signed(text: &str) -> Parsed<i64> {
    let (negative, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (radix, digits) = digits(rest)?;
    let digits = if negative { format!("-{digits}") } else { digits };
    i64::from_str_radix(&digits, radix).map_err(|e| number_error(e.kind()).into())
}

/// An unsigned number of 32 bits, with the words of the one flag that has such a number.
pub(super) fn unsigned_32(text: &str) -> Parsed<u32> {
    let explain = |what: &str| format!("strconv.ParseUint: parsing {text:?}: {what}");
    let number = unsigned(text)
        .map_err(|e| explain(if e == RANGE_ERROR { RANGE_ERROR } else { "invalid syntax" }))?;
    u32::try_from(number).map_err(|_| explain(RANGE_ERROR))
}

/// Splits a Go integer literal into its radix and its digits: `0x1f`, `0b1`, `0o7`, `017`, `1_000`.
fn digits(text: &str) -> Parsed<(u32, String)> {
    let lower = text.to_ascii_lowercase();
    let (radix, rest, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    // An underscore separates digits, or the prefix from the first of them.
    let lonely = rest.ends_with('_') || rest.contains("__") || (rest.starts_with('_') && !prefixed);
    let digits = rest.replace('_', "");
    if lonely || digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(PARSE_ERROR.into());
    }
    Ok((radix, digits))
}

fn number_error(kind: &IntErrorKind) -> &'static str {
    let too_large = matches!(kind, IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
    if too_large { RANGE_ERROR } else { PARSE_ERROR }
}

/// A duration as a flag has it, `1m30s`.
pub(super) fn span(text: &str) -> Parsed<Span> {
    parse_span(text).ok_or_else(|| PARSE_ERROR.into())
}

/// Reads `[+-](digits[.digits]unit)+` or a bare `0`.
pub(super) fn parse_span(text: &str) -> Option<Span> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(Span(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = term(rest)?;
        total = total.checked_add(nanoseconds)?;
        rest = after;
    }
    let total = i64::try_from(total).ok()?;
    Some(Span(if negative { -total } else { total }))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = leading_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let unit = nanoseconds_in(unit)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction_of(fraction, unit);
    Some((whole.checked_mul(unit)?.checked_add(fraction)?, rest))
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanoseconds_in(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        "us" | "µs" | "μs" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60 * 1_000_000_000),
        "h" => Some(3600 * 1_000_000_000),
        _ => None,
    }
}

/// `0.digits` of a unit. Digits past the fifteenth are below a nanosecond of an hour.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let digits = &digits[..digits.len().min(15)];
    let number: u128 = digits.parse().unwrap_or(0);
    let scale = 10_u128.pow(digits.len() as u32);
    (number * u128::from(unit) / scale) as u64
}

/// The parts of a comma-separated list, as they stand, in order.
pub(super) fn parts(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The parts of a comma-separated list, sorted and each once: how etcd keeps its sets of names.
pub(super) fn unique_parts(text: &str) -> Vec<String> {
    let mut all = parts(text);
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use stdx::each_seed;

    use super::*;

    #[test]
    fn numbers_have_the_spellings_of_go_literals() {
        assert_eq!(unsigned("10000"), Ok(10_000));
        assert_eq!(unsigned("0x10"), Ok(16));
        assert_eq!(unsigned("0b11"), Ok(3));
        assert_eq!(unsigned("010"), Ok(8));
        assert_eq!(unsigned("0"), Ok(0));
        assert_eq!(unsigned("1_000"), Ok(1000));
        assert_eq!(signed("-0x10"), Ok(-16));
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        for bad in ["", "x", "-1", "+1", "1.5", "1_", "_1", "1__0", "0x", "08", " 1"] {
            assert_eq!(unsigned(bad), Err(PARSE_ERROR.into()), "{bad:?}");
        }
        assert_eq!(unsigned("18446744073709551616"), Err(RANGE_ERROR.into()));
        assert_eq!(signed("9223372036854775808"), Err(RANGE_ERROR.into()));
    }

    #[test]
    fn a_duration_is_a_sum_of_numbers_with_units() {
        let second = 1_000_000_000;
        assert_eq!(span("1m30s"), Ok(Span(90 * second)));
        assert_eq!(span("1.5h"), Ok(Span(5400 * second)));
        assert_eq!(span("100ms"), Ok(Span(second / 10)));
        assert_eq!(span(".5us"), Ok(Span(500)));
        assert_eq!(span("1.s"), Ok(Span(second)));
        assert_eq!(span("-1ns"), Ok(Span(-1)));
        assert_eq!(span("0"), Ok(Span(0)));
        for bad in ["", "5", "1.5h2", "s", ".s", "1x", "1 s", "9999999h", "--1s", "1d"] {
            assert_eq!(span(bad), Err(PARSE_ERROR.into()), "{bad:?}");
        }
    }

    #[test]
    fn no_text_brings_a_parser_down() {
        each_seed(|g| {
            let choices =
                ["0", "9", "_", ".", "-", "h", "ms", "µ", "x", "99999999999999999999", "é"];
            let text = g.vec(0..8, |g| *g.pick(&choices)).concat();
            let _ = (span(&text), signed(&text), unsigned(&text), unsigned_32(&text));
        });
    }
}
