//! The state as seen from outside: scripts, and properties against obviously right models.

mod model;
mod restore;
mod script;
mod show;
mod snapshot;
mod watching;
mod world;

use stdx::script::run_folder;

use self::script::interpreter;

fn run(folder: &str) {
    let folder = format!("{}/testdata/{folder}", env!("CARGO_MANIFEST_DIR"));
    run_folder(folder, interpreter);
}

#[test]
fn kv() {
    run("kv");
}

#[test]
fn txn() {
    run("txn");
}

#[test]
fn compaction() {
    run("compaction");
}

#[test]
fn lease() {
    run("lease");
}

#[test]
fn watch() {
    run("watch");
}

#[test]
fn alarm() {
    run("alarm");
}

#[test]
fn quota() {
    run("quota");
}

#[test]
fn hash() {
    run("hash");
}

#[test]
fn membership() {
    run("membership");
}
