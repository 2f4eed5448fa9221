//! etcd's Go client at a cluster of which one member after the other is killed.
//!
//! ```text
//! this test                          tests/interop/go/failover
//! kill a member, say so ───────────► writes, reads, watches, keeps a lease, holds a mutex
//!                       ◄─────"ok"── all have got on since
//! start it again, say so … and so on; the end of the input is the end
//! ```

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use stdx::tool;

use super::folder;
use crate::cluster::fleet::Fleet;
use crate::support::block_on;

/// The client, told of what was done to the cluster.
struct Suite {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Suite {
    fn start(endpoints: &str) -> Self {
        let mut child = Command::new("go")
            .args(["run", "./failover"])
            .current_dir(folder("interop/go"))
            .env("ETCD_ENDPOINT", endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The client library says there what it thinks of members that are gone.
            .stderr(Stdio::null())
            .spawn()
            .expect("go");
        let input = child.stdin.take().expect("an input");
        let output = BufReader::new(child.stdout.take().expect("an output"));
        let mut suite = Self { child, input, output };
        suite.expect("ok", "the start");
        suite
    }

    fn expect(&mut self, expected: &str, after: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        assert_eq!(line.trim_end(), expected, "after {after}");
    }

    /// Waits until the client has got on since `what` was done.
    fn carries_on_after(&mut self, what: &str) {
        writeln!(self.input, "{what}").expect("a client that listens");
        self.expect("ok", what);
    }

    fn end(self) {
        let Self { mut child, input, mut output } = self;
        drop(input);
        let mut line = String::new();
        output.read_line(&mut line).expect("text");
        assert_eq!(line, "ended well\n");
        assert!(child.wait().expect("a child").success());
    }
}

#[test]
fn etcds_go_client_carries_on_while_members_are_killed() {
    if tool::named("RETCD_CLIENTS", "etcd's Go client and members that are killed").is_none() {
        return;
    }
    if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
        tool::skipped("etcd's Go client and members that are killed", "there is no go");
        return;
    }
    block_on(async {
        let mut fleet = Fleet::found("go-failover", 3).await;
        let endpoints: Vec<String> =
            fleet.seats.iter().map(|seat| seat.home.client_url()).collect();
        let mut suite = Suite::start(&endpoints.join(","));
        // Twice around; and whoever leads by then, so that it is always met.
        for round in 0..7 {
            let at = if round == 6 { fleet.leader().await } else { round % 3 };
            fleet.seats[at].kill();
            suite.carries_on_after(&format!("the end of m{at}"));
            fleet.seats[at].start();
            fleet.all_serve().await;
            suite.carries_on_after(&format!("the return of m{at}"));
        }
        suite.end();
        fleet.agree().await;
    });
}
