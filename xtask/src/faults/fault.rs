//! A fault, as it is written down: what it is, and the lines that stand in place of others.
//!
//! ```text
//! an older term's entry is committed by counting       ← what it is, on one line
//! source: the paper, figure 8                          ← or `-`
//! seeds: 1000                                          ← how many it may outlive at most; 500 by itself
//! test: -p sim famous                                  ← what kills it instead, as words after `cargo test`
//!
//! crates/raft/src/node/leader.rs                       ← a place; there may be more, also in one file
//!  if core.log.commit() < reached                      ← as it is
//! -    && core.log.term_at(reached) == Some(core.term)  ← goes
//! +    && true                                         ← comes
//! ```
//!
//! The lines that stay and go are looked for together and must be there exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::root;

pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) source: String,
    pub(crate) seeds: u64,
    pub(crate) test: Option<String>,
    places: Vec<Place>,
}

struct Place {
    path: PathBuf,
    /// Whole lines, of which the first begins with the end of the one before.
    old: String,
    new: String,
}

/// Faults that don't say otherwise have as many seeds as continuous integration runs.
const SEEDS: u64 = 500;

/// All there are, by name.
pub(crate) fn all() -> Result<Vec<Fault>> {
    let folder = root().join("crates/sim/faults");
    let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| Fault::read(path).with_context(|| path.display().to_string())).collect()
}

impl Fault {
    fn read(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &fs::read_to_string(path)?)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\n\n").context("an empty line before the places")?;
        let mut lines = head.lines();
        let what = lines.next().unwrap_or_default().to_owned();
        let (mut source, mut seeds, mut test) = (None, SEEDS, None);
        for line in lines {
            match line.split_once(": ").context("a head is `key: value`")? {
                ("source", value) => source = Some(value.to_owned()),
                ("seeds", value) => seeds = value.parse()?,
                ("test", value) => test = Some(value.to_owned()),
                (key, _) => bail!("{key} is not known"),
            }
        }
        let source = source.context("no source")?;
        let places = places(body)?;
        Ok(Self { name: name.to_owned(), what, source, seeds, test, places })
    }

    /// The files it touches, as they are with it.
    pub(crate) fn planted(&self) -> Result<BTreeMap<PathBuf, String>> {
        let mut files = BTreeMap::new();
        for Place { path, old, new } in &self.places {
            let text = match files.remove(path) {
                Some(text) => text,
                None => format!("\n{}", fs::read_to_string(root().join(path))?),
            };
            let n = text.matches(old.as_str()).count();
            ensure!(n == 1, "{}: its text is there {n} times:{old}", path.display());
            files.insert(path.clone(), text.replacen(old, new, 1));
        }
        let without_first = |(path, text): (PathBuf, String)| (path, text[1..].to_owned());
        Ok(files.into_iter().map(without_first).collect())
    }
}

fn places(body: &str) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    for line in body.lines().filter(|line| !line.is_empty()) {
        let (sign, rest) = line.split_at(line.ceil_char_boundary(1));
        let Some(place) = places.last_mut().filter(|_| [" ", "-", "+"].contains(&sign)) else {
            let (old, new) = ("\n".to_owned(), "\n".to_owned());
            places.push(Place { path: line.into(), old, new });
            continue;
        };
        for (text, other) in [(&mut place.old, "+"), (&mut place.new, "-")] {
            if sign != other {
                text.push_str(rest);
                text.push('\n');
            }
        }
    }
    let changes = |place: &Place| place.old.len() > 1 && place.old != place.new;
    ensure!(!places.is_empty() && places.iter().all(changes), "a place where nothing changes");
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::{Fault, all};

    #[test]
    fn every_fault_has_its_place_in_the_code_as_it_is() {
        let faults = all().expect("faults");
        let lost = |fault: &Fault| Some(format!("{}: {:#}", fault.name, fault.planted().err()?));
        let lost: Vec<String> = faults.iter().filter_map(lost).collect();
        assert!(lost.is_empty(), "mend what stands in crates/sim/faults:\n{}", lost.join("\n"));
    }

    #[test]
    fn every_fault_stands_in_the_table_of_kills_and_no_other() {
        let path = crate::root().join("docs/consistency.md");
        let text = std::fs::read_to_string(path).expect("the table");
        let rows = text.lines().skip_while(|line| !line.starts_with("| fault | what |")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let mut told: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        told.sort_unstable();
        let faults = all().expect("faults");
        let known: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
        assert_eq!(told, known);
    }

    #[test]
    fn a_fault_names_what_goes_and_what_comes() {
        let text = "what it is\nsource: here\nseeds: 7\n\nCargo.toml\n [workspace]\n-resolver = \"3\"\n+resolver = \"2\"\n";
        let fault = Fault::parse("name", text).expect("a fault");
        assert_eq!(
            (fault.what.as_str(), fault.source.as_str(), fault.seeds),
            ("what it is", "here", 7)
        );
        let files = fault.planted().expect("its place");
        let (path, text) = files.first_key_value().expect("a file");
        assert_eq!(path.as_os_str(), "Cargo.toml");
        assert!(text.starts_with("[workspace]\nresolver = \"2\"\n"), "{text}");
    }

    #[test]
    fn a_fault_without_a_change_is_refused() {
        for body in ["", "Cargo.toml\n", "Cargo.toml\n [workspace]\n", "Cargo.toml\n+new\n"] {
            let parsed = Fault::parse("name", &format!("what\nsource: -\n\n{body}"));
            assert!(parsed.is_err(), "{body}");
        }
    }
}
