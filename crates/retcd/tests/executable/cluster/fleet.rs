//! Several members, each a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proto::Method;
use proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, MemberListRequest, MemberListResponse, MoveLeaderRequest,
    MoveLeaderResponse, RangeResponse, StatusRequest, StatusResponse,
};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::process::{Home, Server, anything, retcd};

/// Elections are quick, so that tests are; and logs are cut often.
const FLAGS: &[&str] = &[
    "--heartbeat-interval=50",
    "--election-timeout=500",
    "--snapshot-count=500",
    "--snapshot-catchup-entries=100",
    "--log-format=console",
];

/// For a test in which leadership is to move when it is asked to, or not at all: a member that a busy
/// machine or a slow disk holds up is not replaced.
pub(crate) const STEADY: &[&str] = &["--election-timeout=3000"];

/// As the flags have it.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// What runs at a seat.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    Retcd,
    /// etcd's own server.
    Etcd(PathBuf),
    /// retcd, in a network namespace.
    Inside(Place),
}

/// A network namespace, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) client_host: String,
    pub(crate) peer_host: String,
}

impl Program {
    fn command(&self) -> Command {
        match self {
            Self::Retcd => retcd(),
            Self::Etcd(path) => {
                let mut command = Command::new(path);
                command.env_clear().stdin(Stdio::null());
                command
            }
            Self::Inside(Place { namespace, .. }) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(retcd().get_program());
                command.stdin(Stdio::null());
                command
            }
        }
    }

    fn home(&self, name: &str) -> Home {
        match self {
            Self::Retcd | Self::Etcd(_) => Home::new(name),
            Self::Inside(place) => Home::at(name, &place.client_host, &place.peer_host),
        }
    }
}

/// One seat in the cluster.
pub(crate) struct Seat {
    pub(crate) home: Home,
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) server: Option<Server>,
    paused: bool,
    /// What to say of the cluster when it starts for the first time.
    initial_cluster: String,
    initial_state: &'static str,
    /// More flags, the same for all.
    flags: &'static [&'static str],
}

impl Seat {
    fn command(&self) -> Command {
        let (client, peer) = (self.home.client_url(), self.home.peer_url());
        let mut command = self.program.command();
        command
            .arg(format!("--name={}", self.name))
            .arg("--data-dir")
            .arg(self.home.data())
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", self.initial_cluster))
            .arg(format!("--initial-cluster-state={}", self.initial_state))
            .args(FLAGS)
            .args(self.flags);
        command
    }

    pub(crate) fn start(&mut self) {
        assert!(self.server.is_none(), "{} runs already", self.name);
        self.server = Some(self.home.run(self.command()));
    }

    pub(crate) fn kill(&mut self) {
        self.running().kill();
    }

    fn is_down(&self) -> bool {
        self.server.is_none() || self.paused
    }

    /// Stops it in its tracks: it neither ends nor notices.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.signal(libc::SIGSTOP);
    }

    pub(crate) fn resume(&mut self) {
        self.paused = false;
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, number: i32) {
        self.server.as_ref().expect("a running member").signal(number);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let mut server = self.running();
        server.signal(libc::SIGTERM);
        server.ended().await;
    }

    fn running(&mut self) -> Server {
        self.server.take().expect("a running member")
    }

    /// Waits until it answers a linearizable read: retcd its first one.
    pub(crate) async fn serves(&mut self) {
        let Some(server) = &mut self.server else { return };
        match self.program {
            Program::Retcd => drop(server.ready().await),
            // etcd refuses reads while it finds who leads; a relay listens before a member does.
            Program::Etcd(_) | Program::Inside(_) => {
                eventually(("an answer of", &self.home), async || {
                    let client = server.ready_or_ended().await.expect("a server that goes on");
                    client.call::<RangeResponse>(Method::Range, &anything()).await.ok()
                })
                .await;
            }
        }
    }

    pub(crate) fn lose_data(&mut self) {
        fs::remove_dir_all(self.home.data()).expect("a data folder");
    }

    pub(crate) async fn connect(&self) -> Option<Client> {
        Client::connect(self.home.client_port).await.ok()
    }

    pub(crate) async fn status(&self) -> Option<StatusResponse> {
        let client = self.connect().await?;
        client.call(Method::Status, &StatusRequest::default()).await.ok()
    }
}

/// The cluster.
pub(crate) struct Fleet {
    pub(crate) seats: Vec<Seat>,
}

impl Fleet {
    /// Founds a cluster of `n` members and waits until all of them serve.
    pub(crate) async fn found(name: &str, n: usize) -> Self {
        Self::found_with(name, n, &[]).await
    }

