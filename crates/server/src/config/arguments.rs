//! The command line, read as Go's `flag` package reads it.
//!
//! ```text
//! -x 1   --x 1   -x=1   --x=1        the same; the last of several wins
//! --y    --y=false                   a switch; `--y false` is a switch and a stray word
//! --                                 ends the flags
//! ```
//!
//! An unknown flag ends the reading, for nobody knows whether the next word is its value. Values
//! that can't be read are collected, so that they are all reported at once.

use super::raw::RawConfig;
use super::table::{self, Flag, Kind};

/// What the command line asks for, or why it can't be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// `-h`, `--help`.
    Help,
    /// Mistakes of form, a line each, in Go's words.
    Malformed(Vec<String>),
    /// A word that is no flag.
    Stray(String),
}

/// Puts all that `arguments` say into `raw`.
pub(super) fn read(arguments: &[String], raw: &mut RawConfig) -> Result<(), Stopped> {
    let mut words = arguments.iter();
    let mut malformed = Vec::new();
    let mut stray = None;
    while let Some(word) = words.next() {
        let Some(body) = word.strip_prefix('-').filter(|body| !body.is_empty()) else {
            stray = Some(word);
            break;
        };
        if body == "-" {
            stray = words.next();
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            malformed.push(format!("bad flag syntax: {word}"));
            break;
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            if name == "help" || name == "h" {
                return if malformed.is_empty() {
                    Err(Stopped::Help)
                } else {
                    break_off(malformed)
                };
            }
            malformed.push(format!("flag provided but not defined: -{name}"));
            break;
        };
        let value = match value {
            Some(value) => value,
            None if flag.stands_alone() => "true",
            None => match words.next() {
                Some(value) => value,
                None => {
                    malformed.push(format!("flag needs an argument: -{name}"));
                    break;
                }
            },
        };
        malformed.extend(set(flag, value, raw).err());
    }
    if !malformed.is_empty() {
        return break_off(malformed);
    }
    stray.map_or(Ok(()), |word| Err(Stopped::Stray(word.clone())))
}

fn break_off(malformed: Vec<String>) -> Result<(), Stopped> {
    Err(Stopped::Malformed(malformed))
}

fn set(flag: &'static Flag, value: &str, raw: &mut RawConfig) -> Result<(), String> {
    let name = flag.name;
    (flag.set)(raw, value).map_err(|e| match flag.kind {
        Kind::Switch => format!("invalid boolean value {value:?} for -{name}: {e}"),
        Kind::Number | Kind::Span | Kind::Text | Kind::List | Kind::Retired => {
            format!("invalid value {value:?} for flag -{name}: {e}")
        }
    })?;
    raw.said.insert(name);
    Ok(())
}
