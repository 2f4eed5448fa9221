//! The interpreter of `testdata/`: a cluster under a director's hand.
//!
//! ```text
//! nodes 3 [learners=4,5] [prevote=off] [checkquorum=off] [election=N] [inflight=N] [message=N]
//!         [uncommitted=N] [applying=N]         a new cluster; messages wait until delivered
//! join n4                                      a node that knows the cluster it may join one day
//! tick n1 [N] · campaign n1 · put n1 a b · big n1 BYTES · read n1 7 · transfer n1 n2
//! conf n1 add n4 · conf2 n1 [implicit|explicit] add n4 remove n1 · leave n1
//! deliver|drop|duplicate [FROM|*] [TO|*] [KIND]    what is under way and matches, once
//! hold [FROM|*] [TO|*] [KIND] · release            what matches waits, whatever is delivered
//! cut n1 [n2] · heal                               isolate a node, or cut one link
//! disk n1 slow|fast · persist n1 [N]               a slow disk syncs when told to
//! state n1 slow|fast · apply n1 [N]                likewise the state machine
//! crash n1 · restart n1 · compact n1 INDEX
//! snapshots slow|fast · snapshot n1 n2             whether wanted snapshots are taken at once
//! sent n1 n2 ok|failed · unreachable n1 n2
//! message n2 n1 t5 Vote last=1@1                   out of thin air: Vote, PreVote, VoteReply, PreVoteReply,
//!                                                  Heartbeat, AppendReply, Append, Snapshot, TimeoutNow, Read
//! stabilize · status · progress n1 · log n1 · conf-state n1
//! quiet · loud                                     whether what happens is printed
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{
    AppendReply, Body, ConfState, Config, Context, Effects, Entry, EntryId, EntryKind, Index,
    Input, Message, NodeId, PersistId, Snapshot, Term,
};

use crate::member::{Apply, Member, Write, conf_change, id, is_conf_change};
use crate::print;

/// A script that has not come to rest after so many rounds never will.
const ROUNDS_MAX: usize = 200;

#[test]
fn scripts() {
    stdx::script::run_folder("testdata", || {
        let mut stage = Stage::default();
        move |lines: &[&str]| {
            stage.out.clear();
            for line in lines {
                stage.run(line);
            }
            std::mem::take(&mut stage.out)
        }
    });
}

#[derive(Default)]
struct Stage {
    members: BTreeMap<NodeId, Member>,
    options: BTreeMap<String, String>,
    /// The members at the beginning.
    conf: ConfState,
    flying: VecDeque<Message>,
    cut: BTreeSet<(NodeId, NodeId)>,
    held: Vec<Filter>,
    slow_disks: BTreeSet<NodeId>,
    slow_states: BTreeSet<NodeId>,
    slow_snapshots: bool,
    wanted: Vec<(NodeId, NodeId)>,
    quiet: bool,
    out: String,
}

#[derive(Default)]
struct Filter {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<String>,
}

impl Filter {
    fn parse(words: &[&str]) -> Self {
        let mut filter = Self::default();
        let mut sides = 0;
        for word in words {
            if *word == "*" || word.starts_with('n') {
                let side = (*word != "*").then(|| node(word));
                if sides == 0 {
                    filter.from = side;
                } else {
                    filter.to = side;
                }
                sides += 1;
            } else {
                filter.kind = Some((*word).to_owned());
            }
        }
        filter
    }

    fn fits(&self, m: &Message) -> bool {
        self.from.is_none_or(|from| from == m.from)
            && self.to.is_none_or(|to| to == m.to)
            && self.kind.as_ref().is_none_or(|kind| kind == print::kind_of(&m.body))
    }
}

fn node(word: &str) -> NodeId {
    id(word.trim_start_matches('n').parse().unwrap_or_else(|_| panic!("no node: {word}")))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}

fn entry_id(word: &str) -> EntryId {
    let (index, term) = word.split_once('@').expect("index@term");
    EntryId::new(Index(number(index)), Term(number(term)))
}

