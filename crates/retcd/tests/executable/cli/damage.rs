//! What lies on the disk is changed behind the server's back.
//!
//! Whatever is damaged, a start either refuses in one line that names the file, or serves all that was
//! acknowledged: never less of it, and never something else.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use proto::Method;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse,
};
use proto::mvccpb::KeyValue;
use stdx::Generator;
use stdx::generate::each_seed_of;

use super::{refused, the_one_reason};
use crate::support::client::Client;
use crate::support::process::{Ended, Home};
use crate::support::{block_on, eventually};

/// Flips to try, each with a start of its own.
const FLIPS: u64 = 24;

/// How a server with a history came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// All in the store.
    InPeace,
    /// All in the log, and only some of it in the store.
    Killed,
    /// All in the log alone.
    KilledBeforeAnyCheckpoint,
}

const KEYS: u32 = 40;

/// A folder in which a server has worked, and what it would answer.
struct Worked {
    home: Home,
    keys: Vec<KeyValue>,
}

impl Worked {
    async fn new(left: Left) -> Self {
        let home = Home::new("damage");
        let flags: &[&str] = match left {
            Left::InPeace | Left::Killed => &["--snapshot-count=100"],
            Left::KilledBeforeAnyCheckpoint => &[],
        };
        let mut server = home.start(flags);
        let client = server.ready().await;
        for round in 0..4 {
            write(&client, round).await;
            if round == 1 && left != Left::KilledBeforeAnyCheckpoint {
                let request = CompactionRequest { revision: i64::from(KEYS), physical: true };
                let answer = client.call::<CompactionResponse>(Method::Compact, &request).await;
                answer.expect("a compaction");
            }
        }
        let keys = everything(&client).await;
        if left == Left::InPeace {
            server.signal(libc::SIGTERM);
            server.ended().await;
        } else {
            server.kill();
        }
        Self { home, keys }
    }

    /// A start in `home` serves all, or says in one line what is wrong.
    async fn check(&self, home: &Home) -> Option<String> {
        let mut server = home.start(&[]);
        let client = eventually("a server, or its end", async || {
            if server.has_ended() {
                return Some(None);
            }
            Client::connect(home.client_port).await.ok().map(Some)
        })
        .await;
        let found = match &client {
            Some(client) => try_everything(client).await,
            None => None,
        };
        if let Some(found) = found {
            assert!(found == self.keys, "silent loss:\n{}", server.log());
            return None;
        }
        let status = server.ended().await;
        let reason = the_one_reason(&Ended { status, log: server.log() });
        let data = home.data();
        assert!(reason.contains(data.to_str().expect("a readable path")), "where? {reason}");
        Some(reason)
    }
}

async fn write(client: &Client, round: u32) {
    for n in 0..KEYS {
        let (key, value) = (format!("key/{n:02}"), format!("value {round} of {n:02}, ").repeat(8));
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        client.call::<PutResponse>(Method::Put, &request).await.expect("a put");
    }
    let request = DeleteRangeRequest { key: "key/33".into(), ..DeleteRangeRequest::default() };
    client.call::<DeleteRangeResponse>(Method::DeleteRange, &request).await.expect("a delete");
}

async fn everything(client: &Client) -> Vec<KeyValue> {
    try_everything(client).await.expect("an answer")
}

async fn try_everything(client: &Client) -> Option<Vec<KeyValue>> {
    let request =
        RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    client.call::<RangeResponse>(Method::Range, &request).await.ok().map(|answer| answer.kvs)
}

/// Copies what a server left, without the log's empty ends.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
            continue;
        }
        let bytes = fs::read(&path).expect("a file");
        let mut file = File::create(&target).expect("a file");
        file.write_all(&bytes[..end_of(&bytes)]).expect("a copy");
        file.set_len(bytes.len() as u64).expect("a copy");
    }
}

/// Where the bytes that are not zero end.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// The files of a data directory with something in them.
fn files(home: &Home, suffix: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["member/wal", "member/store"] {
        for entry in fs::read_dir(home.data().join(folder)).expect("a folder") {
            files.push(entry.expect("an entry").path());
        }
    }
    files.retain(|file| file.to_string_lossy().ends_with(suffix));
    files.sort();
    files
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("a file");
    bytes[at] ^= 0x10;
    fs::write(file, bytes).expect("a file");
}

