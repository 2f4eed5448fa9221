//! `cargo xtask ci`: what a change must pass, in the order in which it fails fastest.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::root;

/// Name, and the words after `cargo`.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("generated code", &["xtask", "codegen", "--check"]),
    (
        "licenses and sources",
        &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
    ),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("build", &["build", "--release", "--bin", "retcd"]),
    ("tests", &["test", "--workspace", "--no-fail-fast"]),
];

#[expect(clippy::print_stdout, reason = "a chore talks to whoever started it")]
pub(crate) fn run(_: &[String]) -> Result<ExitCode> {
    for (name, arguments) in STEPS {
        println!("── {name}: cargo {}", arguments.join(" "));
        let start = Instant::now();
        let mut cargo = Command::new(env!("CARGO"));
        let status = cargo.args(*arguments).current_dir(root()).status();
        let status = status.with_context(|| format!("cargo {}", arguments.join(" ")))?;
        if !status.success() {
            println!("── {name} failed");
            return Ok(ExitCode::FAILURE);
        }
        println!("── {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(ExitCode::SUCCESS)
}
