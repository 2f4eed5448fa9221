//! A stage: members that do what a script says, and nothing by themselves.
//!
//! The same members, disks, network, model and oracle as in a run from a seed; but no clock ticks, nobody
//! asks and nothing fails unless the script says so. Scripts: `testdata/famous`.
//!
//! ```text
//! members N [bytes=B]        N founders, started; an append holds about B bytes
//! start 2 | kill 2 | power 2 a process starts; ends; and takes the machine with it
//! campaign 1 2               both stand for election
//! tick 1 2 10                ten ticks of their clocks
//! leaderless 1 2             they heard of nobody for so long that they follow nobody
//! move 1 2                   member 1 is asked to make 2 the leader
//! puts 1 30                  one after the other, each once the last is answered
//! put 1 k [size] | read 1 k [serializable]     asked of member 1; named c1.1, c1.2, …
//! grant 1 7 60 | renew 1 7   member 1 is asked for lease 7, of a minute; to have it run anew
//! change 1 add 4 | learner 4 | promote 4 | remove 3
//! checkpoint 1
//! cut 1>2 | cut 1 | heal     nothing more is sent that way; to and from it; all is well again
//! late 1>2 20                what is sent that way takes 20 s longer
//! lose 1>2 | lose 1          what is under way is lost
//! disk 1 1000                the disk takes so many times longer
//! run [5]                    a second, or five
//! until 1 leads | 1 has 7 | 1 applied 7 | c1.1 | said …    step by step, and not one further
//! status | log 1 | waiting | loud
//! ```
//!
//! What is answered: who leads, dies, retires or installs a snapshot, and what clients are told.

use std::fmt::Write as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use member::Event;
use proto::etcdserverpb::{LeaseGrantRequest, Member, PutRequest, RangeRequest, RequestHeader};
use proto::prost::Message;
use proto::raft_request::{Body, frame_message};
use raft::NodeId;
use state::membership::MemberChange;

use crate::clients::{Clients, Question, REQUESTS_MAX};
use crate::plan::Plan;
use crate::process::{Founding, LeaseQuestion};
use crate::trace::{self, Detail};
use crate::wording;
use crate::world::{Happening, Host, SECOND, World, member};

/// What is waited for at most.
const PATIENCE: u64 = 300 * SECOND;
/// What is worth a line of an answer.
const TOLD: [&str; 7] = ["leads", "answered", "refused", "never", "retires", "installs", "died"];

#[derive(Default)]
struct Stage {
    world: Option<World>,
    n_asked: u64,
    n_changes: u64,
    loud: bool,
}

#[test]
fn famous_counterexamples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/famous");
    stdx::script::run_folder(folder, || {
        let mut stage = Stage::default();
        move |lines: &[&str]| stage.play(lines)
    });
}

/// `2` of the second member.
fn host(word: &str) -> usize {
    word.parse::<usize>().expect("a member") - 1
}

impl Stage {
    fn play(&mut self, lines: &[&str]) -> String {
        let mut out = String::new();
        self.loud = false;
        for line in lines {
            self.command(line, &mut out);
            for line in trace::take() {
                if self.loud || TOLD.iter().any(|word| line.contains(word)) {
                    writeln!(out, "{line}").expect("memory");
                }
            }
        }
        out
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("members")
    }

