//! The log: lines in the forms etcd's operators and their tools know.
//!
//! ```text
//! {"level":"info","ts":"2026-11-22T15:33:36.009444Z","caller":"server/store.rs:80","msg":"opened","took":"1.3ms"}
//! 2026-11-22T15:33:36.009444Z→info→server/store.rs:80→opened→{"took": "1.3ms"}      → is a tab
//! ```
//!
//! ```ignore
//! log::info!(logger, "opened", "path" = path, "took" = started.elapsed());
//! ```
//!
//! A line is formatted in a buffer of the calling thread's own and leaves it in one write. A line
//! below the level costs a comparison. Of lines with one and the same message, a second has room
//! for a hundred; of those beyond, each hundredth is written. Messages are therefore constant
//! texts, and what varies is in the fields.
//!
//! # Levels
//!
//! DEBUG: for whoever works on retcd. INFO: what an operator would tell as the member's story.
//! WARN: odd, but we went on. ERROR: a human must look. FATAL: the last line; the caller ends.
//!
//! # Invariants
//!
//! - A line is written whole, in one write, or not at all.
//! - Nothing is formatted under a lock.
//! - A log that can't be written to never stops the member: such lines are counted, no more.
//!
//! # Not here
//!
//! Times are UTC, whatever the machine's zone. Levels don't change while the process runs.

mod duration;
mod encode;
mod journal;
mod output;
mod sample;
mod seldom;
#[cfg(test)]
mod tests;
mod value;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use duration::write_duration;
use encode::Record;
pub(crate) use encode::rfc3339;
use output::Sink;
use sample::Sampler;
pub use seldom::Seldom;
pub use value::Value;

#[doc(inline)]
pub use crate::{
    log_debug as debug, log_error as error, log_event as event, log_fatal as fatal,
    log_info as info, log_warn as warn,
};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// Reads zap's names; `panic` and its like are between ERROR and FATAL there, and FATAL here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" | "" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "dpanic" | "panic" | "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// What the log is told by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub format: Format,
    /// Lines below it are not written.
    pub level: Level,
    pub outputs: Vec<Output>,
    /// Of the one output that is a file.
    pub rotation: Option<Rotation>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Json,
            level: Level::Info,
            outputs: vec![Output::Stderr],
            rotation: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Console,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    /// systemd's, by its own protocol; standard error where there is none.
    Journal,
    File(PathBuf),
}

/// When a file is full, and what becomes of full ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub size_max: u64,
    /// Days; 0 keeps for ever.
    pub age_days_max: u64,
    /// 0 keeps all.
    pub backups_max: usize,
}

/// Writes lines, from any thread. A clone writes to the same place.
#[derive(Clone)]
pub struct Logger {
    /// The part of the member it speaks for, if it says so.
    name: Option<&'static str>,
    level: Level,
    shared: Arc<Shared>,
}

struct Shared {
    format: Format,
    sinks: Vec<Sink>,
    sampler: Sampler,
    /// Where time began, for the sampler.
    start: Instant,
    /// Lines that could not be written.
    lost: AtomicU64,
}

/// Longest buffer a thread keeps for its next line.
const BUFFER_KEPT_MAX: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Logger {
    /// Opens the outputs.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let open = |output| Sink::open(output, settings.rotation.as_ref());
        let sinks = settings.outputs.iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self::of(settings, sinks))
    }

    /// The log before the configuration is known: JSON, INFO, standard error.
    pub fn early() -> Self {
        Self::of(&Settings::default(), vec![Sink::Stderr])
    }

    /// A log nobody reads.
    pub fn discard() -> Self {
        Self::of(&Settings { level: Level::Fatal, ..Settings::default() }, Vec::new())
    }

    fn of(settings: &Settings, sinks: Vec<Sink>) -> Self {
        let shared = Shared {
            format: settings.format,
            sinks,
            sampler: Sampler::default(),
            start: Instant::now(),
            lost: AtomicU64::new(0),
        };
        Self { name: None, level: settings.level, shared: Arc::new(shared) }
    }

    /// The same log, whose lines say `"logger":"name"`.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Self {
        Self { name: Some(name), ..self.clone() }
    }

    pub fn enabled(&self, level: Level) -> bool {
        level >= self.level
    }

    /// Lines that could not be written so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes a line. Called by the macros, which have checked the level.
    pub fn write(
        &self,
        level: Level,
        caller: (&'static str, u32),
        message: &str,
        fields: &[(&str, Value<'_>)],
    ) {
        let shared = &*self.shared;
        if !shared.sampler.admits(level, message, shared.start.elapsed()) {
            return;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let record = Record { level, at, name: self.name, caller, message, fields };
        // Taken, not borrowed: a field may log while it is shown.
        let mut line = BUFFER.take();
        line.clear();
        record.encode(shared.format, &mut line);
        for sink in &shared.sinks {
            if sink.write(level, at, &line).is_err() {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        line.shrink_to(BUFFER_KEPT_MAX);
        BUFFER.set(line);
    }
}

/// `event!(logger, level, message, fields)`: a line whose level is only known at run time.
#[macro_export]
macro_rules! log_event {
    ($logger:expr, $level:expr, $message:expr, $fields:expr) => {{
        let (logger, level): (&$crate::log::Logger, $crate::log::Level) = (&$logger, $level);
        if logger.enabled(level) {
            logger.write(level, (file!(), line!()), $message, $fields);
        }
    }};
}

/// `debug!(logger, "message", "key" = value, …)`
#[macro_export]
macro_rules! log_debug {
    ($logger:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        $crate::log_event!($logger, $crate::log::Level::Debug, $message,
            &[$(($key, $crate::log::Value::from($value))),*])
    };
}

/// `info!(logger, "message", "key" = value, …)`
#[macro_export]
macro_rules! log_info {
    ($logger:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        $crate::log_event!($logger, $crate::log::Level::Info, $message,
            &[$(($key, $crate::log::Value::from($value))),*])
    };
}

/// `warn!(logger, "message", "key" = value, …)`
#[macro_export]
macro_rules! log_warn {
    ($logger:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        $crate::log_event!($logger, $crate::log::Level::Warn, $message,
            &[$(($key, $crate::log::Value::from($value))),*])
    };
}

/// `error!(logger, "message", "key" = value, …)`
#[macro_export]
macro_rules! log_error {
    ($logger:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        $crate::log_event!($logger, $crate::log::Level::Error, $message,
            &[$(($key, $crate::log::Value::from($value))),*])
    };
}

/// `fatal!(logger, "message", "key" = value, …)`: the caller ends the process.
#[macro_export]
macro_rules! log_fatal {
    ($logger:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        $crate::log_event!($logger, $crate::log::Level::Fatal, $message,
            &[$(($key, $crate::log::Value::from($value))),*])
    };
}
