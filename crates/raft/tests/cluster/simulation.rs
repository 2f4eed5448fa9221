//! A hostile world: messages are lost, doubled, delayed and reordered without limit, disks are slow,
//! members crash and lose what was not synced, membership changes, leaders are moved about.
//!
//! Chance picks what happens next; the oracle watches. Then the faults stop, and work must get done.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::{
    ConfState, Config, Context, Effects, EntryKind, Index, Input, Message, Node, NodeId, RoleKind,
};
use stdx::{Generator, each_seed};

use crate::member::{Apply, Member, conf_change, id, is_conf_change};
use crate::oracle::Oracle;

/// Members that may ever exist.
const NODES_MAX: u64 = 6;
/// Things that happen before the world turns kind.
const EVENTS: usize = 8_000;
/// Messages under way; of more, some are lost.
const FLYING_MAX: usize = 200;
/// Rounds a kind world has for electing a leader and bringing everyone up to date.
const ROUNDS_MAX: usize = 400;

struct World<'a> {
    g: &'a mut Generator,
    members: BTreeMap<NodeId, Member>,
    flying: Vec<Message>,
    cut: BTreeSet<(NodeId, NodeId)>,
    wanted: Vec<(NodeId, NodeId)>,
    oracle: Oracle,
    next_context: u64,
    next_data: u64,
    effects: Effects,
    /// How many of a hundred messages pay no heed to their order.
    wildness: u64,
}

#[test]
fn a_hostile_world_loses_nothing_and_a_kind_one_moves_on() {
    let (mut n_applied, mut n_reads) = (0, 0);
    each_seed(|g| {
        let mut world = World::new(g);
        for event in 0..EVENTS {
            world.something_happens();
            if event % 64 == 0 {
                world.check_logs();
            }
        }
        world.heal();
        n_applied += world.oracle.n_applied();
        n_reads += world.oracle.n_reads;
    });
    assert!(n_applied > 0 && n_reads > 0, "nothing happened: {n_applied} {n_reads}");
}

impl<'a> World<'a> {
    fn new(g: &'a mut Generator) -> Self {
        let voters: Vec<NodeId> = (1..=g.below(5) + 1).map(id).collect();
        let conf = ConfState::new(voters.clone(), Vec::new());
        let (pre_vote, check_quorum) = (g.chance(70), g.chance(70));
        let election_ticks = g.int(3..=10) as u32;
        let message_bytes_max = if g.chance(50) { 100 } else { 1 << 20 };
        let in_flight_max = g.int(1..=4);
        let wildness = *g.pick(&[5, 30, 100]);
        let seed = g.number();
        let mut members = BTreeMap::new();
        for name in (1..=NODES_MAX).map(id) {
            let mut config = Config::new(name, seed % (1 << 40));
            config.pre_vote = pre_vote;
            config.check_quorum = check_quorum;
            config.election_ticks = election_ticks;
            config.message_bytes_max = message_bytes_max;
            config.in_flight_max = in_flight_max;
            config.applying_bytes_max = 500;
            // Those to come know whom they may join one day, too.
            members.insert(name, Member::new(config, conf.clone()));
        }
        Self {
            g,
            members,
            flying: Vec::new(),
            cut: BTreeSet::new(),
            wanted: Vec::new(),
            oracle: Oracle::default(),
            next_context: 0,
            next_data: 0,
            effects: Effects::default(),
            wildness,
        }
    }

    fn any(&mut self) -> NodeId {
        id(self.g.below(NODES_MAX) + 1)
    }

    fn node(&self, name: NodeId) -> Option<&Node> {
        self.members[&name].node.as_ref()
    }

    fn something_happens(&mut self) {
        let who = self.any();
        match self.g.below(1000) {
            0..450 => self.deliver_any(),
            450..600 => drop(self.persist_one(who)),
            600..700 => drop(self.apply_one(who)),
            700..840 => self.step(who, Input::Tick),
            840..880 => self.propose(who),
            880..930 => self.read(who),
            930..934 => self.member(who).crash(),
            934..950 => self.restart(who),
            950..953 => self.cut_some(who),
            953..955 => self.cut.clear(),
            955..961 => self.transfer(who),
            961..982 => self.change_membership(who),
            982..988 => self.compact(who),
            988..994 => self.answer_wanted(),
            994..996 => {
                let node = self.any();
                self.step(who, Input::Unreachable { node });
            }
            996..998 => {
                let (node, ok) = (self.any(), self.g.chance(50));
                self.step(who, Input::SnapshotSent { node, ok });
            }
            _ => self.step(who, Input::Campaign),
        }
    }

