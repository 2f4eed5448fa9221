//! etcdctl at a cluster of etcd and at one of retcd: the same steps, the same words.
//!
//! ```text
//!                    ┌─► three (five) of etcd ───► words ─┐
//! a step of etcdctl ─┤                                    ├─► equal?
//!                    └─► three (five) of retcd ──► words ─┘
//! ```
//!
//! What differs from cluster to cluster has names instead: members, their addresses, sizes and times.
//! `RETCD_REFERENCE_BIN` is the folder with etcd's `server` and `etcdctl`; without it nothing is tested.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use proto::Method;
use proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use stdx::{port, tool};

use super::fleet::{Fleet, Program, STEADY};
use crate::support::client::get;
use crate::support::process::Home;
use crate::support::{block_on, eventually};

/// A change of membership that is always refused: what it is refused for tells how the cluster feels.
const HEALTHY: &str = "Peer URLs already exists";
const UNHEALTHY: &str = "unhealthy cluster";

#[test]
fn etcdctl_hears_the_same_from_three_members_as_from_three_of_etcd() {
    both(3);
}

#[test]
fn etcdctl_hears_the_same_from_five_members_as_from_five_of_etcd() {
    both(5);
}

fn both(n: usize) {
    let test = "etcdctl at clusters of etcd and retcd";
    let Some(bin) = tool::named("RETCD_REFERENCE_BIN", test) else { return };
    let etcd = Program::Etcd(bin.join("server"));
    let told = |name, program| block_on(Session::told(name, vec![program; n], &bin));
    let (theirs, ours) = thread::scope(|scope| {
        let theirs = scope.spawn(|| told("etcdctl-etcd", etcd));
        let ours = told("etcdctl-retcd", Program::Retcd);
        (theirs.join().expect("a session with etcd"), ours)
    });
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert!(ours == theirs, "retcd:\n{ours}\n\netcd:\n{theirs}");
    }
}

/// A cluster, and what etcdctl said of it.
struct Session {
    fleet: Fleet,
    etcdctl: PathBuf,
    /// Members that were added, and their ids.
    added: BTreeMap<String, String>,
    ids: Vec<String>,
    told: Vec<String>,
}

impl Session {
    async fn told(name: &str, programs: Vec<Program>, bin: &Path) -> Vec<String> {
        let mut ids = Vec::new();
        let fleet = Fleet::of(name, programs, STEADY).await;
        for at in 0..fleet.seats.len() {
            ids.push(format!("{:x}", fleet.id(at).await));
        }
        let etcdctl = bin.join("etcdctl");
        let mut session = Self { fleet, etcdctl, added: BTreeMap::new(), ids, told: Vec::new() };
        session.fleet.lead(0).await;
        session.look().await;
        session.leadership().await;
        session.learners().await;
        session.members_down().await;
        session.told
    }

    async fn look(&mut self) {
        self.storage_versions_are_known().await;
        for at in [0, 1] {
            self.say(at, "member list").await;
            self.say(at, "endpoint health --cluster").await;
            self.say(at, "endpoint status --cluster").await;
            self.say(at, "endpoint hashkv --cluster").await;
        }
    }

    /// A member of etcd looks at the version of its storage every few seconds, and until the first time
    /// it says none.
    async fn storage_versions_are_known(&self) {
        for (at, seat) in self.fleet.seats.iter().enumerate() {
            eventually(("the storage's version at", at), async || {
                let known = seat.status().await?.storage_version;
                (!known.is_empty()).then_some(())
            })
            .await;
        }
    }

    async fn leadership(&mut self) {
        let to = self.ids[1].clone();
        self.say(2, &format!("move-leader {to}")).await;
        // etcdctl asks leaders only.
        let target_id = self.fleet.id(1).await;
        let client = self.fleet.seats[2].connect().await.expect("a member");
        let request = MoveLeaderRequest { target_id };
        let refused = client.call::<MoveLeaderResponse>(Method::MoveLeader, &request).await;
        self.told.push(format!("{refused:?}"));
        self.say(0, "move-leader 1234").await;
        self.say(0, &format!("move-leader {to}")).await;
        self.fleet.lead(0).await;
    }

