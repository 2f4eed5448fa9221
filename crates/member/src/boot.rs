//! How a cluster begins: the log that its founding members all start from.
//!
//! Every founding member writes the same first entries, one conf change a member in the order of
//! their ids, in term 1 and committed: so all agree on who votes before anyone has spoken. From
//! then on nothing tells these entries from others.

use bytes::Bytes;
use raft::{ConfChangeKind, Entry, EntryKind, HardState, Index, Term};

use crate::conf_change::MembershipChange;

/// The term of the founding entries. The first election is for the next one.
const FOUNDING_TERM: Term = Term(1);

/// A member that is there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub id: u64,
    /// The member as JSON, as conf changes carry it.
    pub context: Bytes,
}

/// The log of a cluster that has just been founded.
pub fn founding_log(founders: &[Founder]) -> (HardState, Vec<Entry>) {
    let mut sorted: Vec<&Founder> = founders.iter().collect();
    sorted.sort_unstable_by_key(|founder| founder.id);
    let entry = |(founder, n): (&Founder, u64)| Entry {
        term: FOUNDING_TERM,
        index: Index(n),
        kind: EntryKind::ConfChange,
        data: joining(founder).encode(),
    };
    let entries: Vec<Entry> = sorted.into_iter().zip(1..).map(entry).collect();
    let commit = Index(entries.len() as u64);
    (HardState { term: FOUNDING_TERM, vote: None, commit }, entries)
}

fn joining(founder: &Founder) -> MembershipChange {
    MembershipChange {
        id: 0,
        kind: ConfChangeKind::AddNode,
        node_id: founder.id,
        context: founder.context.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn founders_agree_on_the_log_whatever_order_they_were_named_in() {
        let founder = |id| Founder { id, context: Bytes::from(format!("{{\"id\":{id}}}")) };
        let (state, entries) = founding_log(&[founder(9), founder(4)]);
        assert_eq!(founding_log(&[founder(4), founder(9)]), (state, entries.clone()));
        assert_eq!(state.commit, Index(2));
        let first = MembershipChange::decode(entries[0].data.clone()).expect("well-formed");
        assert_eq!((first.node_id, &first.context[..]), (4, &b"{\"id\":4}"[..]));
    }
}
