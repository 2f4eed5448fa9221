//! Client libraries in other languages, each with a suite under `tests/interop`.
//!
//! Their words go where this process's go, so that a suite skipped for want of a tool is seen.

use std::process::Command;

use stdx::tool;

use super::{Home, folder, server};

#[test]
fn clients_in_other_languages_find_an_etcd() {
    if tool::named("RETCD_CLIENTS", "client libraries in other languages").is_none() {
        return;
    }
    let home = Home::new("clients");
    let _server = server(&home);
    let suites = Command::new(folder("interop").join("run")).arg(home.client_url()).status();
    assert!(suites.expect("tests/interop/run").success(), "a suite failed");
}
