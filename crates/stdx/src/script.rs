//! Tests as documents: commands, and under them what they answered.
//!
//! ```text
//! # A comment says what the case is about.        ← the lines of a case, up to `---`
//! put a 1
//! get a
//! ---
//! rev 2                                           ← what the runner answered, up to an empty line
//! a=1 (mod 2)
//! ```
//!
//! A folder of such files is one test. `REWRITE=1` writes the answers into the files instead of
//! comparing them; a human then reads the difference. A file's name is a true sentence.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Runs every `*.txt` file below `folder`; `start` makes a fresh interpreter for each file.
///
/// The interpreter gets the lines of one case without comments, and answers with the text that
/// belongs under `---`.
///
/// # Panics
///
/// If an answer differs from the file, or the folder holds no script.
pub fn run_folder<F>(folder: impl AsRef<Path>, mut start: impl FnMut() -> F)
where
    F: FnMut(&[&str]) -> String,
{
    for file in files_below(folder.as_ref()) {
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let actual = answer(&text, start());
        settle(&file, &text, &actual);
    }
}

/// Every script below `folder`, in order.
///
/// # Panics
///
/// If there is none.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "txt") {
            files.push(path);
        }
    }
}

/// A script's text as it reads with these answers: the same text, if they are the expected ones.
///
/// # Panics
///
/// If a case has no `---`, or an answer an empty line.
pub fn answer(text: &str, mut interpret: impl FnMut(&[&str]) -> String) -> String {
    let mut actual = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while lines.peek().is_some() {
        let mut commands = Vec::new();
        let mut separated = false;
        for line in lines.by_ref() {
            separated = line == "---";
            actual.push_str(line);
            actual.push('\n');
            if separated {
                break;
            }
            if !line.is_empty() && !line.starts_with('#') {
                commands.push(line);
            }
        }
        if !separated {
            assert!(commands.is_empty(), "commands without an answer: {commands:?}");
            break;
        }
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        let answer = interpret(&commands);
        for line in answer.lines() {
            assert!(!line.is_empty(), "an answer has an empty line: {answer:?}");
            actual.push_str(line);
            actual.push('\n');
        }
        if lines.peek().is_some() {
            actual.push('\n');
        }
    }
    actual
}

fn settle(file: &Path, expected: &str, actual: &str) {
    if expected == actual {
        return;
    }
    if env::var_os("REWRITE").is_some() {
        fs::write(file, actual).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return;
    }
    let at = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(end of file)").to_owned();
    panic!(
        "{}:{}: expected\n  {}\nbut the answer is\n  {}\nREWRITE=1 accepts it",
        file.display(),
        at + 1,
        line(expected),
        line(actual),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "but the answer is\n  b")]
    fn a_differing_answer_is_shown_with_its_line() {
        settle(Path::new("x.txt"), "a\n---\nc\n", "a\n---\nb\n");
    }
}