    async fn learners(&mut self) {
        self.feels(HEALTHY).await;
        let home = Home::new("etcdctl-new");
        let taken = self.fleet.seats[2].home.peer_url();
        for at in [0, 1] {
            self.say(at, &format!("member add new --peer-urls={taken}")).await;
            self.say(at, "member add new --peer-urls=nonsense").await;
            self.say(at, "member remove 1234").await;
            self.say(at, "member promote 1234").await;
            self.say(at, "member update 1234 --peer-urls=http://127.0.0.1:1").await;
        }
        let promote = format!("member promote {}", self.ids[1]);
        self.say(1, &promote).await;
        let add = format!("member add new --learner --peer-urls={}", home.peer_url());
        let id = id_in(&self.say(1, &add).await);
        self.added.insert(id.clone(), "new".into());
        let more =
            format!("member add more --learner --peer-urls=http://127.0.0.1:{}", port::free());
        self.say(0, &more).await;
        for at in [0, 1] {
            self.say(at, &format!("member promote {id}")).await;
            self.say(at, &format!("member update {id} --peer-urls={taken}")).await;
            self.say(at, "member list").await;
        }
        self.say(1, &format!("member update {id} --peer-urls={}", home.peer_url())).await;
        let program = self.fleet.seats[0].program.clone();
        self.fleet.add_seat(home, "new", program).start();
        let promoted = eventually("a promotion", async || {
            let (told, done) = self.ask(0, &format!("member promote {id}")).await;
            done.then_some(told)
        });
        let promoted = promoted.await;
        let promoted = self.presentable(&promoted);
        self.told.push(promoted);
        self.fleet.all_serve().await;
        self.look().await;
        self.say(1, &format!("member remove {id}")).await;
        let mut removed = self.fleet.seats.pop().expect("the new one");
        removed.server.as_mut().expect("it ran").ended().await;
        self.say(0, "member list").await;
    }

    /// As many as the cluster can do without.
    async fn members_down(&mut self) {
        self.feels(HEALTHY).await;
        let n = self.fleet.seats.len();
        let first = n - (n - 1) / 2;
        for at in first..n {
            self.fleet.seats[at].kill();
        }
        self.notices(first..n).await;
        self.feels(UNHEALTHY).await;
        for at in [0, 1] {
            let needed = self.ids[1 - at].clone();
            self.say(at, &format!("member remove {needed}")).await;
            let url = format!("http://127.0.0.1:{}", port::free());
            self.say(at, &format!("member add new --peer-urls={url}")).await;
            self.say(at, &format!("member add new --learner --peer-urls={url}")).await;
        }
        self.say(1, "endpoint health --cluster").await;
        for at in first..n {
            let gone = self.ids[at].clone();
            self.say(1, &format!("member remove {gone}")).await;
        }
        self.say(1, "member list").await;
    }

    /// Waits until both members that are asked know that all those are gone: one that believes in one of them
    /// lets another be removed.
    async fn notices(&self, gone: Range<usize>) {
        let ids: Vec<String> = gone.map(|at| format!("Remote=\"{}\"", self.ids[at])).collect();
        for at in [0, 1] {
            let port = self.fleet.seats[at].home.client_port;
            eventually((at, "to have no connection with", &ids), async || {
                let metrics = get(port, "/metrics").ok()?;
                let inactive: Vec<&str> = metrics
                    .lines()
                    .filter(|l| l.starts_with("etcd_network_active_peers{") && l.ends_with(" 0"))
                    .collect();
                let is_noticed = |id: &String| inactive.iter().any(|line| line.contains(id));
                ids.iter().all(is_noticed).then_some(())
            })
            .await;
        }
    }

