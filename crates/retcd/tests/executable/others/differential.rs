//! The same random calls, by grpc-go, of this server and of an etcd: `tests/interop/go/differential`.
//!
//! `SEED` says which calls, `CALLS` how many.

use std::process::{Command, Stdio};

use stdx::tool;

use super::{Home, folder, server};
use crate::support::block_on;

#[test]
fn a_server_and_an_etcd_answer_the_same_random_calls_alike() {
    let test = "the same random calls of this server and of etcd";
    if tool::named("RETCD_CLIENTS", test).is_none() {
        return;
    }
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", test) else { return };
    if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
        return tool::skipped(test, "there is no go");
    }
    let (ours, theirs) = (Home::new("alike"), Home::new("alike-etcd"));
    let _server = server(&ours);
    let mut etcd = Command::new(bin.join("server"));
    etcd.arg("--data-dir").arg(theirs.data()).args(theirs.urls());
    let mut etcd = theirs.run(etcd);
    block_on(etcd.ready());
    let run = Command::new("go")
        .args(["run", "./differential"])
        .current_dir(folder("interop/go"))
        .env("ETCD_ENDPOINT", ours.client_url())
        .env("ETCD_REFERENCE", theirs.client_url())
        .status();
    assert!(run.expect("go").success(), "they differ");
}
