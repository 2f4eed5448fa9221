//! A server process: started on a folder, killed by whoever drops it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use proto::Method;
use proto::etcdserverpb::{RangeRequest, RangeResponse};
use stdx::port;

use super::client::{Client, Failure};
use super::{Folder, eventually};

/// How a server begins to say that it can't answer yet: what it waited for took too long, or it has not
/// heard of its promotion.
const NOT_YET: [&str; 2] =
    ["etcdserver: request timed out", "etcdserver: rpc not supported for learner"];

/// Where a server lives, and where it is to be found.
#[derive(Debug)]
pub(crate) struct Home {
    folder: Folder,
    client_host: String,
    peer_host: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
}

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, "127.0.0.1", "127.0.0.1")
    }

    /// One whose server listens at addresses of others.
    pub(crate) fn at(name: &str, client_host: &str, peer_host: &str) -> Self {
        Self {
            folder: Folder::new(name),
            client_host: client_host.to_owned(),
            peer_host: peer_host.to_owned(),
            client_port: port::free(),
            peer_port: port::free(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn client_url(&self) -> String {
        format!("http://{}:{}", self.client_host, self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://{}:{}", self.peer_host, self.peer_port)
    }

    /// The command that starts a server here, with more `flags` than where and whom.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = retcd();
        command.arg("--data-dir").arg(self.data()).args(self.urls()).args(flags);
        command
    }

    /// The flags that say where to listen.
    pub(crate) fn urls(&self) -> Vec<String> {
        let (client, peer) = (self.client_url(), self.peer_url());
        vec![
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ]
    }

    pub(crate) fn start(&self, flags: &[&str]) -> Server {
        self.run(self.command(flags))
    }

    /// Runs `command`, its log in the folder.
    pub(crate) fn run(&self, mut command: Command) -> Server {
        let log = self.path().join("log");
        let file = File::create(&log).expect("a log file");
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the executable");
        Server { child, log, client_port: self.client_port }
    }

    /// Runs `command`, which is to end by itself.
    pub(crate) async fn ended(&self, command: Command) -> Ended {
        let mut server = self.run(command);
        let status = server.ended().await;
        Ended { status, log: server.log() }
    }
}

/// The executable, without what the environment would have it do.
pub(crate) fn retcd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retcd"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A process that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    client_port: u16,
}

impl Server {
    /// Connects as soon as the server answers a linearizable read. For want of a leader it may hold one,
    /// but not refuse it.
    pub(crate) async fn ready(&mut self) -> Client {
        eventually("a server that answers", async || {
            let client = self.connect().await?;
            match client.call::<RangeResponse>(Method::Range, &anything()).await {
                Ok(_) => Some(client),
                Err(Failure::Refused { message, .. }) if is_yet_to_come(&message) => None,
                Err(failure) => panic!("not ready: {failure:?}\n{}", self.log()),
            }
        })
        .await
    }

    /// As [`ready`](Self::ready); `None` if the server ends instead.
    pub(crate) async fn ready_or_ended(&mut self) -> Option<Client> {
        eventually("a server that listens, or ends", async || {
            if self.has_ended() { Some(None) } else { self.connect().await.map(Some) }
        })
        .await
    }

    async fn connect(&mut self) -> Option<Client> {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the server ended by itself: {status}\n{}", self.log());
        }
        Client::connect(self.client_port).await.ok()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Memory of its own, in bytes: files that are mapped are not counted.
    pub(crate) fn memory(&self) -> u64 {
        memory_of(self.pid())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
    }

    pub(crate) fn signal(&self, number: i32) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{number}")).arg(id).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal was sent");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of the server", async || child.try_wait().expect("a child")).await
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_yet_to_come(message: &str) -> bool {
    NOT_YET.iter().any(|begins| message.starts_with(begins))
}

/// As [`Server::memory`], of a process that runs.
pub(crate) fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib << 10
}

/// A read that finds whatever there is, and says at which revision.
pub(crate) fn anything() -> RangeRequest {
    RangeRequest { key: "\0".into(), limit: 1, keys_only: true, ..RangeRequest::default() }
}
