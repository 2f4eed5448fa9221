//! The log against a plain list of terms that forgets nothing.

use bytes::Bytes;
use stdx::{Generator, each_seed};

use super::*;
use crate::entry::EntryKind;

/// `terms[i]` is the term at index i; index 0 is before the first entry.
struct Model {
    terms: Vec<u64>,
    first: usize,
}

impl Model {
    fn term_at(&self, index: usize) -> Option<Term> {
        let known = index + 1 >= self.first && index < self.terms.len();
        known.then(|| Term(self.terms[index]))
    }

    /// Walks down entry by entry, as the rule is told in words.
    fn last_not_after(&self, index: usize, term: Term) -> EntryId {
        let mut at = index;
        loop {
            match self.term_at(at) {
                None => return EntryId::new(Index(at as u64), Term(0)),
                Some(ours) if ours <= term || at == 0 => {
                    return EntryId::new(Index(at as u64), ours);
                }
                Some(_) => at -= 1,
            }
        }
    }
}

fn entry(index: usize, term: u64) -> Entry {
    let (index, term) = (Index(index as u64), Term(term));
    Entry { term, index, kind: EntryKind::Normal, data: Bytes::from_static(b"x") }
}

fn change(g: &mut Generator, log: &mut Log, model: &mut Model) {
    let last = model.terms.len() - 1;
    let top = model.terms[last] + g.below(3);
    match g.below(7) {
        0 | 1 => {
            let n = g.int(1..=3);
            log.propose(Term(top), vec![(EntryKind::Normal, Bytes::from_static(b"x")); n]);
            model.terms.extend(std::iter::repeat_n(top, n));
        }
        2 => {
            let prev = g.int(log.commit().0 as usize..=last);
            let n = g.int(0..=3);
            let keep = g.int(0..=n).min(last - prev);
            let mut terms = model.terms[prev + 1..=prev + keep].to_vec();
            terms.resize(n.max(keep), top);
            let entries = terms.iter().enumerate().map(|(i, &t)| entry(prev + 1 + i, t)).collect();
            let differs = terms
                .iter()
                .enumerate()
                .find(|&(i, &t)| model.terms.get(prev + 1 + i).is_some_and(|&ours| ours != t));
            let cut = log.splice(entries);
            assert_eq!(cut, differs.map(|(i, _)| Index((prev + 1 + i) as u64)));
            if differs.is_some() || prev + terms.len() > last {
                model.terms.truncate(prev + 1);
                model.terms.extend(terms);
            }
        }
        3 => log.commit_to(Index(g.int(0..=last) as u64)),
        4 => {
            log.hand_to_disk(&mut Vec::new());
            log.stable_to(log.last().index);
        }
        5 => {
            let mut commit = Vec::new();
            log.hand_to_state(if g.chance(50) { 60 } else { 1000 }, &mut commit);
            if let Some(last) = commit.last() {
                log.applied_to(last.index);
            }
        }
        _ => {
            let upto = g.int(0..=log.applied().0 as usize);
            log.compact(Index(upto as u64));
            model.first = model.first.max(upto + 1);
        }
    }
}

#[test]
fn a_log_agrees_with_a_list_that_forgets_nothing() {
    each_seed(|g| {
        let mut log = Log::new(EntryId::default(), Vec::new(), Index(0), Index(0));
        let mut model = Model { terms: vec![0], first: 1 };
        for _ in 0..60 {
            change(g, &mut log, &mut model);
            log.assert_invariants();
            for index in 0..model.terms.len() + 2 {
                assert_eq!(log.term_at(Index(index as u64)), model.term_at(index), "{index}");
            }
            let (index, term) = (g.int(0..=model.terms.len() + 1), Term(g.below(12)));
            let expected = model.last_not_after(index, term);
            assert_eq!(log.last_not_after(Index(index as u64), term), expected);
        }
    });
}

#[test]
fn a_slice_holds_what_fits_and_at_least_one() {
    let entries = (1..=5).map(|i| entry(i, 1)).collect();
    let log = Log::new(EntryId::default(), entries, Index(0), Index(0));
    let size = entry(1, 1).size();
    assert_eq!(log.slice(Index(2), 0).len(), 1);
    assert_eq!(log.slice(Index(2), 2 * size).len(), 2);
    assert_eq!(log.slice(Index(2), 3 * size - 1).len(), 2);
    assert_eq!(log.slice(Index(2), u64::MAX).len(), 4);
    assert_eq!(log.slice(Index(6), u64::MAX).len(), 0);
}

#[test]
#[should_panic(expected = "contradicts what is committed")]
fn what_is_committed_is_never_overwritten() {
    let mut log = Log::new(EntryId::default(), vec![entry(1, 1)], Index(1), Index(0));
    log.splice(vec![entry(1, 2)]);
}
