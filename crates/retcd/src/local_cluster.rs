//! `retcd local-cluster 3`: a cluster on this machine, for trying things out.
//!
//! Each member is a process of its own, as it would be elsewhere: it can be killed and started again
//! by hand, and the others go on. This process starts them, says who leads, and stops them when it is
//! asked to end.
//!
//! ```text
//! local-cluster ──┬─► m1   client 2379   peer 2380   retcd-local-cluster/m1, m1.log
//!                 ├─► m2   client 2389   peer 2390
//!                 └─► m3   client 2399   peer 2400
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// More members than this cost more than they are worth: each write goes to all of them.
const MEMBERS_MAX: u16 = 9;
const PORT_FIRST: u16 = 2379;
/// From one member's client port to the next one's.
const PORT_STEP: u16 = 10;
/// How often the members are asked who leads.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at whether a member has ended.
const LOOK_FOR_END: Duration = Duration::from_millis(10);
/// How long a member has to answer, and to end.
const ANSWER_MAX: Duration = Duration::from_millis(500);
const END_MAX: Duration = Duration::from_secs(10);

pub(crate) const USAGE: &str = "usage: retcd local-cluster MEMBERS [--data-dir DIR] [--port FIRST]

Starts a cluster of MEMBERS (1 to 9) on this machine and runs it until ctrl-C.
Data and logs stay in DIR (retcd-local-cluster) for the next time; client ports
are FIRST (2379), FIRST+10, FIRST+20, and so on, each followed by its peer port.";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    n_members: u16,
    dir: PathBuf,
    port: u16,
}

impl Plan {
    /// Reads the words after `local-cluster`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut words = words.iter();
        let n_members = words.next().ok_or("how many members?")?;
        let n_members: u16 = n_members.parse().map_err(|_| format!("{n_members}: no number"))?;
        if !(1..=MEMBERS_MAX).contains(&n_members) {
            return Err(format!("a cluster has 1 to {MEMBERS_MAX} members"));
        }
        let mut plan =
            Self { n_members, dir: PathBuf::from("retcd-local-cluster"), port: PORT_FIRST };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--data-dir" => plan.dir = PathBuf::from(value),
                "--port" => plan.port = value.parse().map_err(|_| format!("{value}: no port"))?,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        let last = u32::from(plan.port) + u32::from(PORT_STEP * (n_members - 1)) + 1;
        if plan.port == 0 || last > u32::from(u16::MAX) {
            return Err(format!("no room for the ports from {} on", plan.port));
        }
        Ok(plan)
    }

    fn members(&self) -> impl Iterator<Item = Member<'_>> {
        (0..self.n_members).map(|n| Member { plan: self, n })
    }

    fn endpoints(&self) -> String {
        self.members().map(Member::client_url).collect::<Vec<_>>().join(",")
    }

    fn quorum(&self) -> u16 {
        self.n_members / 2 + 1
    }

    /// What this many members can do without.
    fn table(&self) -> String {
        let tolerated = self.n_members - self.quorum();
        let mut text = format!(
            "members {}   quorum {}   failures tolerated {tolerated}\n",
            self.n_members,
            self.quorum()
        );
        if self.n_members.is_multiple_of(2) {
            let fewer = self.n_members - 1;
            text.push_str(&format!("(an even number tolerates no more failures than {fewer})\n"));
        }
        text
    }
}

#[derive(Clone, Copy)]
struct Member<'a> {
    plan: &'a Plan,
    n: u16,
}

impl Member<'_> {
    fn name(self) -> String {
        format!("m{}", self.n + 1)
    }

    fn client_port(self) -> u16 {
        self.plan.port + PORT_STEP * self.n
    }

    fn client_url(self) -> String {
        format!("http://127.0.0.1:{}", self.client_port())
    }

    fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.client_port() + 1)
    }

    fn start(self) -> io::Result<Child> {
        let Plan { dir, .. } = self.plan;
        let cluster: Vec<String> =
            self.plan.members().map(|m| format!("{}={}", m.name(), m.peer_url())).collect();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join(format!("{}.log", self.name())))?;
        Command::new(std::env::current_exe()?)
            .arg(format!("--name={}", self.name()))
            .arg(format!("--data-dir={}", dir.join(self.name()).display()))
            .arg(format!("--listen-client-urls={}", self.client_url()))
            .arg(format!("--advertise-client-urls={}", self.client_url()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={}", cluster.join(",")))
            .arg("--initial-cluster-token=retcd-local-cluster")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Whether this member leads, and in which term; `None` if it does not answer.
    fn leads(self) -> Option<(bool, u64)> {
        let status = post(self.client_port(), "/v3/maintenance/status")?;
        let header = status.get("header")?;
        let term = header.get("raft_term")?.as_str()?.parse().ok()?;
        let own = header.get("member_id")?.as_str()?;
        Some((status.get("leader").and_then(|leader| leader.as_str()) == Some(own), term))
    }
}

/// Asks the JSON gateway on this machine.
fn post(port: u16, path: &str) -> Option<serde_json::Value> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200") {
        return None;
    }
    serde_json::from_str(body).ok()
}