    fn member(&mut self, name: NodeId) -> &mut Member {
        self.members.get_mut(&name).expect("all exist")
    }

    fn step(&mut self, on: NodeId, input: Input) {
        let mut effects = std::mem::take(&mut self.effects);
        let member = self.members.get_mut(&on).expect("all exist");
        if member.node.is_none() {
            self.effects = effects;
            return;
        }
        member.step(input, &mut effects);
        for &read in &effects.reads {
            self.oracle.on_read_ready(on, read);
        }
        self.wanted.extend(effects.snapshots_wanted.iter().map(|&to| (on, to)));
        self.flying.append(&mut effects.send);
        while self.flying.len() > FLYING_MAX {
            let lost = self.g.below(self.flying.len() as u64) as usize;
            self.flying.swap_remove(lost);
        }
        if let Some(node) = &member.node {
            self.oracle.observe(node);
        }
        self.effects = effects;
    }

    fn deliver_any(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        // Mostly one of the oldest; in a wild world any.
        let n = self.flying.len() as u64;
        let among = if self.g.chance(self.wildness) { n } else { n.min(4) };
        let at = self.g.below(among) as usize;
        let m = match self.g.below(100) {
            0..5 => return drop(self.flying.remove(at)),
            5..10 => self.flying[at].clone(),
            _ => self.flying.remove(at),
        };
        self.deliver(m);
    }

    fn deliver(&mut self, m: Message) {
        if !self.cut.contains(&(m.from, m.to)) {
            self.step(m.to, Input::Receive(m));
        }
    }

    fn persist_one(&mut self, on: NodeId) -> bool {
        let Some(write) = self.member(on).write_one() else { return false };
        if let Some(stable) = write.id {
            self.step(on, Input::Persisted { stable });
        }
        true
    }

    fn apply_one(&mut self, on: NodeId) -> bool {
        let mut effects = Effects::default();
        let Some(apply) = self.member(on).apply_one(&mut effects) else { return false };
        let after = self.member(on).state.digest;
        let index = match apply {
            Apply::Install(snapshot) => {
                self.oracle.on_installed(on, snapshot.index, after);
                snapshot.index
            }
            Apply::Entry(entry) => {
                self.oracle.on_applied(on, &entry, after);
                if is_conf_change(&entry) {
                    let change = conf_change(&entry);
                    self.step(on, Input::ConfChangeApplied { index: entry.index, change });
                    let member = self.member(on);
                    let node = member.node.as_ref().expect("it just applied something");
                    member.state.conf = node.conf_state().clone();
                }
                entry.index
            }
        };
        self.step(on, Input::Applied { index });
        true
    }

    fn propose(&mut self, on: NodeId) {
        let n = self.g.int(1..=4);
        let mut entries = Vec::new();
        for _ in 0..n {
            self.next_data += 1;
            let data = Bytes::from(self.next_data.to_string());
            entries.push((EntryKind::Normal, data));
        }
        self.step(on, Input::Propose { entries });
    }

    fn read(&mut self, on: NodeId) {
        if self.node(on).is_none() {
            return;
        }
        self.next_context += 1;
        let context = Context(self.next_context);
        self.oracle.on_read_asked(on, context);
        self.step(on, Input::ReadIndex { context });
    }

    fn restart(&mut self, on: NodeId) {
        if self.node(on).is_none() {
            self.member(on).start();
        }
    }

    /// One direction of a link, or all of a node's; of a leader's more often than not.
    fn cut_some(&mut self, who: NodeId) {
        let whole = self.g.chance(60);
        let other = self.any();
        let leads = |node: &Node| node.status().role == RoleKind::Leader;
        let leaders = (1..=NODES_MAX).map(id).filter(|&name| self.node(name).is_some_and(leads));
        let leader = leaders.last().filter(|_| whole);
        let who = leader.unwrap_or(who);
        for peer in (1..=NODES_MAX).map(id) {
            if whole || peer == other {
                self.cut.insert((who, peer));
                if self.g.chance(70) {
                    self.cut.insert((peer, who));
                }
            }
        }
    }

    fn transfer(&mut self, on: NodeId) {
        let to = self.any();
        self.step(on, Input::TransferLeader { to });
    }