    fn command(&mut self, line: &str, out: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().expect("a number"));
        match words[0] {
            "members" => self.found(number(1).expect("how many"), words.get(2).copied()),
            "start" => self.start(host(words[1])),
            "kill" | "power" => {
                self.world().bring_down(host(words[1]), words[0] == "power");
            }
            "campaign" => words[1..].iter().for_each(|word| self.tell(host(word), Event::Campaign)),
            "tick" => self.tick(&words[1..]),
            "leaderless" => self.leaderless(&words[1..]),
            "move" => {
                let to = NodeId::new(number(2).expect("an heir")).expect("ids are not 0");
                self.tell(host(words[1]), Event::TransferLeader(to));
            }
            "put" => self.put(host(words[1]), words[2], number(3).unwrap_or(1)),
            "puts" => {
                for _ in 0..number(2).expect("how many") {
                    self.put(host(words[1]), "k", 1);
                    let name = wording::request(REQUESTS_MAX + self.n_asked);
                    self.until(&[&name]);
                    trace::take();
                }
            }
            "read" => self.read(host(words[1]), words[2], words.len() > 3),
            "grant" => {
                self.grant(host(words[1]), number(2).expect("an id"), number(3).expect("a TTL"));
            }
            "renew" => {
                let (op, id) = (self.next_request(), number(2).expect("an id") as i64);
                self.world().put_question(host(words[1]), op, LeaseQuestion::Renew { id });
            }
            "change" => self.change(host(words[1]), words[2], number(3).expect("whom")),
            "checkpoint" => {
                self.world().with(host(words[1]), |process, around| {
                    process.want_checkpoint(around);
                    Ok(())
                });
            }
            "cut" => {
                let links = self.links(words[1]);
                self.world().network.cuts.extend(links);
            }
            "late" => {
                let delay = number(2).expect("seconds") * SECOND;
                let links = self.links(words[1]).into_iter().map(|link| (link, delay));
                self.world().network.late.extend(links.collect::<Vec<_>>());
            }
            "heal" => self.world().network = Default::default(),
            "lose" => self.lose(words[1]),
            "disk" => self.world().hosts[host(words[1])].slowness = number(2).expect("how slow"),
            "run" => self.run(number(1).unwrap_or(1) * SECOND),
            "until" => self.until(&words[1..]),
            "status" => self.status(out),
            "log" => self.log(number(1).expect("whose"), out),
            "waiting" => self.waiting(out),
            "loud" => self.loud = true,
            other => panic!("{other} is no command"),
        }
    }

    fn found(&mut self, n: u64, bytes: Option<&str>) {
        trace::clear();
        trace::keep(Detail::All);
        let bytes = bytes.and_then(|word| word.strip_prefix("bytes="));
        let bytes = bytes.map_or(1 << 20, |text| text.parse().expect("bytes"));
        let mut world = World::of(Plan::new(0), n, bytes, Clients::none());
        for host in 0..world.hosts.len() {
            world.hosts[host].tick = None;
        }
        self.world = Some(world);
        (0..n as usize).for_each(|host| self.start(host));
        self.run(SECOND);
    }

    /// A tick has it take in what it remembers.
    fn start(&mut self, host: usize) {
        self.world().start(host);
        self.tell(host, Event::Tick);
    }

    fn tell(&mut self, host: usize, event: Event) {
        self.world().with(host, |process, around| {
            process.tell(event, around);
            Ok(())
        });
    }

    fn tick(&mut self, words: &[&str]) {
        let (n, hosts) = words.split_last().expect("members and a number");
        for _ in 0..n.parse::<u64>().expect("a number") {
            hosts.iter().for_each(|word| self.tell(host(word), Event::Tick));
            self.run(SECOND / 100);
        }
    }

    fn leaderless(&mut self, words: &[&str]) {
        let network = std::mem::take(&mut self.world().network);
        for host in 1..=self.world().hosts.len() {
            let links = self.links(&host.to_string());
            self.world().network.cuts.extend(links);
        }
        self.tick(&[words, &["20"]].concat());
        self.world().network = network;
    }

    fn run(&mut self, time: u64) {
        let end = self.world().now + time;
        self.world().run_until(end, &mut |_| {});
    }

    /// `1>2`, or all of `1`.
    fn links(&mut self, word: &str) -> Vec<(usize, usize)> {
        if let Some((from, to)) = word.split_once('>') {
            return vec![(host(from), host(to))];
        }
        let one = host(word);
        let others = (0..self.world().hosts.len()).filter(|other| *other != one);
        others.flat_map(|other| [(one, other), (other, one)]).collect()
    }

    fn lose(&mut self, word: &str) {
        let links = self.links(word);
        self.world().queue.retain(|_, happening| {
            let Happening::Arrive(parcel) = happening else { return true };
            !links.contains(&(parcel.from, parcel.to))
        });
    }

    fn next_request(&mut self) -> u64 {
        self.n_asked += 1;
        REQUESTS_MAX + self.n_asked
    }

    fn grant(&mut self, host: usize, id: u64, ttl: u64) {
        let (id, ttl) = (id as i64, ttl as i64);
        self.propose(host, Body::LeaseGrant, &LeaseGrantRequest { id, ttl });
    }

    fn put(&mut self, host: usize, key: &str, size: u64) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let value = vec![b'v'; size as usize].into();
        self.propose(host, Body::Put, &PutRequest { key, value, ..PutRequest::default() });
    }

    fn propose(&mut self, host: usize, kind: Body, request: &impl Message) {
        let op = self.next_request();
        let header = RequestHeader { id: op, ..RequestHeader::default() };
        let mut data = BytesMut::new();
        frame_message(kind, &header, request, &mut data);
        self.world().ask(0, op, host, Question::Write(data.freeze()));
    }

    fn read(&mut self, host: usize, key: &str, serializable: bool) {
        let op = self.next_request();
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = RangeRequest { key, serializable, ..RangeRequest::default() };
        self.world().ask(0, op, host, Question::Read(request));
    }

    fn change(&mut self, host: usize, what: &str, id: u64) {
        self.n_changes += 1;
        let number = self.n_changes;
        let world = self.world();
        // Whether it is let in or not, there is a machine.
        let is_new = world.hosts.len() < id as usize;
        if is_new {
            let message_bytes_max = world.message_bytes_max;
            let founding =
                Founding { id, founders: Vec::new(), message_bytes_max, checkpoints: false };
            let mut host = Host::new(founding, 0);
            host.tick = None;
            world.hosts.push(host);
        }
        let change = match what {
            "add" => MemberChange::Add(member(id)),
            "learner" => MemberChange::Add(Member { is_learner: true, ..member(id) }),
            "promote" => MemberChange::Promote { id },
            "remove" => MemberChange::Remove { id },
            other => panic!("{other} is no change"),
        };
        world.with(host, |process, around| {
            process.change(number, &change, around);
            Ok(())
        });
    }

    /// Step by step, until it is so.
    fn until(&mut self, words: &[&str]) {
        let end = self.world().now + PATIENCE;
        while !self.is_so(words) {
            let goes_on = self.world().step_until(end);
            assert!(goes_on, "never: {words:?}; {:#?}", trace::last());
        }
    }

    fn is_so(&mut self, words: &[&str]) -> bool {
        let world = self.world();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        if words[0] == "said" {
            return trace::newest().contains(&words[1..].join(" "));
        }
        if words.len() == 1 {
            return !world.clients.waiting().any(|op| wording::request(op) == words[0]);
        }
        let Some(process) = &world.hosts[host(words[0])].process else { return false };
        match words[1] {
            "leads" => process.shown.is_leader,
            "applied" => process.state.applied().0 >= number(2),
            "has" => process.shown.last >= number(2),
            other => panic!("{other} is never so"),
        }
    }

    fn status(&mut self, out: &mut String) {
        for host in &self.world().hosts {
            let id = host.founding.id;
            let line = host.process.as_ref().map_or("is down".to_owned(), |process| {
                let view = process.shown;
                let role = match (view.is_leader, view.leader) {
                    (true, _) => "leads".to_owned(),
                    (false, 0) => "has no leader".to_owned(),
                    (false, leader) => format!("follows {leader}"),
                };
                let applied = process.state.applied().0;
                let (term, last, commit) = (view.term, view.last, view.commit);
                format!("{role} in term {term}; last {last}, committed {commit}, applied {applied}")
            });
            writeln!(out, "member {id} {line}").expect("memory");
        }
    }

    /// What was handed to the log of a member, durable or not.
    fn log(&mut self, id: u64, out: &mut String) {
        let terms = self.world().oracle.log(id);
        let words: Vec<String> = terms.map(|(index, term)| format!("{index}@{term}")).collect();
        writeln!(out, "member {id} has {}", words.join(" ")).expect("memory");
    }

    fn waiting(&mut self, out: &mut String) {
        let names: Vec<String> = self.world().clients.waiting().map(wording::request).collect();
        writeln!(out, "not answered: {}", names.join(" ")).expect("memory");
    }
}
