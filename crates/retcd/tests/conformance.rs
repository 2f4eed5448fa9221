//! What etcd answered, retcd answers: every script of tests/conformance.

use std::path::Path;

use conformance::{Mode, Program, run};

#[test]
#[ignore = "the server is still being built; cargo xtask replay shows how far it is"]
fn retcd_answers_as_etcd_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let server = Program(vec![env!("CARGO_BIN_EXE_retcd").to_owned()]);
    let report = run(&folder, &server, "", Mode::Compare, "");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n\n"));
}
