//! Durations as Go shows them: `0s`, `150ns`, `995.988µs`, `1.5s`, `1m0s`, `2h0m0s`.

use std::io::Write;
use std::time::Duration;

/// Appends `duration` to `out`.
pub(crate) fn write_duration(duration: Duration, out: &mut Vec<u8>) {
    let nanoseconds = duration.as_nanos();
    let (unit, name, decimals) = match nanoseconds {
        0 => (1, "s", 0),
        1..1_000 => (1, "ns", 0),
        1_000..1_000_000 => (1_000, "µs", 3),
        1_000_000..1_000_000_000 => (1_000_000, "ms", 6),
        1_000_000_000.. => return write_long(duration, out),
    };
    write_fraction(nanoseconds / unit, nanoseconds % unit, decimals, out);
    out.extend_from_slice(name.as_bytes());
}

/// Appends a duration of a second or more.
fn write_long(duration: Duration, out: &mut Vec<u8>) {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    write_fraction(u128::from(seconds), u128::from(duration.subsec_nanos()), 9, out);
    out.push(b's');
}

/// Appends `whole.fraction`, where the fraction has `decimals` digits, without zeros at its end.
fn write_fraction(whole: u128, fraction: u128, decimals: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "{whole}");
    if fraction > 0 {
        let _ = write!(out, ".{fraction:0decimals$}");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nanoseconds: u64) -> String {
        let mut out = Vec::new();
        write_duration(Duration::from_nanos(nanoseconds), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_duration_has_the_largest_unit_that_leaves_a_whole_part() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (995_988, "995.988µs"),
            (1_315_108, "1.315108ms"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (600_000_000_001, "10m0.000000001s"),
            (7_200_000_000_000, "2h0m0s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(shown(nanoseconds), text);
        }
    }
}
