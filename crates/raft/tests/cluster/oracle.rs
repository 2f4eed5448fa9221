//! What must hold, told by someone who knows the promises of Raft and not how they are kept.
//!
//! - Election safety: at most one leader a term.
//! - Leader completeness: who leads a term holds all that was committed in earlier ones.
//! - Log matching: logs that agree at an index agree on everything before it.
//! - State machine safety: what one applies at an index, all do, each once and in order.
//! - Reads: a read's index covers everything that was committed when it was asked.

use std::collections::BTreeMap;

use raft::{Context, Entry, Index, Node, NodeId, ReadReady, RoleKind, Term};

use crate::member::digest;

#[derive(Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<Term, NodeId>,
    /// For each index: the term whose leader first counted it as committed, and the entry's own.
    committed: BTreeMap<Index, (Term, Term)>,
    /// For each index applied anywhere: the entry, and the digest of the state after it.
    applied: BTreeMap<Index, (Entry, u64)>,
    /// What was committed when a read was asked.
    reads: BTreeMap<(NodeId, Context), Index>,
    pub(crate) n_reads: usize,
}

impl Oracle {
    pub(crate) fn decided(&self) -> Index {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    pub(crate) fn n_applied(&self) -> usize {
        self.applied.len()
    }

    /// Looks at a node that has just taken a step.
    pub(crate) fn observe(&mut self, node: &Node) {
        let status = node.status();
        if status.role != RoleKind::Leader {
            return;
        }
        let known = self.leaders.insert(status.term, status.id);
        if known.is_none() {
            for (&index, &(by, term)) in &self.committed {
                let holds = index < status.first || node.term_at(index) == Some(term);
                assert!(by >= status.term || holds, "{} leads without {index}", status.id);
            }
        }
        assert!(known.is_none_or(|other| other == status.id), "two leaders in {}", status.term);
        for index in (self.decided().0 + 1..=status.commit.0).map(Index) {
            if let Some(term) = node.term_at(index) {
                self.committed.insert(index, (status.term, term));
            }
        }
    }

    pub(crate) fn on_applied(&mut self, by: NodeId, entry: &Entry, after: u64) {
        let at = entry.index;
        let before = if at == Index(1) {
            Some(0)
        } else {
            self.applied.get(&Index(at.0 - 1)).map(|applied| applied.1)
        };
        let before = before.unwrap_or_else(|| panic!("{by} applies {at} before the one before it"));
        assert_eq!(digest(before, entry), after, "{by} has another state at {at}");
        let (first, _) = self.applied.entry(at).or_insert_with(|| (entry.clone(), after));
        assert_eq!(first, entry, "{by} applies another entry");
        let committed = self.committed.get(&at).map(|committed| committed.1);
        assert_eq!(committed, Some(entry.term), "{by} applies {} uncommitted", entry.id());
    }

    pub(crate) fn on_installed(&self, by: NodeId, index: Index, after: u64) {
        let known = self.applied.get(&index).map(|applied| applied.1);
        assert_eq!(known, Some(after), "{by} installs another state at {index}");
    }

    pub(crate) fn on_read_asked(&mut self, by: NodeId, context: Context) {
        let decided = self.decided();
        self.reads.insert((by, context), decided);
    }

    pub(crate) fn on_read_ready(&mut self, by: NodeId, read: ReadReady) {
        let asked = self.reads.remove(&(by, read.context));
        let asked = asked.unwrap_or_else(|| panic!("{by}: an answer to no question: {read:?}"));
        assert!(read.index >= asked, "{by} reads at {} what was {asked}: stale", read.index);
        self.n_reads += 1;
    }

    /// Log matching, for every pair.
    pub(crate) fn check_logs(nodes: &[&Node]) {
        for (at, one) in nodes.iter().enumerate() {
            for other in &nodes[at + 1..] {
                check_pair(one, other);
            }
        }
    }
}

fn check_pair(one: &Node, other: &Node) {
    let (a, b) = (one.status(), other.status());
    let mut agree = false;
    for index in (a.first.max(b.first).0..=a.last.min(b.last).0).rev().map(Index) {
        let same = one.term_at(index) == other.term_at(index);
        assert!(same || !agree, "{} and {} agree after {index} but not at it", a.id, b.id);
        agree = same;
    }
}
