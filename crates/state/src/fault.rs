//! Why something was not carried out: refused, or impossible.

use std::fmt;

use proto::error::{Error, Status};
use storage::revlog;

/// This member can't go on: its disk or its log, not the cluster, disagrees.
#[derive(Debug)]
pub enum Fatal {
    /// The disk failed, or what lies on it is damaged.
    Store(revlog::Fatal),
    /// A stored record is whole, but not what this state would have written.
    Record { what: &'static str },
    /// A committed entry is none that any version of etcd writes.
    Entry { index: u64, why: String },
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(fatal) => fatal.fmt(f),
            Self::Record { what } => write!(f, "the store holds {what}"),
            Self::Entry { index, why } => write!(f, "entry {index} can't be applied: {why}"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<revlog::Fatal> for Fatal {
    fn from(fatal: revlog::Fatal) -> Self {
        Self::Store(fatal)
    }
}

/// What ends an operation early.
///
/// A refusal follows from the state and the request alone, is the same on every member, and is an
/// answer. The other is the end of this member.
#[derive(Debug)]
pub enum Stop {
    Refused(Status),
    Fatal(Fatal),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<revlog::Fatal> for Stop {
    fn from(fatal: revlog::Fatal) -> Self {
        Self::Fatal(fatal.into())
    }
}
