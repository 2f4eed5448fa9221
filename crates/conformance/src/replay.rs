//! Whole scripts, and folders of them: compared with what was recorded, or recorded.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fs, thread};

use anyhow::{Context, bail};
use stdx::script;
use tokio::runtime::Runtime;

use crate::server::Program;
use crate::session::{Line, Session};

/// Scripts mostly wait: for a server to start, for a lease to end.
const SCRIPTS_AT_ONCE: usize = 6;

const RECORDED: &str = "# recorded from ";

/// What to do about answers that are not the recorded ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Compare,
    Record,
}

/// What came of a run.
#[derive(Default)]
pub struct Report {
    pub scripts: usize,
    /// Commands with their answer, each counted once a carrier.
    pub cases: usize,
    pub changed: Vec<PathBuf>,
    pub failures: Vec<String>,
}

/// What the head of a script says about it.
struct Head {
    over_grpc: bool,
    over_gateway: bool,
    flags: Vec<String>,
}

/// Runs the scripts below `folder` whose path contains `only`.
///
/// `version` is what recorded files say they were recorded from.
pub fn run(folder: &Path, program: &Program, only: &str, mode: Mode, version: &str) -> Report {
    let files = script::files_below(folder).into_iter();
    let files = files.filter(|file| file.to_string_lossy().contains(only)).collect();
    let files: Mutex<VecDeque<PathBuf>> = Mutex::new(files);
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for _ in 0..SCRIPTS_AT_ONCE {
            scope.spawn(|| {
                while let Some(file) = locked(&files, VecDeque::pop_front) {
                    let result = run_file(&file, program, mode, version);
                    locked(&report, |report| note(report, &file, result));
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort();
    report
}

fn locked<T, R>(mutex: &Mutex<T>, act: impl FnOnce(&mut T) -> R) -> R {
    act(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Outcome {
    cases: usize,
    changed: bool,
}

fn note(report: &mut Report, file: &Path, result: anyhow::Result<Outcome>) {
    report.scripts += 1;
    match result {
        Ok(outcome) => {
            report.cases += outcome.cases;
            if outcome.changed {
                report.changed.push(file.to_owned());
            }
        }
        Err(error) => report.failures.push(format!("{}: {error:#}", file.display())),
    }
}

fn run_file(file: &Path, program: &Program, mode: Mode, version: &str) -> anyhow::Result<Outcome> {
    let text = fs::read_to_string(file)?;
    let head = head(&text)?;
    let mut sides = Sides::start(program, &head)?;
    let mut broken = Vec::new();
    let mut cases = 0;
    let actual = script::answer(&text, |lines| {
        cases += sides.0.len();
        let answers = lines.iter().map(|line| {
            sides.run(line).unwrap_or_else(|error| {
                broken.push(format!("{line}: {error:#}"));
                format!("broken: {}", format!("{error:#}").replace('\n', " "))
            })
        });
        let answers: Vec<String> = answers.filter(|answer| !answer.is_empty()).collect();
        if answers.is_empty() { "nothing to say".to_owned() } else { answers.join("\n") }
    });
    match mode {
        Mode::Compare => {
            compare(&text, &actual)?;
            Ok(Outcome { cases, changed: false })
        }
        Mode::Record if broken.is_empty() => {
            let actual = marked(&actual, version);
            fs::write(file, &actual)?;
            Ok(Outcome { cases, changed: actual != text })
        }
        Mode::Record => bail!("{}", broken.join("\n  ")),
    }
}

fn compare(expected: &str, actual: &str) -> anyhow::Result<()> {
    if expected == actual {
        return Ok(());
    }
    let at = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(end of file)").to_owned();
    let differing = expected.lines().zip(actual.lines()).filter(|(a, b)| a != b).count();
    bail!(
        "line {}: recorded\n  {}\nbut the answer is\n  {}\n({differing} lines differ)",
        at + 1,
        line(expected),
        line(actual)
    )
}

/// The script with the line that says what it was recorded from, after its first comment lines.
fn marked(text: &str, version: &str) -> String {
    let mark = format!("{RECORDED}etcd {version}");
    let (head, rest): (Vec<&str>, Vec<&str>) = {
        let length = text.lines().take_while(|line| line.starts_with('#')).count();
        (text.lines().take(length).collect(), text.lines().skip(length).collect())
    };
    let mut lines: Vec<&str> = head.into_iter().filter(|l| !l.starts_with(RECORDED)).collect();
    lines.push(&mark);
    if rest.first().is_some_and(|line| !line.is_empty()) {
        lines.push("");
    }
    lines.extend(rest);
    lines.join("\n") + "\n"
}

fn head(text: &str) -> anyhow::Result<Head> {
    let mut head = Head { over_grpc: true, over_gateway: false, flags: Vec::new() };
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if let Some(carriers) = line.strip_prefix("# over: ") {
            let carriers: Vec<&str> = carriers.split(", ").collect();
            head.over_grpc = carriers.contains(&"grpc");
            head.over_gateway = carriers.contains(&"gateway");
        } else if let Some(flags) = line.strip_prefix("# server: ") {
            head.flags.extend(flags.split(' ').map(str::to_owned));
        }
    }
    Ok(head)
}

/// The same script, going on with each carrier on a server of its own.
struct Sides(Vec<(&'static str, Session)>);

impl Sides {
    fn start(program: &Program, head: &Head) -> anyhow::Result<Sides> {
        let mut sides = Vec::new();
        for (name, wanted) in [("grpc", head.over_grpc), ("gateway", head.over_gateway)] {
            if wanted {
                let session = Session::start(program, &head.flags, name == "gateway");
                sides.push((name, runtime().block_on(session)?));
            }
        }
        Ok(Sides(sides))
    }

    fn run(&mut self, line: &str) -> anyhow::Result<String> {
        let mut answers = Vec::with_capacity(self.0.len());
        for (name, session) in &mut self.0 {
            let answer = runtime().block_on(session.run(line));
            answers.push((*name, answer.with_context(|| format!("over {name}"))?));
        }
        Ok(merged(&answers))
    }
}

/// One answer where the carriers agree, else one each. The HTTP status is no disagreement.
fn merged(answers: &[(&str, Vec<Line>)]) -> String {
    let texts = |lines: &[Line]| lines.iter().map(Line::text).collect::<Vec<_>>();
    let without_http = |lines: &[Line]| {
        let lines = lines.iter().cloned().map(|line| match line {
            Line::Error { code, message, http: _ } => Line::Error { code, message, http: None },
            Line::Text(text) => Line::Text(text),
        });
        lines.collect::<Vec<_>>()
    };
    match answers {
        [(_, lines)] => texts(lines).join("\n"),
        [(_, first), (_, last)] if without_http(first) == without_http(last) => {
            texts(last).join("\n")
        }
        _ => {
            let each = answers.iter().flat_map(|(name, lines)| {
                texts(lines).into_iter().map(move |text| format!("{name}: {text}"))
            });
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("threads can be started"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(http: Option<u16>) -> Line {
        Line::Error { code: 5, message: "gone".to_owned(), http }
    }

    #[test]
    fn carriers_that_agree_speak_once_and_others_each() {
        let text = |text: &str| Line::Text(text.to_owned());
        let agreed = merged(&[("grpc", vec![error(None)]), ("gateway", vec![error(Some(404))])]);
        assert_eq!(agreed, "error NotFound(5) http 404: gone");
        let differing = merged(&[("grpc", vec![text("a")]), ("gateway", vec![text("b")])]);
        assert_eq!(differing, "grpc: a\ngateway: b");
    }

    #[test]
    fn the_mark_of_a_recording_is_written_once() {
        let once = marked("# over: grpc\n\nput a 1\n", "3.7.1");
        assert_eq!(once, "# over: grpc\n# recorded from etcd 3.7.1\n\nput a 1\n");
        assert_eq!(marked(&once, "3.7.1"), once);
        assert_eq!(marked("put a 1\n", "3.7.1"), "# recorded from etcd 3.7.1\n\nput a 1\n");
    }
}
