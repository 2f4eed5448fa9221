//! From a record to a line, in zap's two encodings.
//!
//! The JSON form is one object. The console form puts time, level, logger, caller and message
//! between tabs as they are, and behind them the fields as one object with blanks in it.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Format, Level, Value, write_duration};

/// Longest text of one field or message; the rest is cut, and marked as cut.
const TEXT_SIZE_MAX: usize = 64 << 10;
const CUT: &str = "…(cut)";

/// All that goes into a line.
pub(super) struct Record<'a> {
    pub level: Level,
    /// Since 1970, UTC.
    pub at: Duration,
    pub name: Option<&'a str>,
    pub caller: (&'a str, u32),
    pub message: &'a str,
    pub fields: &'a [(&'a str, Value<'a>)],
}

impl Record<'_> {
    /// Appends the line, with its end.
    pub(super) fn encode(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => self.encode_json(out),
            Format::Console => self.encode_console(out),
        }
        out.push(b'\n');
    }

    fn encode_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"level\":\"");
        out.extend_from_slice(self.level.name().as_bytes());
        out.extend_from_slice(b"\",\"ts\":\"");
        write_time(self.at, out);
        if let Some(name) = self.name {
            out.extend_from_slice(b"\",\"logger\":\"");
            escape(name.as_bytes(), out);
        }
        out.extend_from_slice(b"\",\"caller\":\"");
        write_caller(self.caller, out);
        out.extend_from_slice(b"\",\"msg\":");
        write_text(self.message.as_bytes(), out);
        for (key, value) in self.fields {
            out.push(b',');
            write_text(key.as_bytes(), out);
            out.push(b':');
            write_value(value, b",", out);
        }
        out.push(b'}');
    }

    fn encode_console(&self, out: &mut Vec<u8>) {
        write_time(self.at, out);
        let _ = write!(out, "\t{}\t", self.level.name());
        if let Some(name) = self.name {
            let _ = write!(out, "{name}\t");
        }
        write_caller(self.caller, out);
        out.push(b'\t');
        let message = self.message.as_bytes();
        out.extend_from_slice(&message[..message.len().min(TEXT_SIZE_MAX)]);
        for (i, (key, value)) in self.fields.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"\t{" } else { b", " });
            write_text(key.as_bytes(), out);
            out.extend_from_slice(b": ");
            write_value(value, b", ", out);
        }
        if !self.fields.is_empty() {
            out.push(b'}');
        }
    }
}

/// The last folder that says something, the file and the line: `crates/server/src/log.rs` is
/// `server/log.rs`.
fn write_caller((path, line): (&str, u32), out: &mut Vec<u8>) {
    let mut parts = path.rsplit('/').filter(|part| *part != "src");
    let file = parts.next().unwrap_or_default();
    if let Some(folder) = parts.next() {
        escape(folder.as_bytes(), out);
        out.push(b'/');
    }
    escape(file.as_bytes(), out);
    let _ = write!(out, ":{line}");
}

/// A moment as text: `2026-11-22T15:33:36.009444Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let mut out = Vec::new();
    write_time(at.duration_since(UNIX_EPOCH).unwrap_or_default(), &mut out);
    String::from_utf8(out).expect("digits and signs")
}

/// `2026-11-22T15:33:36.009444Z`
fn write_time(at: Duration, out: &mut Vec<u8>) {
    let (year, month, day) = date(at.as_secs() / 86_400);
    let second = at.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = at.subsec_micros();
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// The date so many days after 1970-01-01.
///
/// The year is taken to begin in March, so that a leap day is its last; 400 years are 146 097 days.
pub(super) fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn write_value(value: &Value<'_>, separator: &[u8], out: &mut Vec<u8>) {
    match *value {
        Value::Bool(v) => drop(write!(out, "{v}")),
        Value::Int(v) => drop(write!(out, "{v}")),
        Value::Uint(v) => drop(write!(out, "{v}")),
        Value::Float(v) if v.is_finite() => drop(write!(out, "{v}")),
        Value::Float(v) if v.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Value::Float(v) => out.extend_from_slice(if v > 0.0 { b"\"+Inf\"" } else { b"\"-Inf\"" }),
        Value::Text(v) => write_text(v.as_bytes(), out),
        Value::Bytes(v) => write_text(v, out),
        Value::Id(v) => drop(write!(out, "\"{v:x}\"")),
        Value::Texts(texts) => {
            out.push(b'[');
            for (i, text) in texts.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(separator);
                }
                write_text(text.as_bytes(), out);
            }
            out.push(b']');
        }
        Value::Took(v) => {
            out.push(b'"');
            write_duration(v, out);
            out.push(b'"');
        }
        Value::Shown(v) => {
            out.push(b'"');
            let mut room = Room { left: TEXT_SIZE_MAX, out };
            // An error here is the room's end.
            let cut = write!(room, "{v}").is_err();
            if cut {
                out.extend_from_slice(CUT.as_bytes());
            }
            out.push(b'"');
        }
    }
}

