//! Stock etcdctl against the executable; what it prints was recorded from real etcd 3.7.1.
//!
//! The scripts of `testdata/etcdctl` hold one command a line, and what etcdctl printed and ended with:
//!
//! ```text
//! put a 1                         etcdctl's words
//! txn -i < mod("a") > "0"\n\n…    … with something on its input
//! 3 lines of: watch a --rev=1     ended as soon as it has printed so many lines
//! hold 2 lines of: elect e p      … and then left running until the script ends
//! ```
//!
//! What differs from run to run has names instead: `CLIENT`, `PEER`, `LEASE-1`, `ID`, `TIME`, `SIZE`.
//! `RETCD_ETCDCTL` says where etcdctl is, if it is not on the path; without one nothing is tested.
//! `RETCD_RECORD_FROM=etcd REWRITE=1` records anew, from the server of that name.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, iter};

use stdx::script::run_folder;
use stdx::tool;

use crate::support::block_on;
use crate::support::process::{Home, Server, retcd};

#[test]
fn etcdctl_prints_what_it_prints_of_etcd() {
    let Some(etcdctl) = etcdctl() else { return };
    run_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/etcdctl"), || {
        let mut session = Session::new(etcdctl.clone());
        move |lines: &[&str]| session.run(lines)
    });
}

fn etcdctl() -> Option<PathBuf> {
    if let Some(named) = env::var_os("RETCD_ETCDCTL") {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join("etcdctl")).find(|file| file.is_file());
    if found.is_none() {
        let why = "there is no etcdctl on the path, and RETCD_ETCDCTL names none";
        tool::skipped("recorded answers of etcdctl", why);
    }
    found
}

/// One server, and who talks to it.
struct Session {
    etcdctl: PathBuf,
    home: Home,
    leases: Vec<String>,
    held: Vec<Child>,
    _server: Server,
}

impl Session {
    fn new(etcdctl: PathBuf) -> Self {
        let home = Home::new("etcdctl");
        let mut command = match env::var_os("RETCD_RECORD_FROM") {
            Some(server) => Command::new(server),
            None => retcd(),
        };
        command.arg("--data-dir").arg(home.data()).args(home.urls());
        let mut server = home.run(command);
        block_on(server.ready());
        Self { etcdctl, home, leases: Vec::new(), held: Vec::new(), _server: server }
    }

    fn run(&mut self, lines: &[&str]) -> String {
        let printed: Vec<String> = lines.iter().map(|line| self.line(line)).collect();
        printed.concat()
    }

    fn line(&mut self, line: &str) -> String {
        if let Some(rest) = line.strip_prefix("hold ") {
            let (n, words) = lines_of(rest).expect("N lines of: …");
            let (child, printed) = self.watch_for(n, words);
            self.held.push(child);
            return printed;
        }
        if let Some((n, words)) = lines_of(line) {
            let (mut child, printed) = self.watch_for(n, words);
            child.kill().expect("a child");
            child.wait().expect("a child");
            return printed;
        }
        let (words, input) = line.split_once(" < ").unwrap_or((line, ""));
        self.finished(words, &input.replace("\\n", "\n"))
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
        command.arg("--endpoints").arg(self.home.client_url());
        command.args(self.words(words)).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The words of a line; those in quotes may hold spaces. Names of leases become their ids.
    fn words(&self, line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (n, part) in line.split('\'').enumerate() {
            if n % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        let id = |word: String| match word.split_once("LEASE-") {
            Some((before, n)) => {
                let n: usize = n.parse().expect("the number of a lease");
                format!("{before}{}", self.leases[n - 1])
            }
            None => word,
        };
        words.into_iter().map(id).collect()
    }

    fn finished(&mut self, words: &str, input: &str) -> String {
        let mut child = self.command(words).spawn().expect("etcdctl");
        child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("a listener");
        let output = child.wait_with_output().expect("etcdctl");
        let mut printed = String::from_utf8(output.stdout).expect("text");
        // The client library's own log is none of the command's words.
        let errors = String::from_utf8(output.stderr).expect("text");
        for line in errors.lines().filter(|line| !line.starts_with("{\"level\"")) {
            printed += &format!("! {line}\n");
        }
        if output.status.code() != Some(0) {
            printed += &format!("ended with {}\n", output.status.code().expect("no signal"));
        }
        self.presentable(&printed)
    }

    fn watch_for(&mut self, n: usize, words: &str) -> (Child, String) {
        let mut child = self.command(words).spawn().expect("etcdctl");
        let mut printed = first_lines(child.stdout.as_mut().expect("an output"), n);
        printed = self.presentable(&printed);
        (child, printed)
    }

    /// Gives what differs from run to run the name it goes by in scripts.
    fn presentable(&mut self, printed: &str) -> String {
        let named = printed
            .replace(&self.home.client_url(), "CLIENT")
            .replace(&self.home.peer_url(), "PEER");
        let lines = named.lines().map(|line| match line {
            "" => "(nothing)\n".to_owned(),
            line => self.line_presentable(line) + "\n",
        });
        lines.collect()
    }
}

impl Session {
    fn line_presentable(&mut self, line: &str) -> String {
        if let Some((id, _)) = line.strip_prefix("lease ").and_then(|l| l.split_once(" granted "))
            && !self.leases.iter().any(|lease| lease == id)
        {
            self.leases.push(id.to_owned());
        }
        let line = without_durations(line);
        let mut named = String::new();
        for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let (id, end) = match word.char_indices().last() {
                Some((at, c)) if !c.is_ascii_alphanumeric() => word.split_at(at),
                Some(_) | None => (word, ""),
            };
            named += &self.name_of(id);
            named += end;
        }
        without_sizes(&named)
    }

    /// Long numbers are ids: of leases that were granted here, of the member, of the cluster.
    fn name_of(&self, word: &str) -> String {
        if let Some(n) = self.leases.iter().position(|lease| lease == word) {
            return format!("LEASE-{}", n + 1);
        }
        let is_id = word.len() >= ID_DIGITS_MIN
            && !word.starts_with("00")
            && word.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id { "ID".into() } else { word.into() }
    }
}

/// Ids are random, or hashes; leading zeros are not always printed.
const ID_DIGITS_MIN: usize = 13;

fn without_durations(line: &str) -> String {
    for before in ["took = ", "took ", "remaining("] {
        if let Some((start, rest)) = line.split_once(before) {
            let end = rest.find(')').map_or("", |at| &rest[at..]);
            return format!("{start}{before}TIME{end}");
        }
    }
    line.to_owned()
}

/// A store's sizes are its own business.
fn without_sizes(line: &str) -> String {
    let is_size = |field: &str| {
        field.ends_with('%') || field.split_once(' ').is_some_and(|(_, unit)| unit.ends_with('B'))
    };
    let named = line.split(", ").map(|field| if is_size(field) { "SIZE" } else { field });
    named.collect::<Vec<_>>().join(", ")
}

/// `3 lines of: …`
fn lines_of(line: &str) -> Option<(usize, &str)> {
    let (n, words) = line.split_once(" lines of: ")?;
    Some((n.parse().ok()?, words))
}

fn first_lines(output: &mut ChildStdout, n: usize) -> String {
    let mut lines = BufReader::new(output).lines();
    let next = || Some(lines.next()?.expect("text") + "\n");
    iter::from_fn(next).take(n).collect()
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in &mut self.held {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
