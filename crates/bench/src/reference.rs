//! Where the etcd to compare with comes from.
//!
//! It is named on the command line or in the environment, or else built by Go from the module under
//! `reference/`, which pins etcd's version; the executable stays under `target/`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where etcd may be found without asking.
const VARIABLE: &str = "RETCD_REFERENCE_ETCD";

/// The repository this was built from.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The etcd to compare with, or why there is none.
pub(crate) fn find(named: Option<PathBuf>) -> Result<PathBuf, String> {
    if let Some(path) = named.or_else(|| env::var_os(VARIABLE).map(PathBuf::from)) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{} is no file", path.display()))
        };
    }
    let (kept, built) = (root().join("reference/bin/etcd"), root().join("target/reference/server"));
    match [kept, built.clone()].into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => build().map(|()| built),
    }
}

fn build() -> Result<(), String> {
    let output = Command::new(root().join("reference/build"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{VARIABLE} is not set, and nothing can be built: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("go could not build it: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
