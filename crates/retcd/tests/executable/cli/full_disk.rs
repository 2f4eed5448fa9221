//! A disk with no room left.
//!
//! Where this may mount things, it is a small file system in memory, in a namespace of its own. For
//! everybody else the limit on the size of files stands in for it: every write past it fails, too.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use proto::Method;
use proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};

use stdx::tool;

use super::{refused, the_one_reason};
use crate::support::block_on;
use crate::support::client::Client;
use crate::support::process::{Ended, Home};

const MIB: usize = 1 << 20;
/// More than a segment of the log has, less than one of the store may have.
const SOME_MIB: usize = 72;
/// Less than a segment of the log.
const TOO_FEW_MIB: usize = 20;
/// A disk that a part of the log's first segment fills, and one that holds several segments.
const DISKS_MIB: [usize; 2] = [8, 160];
const ENOUGH_MIB: usize = 600;

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
        check(&client, acknowledged).await;
    });
}

/// A file system in memory at a server's data folder, seen by nobody but who enters its namespace.
struct SmallDisk {
    /// Keeps the namespace while its input is open.
    keeper: Child,
    mounted_at: String,
}

impl SmallDisk {
    /// `None`, and a word about it, where mounting is not allowed.
    fn mount(home: &Home, mib: usize) -> Option<Self> {
        std::fs::create_dir_all(home.data()).expect("a folder to mount at");
        let mounted_at = home.data().to_str().expect("a path of plain letters").to_owned();
        let script =
            format!("mount -t tmpfs -o size={mib}m none {mounted_at} && echo mounted && read end");
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", &script]).stderr(Stdio::null());
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut told = String::new();
        if let Ok(mut keeper) = keeper {
            let output = keeper.stdout.as_mut().expect("piped");
            BufReader::new(output).read_line(&mut told).expect("text");
            let disk = Self { keeper, mounted_at };
            if told == "mounted\n" {
                return Some(disk);
            }
        }
        tool::skipped("a really full disk", "no file system can be mounted here: that takes root");
        None
    }

    /// `command`, where the disk is mounted.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--target", &self.keeper.id().to_string(), "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    fn resize(&self, mib: usize) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={mib}m"), &self.mounted_at]);
        let status = self.inside(&mount).status().expect("mount");
        assert!(status.success(), "no more room was given");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

#[test]
fn on_a_full_disk_the_server_ends_in_one_line_and_goes_on_when_there_is_room() {
    for mib in DISKS_MIB {
        block_on(async {
            let home = Home::new("full-disk");
            let Some(disk) = SmallDisk::mount(&home, mib) else { return };
            let mut acknowledged = 0;
            // The second start finds it full.
            for _ in 0..2 {
                acknowledged = fill(&home, &disk, acknowledged).await;
            }
            assert!((1..mib).contains(&acknowledged), "{acknowledged} in {mib} MiB");
            disk.resize(ENOUGH_MIB);
            let mut server = home.run(disk.inside(&home.command(&[])));
            let client = server.ready().await;
            check(&client, acknowledged).await;
            let n_keys = count(&client).await;
            assert!(put(&client, n_keys).await, "there is room again");
            check(&client, n_keys + 1).await;
        });
    }
}

/// Starts a server and puts until it ends, as it must for want of room; how many puts were acknowledged
/// up to then, at this start and before.
async fn fill(home: &Home, disk: &SmallDisk, mut acknowledged: usize) -> usize {
    let mut server = home.run(disk.inside(&home.command(&[])));
    if let Some(client) = server.ready_or_ended().await {
        while put(&client, acknowledged).await {
            acknowledged += 1;
            assert!(acknowledged < ENOUGH_MIB, "room has not run out");
        }
    }
    let status = server.ended().await;
    let reason = the_one_reason(&Ended { status, log: server.log() });
    assert!(reason.contains("No space left on device"), "{reason}");
    acknowledged
}

/// All that was acknowledged is there; besides at most the put that nobody heard of.
async fn check(client: &Client, acknowledged: usize) {
    let n_keys = count(client).await;
    assert!((acknowledged..=acknowledged + 1).contains(&n_keys), "{n_keys}, not {acknowledged}");
    for n in 0..n_keys {
        let request = RangeRequest { key: key(n), ..RangeRequest::default() };
        let answer = client.call::<RangeResponse>(Method::Range, &request).await;
        assert!(answer.expect("an answer").kvs[0].value == value(n), "{n} of {acknowledged}");
    }
}

async fn count(client: &Client) -> usize {
    let (key, range_end) = ("\0".into(), "\0".into());
    let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    let all = client.call::<RangeResponse>(Method::Range, &request).await.expect("an answer");
    usize::try_from(all.count).expect("a count")
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
