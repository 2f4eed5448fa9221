//! Starts that must fail, and how they say so.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::refused;
use crate::support::block_on;
use crate::support::process::{Home, retcd};

#[test]
fn an_unknown_flag_is_refused_in_etcds_words() {
    let output = retcd().arg("--bogus").output().expect("the executable");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.starts_with("flag provided but not defined: -bogus\nUsage:\n"), "{told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_version_is_told_in_etcds_four_lines() {
    let output = retcd().arg("--version").output().expect("the executable");
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stdout).expect("text");
    let names: Vec<&str> = told.lines().map(|l| l.split(": ").next().expect("a name")).collect();
    assert_eq!(names, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
    assert!(told.starts_with("etcd Version: 3.7.1\n"), "{told}");
}

#[test]
fn help_is_no_failure() {
    for flag in ["--help", "-h", "-help"] {
        let output = retcd().arg(flag).output().expect("the executable");
        assert_eq!(output.status.code(), Some(0), "{flag}");
        let told = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&told).contains("--listen-client-urls"), "{flag}");
    }
}

#[test]
fn a_busy_port_is_named() {
    block_on(async {
        let home = Home::new("busy");
        for (port, url) in
            [(home.client_port, home.client_url()), (home.peer_port, home.peer_url())]
        {
            let taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
            let reason = refused(&home, home.command(&[])).await;
            assert_eq!(reason, format!("listen {url}: Address already in use (os error 98)"));
            assert!(!home.data().exists(), "nothing was begun");
            drop(taken);
        }
    });
}

#[test]
fn a_folder_has_one_server_at_a_time() {
    block_on(async {
        let home = Home::new("locked");
        let mut server = home.start(&[]);
        server.ready().await;
        let other = Home::new("locked-out");
        let mut command = retcd();
        command.arg("--data-dir").arg(home.data()).args(other.urls());
        let reason = refused(&other, command).await;
        assert_eq!(reason, format!("{}: in use by another process", lock(&home).display()));
        server.ready().await;
    });
}

/// Begun from its log alone it would be empty, if it was restored from a snapshot.
#[test]
fn a_store_of_etcds_is_refused_and_left_alone() {
    block_on(async {
        let home = Home::new("theirs");
        let snap = home.data().join("member/snap");
        fs::create_dir_all(&snap).expect("a folder");
        fs::write(snap.join("db"), "a bbolt file").expect("a file");
        let reason = refused(&home, home.command(&[])).await;
        assert_eq!(reason, format!("{}/db: a store of etcd's cannot be opened", snap.display()));
        assert!(!home.data().join("member/store").exists(), "nothing was begun");
    });
}

fn lock(home: &Home) -> std::path::PathBuf {
    home.data().join("member/store/lock")
}

#[test]
fn a_place_that_is_no_folder_is_named() {
    block_on(async {
        for place in ["data", "data/member", "data/member/wal", "data/member/store"] {
            let home = Home::new("file");
            let file = home.path().join(place);
            fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            fs::write(&file, "a file").expect("a file");
            let reason = refused(&home, home.command(&[])).await;
            assert!(names(&reason, &file), "{place}: {reason}");
            assert_eq!(fs::read(&file).expect("still there"), b"a file");
        }
    });
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    block_on(async {
        let home = Home::new("forbidden");
        let folder = Path::new("/sys/retcd"); // Forbidden to everybody.
        let mut command = retcd();
        command.arg("--data-dir").arg(folder).args(home.urls());
        let reason = refused(&home, command).await;
        assert!(names(&reason, folder), "{reason}");
    });
}

fn names(reason: &str, file: &Path) -> bool {
    reason.contains(file.to_str().expect("a readable path"))
}
