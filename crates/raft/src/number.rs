//! The numbers of consensus, each a type of its own: none can be taken for another.

use std::fmt;
use std::num::NonZeroU64;

/// A period with at most one leader. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A place in the log. The first entry has 1; 0 is the place before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

/// A member, as raft sees it. Never 0, which on the wire means "nobody".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

/// Names a read. Whoever asks never uses one twice, not even after a restart: an answer that was
/// long under way would be taken for the answer to the newer question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Context(pub u64);

/// Names what has been handed out to be made durable. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// An entry's identity: two logs that agree on it agree on everything before it.
///
/// The order is that of voting: a log whose last entry is greater is more up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub term: Term,
    pub index: Index,
}

impl Term {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place before. The place before the first stays itself.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl PersistId {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl NodeId {
    /// `None` for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl EntryId {
    pub const fn new(index: Index, term: Term) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}
