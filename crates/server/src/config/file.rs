//! The configuration file: YAML, of which JSON is a part.
//!
//! ```text
//! name: n1                          a flag's name, and its value
//! election-timeout: 1000
//! grpc-keepalive-interval: 7200000000000     a duration is a number of nanoseconds
//! log-outputs: [stderr]             a list is a list; addresses are one text with commas
//! client-transport-security:        some flags are in a block, under a shorter name
//!   cert-file: server.crt
//! ```
//!
//! A key is found whatever its case. One that nobody knows has no effect, as in etcd, but a warning
//! says so. `null` says nothing.

use serde_json::{Map, Value};
use serde_saphyr::DuplicateKeyPolicy;

use super::Notice;
use super::raw::RawConfig;
use super::table::{self, Flag, Kind};
use super::value::Parsed;
use crate::log::Level;

/// Longest file that is read: far beyond any sensible one.
pub(super) const FILE_SIZE_MAX: usize = 4 << 20;
/// Blocks within blocks; the deepest option lies in the third.
const DEPTH_MAX: usize = 8;

/// Options of which an empty text says nothing, though as a flag it would.
const SILENT_IF_EMPTY: [&str; 3] = ["cors", "host-whitelist", "initial-cluster-state"];

/// Puts all that the file's `bytes` say into `raw`; returns the mistakes.
pub(super) fn read(bytes: &[u8], raw: &mut RawConfig, notices: &mut Vec<Notice>) -> Vec<String> {
    let root = match parse(bytes) {
        Ok(root) => root,
        Err(mistake) => return vec![mistake],
    };
    let mut reader = Reader { raw, notices, mistakes: Vec::new() };
    reader.block("", &root, 0);
    reader.mistakes
}

fn parse(bytes: &[u8]) -> Parsed<Map<String, Value>> {
    if bytes.len() > FILE_SIZE_MAX {
        return Err(format!("configuration file is longer than {FILE_SIZE_MAX} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| format!("configuration file: {e}"))?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
        return Ok(Map::new());
    }
    let options = serde_saphyr::options! {
        // YAML 1.1, as etcd reads it: `off` is false, 010 is 8, and of equal keys the last wins.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("configuration file: expected keys with values".into()),
        Err(e) => Err(format!("configuration file: {}", one_line(&e.to_string()))),
    }
}

/// A mistake is one line, whatever the parser draws.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

struct Reader<'a> {
    raw: &'a mut RawConfig,
    notices: &'a mut Vec<Notice>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn block(&mut self, prefix: &str, block: &Map<String, Value>, depth: usize) {
        assert!(depth <= DEPTH_MAX, "blocks are only entered where an option lies in them");
        for (key, value) in block {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let at = |flag: &&Flag| flag.path().is_some_and(|p| p.eq_ignore_ascii_case(&path));
            if let Some(flag) = table::all_in_file().find(at) {
                self.option(flag, &path, value);
            } else if is_block(&path) {
                match value {
                    Value::Object(inner) => self.block(&path, inner, depth + 1),
                    // etcd has this one filled or not there at all.
                    Value::Null if path == "peer-transport-security" => {
                        self.mistakes.push(format!("invalid {path}"));
                    }
                    Value::Null => {}
                    Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        self.mistakes.push(format!("invalid {path}"));
                    }
                }
            } else {
                self.notices.push(Notice::new(
                    Level::Warn,
                    "unrecognized key in configuration file has no effect",
                    [("key", path)],
                ));
            }
        }
    }

    fn option(&mut self, flag: &'static Flag, path: &str, value: &Value) {
        let silent = matches!(value, Value::String(text) if text.is_empty());
        if value.is_null() || (silent && SILENT_IF_EMPTY.contains(&flag.name)) {
            return;
        }
        match as_typed(flag.kind, value).and_then(|text| (flag.set)(self.raw, &text)) {
            Ok(()) => {
                self.raw.said.insert(flag.name);
            }
            Err(e) => self.mistakes.push(format!("invalid value {value} for {path}: {e}")),
        }
    }
}

/// Whether some option lies below `path`.
fn is_block(path: &str) -> bool {
    let below = |option: &str| {
        option.len() > path.len()
            && option.as_bytes()[path.len()] == b'.'
            && option.is_char_boundary(path.len())
            && option[..path.len()].eq_ignore_ascii_case(path)
    };
    table::all_in_file().filter_map(Flag::path).any(below)
}

/// The value as one would type it behind a flag.
fn as_typed(kind: Kind, value: &Value) -> Parsed<String> {
    match (kind, value) {
        (Kind::Switch, Value::Bool(on)) => Ok(on.to_string()),
        (Kind::Switch, _) => Err("expected true or false".into()),
        (Kind::Number, _) => whole(value).ok_or_else(|| "expected a whole number".into()),
        (Kind::Span, _) => match whole(value) {
            Some(nanoseconds) => Ok(format!("{nanoseconds}ns")),
            None => Err("expected a whole number of nanoseconds".into()),
        },
        (Kind::Text, Value::String(text)) => Ok(text.clone()),
        // A number is not the text it was written as: 010 would be 8.
        (Kind::Text, _) => Err("expected a text, between quotes".into()),
        (Kind::List, Value::Array(items)) => {
            let texts = items.iter().map(|item| as_typed(Kind::Text, item));
            Ok(texts.collect::<Parsed<Vec<_>>>()?.join(","))
        }
        (Kind::List, _) => Err("expected a list".into()),
        (Kind::Retired, _) => Err("expected nothing".into()),
    }
}

fn whole(value: &Value) -> Option<String> {
    let number = value.as_number()?;
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    // `1e9` is a whole number, too. Beyond 2^53 a float is no longer exact.
    let float = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < (1_u64 << 53) as f64)?;
    Some((float as i64).to_string())
}
