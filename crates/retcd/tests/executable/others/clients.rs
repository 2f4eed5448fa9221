//! Clients in other languages, each with a suite under `tests/interop`.
//!
//! Their words go where this process's go, so that a suite skipped for want of a tool is seen.
//!
//! ```text
//! this test                 tests/interop/run ENDPOINT restart
//!           ◄──"restart"──  a call is open, and a key written
//! the server is told to end, and started again at the same place
//!                           the call ended as it should; the key is found
//! ```

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};

use stdx::tool;

use super::{Home, folder, server};
use crate::support::block_on;

/// Suites that speak gRPC and HTTP by libraries of general use, without a client for etcd between.
const OF_THE_WIRE: [&str; 4] = ["grpcio", "grpcjs", "java", "curl"];
const SIGTERM: i32 = 15;

fn suites(endpoint: &str) -> Command {
    let mut command = Command::new(folder("interop").join("run"));
    command.arg(endpoint);
    command
}

#[test]
fn clients_in_other_languages_find_an_etcd() {
    if tool::named("RETCD_CLIENTS", "clients in other languages").is_none() {
        return;
    }
    let home = Home::new("clients");
    let _server = server(&home);
    let passed = suites(&home.client_url()).status();
    assert!(passed.expect("tests/interop/run").success(), "a suite failed");
}

/// The suites say what etcd does: so etcd must pass them.
#[test]
fn what_the_suites_of_the_wire_expect_is_what_etcd_does() {
    let test = "suites for clients in other languages, at an etcd";
    if tool::named("RETCD_CLIENTS", test).is_none() {
        return;
    }
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", test) else { return };
    let home = Home::new("clients-etcd");
    let mut etcd = Command::new(bin.join("server"));
    etcd.arg("--data-dir").arg(home.data()).args(home.urls());
    let mut server = home.run(etcd);
    block_on(server.ready());
    let passed = suites(&home.client_url()).args(OF_THE_WIRE).status();
    assert!(passed.expect("tests/interop/run").success(), "a suite failed");
}

#[test]
fn clients_in_other_languages_find_a_server_again_that_ended_kindly() {
    if tool::named("RETCD_CLIENTS", "a server that ends, and clients in other languages").is_none()
    {
        return;
    }
    let home = Home::new("clients-restart");
    let mut running = server(&home);
    let run = suites(&home.client_url()).arg("restart").stdout(Stdio::piped()).spawn();
    let mut run = run.expect("tests/interop/run");
    for line in BufReader::new(run.stdout.take().expect("an output")).lines() {
        let line = line.expect("text");
        if line == "restart" {
            running.signal(SIGTERM);
            block_on(running.ended());
            running = home.start(&[]);
        } else {
            writeln!(stdout(), "{line}").expect("an output");
        }
    }
    assert!(run.wait().expect("a child").success(), "a suite failed");
}
