//! What etcd answered, retcd answers: every script of tests/conformance.

use std::path::Path;

use conformance::{Mode, Program, run};
use stdx::tool;

/// What belongs to a later issue: these may differ, and must not be forgotten here when they don't.
const LATER: [&str; 1] = ["auth/authentication_is_off_until_enabled.txt"];

#[test]
fn retcd_answers_as_etcd_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let server = Program(vec![env!("CARGO_BIN_EXE_retcd").to_owned()]);
    let report = run(&folder, &server, "", Mode::Compare, "");
    let is_later = |failure: &str| LATER.iter().any(|script| failure.contains(script));
    let (later, failures): (Vec<String>, _) =
        report.failures.into_iter().partition(|failure| is_later(failure));
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(later.len(), LATER.len(), "a script of the list passes: take it off");
}

/// Whether the recorded answers of the peer port are still those of a running etcd.
#[test]
fn etcd_answers_other_members_as_it_was_recorded() {
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", "the peer port of etcd") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/peer");
    let server = Program(vec![bin.join("server").display().to_string()]);
    let report = run(&folder, &server, "", Mode::Compare, "");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n\n"));
}
