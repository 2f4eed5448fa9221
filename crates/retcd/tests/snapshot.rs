//! A snapshot of ours in etcd's hands: its tools check and restore it, its server starts on it and
//! agrees with us about every key.
//!
//! Needs etcd's own executables (`server`, which is etcd, `etcdctl` and `etcdutl`) in the folder that
//! `RETCD_REFERENCE_BIN` names; without it there is nothing to compare with.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, process, thread};

use stdx::{port, tool};

const VARIABLE: &str = "RETCD_REFERENCE_BIN";

/// How long a server may take to start on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// etcd's executables, and room for files; removed at the end.
struct Workshop {
    programs: PathBuf,
    folder: PathBuf,
}

impl Workshop {
    fn open(name: &str) -> Option<Self> {
        let programs = tool::named(VARIABLE, name)?;
        let folder = env::temp_dir().join(format!("retcd-{name}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder for files");
        Some(Self { programs, folder })
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a path of plain letters").to_owned()
    }

    /// Runs one of etcd's tools to its good end; what it said.
    fn run(&self, program: &str, words: &[&str], input: &str) -> String {
        let mut command = Command::new(self.programs.join(program));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.args(words).spawn().expect("a tool that runs");
        let written = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("a tool that ends");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && written.is_ok(), "{program} {words:?}: {stdout}{stderr}");
        stdout.trim_end().to_owned()
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A member on ports of its own, ended with its owner.
struct Server<'a> {
    child: Child,
    workshop: &'a Workshop,
    endpoint: String,
}

/// Where a member is reached by clients and by its peers.
struct Addresses {
    clients: String,
    peers: String,
}

impl Addresses {
    fn free() -> Self {
        let [clients, peers] = [(), ()].map(|()| format!("http://127.0.0.1:{}", port::free()));
        Self { clients, peers }
    }

    fn cluster(&self) -> String {
        format!("default={}", self.peers)
    }
}

impl<'a> Server<'a> {
    /// Starts a member and waits until it says that it is ready.
    fn start(program: &Path, data: &str, at: &Addresses, workshop: &'a Workshop) -> Self {
        let Addresses { clients, peers } = at;
        let mut command = Command::new(program);
        command.args(["--data-dir", data, "--initial-cluster", &at.cluster()]);
        command.args(["--listen-client-urls", clients, "--advertise-client-urls", clients]);
        command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a server that runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let server = Self { child, workshop, endpoint: clients.clone() };
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to serve client requests") {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(START_MAX).expect("a server that gets ready");
        server
    }

    fn ctl(&self, words: &[&str], input: &str) -> String {
        let words = [&["--endpoints", &self.endpoint, "--command-timeout=60s"], words].concat();
        self.workshop.run("etcdctl", &words, input)
    }

    /// The hash of all keys at a revision, and the compaction it follows from.
    fn hash(&self, revision: &str) -> String {
        let json = self.ctl(&["endpoint", "hashkv", "--rev", revision, "-w", "json"], "");
        let at = json.find("\"hash\":").expect("a hash");
        json[at..].to_owned()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Puts of `n` keys in one transaction, as etcdctl wants to be told.
fn puts(n: usize, prefix: &str, value: &str) -> String {
    let lines: Vec<String> = (0..n).map(|i| format!("put {prefix}{i} {value}{i}")).collect();
    format!("\n{}\n\n\n", lines.join("\n"))
}

/// The number that follows `name` in JSON.
fn number(json: &str, name: &str) -> String {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect("a field of that name");
    rest.chars().take_while(char::is_ascii_digit).collect()
}

/// Some of everything; the lease that holds `leased`.
fn fill(server: &Server<'_>) -> String {
    let granted = server.ctl(&["lease", "grant", "500"], "");
    let lease = granted.split(' ').nth(1).expect("the lease's id").to_owned();
    server.ctl(&["put", "leased", "value", "--lease", &lease], "");
    for round in 0..5 {
        server.ctl(&["txn"], &puts(100, "key", &format!("{round}-")));
    }
    server.ctl(&["put", "large"], &"x".repeat(1_000_000));
    server.ctl(&["del", "--prefix", "key1"], "");
    server.ctl(&["compact", "6"], "");
    server.ctl(&["put", "key1", "again"], "");
    lease
}

/// Saves a snapshot of `server`, has etcd restore it and start on it, and calls `compare` with the new
/// server and the snapshot's revision.
fn hand_over(server: &Server<'_>, compare: impl FnOnce(&Server<'_>, &str)) {
    let workshop = server.workshop;
    let (file, data) = (workshop.path("snapshot"), workshop.path("restored"));
    server.ctl(&["snapshot", "save", &file], "");
    let status = workshop.run("etcdutl", &["snapshot", "status", &file, "-w", "json"], "");
    assert!(status.contains("\"version\":\"3.7.0\""), "{status}");
    let at = Addresses::free();
    let place = ["--data-dir", &data, "--name", "default", "--initial-cluster", &at.cluster()];
    let who = ["--initial-advertise-peer-urls", &at.peers];
    let words = [&["snapshot", "restore", &file][..], &place, &who].concat();
    workshop.run("etcdutl", &words, "");
    let theirs = Server::start(&workshop.programs.join("server"), &data, &at, workshop);
    compare(&theirs, &number(&status, "revision"));
}

fn ours(workshop: &Workshop) -> Server<'_> {
    let program = Path::new(env!("CARGO_BIN_EXE_retcd"));
    Server::start(program, &workshop.path("ours"), &Addresses::free(), workshop)
}

#[test]
fn etcd_starts_on_our_snapshot_and_agrees_about_every_key() {
    let Some(workshop) = Workshop::open("snapshot") else { return };
    let server = ours(&workshop);
    let lease = fill(&server);
    hand_over(&server, |theirs, revision| {
        assert_eq!(theirs.hash(revision), server.hash(revision));
        for question in [
            &["get", "", "--prefix", "-w", "fields", "--rev", revision][..],
            &["get", "key1", "--rev", "6"],
            &["lease", "list"],
            &["alarm", "list"],
        ] {
            let ours = server.ctl(question, "");
            let told = |text: &str| {
                let lines = text
                    .lines()
                    .filter(|line| !line.contains("ID\"") && !line.contains("RaftTerm"));
                lines.collect::<Vec<_>>().join("\n")
            };
            assert_eq!(told(&theirs.ctl(question, "")), told(&ours), "{question:?}");
        }
        let keys = theirs.ctl(&["lease", "timetolive", &lease, "--keys"], "");
        assert!(keys.contains("granted with TTL(500s)") && keys.contains("leased"), "{keys}");
        // It is a store to live in.
        theirs.ctl(&["put", "after", "all"], "");
        theirs.ctl(&["compact", revision], "");
        theirs.ctl(&["defrag"], "");
        assert_eq!(theirs.ctl(&["get", "after", "--print-value-only"], ""), "all");
    });
}

#[test]
fn a_snapshot_taken_while_others_write_is_of_one_revision() {
    let Some(workshop) = Workshop::open("snapshot-busy") else { return };
    let server = ours(&workshop);
    fill(&server);
    thread::scope(|scope| {
        for writer in 0..3 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..10 {
                    server.ctl(&["txn"], &puts(100, "key", &format!("{writer}-{round}-")));
                }
            });
        }
        hand_over(&server, |theirs, revision| {
            assert_eq!(theirs.hash(revision), server.hash(revision));
        });
    });
}
