//! A server of our own for each script: a fresh folder, free ports, and the end of it by its id.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, process};

use anyhow::{Context, bail};
use stdx::port;
use tokio::time::{Instant, interval, timeout};

use crate::http;

const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL_PERIOD: Duration = Duration::from_millis(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Another process may take a port between our looking and the server's asking for it.
const START_ATTEMPTS_MAX: u32 = 4;

/// HTTP's status for a request with a host that is not wanted here.
const MISDIRECTED: u16 = 421;

/// Flags that make a lone member lead at once. A script may say otherwise: the last one counts.
const QUICK: &[&str] = &["--heartbeat-interval=10", "--election-timeout=100"];

/// The program under test: its path, and words that go before all flags.
#[derive(Clone, Debug)]
pub struct Program(pub Vec<String>);

pub(crate) struct Server {
    program: Program,
    flags: Vec<String>,
    folder: PathBuf,
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
    child: Child,
}

impl Server {
    pub(crate) async fn start(program: &Program, flags: &[String]) -> anyhow::Result<Server> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        for attempt in 1.. {
            let number = STARTED.fetch_add(1, Ordering::Relaxed);
            let name = format!("conformance-{}-{number}", process::id());
            let folder = env::temp_dir().join(name);
            fs::create_dir_all(&folder)?;
            let [client, peer] =
                [(), ()].map(|()| SocketAddr::from(([127, 0, 0, 1], port::free())));
            let child = spawn(program, flags, &folder, client, peer)?;
            let (program, flags) = (program.clone(), flags.to_vec());
            let mut server = Server { program, flags, folder, client, peer, child };
            match server.until_ready().await {
                Ok(()) => return Ok(server),
                // One that ended may have lost its port to another; one that waits has not.
                Err(_) if server.has_ended()? && attempt < START_ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Kills the server without a warning, and starts it again on what it left.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.child = spawn(&self.program, &self.flags, &self.folder, self.client, self.peer)?;
        self.until_ready().await
    }

    /// Waits until it is healthy and the cluster has settled on a version.
    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        let mut poll = interval(POLL_PERIOD);
        loop {
            poll.tick().await;
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}; it said:\n{}", self.last_words());
            }
            // Readiness, unlike health, has nothing against alarms.
            let reads = get(self.client, "/readyz/linearizable_read").await;
            let version = get(self.client, "/version").await;
            match (reads, version) {
                (Ok((200, _)), Ok((200, version))) if !version.contains("not_decided") => {
                    return Ok(());
                }
                // It was told to talk to some hosts only, and does.
                (Ok((MISDIRECTED, _)), _) => return Ok(()),
                _ => {}
            }
            if Instant::now() > deadline {
                bail!("the server is not ready; it said:\n{}", self.last_words());
            }
        }
    }

    fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // A folder left behind in the system's temporary folder harms no later run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(
    program: &Program,
    flags: &[String],
    folder: &Path,
    client: SocketAddr,
    peer: SocketAddr,
) -> anyhow::Result<Child> {
    let (path, first) = program.0.split_first().context("a program has a path")?;
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    Command::new(path)
        .args(first)
        .args(["--name", "default", "--initial-cluster-token", "conformance"])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &format!("http://{client}")])
        .args(["--advertise-client-urls", &format!("http://{client}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", &format!("default=http://{peer}")])
        .args(QUICK)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {path}"))
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let request = http::Request { method: "GET", path, headers: &[], body: b"" };
    let exchange = async {
        let mut answer = http::send(address, &request).await?;
        let body = answer.body().await?;
        Ok((answer.status, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(ANSWER_DEADLINE, exchange).await?
}
