//! The command-line tools, as far as they go: so far they tell their version.
//!
//! `etcdctl` and `etcdutl` are names this executable answers to, so that scripts which ask a tool for its
//! version find one. For everything else etcd's own tools work against the server unmodified.

use std::process::ExitCode;

/// The release of etcd whose tools these stand in for.
const VERSION: &str = "3.7.1";
const API_VERSION: &str = "3.7";
/// What etcd's tools exit with when they are asked for what they don't have.
const EXIT_ERROR: u8 = 1;

/// Which tool was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Etcdctl,
    Etcdutl,
}

impl Tool {
    /// The tool with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "etcdctl" => Some(Self::Etcdctl),
            "etcdutl" => Some(Self::Etcdutl),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Etcdctl => "etcdctl",
            Self::Etcdutl => "etcdutl",
        }
    }
}

/// Runs `tool` with the words after its name.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever called it")]
pub fn run(tool: Tool, arguments: &[String]) -> ExitCode {
    let name = tool.name();
    if arguments.first().is_some_and(|command| command == "version") {
        println!("{name} version: {VERSION}");
        println!("API version: {API_VERSION}");
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "Error: retcd's {name} has no commands but `version` yet; use etcd's {name} {VERSION}"
    );
    ExitCode::from(EXIT_ERROR)
}