impl Stage {
    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, words) = words.split_first().expect("a command");
        match (*command, words) {
            ("nodes", [n, options @ ..]) => self.start(number(n), options),
            ("quiet", []) => self.quiet = true,
            ("loud", []) => self.quiet = false,
            ("deliver" | "drop" | "duplicate", filter) => self.network(command, filter),
            ("hold", filter) => self.held.push(Filter::parse(filter)),
            ("release", []) => self.held.clear(),
            ("cut", [a]) => {
                let others: Vec<NodeId> = self.members.keys().copied().collect();
                others.iter().for_each(|&other| self.cut_link(node(a), other));
            }
            ("cut", [a, b]) => self.cut_link(node(a), node(b)),
            ("heal", []) => self.cut.clear(),
            ("stabilize", []) => self.stabilize(),
            ("status", []) => self.status(),
            ("snapshots", [pace]) => self.slow_snapshots = *pace == "slow",
            (_, [name, rest @ ..]) => self.run_on(command, node(name), rest),
            _ => panic!("no such command: {line}"),
        }
    }

    /// Commands to one node.
    fn run_on(&mut self, command: &str, on: NodeId, words: &[&str]) {
        match (command, words) {
            ("join", []) => {
                let member = Member::new(self.config(on), self.conf.clone());
                self.members.insert(on, member);
            }
            ("tick", []) => self.step(on, Input::Tick),
            ("tick", [n]) => (0..number(n)).for_each(|_| self.step(on, Input::Tick)),
            ("campaign", []) => self.step(on, Input::Campaign),
            ("put", texts) => {
                let entries = texts.iter().map(|t| (EntryKind::Normal, data(t))).collect();
                self.step(on, Input::Propose { entries });
            }
            ("big", [bytes]) => {
                let data = Bytes::from(vec![b'x'; number(bytes) as usize]);
                self.step(on, Input::Propose { entries: vec![(EntryKind::Normal, data)] });
            }
            ("conf", change) => self.propose_conf(on, EntryKind::ConfChange, change),
            ("conf2", change) => self.propose_conf(on, EntryKind::ConfChangeV2, change),
            ("leave", []) => self.propose_conf(on, EntryKind::ConfChangeV2, &[]),
            ("read", [context]) => {
                self.step(on, Input::ReadIndex { context: Context(number(context)) });
            }
            ("transfer", [to]) => self.step(on, Input::TransferLeader { to: node(to) }),
            ("unreachable", [other]) => self.step(on, Input::Unreachable { node: node(other) }),
            ("sent", [other, how]) => {
                self.step(on, Input::SnapshotSent { node: node(other), ok: *how == "ok" });
            }
            ("snapshot", [to]) => self.take_snapshot(on, node(to)),
            ("message", words) => self.invent(on, words),
            (_, words) => self.run_by(command, on, words),
        }
    }

    /// Commands to a node's surroundings.
    fn run_by(&mut self, command: &str, on: NodeId, words: &[&str]) {
        match (command, words) {
            ("disk", ["slow"]) => drop(self.slow_disks.insert(on)),
            ("disk", ["fast"]) => drop(self.slow_disks.remove(&on)),
            ("state", ["slow"]) => drop(self.slow_states.insert(on)),
            ("state", ["fast"]) => drop(self.slow_states.remove(&on)),
            ("persist", n) => {
                let n = n.first().map_or(u64::MAX, |n| number(n));
                for _ in 0..n {
                    if !self.persist_one(on, true) {
                        break;
                    }
                }
            }
            ("apply", n) => {
                let n = n.first().map_or(u64::MAX, |n| number(n));
                for _ in 0..n {
                    if !self.apply_one(on) {
                        break;
                    }
                }
            }
            ("crash", []) => self.member(on).crash(),
            ("restart", []) => self.member(on).start(),
            ("compact", [index]) => {
                let index = Index(number(index));
                self.member(on).save();
                self.member(on).compact(index);
            }
            ("progress", []) => {
                let status = self.node(on).status();
                print::progress(&status).into_iter().for_each(|line| self.say_loudly(line));
            }
            ("conf-state", []) => {
                let line = format!("{on} {}", print::conf(self.node(on).conf_state()));
                self.say_loudly(line);
            }
            ("log", []) => self.print_log(on),
            _ => panic!("no such command: {command}"),
        }
    }

    fn start(&mut self, n: u64, options: &[&str]) {
        for option in options {
            let (name, value) = option.split_once('=').expect("name=value");
            self.options.insert(name.to_owned(), value.to_owned());
        }
        let learners: Vec<NodeId> = self
            .options
            .get("learners")
            .map(|list| list.split(',').map(node).collect())
            .unwrap_or_default();
        let voters: Vec<NodeId> = (1..=n).map(id).collect();
        self.conf = ConfState::new(voters, learners);
        for name in self.conf.members() {
            self.members.insert(name, Member::new(self.config(name), self.conf.clone()));
        }
    }

    fn config(&self, name: NodeId) -> Config {
        let option = |key: &str| self.options.get(key).map(String::as_str);
        let mut config = Config::new(name, name.get());
        config.pre_vote = option("prevote") != Some("off");
        config.check_quorum = option("checkquorum") != Some("off");
        let set = |key: &str, field: &mut u64| {
            if let Some(value) = option(key) {
                *field = number(value);
            }
        };
        set("message", &mut config.message_bytes_max);
        set("uncommitted", &mut config.uncommitted_bytes_max);
        set("applying", &mut config.applying_bytes_max);
        if let Some(value) = option("inflight") {
            config.in_flight_max = number(value) as usize;
        }
        if let Some(value) = option("election") {
            config.election_ticks = number(value) as u32;
        }
        config
    }

    fn member(&mut self, name: NodeId) -> &mut Member {
        self.members.get_mut(&name).unwrap_or_else(|| panic!("no such node: {name}"))
    }

    fn node(&mut self, name: NodeId) -> &mut raft::Node {
        self.member(name).node.as_mut().unwrap_or_else(|| panic!("{name} is down"))
    }

    fn cut_link(&mut self, a: NodeId, b: NodeId) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    fn say(&mut self, line: impl AsRef<str>) {
        if !self.quiet {
            self.say_loudly(line);
        }
    }

    fn say_loudly(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    fn propose_conf(&mut self, on: NodeId, kind: EntryKind, words: &[&str]) {
        self.step(on, Input::Propose { entries: vec![(kind, data(&words.join(" ")))] });
    }

    fn step(&mut self, on: NodeId, input: Input) {
        let mut effects = Effects::default();
        self.member(on).step(input, &mut effects);
        if let Some(now) = effects.role {
            self.say(format!("{on} {} {}", now.term, print::role(now.role, now.leader)));
        }
        if let Some(snapshot) = &effects.snapshot {
            self.say(format!("{on} restore {}", snapshot.id()));
        }
        if !effects.append.is_empty() {
            self.say(format!("{on} append {}", print::ids(&effects.append)));
        }
        if self.slow_states.contains(&on) && !effects.commit.is_empty() {
            self.say(format!("{on} may apply {}", print::ids(&effects.commit)));
        }
        for dropped in &effects.dropped {
            self.say(format!("{on} {}", print::dropped(dropped)));
        }
        for read in &effects.reads {
            self.say(format!("{on} read {} at {}", read.context, read.index));
        }
        for &to in &effects.snapshots_wanted {
            self.say(format!("{on} wants a snapshot for {to}"));
            self.wanted.push((on, to));
        }
        self.flying.append(&mut effects.send.into());
    }

    fn network(&mut self, command: &str, filter: &[&str]) {
        let filter = Filter::parse(filter);
        let mut stays = VecDeque::new();
        for m in std::mem::take(&mut self.flying) {
            let held = self.held.iter().any(|held| held.fits(&m));
            if held || !filter.fits(&m) {
                stays.push_back(m);
                continue;
            }
            match command {
                "drop" => self.say(print::message("⇥", &m)),
                "duplicate" => {
                    stays.push_back(m.clone());
                    stays.push_back(m);
                }
                _ => self.deliver(m),
            }
        }
        // What was sent meanwhile comes after what was under way.
        stays.append(&mut self.flying);
        self.flying = stays;
    }

    fn deliver(&mut self, m: Message) {
        let up = self.members.get(&m.to).is_some_and(|member| member.node.is_some());
        if !up || self.cut.contains(&(m.from, m.to)) {
            return self.say(print::message("⇥", &m));
        }
        self.say(print::message("→", &m));
        self.step(m.to, Input::Receive(m));
    }

    fn persist_one(&mut self, on: NodeId, tell: bool) -> bool {
        let Some(write) = self.member(on).write_one() else { return false };
        if tell {
            self.say(format!("{on} synced{}", written(&write)));
        }
        if let Some(stable) = write.id {
            self.step(on, Input::Persisted { stable });
        }
        true
    }

    fn apply_one(&mut self, on: NodeId) -> bool {
        let mut effects = Effects::default();
        let Some(apply) = self.member(on).apply_one(&mut effects) else { return false };
        let index = match apply {
            Apply::Install(snapshot) => {
                self.say(format!("{on} install {}", snapshot.id()));
                snapshot.index
            }
            Apply::Entry(entry) => {
                self.apply_entry(on, &entry);
                entry.index
            }
        };
        self.step(on, Input::Applied { index });
        true
    }

    fn apply_entry(&mut self, on: NodeId, entry: &Entry) {
        self.say(format!("{on} apply {} {}", entry.id(), print::text(&entry.data)));
        if is_conf_change(entry) {
            let change = conf_change(entry);
            self.step(on, Input::ConfChangeApplied { index: entry.index, change });
            let conf = self.node(on).conf_state().clone();
            self.member(on).state.conf = conf;
        }
    }

    fn take_snapshot(&mut self, on: NodeId, to: NodeId) {
        let snapshot = self.member(on).snapshot().expect("a snapshot of what is applied");
        self.step(on, Input::SnapshotTaken { to, snapshot });
    }

    /// Lets everything happen that happens by itself, but the passing of time.
    fn stabilize(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut quiet = true;
            let names: Vec<NodeId> = self.members.keys().copied().collect();
            for &name in &names {
                while !self.slow_disks.contains(&name) && self.persist_one(name, false) {
                    quiet = false;
                }
                while !self.slow_states.contains(&name) && self.apply_one(name) {
                    quiet = false;
                }
            }
            if !self.slow_snapshots {
                for (on, to) in std::mem::take(&mut self.wanted) {
                    self.take_snapshot(on, to);
                    quiet = false;
                }
            }
            let held = |m: &Message| self.held.iter().any(|held| held.fits(m));
            if self.flying.iter().any(|m| !held(m)) {
                self.network("deliver", &[]);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
        panic!("never comes to rest");
    }

    fn status(&mut self) {
        let mut lines = Vec::new();
        for (name, member) in &self.members {
            lines.push(match &member.node {
                Some(node) => {
                    let status = node.status();
                    let term = node.term_at(status.last).unwrap_or_default();
                    print::status(&status, EntryId::new(status.last, term))
                }
                None => format!("{name} down"),
            });
        }
        lines.into_iter().for_each(|line| self.say_loudly(line));
    }

    fn print_log(&mut self, on: NodeId) {
        let node = self.node(on);
        let status = node.status();
        let ids: Vec<String> = (status.first.0..=status.last.0)
            .map(|i| format!("{i}@{}", node.term_at(Index(i)).expect("in the log").0))
            .collect();
        let disk: Vec<Entry> = self.member(on).disk.entries.clone();
        self.say_loudly(format!("{on} log [{}] disk [{}]", ids.join(" "), print::ids(&disk)));
    }

    /// `message FROM TO TERM KIND fields`, given to the network.
    fn invent(&mut self, from: NodeId, words: &[&str]) {
        let [to, term, kind, fields @ ..] = words else { panic!("FROM TO TERM KIND") };
        let field =
            |name: &str| fields.iter().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
        let has = |word: &str| fields.contains(&word);
        let index = |name: &str| Index(field(name).map_or(0, number));
        let id_of = |name: &str| field(name).map_or_else(EntryId::default, entry_id);
        let context = || Bytes::from(field("context").unwrap_or("").to_owned());
        let body = match *kind {
            "Vote" | "PreVote" => Body::Vote {
                pre: *kind == "PreVote",
                last: id_of("last"),
                transfer: has("transfer"),
            },
            "VoteReply" | "PreVoteReply" => Body::VoteReply {
                pre: *kind == "PreVoteReply",
                granted: has("yes"),
                committed: id_of("commit"),
            },
            "Heartbeat" => Body::Heartbeat { commit: index("commit"), context: context() },
            "HeartbeatReply" => Body::HeartbeatReply { context: context() },
            "AppendReply" if field("no").is_some() => {
                Body::AppendReply(AppendReply::Rejected { at: index("no"), hint: id_of("hint") })
            }
            "AppendReply" => Body::AppendReply(AppendReply::Accepted { last: index("ok") }),
            "Append" => Body::Append {
                prev: id_of("base"),
                entries: fields.iter().filter_map(|f| f.strip_prefix('+')).map(entry).collect(),
                commit: index("commit"),
            },
            "Snapshot" => {
                let EntryId { term, index } = id_of("at");
                let (conf_state, data) = (self.conf.clone(), Bytes::new());
                Body::Snapshot(Box::new(Snapshot { index, term, conf_state, data }))
            }
            "TimeoutNow" => Body::TimeoutNow,
            "TransferLeader" => Body::TransferLeader,
            "Read" => Body::ReadIndex { context: Context(number(fields[0])) },
            "ReadReply" => {
                Body::ReadIndexReply { context: Context(number(fields[0])), index: index("at") }
            }
            other => panic!("no such message: {other}"),
        };
        let term = Term(number(term.trim_start_matches('t')));
        self.flying.push_back(Message { from, to: node(to), term, body });
    }
}

fn entry(word: &str) -> Entry {
    let EntryId { term, index } = entry_id(word);
    Entry { term, index, kind: EntryKind::Normal, data: data("?") }
}

fn data(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn written(write: &Write) -> String {
    let mut line = String::new();
    if let Some(snapshot) = &write.snapshot {
        line.push_str(&format!(" snapshot {}", snapshot.id()));
    }
    if let Some(state) = write.hard_state {
        let vote = state.vote.map_or("nobody".to_owned(), |vote| vote.to_string());
        line.push_str(&format!(" {} vote={vote} commit={}", state.term, state.commit));
    }
    if !write.append.is_empty() {
        line.push_str(&format!(" {}", print::ids(&write.append)));
    }
    match write.id {
        Some(PersistId(id)) => format!("({id}){line}"),
        None => line,
    }
}