    /// Waits until both members that are asked say `how` of a change that is refused in any case: each
    /// goes by its own connections.
    async fn feels(&self, how: &str) {
        let add = format!("member add new --peer-urls={}", self.fleet.seats[1].home.peer_url());
        for at in [0, 1] {
            eventually(("a member that says", at, how), async || {
                self.ask(at, &add).await.0.contains(how).then_some(())
            })
            .await;
        }
    }

    /// Runs a step at a member, and keeps what it printed.
    async fn say(&mut self, at: usize, words: &str) -> String {
        let (told, _) = self.ask(at, words).await;
        let told_of = self.presentable(&format!("at m{at}: {words}\n{told}"));
        self.told.push(told_of);
        told
    }

    async fn ask(&self, at: usize, words: &str) -> (String, bool) {
        let mut command = Command::new(&self.etcdctl);
        command.env_clear().arg("--endpoints").arg(self.fleet.seats[at].home.client_url());
        // Where all that are asked are there, an answer comes, however slow the disk.
        if !words.starts_with("endpoint health") {
            command.args(["--command-timeout=30s", "--dial-timeout=30s"]);
        }
        let Output { status, stdout, stderr } =
            command.args(words.split(' ')).output().expect("etcdctl");
        let mut lines: Vec<String> = text(stdout).lines().map(str::to_owned).collect();
        // The client library's own log is none of the command's words.
        let errors = text(stderr);
        lines
            .extend(errors.lines().filter(|line| !line.starts_with('{')).map(|l| format!("! {l}")));
        (lines.join("\n"), status.success())
    }

    /// Gives what differs the name it goes by; rows come in the order of ids, so they are sorted.
    fn presentable(&self, told: &str) -> String {
        let mut told = told.to_owned();
        for (at, seat) in self.fleet.seats.iter().enumerate() {
            told = told.replace(&seat.home.client_url(), &format!("CLIENT-{at}"));
            told = told
                .replace(&format!("127.0.0.1:{}", seat.home.client_port), &format!("CLIENT-{at}"));
            told = told.replace(&seat.home.peer_url(), &format!("PEER-{at}"));
        }
        for (at, id) in self.ids.iter().enumerate() {
            told = told.replace(id, &format!("m{at}"));
        }
        for (id, name) in &self.added {
            told = told.replace(id, name);
        }
        let mut lines: Vec<String> = without_ports(&told).lines().map(line_presentable).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// The id in `Member 8e9e05c52164694d added to cluster …`
fn id_in(told: &str) -> String {
    let id = told.strip_prefix("Member").and_then(|rest| rest.split_whitespace().next());
    id.unwrap_or_else(|| panic!("no id in {told}")).to_owned()
}

/// Addresses where nobody sits yet.
fn without_ports(told: &str) -> String {
    let mut parts = told.split("http://127.0.0.1:");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        named += "ELSEWHERE";
        named += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    named
}

fn line_presentable(line: &str) -> String {
    let line = line.split_once("took").map_or(line, |(start, _)| start);
    if let Some(cluster) = line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
        let mut members: Vec<&str> = cluster.trim_matches('"').split(',').collect();
        members.sort_unstable();
        return format!("ETCD_INITIAL_CLUSTER={}", members.join(","));
    }
    if !line.contains(", ") {
        return line.split_whitespace().map(word_presentable).collect::<Vec<_>>().join(" ");
    }
    let fields =
        line.split(", ").map(|f| if is_count(f) { "N".into() } else { word_presentable(f) });
    fields.collect::<Vec<_>>().join(", ")
}

/// Sizes, indexes, hashes and versions.
fn is_count(field: &str) -> bool {
    field.starts_with(|c: char| c.is_ascii_digit())
}

/// Ids that nobody here gave a name to.
fn word_presentable(word: &str) -> String {
    let is_id = word.len() >= ID_DIGITS_MIN && word.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { "ID".into() } else { word.into() }
}

/// Ids are hashes; leading zeros are not always printed.
const ID_DIGITS_MIN: usize = 13;