/// Takes text until there is no room left, and escapes it.
struct Room<'a> {
    left: usize,
    out: &'a mut Vec<u8>,
}

impl fmt::Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(self.left);
        escape(&text.as_bytes()[..end], self.out);
        self.left -= end;
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Appends a text in quotes.
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if text.len() > TEXT_SIZE_MAX {
        escape(&text[..TEXT_SIZE_MAX], out);
        out.extend_from_slice(CUT.as_bytes());
    } else {
        escape(text, out);
    }
    out.push(b'"');
}

/// Appends a text as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        escape_valid(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b => {
                let (high, low) = (HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use stdx::each_seed;

    use super::*;

    const AT: Duration = Duration::from_micros(1_795_361_616_009_444);

    fn line(format: Format, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        record.encode(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn record<'a>(message: &'a str, fields: &'a [(&'a str, Value<'a>)]) -> Record<'a> {
        let caller = ("crates/server/src/etcdmain/etcd.rs", 122);
        Record { level: Level::Info, at: AT, name: None, caller, message, fields }
    }

    #[test]
    fn json_lines_look_like_etcds() {
        let urls = ["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
        let fields = [
            ("data-dir", Value::from("/tmp/a")),
            ("took", Value::from(Duration::from_nanos(1_315_108))),
            ("pre-vote", Value::from(true)),
            ("quota-backend-bytes", Value::from(2_147_483_648_u64)),
            ("listen-peer-urls", Value::from(&urls[..])),
            ("listen-metrics-urls", Value::Texts(&[])),
            ("local-member-id", Value::Id(0xbdae_9bbc_11dd_390d)),
        ];
        assert_eq!(
            line(Format::Json, &record("starting", &fields)),
            "{\"level\":\"info\",\"ts\":\"2026-11-22T15:33:36.009444Z\",\
             \"caller\":\"etcdmain/etcd.rs:122\",\"msg\":\"starting\",\"data-dir\":\"/tmp/a\",\
             \"took\":\"1.315108ms\",\"pre-vote\":true,\"quota-backend-bytes\":2147483648,\
             \"listen-peer-urls\":[\"http://127.0.0.1:1\",\"http://127.0.0.1:2\"],\
             \"listen-metrics-urls\":[],\"local-member-id\":\"bdae9bbc11dd390d\"}\n"
        );
        let named = Record { name: Some("raft"), level: Level::Warn, ..record("x", &[]) };
        assert_eq!(
            line(Format::Json, &named),
            "{\"level\":\"warn\",\"ts\":\"2026-11-22T15:33:36.009444Z\",\"logger\":\"raft\",\
             \"caller\":\"etcdmain/etcd.rs:122\",\"msg\":\"x\"}\n"
        );
    }

    #[test]
    fn console_lines_look_like_etcds() {
        let urls = ["a".to_owned(), "b".to_owned()];
        let fields = [("args", Value::from(&urls[..])), ("index", Value::from(0_u64))];
        assert_eq!(
            line(Format::Console, &record("Running: ", &fields)),
            "2026-11-22T15:33:36.009444Z\tinfo\tetcdmain/etcd.rs:122\tRunning: \t\
             {\"args\": [\"a\", \"b\"], \"index\": 0}\n"
        );
        let named = Record { name: Some("raft"), ..record("became leader \"quoted\"", &[]) };
        assert_eq!(
            line(Format::Console, &named),
            "2026-11-22T15:33:36.009444Z\tinfo\traft\tetcdmain/etcd.rs:122\t\
             became leader \"quoted\"\n"
        );
    }

    #[test]
    fn any_bytes_become_json_that_reads_back() {
        each_seed(|g| {
            let bytes = g.bytes(0..40);
            let fields = [("key", Value::from(&bytes[..]))];
            let line = line(Format::Json, &record("m", &fields));
            let read: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            if let Ok(text) = std::str::from_utf8(&bytes) {
                assert_eq!(read["key"], text);
            }
            assert_eq!(line.matches('\n').count(), 1, "one line");
        });
    }

    #[test]
    fn texts_without_end_are_cut() {
        let long = "ä".repeat(TEXT_SIZE_MAX);
        let fields = [("error", Value::show(&long)), ("key", Value::from(&long))];
        let line = line(Format::Json, &record("m", &fields));
        assert!(line.len() < 3 * TEXT_SIZE_MAX && line.contains("…(cut)\",\"key\""));
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn dates_follow_each_other_through_leap_years() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(47_540), (2100, 2, 28));
        assert_eq!(date(47_541), (2100, 3, 1));
        let mut before = date(0);
        for day in 1..100_000 {
            let (year, month, of_month) = date(day);
            let next = (before.0, before.1, before.2 + 1);
            let first_of_month = of_month == 1 && (28..=31).contains(&before.2);
            assert!((year, month, of_month) == next || first_of_month, "after {before:?}");
            before = (year, month, of_month);
        }
    }
}
