//! Why a measurement could not be made.

use std::{fmt, io};

use crate::http2::{Broken, Outcome};

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense; the text says where.
    Usage(String),
    /// The machine would not.
    System { doing: String, error: io::Error },
    /// A server said no to what every etcd does.
    Refused { doing: &'static str, outcome: Outcome },
    /// A connection is of no further use.
    Broken(Broken),
    /// It took longer than anything we measure may.
    TooLate { doing: &'static str },
    /// A server ended while it was needed; the text is the end of its log.
    Died { log: String },
    /// An answer came, and it was not to what was asked.
    Wrong(&'static str),
}

/// Says what was being done when the machine would not.
pub(crate) fn system<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| Failure::System { doing: doing.into(), error: error.into() }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}"),
            Self::System { doing, error } => write!(f, "{doing}: {error}"),
            Self::Refused { doing, outcome: Outcome::Refused { code, message } } => {
                write!(f, "{doing}: the server refused with status {code}: {message}")
            }
            Self::Refused { doing, outcome: Outcome::Reset { code } } => {
                write!(f, "{doing}: the server reset the stream with error {code}")
            }
            Self::Refused { doing, outcome: Outcome::Done } => write!(f, "{doing}: no answer"),
            Self::Broken(Broken(why)) => write!(f, "a connection broke: {why}"),
            Self::TooLate { doing } => write!(f, "{doing}: it took too long"),
            Self::Died { log } => write!(f, "the server ended by itself; it last said:\n{log}"),
            Self::Wrong(what) => write!(f, "a wrong answer: {what}"),
        }
    }
}
