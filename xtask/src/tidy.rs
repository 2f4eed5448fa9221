//! Tidiness that no compiler checks, run as a test of this crate.
//!
//! Each rule is a function over the tracked sources. A file that breaks one is named with its
//! line; there is no list of exceptions to grow.

use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

const FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 80;

struct Source {
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", "generated", "node_modules"].contains(&name) {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            found.push(Source { path, text });
        }
    }
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn files_stay_short() {
    let long = |s: &Source| {
        let lines = s.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines}", s.path.display()))
    };
    let broken: Vec<String> = sources().iter().filter_map(long).collect();
    report("files have at most 1000 lines", &broken);
}

#[test]
fn functions_stay_short() {
    let mut broken = Vec::new();
    for source in sources() {
        let mut start: Option<(usize, usize)> = None;
        for (n, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if start.is_none() && head.starts_with("fn ") && !line.ends_with(';') {
                start = Some((n, indent));
            } else if let Some((first, depth)) = start
                && (line.trim() == "}" && indent == depth || line.ends_with('}') && n == first)
            {
                if n - first > FUNCTION_LINES_MAX {
                    broken.push(format!("{}:{}: {}", source.path.display(), first + 1, n - first));
                }
                start = None;
            }
        }
    }
    report("functions have at most 80 lines", &broken);
}

#[test]
fn modules_open_with_a_chapter() {
    // The tests of a module are part of its chapter.
    let bare = |s: &&Source| !s.text.starts_with("//!") && !s.path.ends_with("tests.rs");
    let broken: Vec<String> =
        sources().iter().filter(bare).map(|s| s.path.display().to_string()).collect();
    report("a file begins with what it is about", &broken);
}

#[test]
fn the_core_knows_no_clock_no_socket_and_no_executor() {
    let banned = ["tokio", "std::net", "Instant::now", "SystemTime", "std::fs", "thread::spawn"];
    let mut broken = Vec::new();
    for source in sources() {
        let path = source.path.strip_prefix(root()).expect("below the root");
        let core =
            ["crates/raft/src", "crates/state/src"].iter().any(|core| path.starts_with(core));
        let product = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in banned.iter().filter(|word| core && product.contains(**word)) {
            broken.push(format!("{}: {word}", path.display()));
        }
    }
    report("time, files and sockets reach the core through its inputs", &broken);
}

#[test]
fn only_the_real_disk_is_unsafe() {
    let mut broken = Vec::new();
    for source in sources() {
        let disk = source.path.to_string_lossy().contains("storage/src/disk");
        let code = source.text.lines().any(|l| l.contains("unsafe {") || l.contains("unsafe impl"));
        if code && !disk && !source.path.ends_with("tidy.rs") {
            broken.push(source.path.display().to_string());
        }
    }
    report("unsafe code lives in storage/src/disk", &broken);
}
