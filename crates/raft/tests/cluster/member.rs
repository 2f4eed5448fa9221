//! A member as small as can be: a node, a disk that keeps what was synced, a state that is a digest.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Config, Effects, Entry, EntryId,
    EntryKind, HardState, Index, Input, Node, NodeId, PersistId, Recovered, Snapshot, Transition,
};

pub(crate) fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("nodes are numbered from 1")
}

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) base: EntryId,
    pub(crate) entries: Vec<Entry>,
    pub(crate) state: State,
}

/// The state machine: how far it is, a digest of all it has seen, and who is a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) applied: Index,
    pub(crate) digest: u64,
    pub(crate) conf: ConfState,
}

/// Handed out, and not durable yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Write {
    pub(crate) id: Option<PersistId>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) append: Vec<Entry>,
    pub(crate) hard_state: Option<HardState>,
}

/// Handed to the state machine.
#[derive(Clone, Debug)]
pub(crate) enum Apply {
    Entry(Entry),
    Install(Snapshot),
}

pub(crate) struct Member {
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Write>,
    pub(crate) applies: VecDeque<Apply>,
    pub(crate) state: State,
}

impl Member {
    pub(crate) fn new(config: Config, conf: ConfState) -> Self {
        let state = State { conf, ..State::default() };
        let disk = Disk { state, ..Disk::default() };
        let mut member = Self {
            config,
            node: None,
            disk,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
            state: State::default(),
        };
        member.start();
        member
    }

    /// Everything that was not durable is gone.
    pub(crate) fn crash(&mut self) {
        self.node = None;
        self.writes.clear();
        self.applies.clear();
    }

    pub(crate) fn start(&mut self) {
        self.state = self.disk.state.clone();
        let recovered = Recovered {
            hard_state: self.disk.hard_state,
            conf_state: self.state.conf.clone(),
            snapshot: self.disk.base,
            entries: self.disk.entries.clone(),
            applied: self.state.applied,
        };
        self.config.seed += 1;
        self.node = Some(Node::new(self.config.clone(), recovered).expect("a consistent disk"));
    }

    /// Steps the node and queues what it owes its disk and its state. The rest is the caller's.
    pub(crate) fn step(&mut self, input: Input, effects: &mut Effects) {
        let Some(node) = &mut self.node else { return };
        effects.clear();
        node.step(input, effects);
        let write = Write {
            id: effects.persist,
            snapshot: effects.snapshot.clone(),
            append: effects.append.clone(),
            hard_state: effects.hard_state,
        };
        if write.id.is_some() || write.hard_state.is_some() {
            self.writes.push_back(write);
        }
        self.applies.extend(effects.snapshot.clone().map(Apply::Install));
        self.applies.extend(effects.commit.iter().cloned().map(Apply::Entry));
    }

    /// Makes the oldest write durable; returns its id if the node waits for it.
    pub(crate) fn write_one(&mut self) -> Option<Write> {
        let write = self.writes.pop_front()?;
        if let Some(snapshot) = &write.snapshot {
            self.disk.base = snapshot.id();
            self.disk.entries.clear();
            self.disk.state = state_of(snapshot);
        }
        for entry in &write.append {
            let at = (entry.index.0 - self.disk.base.index.0 - 1) as usize;
            assert!(at <= self.disk.entries.len(), "a gap on disk before {}", entry.id());
            self.disk.entries.truncate(at);
            self.disk.entries.push(entry.clone());
        }
        if let Some(hard_state) = write.hard_state {
            self.disk.hard_state = hard_state;
        }
        Some(write)
    }

    /// Takes the oldest entry or snapshot into the state; what it did to the membership is for the
    /// node to hear first.
    pub(crate) fn apply_one(&mut self, effects: &mut Effects) -> Option<Apply> {
        let apply = self.applies.pop_front()?;
        effects.clear();
        match &apply {
            Apply::Install(snapshot) => self.state = state_of(snapshot),
            Apply::Entry(entry) => {
                assert_eq!(entry.index, self.state.applied.next(), "applied in order");
                self.state.applied = entry.index;
                self.state.digest = digest(self.state.digest, entry);
            }
        }
        Some(apply)
    }