/// Starts the cluster and runs it until a signal says that it is enough.
pub(crate) fn run(plan: &Plan, say: &dyn Fn(&str)) -> io::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    fs::create_dir_all(&plan.dir)?;
    let mut running = Vec::new();
    for member in plan.members() {
        match member.start() {
            Ok(child) => running.push((member, child)),
            Err(error) => {
                stop(&mut running);
                return Err(error);
            }
        }
    }
    say(&introduction(plan));
    watch(&mut running, &stopping, say);
    say("stopping");
    stop(&mut running);
    say("stopped");
    Ok(())
}

fn introduction(plan: &Plan) -> String {
    let mut text = plan.table();
    for member in plan.members() {
        text.push_str(&format!("{}  {}\n", member.name(), member.client_url()));
    }
    text.push_str(&format!("\nexport ETCDCTL_ENDPOINTS={}\n", plan.endpoints()));
    text.push_str(&format!("logs: {}   stop: ctrl-C\n", logs(&plan.dir)));
    text
}

fn logs(dir: &Path) -> String {
    dir.join("m*.log").display().to_string()
}

/// Says who leads, whenever that has changed, and who has ended.
fn watch(running: &mut Vec<(Member<'_>, Child)>, stopping: &AtomicBool, say: &dyn Fn(&str)) {
    let mut said = None;
    while !stopping.load(Ordering::Relaxed) && !running.is_empty() {
        running.retain_mut(|(member, child)| match child.try_wait() {
            Ok(Some(status)) => {
                say(&format!("{} has ended ({status})", member.name()));
                false
            }
            Ok(None) | Err(_) => true,
        });
        let leaders = running.iter().filter_map(|(member, _)| {
            member.leads().and_then(|(leads, term)| leads.then(|| (term, member.name())))
        });
        // One that was deposed may not know it yet: the highest term counts.
        let leader = leaders.max();
        if leader != said {
            match &leader {
                Some((term, name)) => say(&format!("{name} leads in term {term}")),
                None => say("nobody leads"),
            }
            said = leader;
        }
        pause(LOOK);
    }
}

#[expect(clippy::disallowed_methods, reason = "other processes say nothing: they are looked at")]
fn pause(between_looks: Duration) {
    thread::sleep(between_looks);
}

/// Asks all members to end, and sees that they do.
fn stop(running: &mut Vec<(Member<'_>, Child)>) {
    for (_, child) in running.iter() {
        if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            // One that has ended by itself needs no telling.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    let deadline = Instant::now() + END_MAX;
    for (_, mut child) in running.drain(..) {
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                drop(child.kill());
            }
            pause(LOOK_FOR_END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Result<Plan, String> {
        Plan::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_says_what_a_cluster_can_do_without() {
        for (n, quorum, tolerated) in [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2)] {
            let plan = plan(&n.to_string()).expect("a plan");
            let line = format!("members {n}   quorum {quorum}   failures tolerated {tolerated}\n");
            assert!(plan.table().starts_with(&line), "{}", plan.table());
            assert_eq!(plan.table().contains("even number"), n % 2 == 0);
        }
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        for words in ["", "0", "10", "x", "3 --port", "3 --port 0", "3 --port 65530", "3 --x y"] {
            assert!(plan(words).is_err(), "{words}");
        }
        let three = plan("3 --port 4000 --data-dir d").expect("a plan");
        assert_eq!(
            three.endpoints(),
            "http://127.0.0.1:4000,http://127.0.0.1:4010,http://127.0.0.1:4020"
        );
    }
}
