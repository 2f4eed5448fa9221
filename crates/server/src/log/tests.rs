//! The log as a whole: macros, level, threads, outputs.

use std::path::PathBuf;
use std::{env, fs, io, process, thread};

use super::{Format, Level, Logger, Output, Settings, Value};

/// A log file of this test's own, gone when the test is over.
struct LogFile(PathBuf);

impl LogFile {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("retcd-log-{name}-{}.log", process::id())))
    }

    fn open(&self, level: Level, format: Format) -> Logger {
        let outputs = vec![Output::File(self.0.clone())];
        Logger::open(&Settings { format, level, outputs, rotation: None }).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_line_says_where_it_was_written_and_who_speaks() {
    let file = LogFile::new("line");
    let logger = file.open(Level::Info, Format::Console).named("raft");
    let error = io::Error::other("no \"quorum\"");
    super::warn!(
        logger,
        "lost",
        "error" = Value::show(&error),
        "term" = 7_u64,
        "id" = Value::Id(255)
    );
    super::error!(logger, "gone");
    let line = &file.lines()[0];
    let (time, rest) = line.split_once('\t').unwrap();
    assert_eq!(time.len(), "2026-11-22T15:33:36.009444Z".len());
    let (caller, fields) = rest.split_once("\tlost\t").unwrap();
    assert!(caller.starts_with("warn\traft\tlog/tests.rs:"), "{caller}");
    assert_eq!(fields, r#"{"error": "no \"quorum\"", "term": 7, "id": "ff"}"#);
    assert!(file.lines()[1].ends_with("\tgone"));
}

#[test]
fn what_lies_below_the_level_is_not_even_asked_for() {
    let file = LogFile::new("level");
    let logger = file.open(Level::Warn, Format::Json);
    let mut asked = 0;
    let mut ask = || {
        asked += 1;
        true
    };
    super::debug!(logger, "m", "k" = ask());
    super::info!(logger, "m", "k" = ask());
    super::fatal!(logger, "m", "k" = ask());
    assert_eq!(asked, 1);
    assert_eq!(file.lines().len(), 1);
}

#[test]
fn lines_of_many_threads_never_mix() {
    let file = LogFile::new("threads");
    let logger = file.open(Level::Info, Format::Json);
    thread::scope(|scope| {
        for t in 0..4_u64 {
            let logger = &logger;
            scope.spawn(move || {
                for i in 0..100_u64 {
                    let message = format!("{t}.{i}");
                    super::info!(logger, &message, "long" = "x".repeat(500).as_str());
                }
            });
        }
    });
    let mut messages: Vec<String> = file
        .lines()
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"))
        .map(|line| line["msg"].as_str().unwrap().to_owned())
        .collect();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 400);
}

#[test]
fn a_field_may_log_while_it_is_shown() {
    struct Chatty<'a>(&'a Logger);
    impl std::fmt::Display for Chatty<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            super::info!(self.0, "inner");
            f.write_str("shown")
        }
    }
    let file = LogFile::new("chatty");
    let logger = file.open(Level::Info, Format::Json);
    super::info!(logger, "outer", "k" = Value::show(&Chatty(&logger)));
    let lines = file.lines();
    assert!(lines[0].contains("inner") && lines[1].contains(r#""msg":"outer","k":"shown""#));
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let outputs = vec![Output::File("/nonexistent/e.log".into())];
    let error = Logger::open(&Settings { outputs, ..Settings::default() }).err().unwrap();
    assert!(error.to_string().starts_with("open log output /nonexistent/e.log: "), "{error}");
}