    /// Saves the state, so that the log up to it may go. An installed snapshot is not saved before
    /// the log on disk has taken it: the state would begin where no log leads to.
    pub(crate) fn save(&mut self) {
        let last = self.disk.base.index.0 + self.disk.entries.len() as u64;
        if (self.disk.base.index.0..=last).contains(&self.state.applied.0) {
            self.disk.state = self.state.clone();
        }
    }

    /// Drops the log up to `upto`, here and on disk; not beyond what the saved state holds.
    pub(crate) fn compact(&mut self, upto: Index) {
        let Some(node) = &mut self.node else { return };
        // What the disk has not been given yet cannot be cut from it.
        let upto = upto.min(self.disk.state.applied).min(node.status().applied);
        let last = self.disk.base.index.0 + self.disk.entries.len() as u64;
        if upto <= self.disk.base.index || upto.0 > last {
            return;
        }
        let n = (upto.0 - self.disk.base.index.0) as usize;
        self.disk.base = self.disk.entries[n - 1].id();
        self.disk.entries.drain(..n);
        node.compact(upto);
    }

    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let node = self.node.as_ref()?;
        // The node knows of it last; and what it has compacted, it gives no term of.
        let index = self.state.applied.min(node.status().applied);
        if index != self.state.applied {
            return None;
        }
        Some(Snapshot {
            index,
            term: node.term_at(index)?,
            conf_state: self.state.conf.clone(),
            data: Bytes::copy_from_slice(&self.state.digest.to_be_bytes()),
        })
    }
}

fn state_of(snapshot: &Snapshot) -> State {
    let digest = snapshot.data.as_ref().try_into().map(u64::from_be_bytes).expect("a digest");
    State { applied: snapshot.index, digest, conf: snapshot.conf_state.clone() }
}

/// FNV-1a over everything an entry is.
pub(crate) fn digest(before: u64, entry: &Entry) -> u64 {
    let mut hash = before ^ 0xcbf2_9ce4_8422_2325;
    let numbers = [entry.term.0, entry.index.0, entry.kind.number()];
    for byte in numbers.iter().flat_map(|n| n.to_be_bytes()).chain(entry.data.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Conf changes are written as they are in scripts: `add n4`, `explicit add n4 remove n1`; the
/// state machine refuses those that begin with `refuse`.
pub(crate) fn conf_change(entry: &Entry) -> Option<ConfChange> {
    let text = std::str::from_utf8(&entry.data).expect("text");
    let mut words = text.split_whitespace().peekable();
    words.next_if_eq(&"refuse").map_or(Some(()), |_| None)?;
    let transition = match words.peek() {
        Some(&"implicit") => Transition::JointImplicit,
        Some(&"explicit") => Transition::JointExplicit,
        Some(_) | None => Transition::Auto,
    };
    if transition != Transition::Auto {
        words.next();
    }
    let mut changes = Vec::new();
    while let (Some(kind), Some(node)) = (words.next(), words.next()) {
        let kind = match kind {
            "add" => ConfChangeKind::AddNode,
            "remove" => ConfChangeKind::RemoveNode,
            "update" => ConfChangeKind::UpdateNode,
            "learner" => ConfChangeKind::AddLearner,
            other => panic!("no such change: {other}"),
        };
        let node = id(node.trim_start_matches('n').parse().expect("a number"));
        changes.push(ConfChangeSingle { kind, node });
    }
    Some(ConfChange { transition, changes })
}

pub(crate) fn is_conf_change(entry: &Entry) -> bool {
    match entry.kind {
        EntryKind::Normal => false,
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => true,
    }
}