#[test]
fn a_damaged_record_of_the_log_is_refused() {
    block_on(async {
        let worked = Worked::new(Left::KilledBeforeAnyCheckpoint).await;
        let file = &files(&worked.home, ".wal")[0];
        let bytes = fs::read(file).expect("a log");
        let needle = b"value 1 of 20";
        let at = bytes.windows(needle.len()).position(|window| window == needle).expect("a value");
        flip(file, at);
        let reason = refused(&worked.home, worked.home.command(&[])).await;
        assert!(reason.contains(".wal"), "{reason}");
    });
}

#[test]
fn a_damaged_record_of_the_store_is_refused() {
    block_on(async {
        let worked = Worked::new(Left::InPeace).await;
        let needle = b"value 3 of 20";
        let (file, at) = files(&worked.home, ".rev")
            .into_iter()
            .find_map(|file| {
                let bytes = fs::read(&file).expect("a segment");
                let at = bytes.windows(needle.len()).position(|window| window == needle);
                at.map(|at| (file, at))
            })
            .expect("the value is in the store");
        flip(&file, at);
        let reason = refused(&worked.home, worked.home.command(&[])).await;
        assert!(reason.contains(".rev"), "{reason}");
    });
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_harmless() {
    for (left, suffix) in [
        (Left::InPeace, ".rev"),
        (Left::InPeace, ".ledger"),
        (Left::Killed, ".ledger"),
        (Left::Killed, ".rev"),
        (Left::Killed, ".wal"),
    ] {
        let worked = block_on(Worked::new(left));
        let run = |g: &mut Generator| block_on(a_flip(&worked, suffix, g));
        each_seed_of(FLIPS / 5, run);
    }
}

async fn a_flip(worked: &Worked, suffix: &str, g: &mut Generator) {
    let home = Home::new("flip");
    copy(&worked.home.data(), &home.data());
    let files = files(&home, suffix);
    let file = g.pick(&files);
    let at = g.below(end_of(&fs::read(file).expect("a file")) as u64) as usize;
    flip(file, at);
    worked.check(&home).await;
}

#[test]
fn a_log_that_is_gone_is_missed() {
    block_on(async {
        for left in [Left::InPeace, Left::Killed, Left::KilledBeforeAnyCheckpoint] {
            let worked = Worked::new(left).await;
            let log = worked.home.data().join("member/wal");
            fs::remove_dir_all(&log).expect("a log");
            let reason = refused(&worked.home, worked.home.command(&[])).await;
            let expected = format!("{}: the log is gone, but the store is not", log.display());
            assert_eq!(reason, expected, "{left:?}");
        }
    });
}

#[test]
fn a_store_that_is_gone_is_made_again_from_a_log_that_has_it_all() {
    block_on(async {
        for left in [Left::InPeace, Left::Killed, Left::KilledBeforeAnyCheckpoint] {
            let worked = Worked::new(left).await;
            fs::remove_dir_all(worked.home.data().join("member/store")).expect("a store");
            assert_eq!(worked.check(&worked.home).await, None, "{left:?}");
        }
    });
}

/// Where the record begins that holds the byte at `inside`: each says its length first.
fn record_around(log: &[u8], inside: usize) -> usize {
    let mut at = 0;
    loop {
        let length: [u8; 8] = log[at..at + 8].try_into().expect("eight bytes");
        let length = u64::from_le_bytes(length) as usize;
        // The top byte holds the padding, if there is any.
        let padding = if length >> 63 == 1 { (length >> 56) & 7 } else { 0 };
        let end = at + 8 + (length & 0x00ff_ffff_ffff_ffff) + padding;
        if inside < end {
            return at;
        }
        at = end;
    }
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    block_on(async {
        let home = Home::new("founding");
        let mut server = home.start(&[]);
        server.ready().await;
        server.kill();
        let log = &files(&home, ".wal")[0];
        fs::remove_dir_all(home.data().join("member/store")).expect("a store");
        let mut bytes = fs::read(log).expect("a log");
        let founders = bytes.windows(11).position(|w| w == b"\"peerURLs\":").expect("founders");
        let founding = record_around(&bytes, founders);
        bytes[founding..].fill(0);
        fs::write(log, bytes).expect("a log");
        let mut server = home.start(&[]);
        server.ready().await;
    });
}

#[test]
fn a_ledger_that_is_gone_is_missed() {
    block_on(async {
        let worked = Worked::new(Left::InPeace).await;
        for ledger in files(&worked.home, ".ledger") {
            fs::remove_file(ledger).expect("a ledger");
        }
        let reason = refused(&worked.home, worked.home.command(&[])).await;
        assert!(reason.contains("segments without a ledger"), "{reason}");
    });
}
