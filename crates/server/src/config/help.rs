//! What the process says about itself: `--help`, `--version`, and the hint under a mistake.

use std::env::consts;
use std::fmt::Write;

use super::gate;
use super::table::{self, Flag};

/// The version of etcd whose behaviour, API and files these are.
pub const ETCD_VERSION: &str = "3.7.1";

/// How the process is called, in short. Goes to standard error.
pub(super) const USAGE: &str = "\
Usage:

  etcd [flags]
    Start a member.

  etcd --version
    Show the version.

  etcd -h | --help
    Explain every flag.

  etcd --config-file FILE
    Start a member as a YAML or JSON file says. Flags and environment are then not looked at.
    Durations in the file are whole numbers of nanoseconds.

  ETCD_SOME_FLAG=value etcd
    The same as --some-flag=value. A flag may be said in one of both places only.
";

/// Every flag with its default, by group. Goes to standard output.
pub(super) fn flags() -> String {
    let mut out = String::new();
    for group in table::GROUPS {
        let _ = writeln!(out, "\n{}:", group.title);
        for flag in group.flags {
            let _ = writeln!(out, "  --{}{}\n    {}", flag.name, default(flag), flag.doc);
            if flag.name == "feature-gates" {
                for line in gate::describe() {
                    let _ = writeln!(out, "      {line}");
                }
            }
        }
    }
    out
}

fn default(flag: &Flag) -> String {
    match flag.name {
        "data-dir" => " '${name}.etcd'".into(),
        "initial-cluster" => " '${name}=${initial-advertise-peer-urls}'".into(),
        _ => format!(" '{}'", flag.default),
    }
}

/// Four lines, of which tools read the first.
pub(super) fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\n\
         Git SHA: {}\n\
         Go Version: none (retcd {} is written in Rust)\n\
         Go OS/Arch: {}/{}\n",
        option_env!("RETCD_GIT_SHA").unwrap_or("Not provided"),
        env!("CARGO_PKG_VERSION"),
        consts::OS,
        go_architecture(),
    )
}

/// The machine by the name Go has for it.
fn go_architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
