//! `cargo xtask ci`: what a change must pass, in the order in which it fails fastest.
//!
//! Tools of others make more tests possible. Where Go is, they are built, and tests are told of them by
//! variables; where it isn't, this says so, and the tests that want them say that they are skipped.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::root;

/// Tests of the executable that fetch what they need or want the machine to themselves.
const OTHERS: &str = "others::";

/// Name, the words after `cargo`, and variables that only this step is to see.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

const fn step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, arguments, variables: &[] }
}

const STEPS: &[Step] = &[
    step("format", &["fmt", "--all", "--check"]),
    step("generated code", &["xtask", "codegen", "--check"]),
    step(
        "licenses and sources",
        &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
    ),
    step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    step("build", &["build", "--release", "--bin", "retcd"]),
    Step {
        name: "programs of others",
        arguments: &[
            "test",
            "--workspace",
            "--test",
            "executable",
            OTHERS,
            "--",
            "--nocapture",
            "--test-threads=1",
        ],
        variables: &[("RETCD_CLIENTS", "1")],
    },
    step("simulator", &["run", "--release", "-p", "sim", "--", "--seeds", "0..2000"]),
    step("tests", &["test", "--workspace", "--no-fail-fast", "--", "--skip", OTHERS]),
];

/// A script that builds tools, its words, and the variables that tell tests where one came to lie.
struct Build {
    name: &'static str,
    words: &'static [&'static str],
    told: &'static [(&'static str, &'static str)],
}

const BUILDS: &[Build] = &[
    Build {
        name: "etcd's own programs",
        words: &["reference/build"],
        told: &[
            ("RETCD_REFERENCE_BIN", "target/reference"),
            ("RETCD_ETCDCTL", "target/reference/etcdctl"),
        ],
    },
    Build {
        name: "h2spec",
        words: &["tests/h2spec/build", "target/reference/h2spec"],
        told: &[("RETCD_H2SPEC", "target/reference/h2spec")],
    },
];

#[expect(clippy::print_stdout, reason = "a chore talks to whoever started it")]
pub(crate) fn run(_: &[String]) -> Result<ExitCode> {
    let mut variables: Vec<(&str, OsString)> = Vec::new();
    let has_go = Command::new("go").arg("version").stdout(Stdio::null()).status().is_ok();
    for Build { name, words, told } in BUILDS {
        if !has_go {
            println!("── {name}: skipped, there is no go");
            continue;
        }
        let mut script = Command::new(root().join(words[0]));
        if !finishes(name, script.args(&words[1..]))? {
            return Ok(ExitCode::FAILURE);
        }
        variables.extend(told.iter().map(|(name, path)| (*name, root().join(path).into())));
    }
    for Step { name, arguments, variables: own } in STEPS {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(*arguments).envs(variables.clone()).envs(own.iter().copied());
        if !finishes(name, &mut cargo)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a step at the root, and says what it was, how it ended and how long it took.
#[expect(clippy::print_stdout, reason = "a chore talks to whoever started it")]
fn finishes(name: &str, command: &mut Command) -> Result<bool> {
    println!("── {name}: {command:?}");
    let start = Instant::now();
    let status = command.current_dir(root()).status().with_context(|| format!("{command:?}"))?;
    let verdict = if status.success() { "" } else { " failed after" };
    println!("── {name}:{verdict} {:.0} s", start.elapsed().as_secs_f64());
    Ok(status.success())
}
