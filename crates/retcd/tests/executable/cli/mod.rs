//! How the executable starts, refuses to start, and ends.

mod damage;
mod ending;
mod full_disk;
mod refusal;

use std::process::Command;

use crate::support::process::{Ended, Home};

/// Runs a command that must end by itself: badly, and with one line that says why. Returns that line.
async fn refused(home: &Home, command: Command) -> String {
    let ended = home.ended(command).await;
    the_one_reason(&ended)
}

fn the_one_reason(ended: &Ended) -> String {
    let Ended { status, log } = ended;
    assert_eq!(status.code(), Some(1), "{status}\n{log}");
    assert!(!log.contains("panicked"), "a panic is no answer:\n{log}");
    let is_grave =
        |line: &&str| line.contains(r#""level":"fatal""#) || line.contains(r#""level":"error""#);
    let reasons: Vec<&str> = log.lines().filter(is_grave).collect();
    assert_eq!(reasons.len(), 1, "one reason, in one line:\n{log}");
    let error = reasons[0].split_once(r#""error":""#).expect("an error").1;
    error.split_once('"').expect("the end of a text").0.to_owned()
}