    /// The same, all with more flags.
    pub(crate) async fn found_with(name: &str, n: usize, flags: &'static [&'static str]) -> Self {
        Self::of(name, vec![Program::Retcd; n], flags).await
    }

    /// The same, with a program for each seat, and more flags for all.
    pub(crate) async fn of(
        name: &str,
        programs: Vec<Program>,
        flags: &'static [&'static str],
    ) -> Self {
        let mut fleet = Self::seated(name, programs, flags);
        for seat in &mut fleet.seats {
            seat.start();
        }
        fleet.all_serve().await;
        fleet
    }

    /// The same, not yet started.
    pub(crate) fn seated(
        name: &str,
        programs: Vec<Program>,
        flags: &'static [&'static str],
    ) -> Self {
        let homes: Vec<Home> = programs.iter().map(|program| program.home(name)).collect();
        let named = |(n, home): (usize, &Home)| format!("m{n}={}", home.peer_url());
        let cluster: Vec<String> = homes.iter().enumerate().map(named).collect();
        let initial_cluster = cluster.join(",");
        let seat = |(n, (home, program))| Seat {
            home,
            name: format!("m{n}"),
            program,
            server: None,
            paused: false,
            initial_cluster: initial_cluster.clone(),
            initial_state: "new",
            flags,
        };
        Self { seats: homes.into_iter().zip(programs).enumerate().map(seat).collect() }
    }

    /// Adds a seat for a member that the cluster has been told of.
    pub(crate) fn add_seat(&mut self, home: Home, name: &str, program: Program) -> &mut Seat {
        let others =
            self.seats.iter().map(|seat| format!("{}={}", seat.name, seat.home.peer_url()));
        let mut cluster: Vec<String> = others.collect();
        cluster.push(format!("{name}={}", home.peer_url()));
        let initial_cluster = cluster.join(",");
        let name = name.to_owned();
        let flags = self.seats.first().map_or(&[][..], |seat| seat.flags);
        self.seats.push(Seat {
            home,
            name,
            program,
            server: None,
            paused: false,
            initial_cluster,
            initial_state: "existing",
            flags,
        });
        self.seats.last_mut().expect("the new one")
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.seats.iter().map(|seat| seat.home.client_port).collect()
    }

    /// Waits until every running member answers a linearizable read.
    pub(crate) async fn all_serve(&mut self) {
        for seat in &mut self.seats {
            seat.serves().await;
        }
    }

    /// Where the leader sits, once all running members agree on it.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader all agree on", async || {
            let mut leaders = Vec::new();
            let mut ids = Vec::new();
            for seat in &self.seats {
                if seat.server.is_none() {
                    ids.push(0);
                    continue;
                }
                let status = seat.status().await?;
                leaders.push(status.leader);
                ids.push(status.header?.member_id);
            }
            let leader = *leaders.first()?;
            let agreed = leader != 0 && leaders.iter().all(|other| *other == leader);
            ids.iter().position(|id| agreed && *id == leader)
        })
        .await
    }

    /// Makes the member at `to` lead, and waits until all know.
    pub(crate) async fn lead(&self, to: usize) {
        let target_id = self.id(to).await;
        eventually(("leadership of", to), async || {
            let at = self.leader().await;
            if at == to {
                return Some(());
            }
            // Refused while the target is not yet known to be there.
            let client = self.seats[at].connect().await?;
            let request = MoveLeaderRequest { target_id };
            client.call::<MoveLeaderResponse>(Method::MoveLeader, &request).await.ok()?;
            None
        })
        .await;
    }

    /// Waits until somebody running leads who is not `before`.
    pub(crate) async fn failover(&self, before: u64) -> Duration {
        let start = Instant::now();
        eventually("another leader", async || {
            for seat in self.seats.iter().filter(|seat| !seat.is_down()) {
                let leader = seat.status().await.map_or(0, |status| status.leader);
                if leader != 0 && leader != before {
                    return Some(());
                }
            }
            None
        })
        .await;
        start.elapsed()
    }

    /// Waits until all running members have the same head, and finds their hashes equal.
    pub(crate) async fn agree(&self) {
        eventually("equal hashes", async || {
            let mut hashes = Vec::new();
            for seat in self.seats.iter().filter(|seat| seat.server.is_some()) {
                let client = seat.connect().await?;
                let request = HashKvRequest { revision: 0 };
                let answer: HashKvResponse = client.call(Method::HashKV, &request).await.ok()?;
                hashes.push((answer.hash_revision, answer.hash));
            }
            let first = *hashes.first()?;
            let at_rest = hashes.iter().all(|(revision, _)| *revision == first.0);
            if at_rest {
                assert!(hashes.iter().all(|hash| *hash == first), "members differ: {hashes:?}");
            }
            at_rest.then_some(())
        })
        .await;
    }

    pub(crate) async fn members(&self, at: usize) -> MemberListResponse {
        let client = self.seats[at].connect().await.expect("a running member");
        let request = MemberListRequest { linearizable: true };
        client.call(Method::MemberList, &request).await.expect("a list")
    }

    pub(crate) async fn id(&self, at: usize) -> u64 {
        let status = self.seats[at].status().await.expect("a running member");
        status.header.expect("a header").member_id
    }
}
