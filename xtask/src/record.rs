//! The conformance scripts: recorded from etcd, or replayed against any server.
//!
//! ```text
//! cargo xtask record [--only PART]             etcd: RETCD_REFERENCE_ETCD, or reference/bin/etcd
//! cargo xtask replay [--only PART] [SERVER]    without a server: against etcd, too
//! ```

use std::env;
use std::process::{Command, ExitCode};

use anyhow::bail;

/// Answers are written into the scripts.
pub(crate) fn record(arguments: &[String]) -> anyhow::Result<ExitCode> {
    start("record", arguments)
}

/// Answers are compared with those in the scripts.
pub(crate) fn replay(arguments: &[String]) -> anyhow::Result<ExitCode> {
    start("replay", arguments)
}

/// The instrument is a program of its own, so that other chores need not wait for its building.
fn start(verb: &str, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut only = "";
    let mut server = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), verb) {
            ("--only", _) => only = arguments.next().map_or("", String::as_str),
            (flag, _) if flag.starts_with('-') => bail!("the only flag is --only"),
            (path, "replay") => server = Some(path.to_owned()),
            (path, _) => bail!("{verb} takes its server from RETCD_REFERENCE_ETCD, not {path}"),
        }
    }
    let server = server.or_else(|| env::var("RETCD_REFERENCE_ETCD").ok());
    let server = server.unwrap_or_else(|| "reference/bin/etcd".to_owned());
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "conformance", "--", verb, &server])
        .args(["--only", only])
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
