//! A copy of the sources to plant faults in: `target/faults`.
//!
//! It is made equal to the sources before each fault, file by file, and what is equal is not touched; so cargo
//! builds anew only what a fault, or the one before it, has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::fault::Fault;
use crate::root;

/// A crash or not, seeds are done in a minute on two cores.
const RUN_MAX: Duration = Duration::from_secs(300);
/// The first build is of everything.
const BUILD_MAX: Duration = Duration::from_secs(1200);

/// What is built often and run shortly: an answer is wanted soon.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

pub(super) struct Scratch {
    tree: PathBuf,
    /// What cargo builds.
    target: PathBuf,
}

/// How a program ended.
pub(super) enum End {
    Succeeded,
    Failed(String),
    TimedOut,
}

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let folder = root().join("target/faults");
        let tree = folder.join("tree");
        fs::create_dir_all(&tree)?;
        Ok(Self { tree, target: folder.join("target") })
    }

    /// Makes the copy equal to the sources but for this one fault.
    pub(super) fn plant(&self, fault: &Fault) -> Result<()> {
        let planted = fault.planted().with_context(|| fault.name.clone())?;
        let mut wanted = sources()?;
        for (path, text) in planted {
            wanted.insert(path, text.into_bytes());
        }
        remove_others(&self.tree, &self.tree, &wanted)?;
        for (path, data) in wanted {
            let path = self.tree.join(path);
            if fs::read(&path).ok().as_ref() != Some(&data) {
                fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
                fs::write(&path, data)?;
            }
        }
        Ok(())
    }

    /// Lives through seeds, up to the first that fails.
    pub(super) fn simulate(&self, seeds: u64) -> Result<End> {
        self.build(&["build", "--release", "-p", "sim"])?;
        let mut sim = Command::new(self.target.join("release/sim"));
        sim.args(["--no-shrink", "--seeds", &format!("0..{seeds}")]);
        self.run(sim, RUN_MAX)
    }

    /// Runs the tests that `words` name.
    pub(super) fn test(&self, words: &str) -> Result<End> {
        let words: Vec<&str> = words.split(' ').collect();
        self.build(&[&["test", "--release", "--no-run"], words.as_slice()].concat())?;
        self.run(self.cargo(&[&["test", "--release"], words.as_slice()].concat()), RUN_MAX)
    }

    fn build(&self, words: &[&str]) -> Result<()> {
        match self.run(self.cargo(words), BUILD_MAX)? {
            End::Succeeded => Ok(()),
            End::Failed(said) => {
                let why = said.lines().find(|line| line.starts_with("error")).unwrap_or(&said);
                bail!("it does not compile: {why}")
            }
            End::TimedOut => bail!("building takes too long"),
        }
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(words).envs(PROFILE).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    fn run(&self, mut command: Command, limit: Duration) -> Result<End> {
        let (mut reader, writer) = io::pipe()?;
        command.current_dir(&self.tree).stdin(Stdio::null());
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        // Its ends of the pipe go with it, or there would be no end to what is read.
        drop(command);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut said = Vec::new();
            let read = reader.read_to_end(&mut said).map(|_| said);
            // Nobody listens to what took too long.
            let _ = tell.send(read);
        });
        let Ok(said) = told.recv_timeout(limit) else {
            child.kill()?;
            child.wait()?;
            return Ok(End::TimedOut);
        };
        let said = String::from_utf8_lossy(&said?).into_owned();
        Ok(if child.wait()?.success() { End::Succeeded } else { End::Failed(said) })
    }
}

/// The sources as they lie here, committed or not.
fn sources() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.current_dir(root()).output().context("git")?;
    ensure!(output.status.success(), "git does not know the sources");
    let paths = String::from_utf8(output.stdout)?;
    let paths = paths.split_terminator('\0').filter(|path| root().join(path).is_file());
    paths.map(|path| Ok((path.into(), fs::read(root().join(path))?))).collect()
}

/// Removes from the copy what is no source any more.
fn remove_others(folder: &Path, tree: &Path, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(&path, tree, wanted)?;
        } else if !wanted.contains_key(path.strip_prefix(tree)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
