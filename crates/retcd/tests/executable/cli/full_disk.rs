//! A disk with no room left.
//!
//! The limit on the size of files stands in for it: every write past it fails, as on a full disk.

use std::process::Command;

use proto::Method;
use proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};

use super::{refused, the_one_reason};
use crate::support::block_on;
use crate::support::client::Client;
use crate::support::process::{Ended, Home};

const MIB: usize = 1 << 20;
/// More than a segment of the log has, less than one of the store may have.
const SOME_MIB: usize = 72;
/// Less than a segment of the log.
const TOO_FEW_MIB: usize = 20;

/// `command`, with files of at most so many MiB.
fn limited(command: &Command, mib: usize) -> Command {
    let mut limited = Command::new("sh");
    // A write past the limit is to fail, not to kill.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", mib * MIB / 512);
    limited.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    limited
}

#[test]
fn without_room_for_a_log_nothing_is_begun() {
    block_on(async {
        let home = Home::new("no-room");
        let reason = refused(&home, limited(&home.command(&[]), TOO_FEW_MIB)).await;
        assert!(reason.contains("wal"), "{reason}");
        let mut server = home.start(&[]);
        server.ready().await;
    });
}

#[test]
fn when_room_runs_out_the_server_says_so_and_ends_and_nothing_acknowledged_is_lost() {
    block_on(async {
        let home = Home::new("full");
        let mut server = home.run(limited(&home.command(&[]), SOME_MIB));
        let client = server.ready().await;
        let mut acknowledged = 0;
        while put(&client, acknowledged).await {
            acknowledged += 1;
            assert!(acknowledged < 2 * SOME_MIB, "room has not run out");
        }
        let status = server.ended().await;
        let reason = the_one_reason(&Ended { status, log: server.log() });
        assert!(reason.contains("File too large"), "{reason}");
        drop(server);

        let mut server = home.start(&[]);
        let client = server.ready().await;
        for n in 0..acknowledged {
            let request = RangeRequest { key: key(n), ..RangeRequest::default() };
            let answer = client.call::<RangeResponse>(Method::Range, &request).await;
            assert!(answer.expect("an answer").kvs[0].value == value(n), "{n} of {acknowledged}");
        }
    });
}

fn key(n: usize) -> bytes::Bytes {
    format!("key/{n}").into()
}

fn value(n: usize) -> bytes::Bytes {
    vec![n as u8 + 1; MIB].into()
}

async fn put(client: &Client, n: usize) -> bool {
    let request = PutRequest { key: key(n), value: value(n), ..PutRequest::default() };
    client.call::<PutResponse>(Method::Put, &request).await.is_ok()
}
