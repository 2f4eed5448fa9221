//! The environment: `ETCD_SNAPSHOT_COUNT=1` says what `--snapshot-count=1` does.
//!
//! # Invariants
//!
//! - An option is said in one place: a variable beside its flag is a mistake, not a choice.
//! - An empty variable says nothing.
//! - A variable nobody knows is worth a warning, for it is probably misspelt.

use super::Notice;
use super::raw::RawConfig;
use super::table;
use crate::log::Level;

/// Of the program, not of its configuration; etcd's images set it.
const VERSION: &str = "ETCD_VERSION";

/// Puts all that `variables` say into `raw`; returns the mistakes.
pub(super) fn read(
    variables: &[(String, String)],
    raw: &mut RawConfig,
    notices: &mut Vec<Notice>,
) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut ours: Vec<_> = variables.iter().filter(|(key, _)| key.starts_with("ETCD_")).collect();
    ours.sort();
    for (key, value) in ours {
        if key == VERSION {
            if !value.is_empty() {
                let fields = [("key", key.clone()), ("value", value.clone())];
                notices.push(Notice::new(
                    Level::Warn,
                    "special environment variable has no effect",
                    fields,
                ));
            }
            continue;
        }
        match table::all().find(|flag| flag.variable() == *key) {
            Some(flag) if raw.said.contains(flag.name) => mistakes.push(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag): {key}"
            )),
            Some(flag) if !value.is_empty() => {
                if let Err(e) = (flag.set)(raw, value) {
                    mistakes.push(format!("invalid value {value:?} for {key}: {e}"));
                    continue;
                }
                raw.said.insert(flag.name);
                let fields =
                    [("variable-name", key.clone()), ("variable-value", shown(key, value))];
                notices.push(Notice::new(
                    Level::Info,
                    "recognized and used environment variable",
                    fields,
                ));
            }
            Some(_) | None => notices.push(Notice::new(
                Level::Warn,
                "unrecognized environment variable",
                [("environment-variable", key.clone())],
            )),
        }
    }
    mistakes
}

/// A value as the log may have it: what is secret stays so.
fn shown(key: &str, value: &str) -> String {
    if key.ends_with("_PASSWORD") || key.ends_with("_USER") {
        "(not shown)".into()
    } else {
        value.to_owned()
    }
}
