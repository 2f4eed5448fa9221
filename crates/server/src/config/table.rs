//! The flags: one table, from which come parsing, environment, file and help.
//!
//! A row says all there is to say about an option. Its environment variable follows from its name
//! (`--snapshot-count` is `ETCD_SNAPSHOT_COUNT`), and so does its key in a configuration file, but
//! for those that live in a block of their own there.
//!
//! # Invariants
//!
//! - Names and defaults are etcd 3.7.1's, checked against what its `--help` lists (`tests`).
//! - A default can be read by the row's own `set`.

mod clustering;
mod member;
mod operation;
mod security;

use super::raw::RawConfig;
use super::url::{self, Url};
use super::value::Parsed;

/// An option.
pub(super) struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be typed; empty means "none".
    pub default: &'static str,
    pub key: Key,
    pub doc: &'static str,
    pub set: Set,
}

/// Puts a value that was typed where it belongs.
pub(super) type Set = fn(&mut RawConfig, &str) -> Parsed<()>;

/// How a value is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--x` alone means true.
    Switch,
    Number,
    /// `1m30s`; in a file, a number of nanoseconds.
    Span,
    Text,
    /// Separated by commas; in a file, a list.
    List,
    /// Of an earlier release: accepted, and without effect.
    Retired,
}

/// Where an option is in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Under the flag's name.
    Name,
    /// In a block: the path to it, with dots.
    At(&'static str),
    /// Nowhere.
    Nowhere,
}

impl Flag {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
        set: Set,
    ) -> Self {
        Self { name, kind, default, key: Key::Name, doc, set }
    }

    const fn at(self, path: &'static str) -> Self {
        Self { key: Key::At(path), ..self }
    }

    const fn not_in_file(self) -> Self {
        Self { key: Key::Nowhere, ..self }
    }

    /// Whether `--x` stands alone, its value behind `=` if anywhere.
    pub(super) fn stands_alone(&self) -> bool {
        matches!(self.kind, Kind::Switch | Kind::Retired)
    }

    pub(super) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The path to the option in a configuration file.
    pub(super) fn path(&self) -> Option<&'static str> {
        match self.key {
            Key::Name => Some(self.name),
            Key::At(path) => Some(path),
            Key::Nowhere => None,
        }
    }
}

const fn switch(name: &'static str, default: &'static str, doc: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::Switch, default, doc, set)
}

const fn number(name: &'static str, default: &'static str, doc: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::Number, default, doc, set)
}

const fn time(name: &'static str, default: &'static str, doc: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::Span, default, doc, set)
}

const fn text(name: &'static str, default: &'static str, doc: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::Text, default, doc, set)
}

const fn list(name: &'static str, default: &'static str, doc: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::List, default, doc, set)
}

/// Flags that belong together, as the help shows them.
pub(super) struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

pub(super) const GROUPS: &[Group] = &[
    Group { title: "Member", flags: member::FLAGS },
    Group { title: "Clustering", flags: clustering::FLAGS },
    Group { title: "Security", flags: security::FLAGS },
    Group { title: "Auth", flags: security::AUTH },
    Group { title: "Profiling and monitoring", flags: operation::MONITORING },
    Group { title: "Logging", flags: operation::LOGGING },
    Group { title: "Distributed tracing", flags: operation::TRACING },
    Group { title: "Features", flags: operation::FEATURES },
    Group {
        title: "Unsafe features (they break what the consensus protocol guarantees)",
        flags: operation::UNSAFE,
    },
];

pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    let listed = GROUPS.iter().flat_map(|group| group.flags);
    listed.chain(operation::START).chain(RETIRED)
}

/// All that a file may say: that, and what no flag can.
pub(super) fn all_in_file() -> impl Iterator<Item = &'static Flag> {
    all().chain(security::FILE_ONLY)
}

pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

const fn retired(name: &'static str, set: Set) -> Flag {
    Flag::new(name, Kind::Retired, "", "No longer supported.", set).not_in_file()
}

/// What command lines of old deployments still contain.
const RETIRED: &[Flag] = &[
    retired("cluster-active-size", |raw, _| ignore(raw, "cluster-active-size")),
    retired("cluster-remove-delay", |raw, _| ignore(raw, "cluster-remove-delay")),
    retired("cluster-sync-interval", |raw, _| ignore(raw, "cluster-sync-interval")),
    retired("config", |raw, _| ignore(raw, "config")),
    retired("force", |raw, _| ignore(raw, "force")),
    retired("max-result-buffer", |raw, _| ignore(raw, "max-result-buffer")),
    retired("max-retry-attempts", |raw, _| ignore(raw, "max-retry-attempts")),
    retired("peer-heartbeat-interval", |raw, _| ignore(raw, "peer-heartbeat-interval")),
    retired("peer-election-timeout", |raw, _| ignore(raw, "peer-election-timeout")),
    retired("retry-interval", |raw, _| ignore(raw, "retry-interval")),
    retired("snapshot", |raw, _| ignore(raw, "snapshot")),
    retired("v", |raw, _| ignore(raw, "v")),
    retired("vv", |raw, _| ignore(raw, "vv")),
    retired("test.coverprofile", |raw, _| ignore(raw, "test.coverprofile")),
    retired("test.outputdir", |raw, _| ignore(raw, "test.outputdir")),
];

fn ignore(raw: &mut RawConfig, name: &'static str) -> Parsed<()> {
    if !raw.ignored.contains(&name) {
        raw.ignored.push(name);
    }
    Ok(())
}

/// Stores a value that could be read.
fn put<T>(slot: &mut T, value: Parsed<T>) -> Parsed<()> {
    *slot = value?;
    Ok(())
}

/// Stores a text as it is.
#[expect(clippy::unnecessary_wraps, reason = "every row's `set` may fail; this one's doesn't")]
fn say(slot: &mut String, value: &str) -> Parsed<()> {
    value.clone_into(slot);
    Ok(())
}

/// Stores one of a few words.
fn one_of(slot: &mut String, words: &[&str], value: &str) -> Parsed<()> {
    if !words.contains(&value) {
        return Err("invalid value".into());
    }
    say(slot, value)
}

/// Stores a list of addresses; an empty text leaves what was there.
fn list_of_urls(slot: &mut Vec<Url>, value: &str) -> Parsed<()> {
    if value.is_empty() {
        return Ok(());
    }
    put(slot, url::parse_list(value))
}
