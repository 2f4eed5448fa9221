//! Programs of others that tests need, and the admission that there is none.
//!
//! A test without its tool proves nothing, and passes. So that nobody believes otherwise it says so
//! on the process's own error output: the harness, which keeps to itself what passing tests print,
//! doesn't see that.

use std::env;
use std::io::{Write, stderr};
use std::path::PathBuf;

/// What `variable` names; without it `test` says that it is skipped.
pub fn named(variable: &str, test: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).filter(|value| !value.is_empty());
    if named.is_none() {
        skipped(test, &format!("{variable} is not set"));
    }
    named.map(PathBuf::from)
}

/// Says that `test` proves nothing here, and why.
pub fn skipped(test: &str, why: &str) {
    // One write, so that tests side by side don't mix their words.
    drop(stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes()));
}
