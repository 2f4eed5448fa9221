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

/// How many members a server has, and which of them is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) members: usize,
    /// Whether a follower is asked, not the leader.
    pub(crate) follower: bool,
}

/// One member asks nobody.
pub(crate) const ALONE: Cast = Cast { members: 1, follower: false };

/// A server: one member, or several that are one store.
pub(crate) struct Server {
    children: Vec<Child>,
    addresses: Vec<SocketAddr>,
    /// The member that is asked.
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
        Self::start_all(program, folder, core, 1)
    }

    /// Starts so many members, each on a folder of its own beside `folder`, and all on one core.
    pub(crate) fn start_all(
        program: &Path,
        folder: &Path,
        core: Option<Core>,
        members: usize,
    ) -> Result<Self, Failure> {
        let seats = (0..members).map(|_| free_ports()).collect::<Result<Vec<_>, _>>()?;
        let named = |(n, (_, peer)): (usize, &(_, SocketAddr))| format!("bench{n}=http://{peer}");
        let cluster = seats.iter().enumerate().map(named).collect::<Vec<_>>().join(",");
        let log = folder.with_extension("log");
        let started = Instant::now();
        let mut server = Self {
            children: Vec::new(),
            addresses: seats.iter().map(|(client, _)| *client).collect(),
            address: seats[0].0,
            log,
            started,
        };
        for (n, seat) in seats.iter().enumerate() {
            let data = if n == 0 { folder.into() } else { folder.with_extension(n.to_string()) };
            let flags = flags(n, &data, *seat, &cluster);
            server.children.push(spawn(program, core, &server.log, flags)?);
        }
        Ok(server)
    }

    /// Has the loads ask the leader, or a follower.
    pub(crate) fn ask(&mut self, cast: Cast) -> Result<(), Failure> {
        for &address in &self.addresses {
            let status: StatusResponse =
                call(address, Method::Status, &StatusRequest::default(), START_MAX)?;
            let leads = status.header.is_some_and(|header| header.member_id == status.leader);
            if leads != cast.follower {
                self.address = address;
                return Ok(());
            }
        }
        Err(Failure::TooLate { doing: "finding a member to ask" })
    }

    /// Waits until a request is answered; says how long after its start that was.
    pub(crate) fn wait_ready(&mut self) -> Result<Duration, Failure> {
        let probe = proto::etcdserverpb::RangeRequest {
            key: proto::bytes::Bytes::from_static(b"ready?"),
            ..Default::default()
        };
        loop {
            let answers = |address: &SocketAddr| {
                let answer: Result<proto::etcdserverpb::RangeResponse, _> =
                    call(*address, Method::Range, &probe, PATIENCE);
                answer.is_ok()
            };
            let all_answer = self.addresses.iter().all(answers);
            let took = self.started.elapsed();
            if all_answer {
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
        for child in &mut self.children {
            if child.try_wait().map_err(system("looking after a server"))?.is_some() {
                let log = fs::read(&self.log).unwrap_or_default();
                let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
                return Err(Failure::Died { log: String::from_utf8_lossy(tail).into_owned() });
            }
        }
        Ok(())
    }

    pub(crate) fn version(&self) -> Result<String, Failure> {
        let status: StatusResponse =
            call(self.address, Method::Status, &StatusRequest::default(), START_MAX)?;
        Ok(status.version)
    }

    pub(crate) fn cpu(&self) -> Cpu {
        Cpu::of_all(self.pids())
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of_all(self.pids())
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = Pid> {
        self.children.iter().map(Pid::from_child)
    }

    /// Ends the server as an operator would.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        for pid in self.pids() {
            kill_process(pid, Signal::TERM).map_err(system("stopping a server"))?;
        }
        let asked = Instant::now();
        for child in &mut self.children {
            while child.try_wait().map_err(system("stopping a server"))?.is_none() {
                if asked.elapsed() >= STOP_MAX {
                    return Err(Failure::TooLate { doing: "stopping a server" });
                }
                pause(LOOK_EVERY);
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Both fail only where the server has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(
    program: &Path,
    core: Option<Core>,
    log: &Path,
    flags: Vec<OsString>,
) -> Result<Child, Failure> {
    let file = File::options().create(true).append(true).open(log);
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
        .args(flags)
        .env("ETCD_QUOTA_BACKEND_BYTES", QUOTA)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(file);
    command.spawn().map_err(system("starting a server"))
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

fn flags(
    n: usize,
    folder: &Path,
    (client, peer): (SocketAddr, SocketAddr),
    cluster: &str,
) -> Vec<OsString> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let mut flags: Vec<OsString> = vec!["--data-dir".into(), folder.into()];
    let rest = [
        ("--name", format!("bench{n}")),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", cluster.to_owned()),
    ];
    flags.extend(rest.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
    flags
}
