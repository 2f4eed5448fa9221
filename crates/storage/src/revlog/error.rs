//! How the store fails: always finally.
//!
//! Nothing here is retried. After any of these the member stops; what was promised is on the disk, and
//! the log of the cluster has the rest.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// This member can't go on: its disk failed, or no longer says what was written.
#[derive(Debug)]
pub struct Fatal {
    path: PathBuf,
    trouble: Trouble,
}

/// Why the store could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process works in this folder.
    Locked(PathBuf),
    /// The disk failed, or what lies on it is damaged.
    Fatal(Fatal),
}

/// What happened to a file, before anyone said which.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Corrupt { offset: u64, what: &'static str },
}

impl Trouble {
    pub(super) fn at(self, path: &Path) -> Fatal {
        Fatal { path: path.to_owned(), trouble: self }
    }
}

impl Fatal {
    /// The disk's own word on it; `None` if the disk answered, but with damaged bytes.
    pub fn io(&self) -> Option<&io::Error> {
        match &self.trouble {
            Trouble::Io(error) => Some(error),
            Trouble::Corrupt { .. } => None,
        }
    }
}

/// Names the file an input or output error belongs to.
pub(super) trait Context<T> {
    fn context(self, path: &Path) -> Result<T, Fatal>;
}

impl<T, E: Into<Trouble>> Context<T> for Result<T, E> {
    fn context(self, path: &Path) -> Result<T, Fatal> {
        self.map_err(|error| error.into().at(path))
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fatal> for OpenError {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let path = self.path.display();
        match &self.trouble {
            Trouble::Io(error) => write!(f, "{path}: {error}"),
            Trouble::Corrupt { offset, what } => {
                write!(f, "{path}: damaged at byte {offset}: {what}")
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Locked(path) => write!(f, "{}: in use by another process", path.display()),
            Self::Fatal(fatal) => fatal.fmt(f),
        }
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.io().map(|e| e as _)
    }
}

impl std::error::Error for OpenError {}
