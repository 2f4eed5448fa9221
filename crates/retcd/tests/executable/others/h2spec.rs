//! h2spec: what RFC 7540 and 7541 ask of a server, case by case.
//!
//! `tests/h2spec/expected.txt` holds the cases that don't pass, and why that is right. One that is not
//! there must pass; one that passes must not be there.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use stdx::tool;

use super::{Home, folder, server};

/// Refused for want of a message, after it was read: so every case has its stream.
const PATH: &str = "/etcdserverpb.KV/Range";
/// What a case's line in the report begins with.
const CASE: &str = "<testcase package=\"";

#[test]
fn h2spec_finds_nothing_but_what_is_expected() {
    let Some(h2spec) = tool::named("RETCD_H2SPEC", "h2spec") else { return };
    let home = Home::new("h2spec");
    let _server = server(&home);
    let report = home.path().join("report.xml");
    let port = home.client_port.to_string();
    let mut command = Command::new(h2spec);
    command.args(["--host", "127.0.0.1", "--port", &port, "--path", PATH, "--junit-report"]);
    let told = command.arg(&report).output().expect("h2spec");
    let told = String::from_utf8_lossy(&told.stdout);
    let (n_cases, found) = judge(&fs::read_to_string(report).expect("a report"));
    assert!(n_cases > 140, "h2spec ran {n_cases} cases alone:\n{told}");
    assert_eq!(found, expected(), "\n{told}");
}

/// How many cases a report has, and those that did not pass.
fn judge(report: &str) -> (usize, BTreeSet<String>) {
    let mut found = BTreeSet::new();
    let mut n_cases = 0;
    for case in report.split(CASE).skip(1) {
        n_cases += 1;
        let (head, outcome) = case.split_once('>').expect("the end of a tag");
        let (section, rest) = head.split_once('"').expect("a section");
        let name = rest.split('"').nth(1).expect("a name");
        let verdict = match outcome.trim_start() {
            passed if passed.starts_with("</testcase>") => continue,
            skipped if skipped.starts_with("<skipped>") => "skipped",
            _ => "fails",
        };
        found.insert(format!("{verdict} {section} {name}"));
    }
    (n_cases, found)
}

/// The lines of the list that name a case; those between them say why.
fn expected() -> BTreeSet<String> {
    let list = fs::read_to_string(folder("h2spec").join("expected.txt")).expect("a list");
    list.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn a_report_is_judged_case_by_case() {
    let (n_cases, found) = judge(concat!(
        "<testsuite name=\"x\">",
        "<testcase package=\"a/1\" classname=\"is well\" time=\"0\"></testcase>\n",
        "<testcase package=\"a/1\" classname=\"is not\" time=\"0\">\n  <error>x</error></testcase>",
        "<testcase package=\"a/2\" classname=\"is later\" time=\"0\">\n <skipped></skipped></testcase>",
    ));
    let found: Vec<_> = found.into_iter().collect();
    assert_eq!(n_cases, 3);
    assert_eq!(found, ["fails a/1 is not", "skipped a/2 is later"]);
}
