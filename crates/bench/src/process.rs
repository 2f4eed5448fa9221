//! A server under measurement: started on its own core, folder and ports, and never left behind.
//!
//! ```text
//! bench ──spawn──► bench launch CORE PROGRAM … ──exec──► PROGRAM …
//!                  takes the core, and asks to be killed
//!                  should bench die, however it dies
//! ```
//!
//! # Invariants
//!
//! - A server doesn't outlive its `Server`, nor this process; its data doesn't outlive its `Folder`.
//!   What a killed run left on the disk, the next one removes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::call::call;
use crate::failure::{Failure, system};
use crate::machine::{self, Core, pause};
use crate::usage::{Cpu, Memory};
use proto::Method;
use proto::etcdserverpb::{StatusRequest, StatusResponse};

/// The longest a server may take to answer for the first time.
const START_MAX: Duration = Duration::from_secs(120);

/// The longest one request may take of it, before another is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest a server may take to end when asked to; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How often we look whether a server answers yet; more precisely than that no start is known.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How much of its log a server that died is quoted with.
const LOG_TAIL: usize = 2000;

/// Where the store refuses to grow further: beyond what any load writes.
const QUOTA: &str = "17179869184";

/// The word that makes this executable a launcher.
pub(crate) const LAUNCH: &str = "launch";

/// A folder for one run's data, gone with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new folder below `parent`, which is cleared of what earlier runs left.
    pub(crate) fn create(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(std::process::id().to_string());
        let stale =
            |name: &str| name.parse::<u32>().is_ok() && !Path::new("/proc").join(name).exists();
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(stale) {
                // What can't be removed disturbs nobody but the disk.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        fs::create_dir_all(&path).map_err(system(format!("creating {}", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next run tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Becomes the server: the arguments are a core (or `-`), a program and what to pass to it.
pub(crate) fn launch(mut args: impl Iterator<Item = OsString>) -> Failure {
    let core = args.next().and_then(|core| core.to_str()?.parse().ok()).map(Core);
    let Some(program) = args.next() else {
        return Failure::Usage(format!("{LAUNCH} wants a core and a program"));
    };
    if let Some(Err(failure)) = core.map(machine::pin) {
        return failure;
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return system("tying the server to us")(error);
    }
    let error = Command::new(&program).args(args).exec();
    system(format!("starting {}", program.display()))(error)
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts the program on the folder, which may hold the data of an earlier life.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        core: Option<Core>,
    ) -> Result<Self, Failure> {
        let (client, peer) = free_ports()?;
        let log = folder.with_extension("log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(system(format!("writing {}", log.display())))?;
        let stdout = file.try_clone().map_err(system("sharing a log"))?;
        let bench = std::env::current_exe().map_err(system("finding ourselves"))?;

        let mut command = Command::new(bench);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command
            .arg(LAUNCH)
            .arg(core.map_or("-".to_owned(), |core| core.0.to_string()))
            .arg(program)
            .args(flags(folder, client, peer))
            .env("ETCD_QUOTA_BACKEND_BYTES", QUOTA)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(file);
        let started = Instant::now();
        let child = command.spawn().map_err(system("starting a server"))?;
        Ok(Self { child, address: client, log, started })
    }

    /// Waits until a request is answered; says how long after its start that was.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration, Failure> {
        let probe = proto::etcdserverpb::RangeRequest {
            key: proto::bytes::Bytes::from_static(b"ready?"),
            ..Default::default()
        };
        loop {
            let answer: Result<proto::etcdserverpb::RangeResponse, _> =
                call(self.address, Method::Range, &probe, PATIENCE);
            let took = self.started.elapsed();
            if answer.is_ok() {
                return Ok(took);
            }
            self.check_alive()?;
            if took > START_MAX {
                return Err(Failure::TooLate { doing: "starting a server" });
            }
            pause(LOOK_EVERY);
        }
    }

    /// An error if the server has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let log = fs::read(&self.log).unwrap_or_default();
                let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
                Err(Failure::Died { log: String::from_utf8_lossy(tail).into_owned() })
            }
            Err(error) => Err(system("looking after a server")(error)),
        }
    }

    pub(crate) fn version(&self) -> Result<String, Failure> {
        let status: StatusResponse =
            call(self.address, Method::Status, &StatusRequest::default(), START_MAX)?;
        Ok(status.version)
    }

    pub(crate) fn cpu(&self) -> Cpu {
        Cpu::of(self.pid())
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends the server as an operator would.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill_process(self.pid(), Signal::TERM).map_err(system("stopping a server"))?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if self.child.try_wait().map_err(system("stopping a server"))?.is_some() {
                return Ok(());
            }
            pause(LOOK_EVERY);
        }
        Err(Failure::TooLate { doing: "stopping a server" })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports nobody listens on.
fn free_ports() -> Result<(SocketAddr, SocketAddr), Failure> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let find = || {
        let (a, b) = (listen()?, listen()?);
        Ok((a.local_addr()?, b.local_addr()?))
    };
    find().map_err(system::<std::io::Error>("finding free ports"))
}

fn flags(folder: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<OsString> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let mut flags: Vec<OsString> = vec!["--data-dir".into(), folder.into()];
    let rest = [
        ("--name", "bench".to_owned()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer.clone()),
        ("--initial-cluster", format!("bench={peer}")),
    ];
    flags.extend(rest.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
    flags
}