    fn change_membership(&mut self, on: NodeId) {
        let Some(node) = self.node(on) else { return };
        let joint = node.conf_state().is_joint();
        let one = self.any();
        let word = *self.g.pick(&["add", "remove", "learner", "update", "refuse add"]);
        let (kind, text) = match self.g.below(3) {
            0 | 1 if !joint => (EntryKind::ConfChange, format!("{word} {one}")),
            2 if !joint => {
                let other = self.any();
                let how = *self.g.pick(&["", "implicit ", "explicit "]);
                (EntryKind::ConfChangeV2, format!("{how}add {one} remove {other}"))
            }
            _ => (EntryKind::ConfChangeV2, String::new()),
        };
        let entries = vec![(kind, Bytes::from(text))];
        self.step(on, Input::Propose { entries });
    }

    fn compact(&mut self, on: NodeId) {
        let back = self.g.below(4);
        let member = self.member(on);
        if member.node.is_none() {
            return;
        }
        member.save();
        let upto = Index(member.state.applied.0.saturating_sub(back));
        member.compact(upto);
    }

    fn answer_wanted(&mut self) {
        let Some((on, to)) = self.wanted.pop() else { return };
        if let Some(snapshot) = self.members[&on].snapshot() {
            self.step(on, Input::SnapshotTaken { to, snapshot });
        }
    }

    fn check_logs(&self) {
        let nodes: Vec<&Node> = self.members.values().filter_map(|m| m.node.as_ref()).collect();
        Oracle::check_logs(&nodes);
    }

    /// The faults stop: everyone is up, nothing is lost, and what is asked gets done.
    fn heal(&mut self) {
        self.cut.clear();
        for name in (1..=NODES_MAX).map(id) {
            self.restart(name);
        }
        let before = self.oracle.decided();
        for round in 0..ROUNDS_MAX {
            self.one_kind_round(round);
            if round % 8 == 7 && self.all_is_well(before) {
                return self.check_logs();
            }
        }
        let states: Vec<String> = self
            .members
            .values()
            .map(|m| format!("{:?} {:?}", m.node.as_ref().map(Node::status), m.state))
            .collect();
        panic!("healed, but stuck at {before}:\n{}", states.join("\n"));
    }

    fn one_kind_round(&mut self, round: usize) {
        for name in (1..=NODES_MAX).map(id) {
            // Who is no member any more has been switched off.
            if self.is_gone(name) {
                self.member(name).crash();
                continue;
            }
            self.restart(name);
            self.step(name, Input::Tick);
            if round.is_multiple_of(16) {
                self.propose(name);
                self.read(name);
            }
            // Somebody has to leave what is not left by itself.
            if round % 16 == 8 && self.conf().is_joint() && !self.conf().auto_leave {
                let entries = vec![(EntryKind::ConfChangeV2, Bytes::new())];
                self.step(name, Input::Propose { entries });
            }
        }
        for _ in 0..8 {
            for name in (1..=NODES_MAX).map(id) {
                while self.persist_one(name) {}
                while self.apply_one(name) {}
            }
            for _ in 0..self.wanted.len() {
                self.answer_wanted();
            }
            for m in std::mem::take(&mut self.flying) {
                self.deliver(m);
            }
        }
        // Snapshots got there or were lost long ago.
        if round.is_multiple_of(4) {
            for on in (1..=NODES_MAX).map(id) {
                for node in (1..=NODES_MAX).map(id) {
                    self.step(on, Input::SnapshotSent { node, ok: false });
                }
            }
        }
    }

    /// The configuration that whoever is furthest has applied.
    fn conf(&self) -> &ConfState {
        let furthest = self.members.values().max_by_key(|m| m.state.applied).expect("someone");
        &furthest.state.conf
    }

    /// Whether everyone else knows that it is no member any more: before that its vote may be
    /// what the others need to learn of it.
    fn is_gone(&self, name: NodeId) -> bool {
        let conf = self.conf();
        let known = conf.members().iter().all(|other| self.members[other].state.conf == *conf);
        !conf.contains(name) && known
    }

    fn all_is_well(&self, before: Index) -> bool {
        let conf = self.conf();
        self.oracle.decided() > before
            && conf.members().into_iter().all(|name| {
                self.node(name).is_some_and(|node| {
                    let status = node.status();
                    status.leader.is_some() && status.applied > before && !conf.is_joint()
                })
            })
    }
}
