//! The project's own chores: `cargo xtask <command>`.
//!
//! A command is a file with a `run`, and a line in [`COMMANDS`].

mod ci;
mod codegen;
mod faults;
mod record;
#[cfg(test)]
mod tidy;

use std::env;
use std::path::Path;
use std::process::ExitCode;

struct Command {
    name: &'static str,
    doc: &'static str,
    run: fn(&[String]) -> anyhow::Result<ExitCode>,
}

const COMMANDS: &[Command] = &[
    Command { name: "ci", doc: "what a change must pass", run: ci::run },
    Command {
        name: "codegen",
        doc: "write the Rust of crates/proto/proto; with --check, only say whether it is stale",
        run: codegen::run,
    },
    Command {
        name: "faults",
        doc: "plant the faults of crates/sim/faults, and have the simulator find them; PART of a name …",
        run: faults::run,
    },
    Command {
        name: "record",
        doc: "write etcd's answers into tests/conformance; --only PART of a path",
        run: record::record,
    },
    Command {
        name: "replay",
        doc: "compare a SERVER's answers with those in tests/conformance; --only PART of a path",
        run: record::replay,
    },
];

#[expect(clippy::print_stderr, reason = "a chore talks to whoever started it")]
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let command = arguments.first().and_then(|name| COMMANDS.iter().find(|c| c.name == name));
    let Some(command) = command else {
        eprintln!("usage: cargo xtask <command>\n");
        for Command { name, doc, .. } in COMMANDS {
            eprintln!("  {name:<10} {doc}");
        }
        return ExitCode::from(2);
    };
    (command.run)(&arguments[1..]).unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", command.name);
        ExitCode::FAILURE
    })
}

/// The folder that holds the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root")
}
