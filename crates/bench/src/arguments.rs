//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;
use crate::load::{LOADS, Named, What};
use crate::process::{ALONE, Cast};

pub(crate) struct Arguments {
    pub(crate) loads: Vec<&'static Named>,
    pub(crate) window: Duration,
    pub(crate) rounds: usize,
    pub(crate) cast: Cast,
    pub(crate) retcd: Option<PathBuf>,
    pub(crate) etcd: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) write_docs: bool,
}

/// What was asked for.
pub(crate) enum Wish {
    Measure(Arguments),
    Help,
}

const ROUNDS_MAX: usize = 100;
const SECONDS_MAX: f64 = 600.0;
const MEMBERS_MAX: usize = 7;

impl Wish {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut wish = Arguments {
            loads: LOADS.iter().collect(),
            window: Duration::from_secs(3),
            rounds: 3,
            cast: ALONE,
            retcd: None,
            etcd: None,
            json: false,
            write_docs: false,
        };
        let mut args = args.flat_map(|arg| match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => {
                vec![flag.to_owned(), value.to_owned()]
            }
            _ => vec![arg],
        });
        while let Some(flag) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| Failure::Usage(format!("{flag} wants a value; see --help")))
            };
            match flag.as_str() {
                "--loads" => wish.loads = loads(&value()?)?,
                "--seconds" => {
                    let seconds = number(&flag, &value()?, 0.1, SECONDS_MAX)?;
                    wish.window = Duration::from_secs_f64(seconds);
                }
                "--rounds" => {
                    wish.rounds = number(&flag, &value()?, 1.0, ROUNDS_MAX as f64)? as usize;
                }
                "--members" => {
                    let members = number(&flag, &value()?, 1.0, MEMBERS_MAX as f64)?;
                    wish.cast.members = members as usize;
                }
                "--at" => wish.cast.follower = at(&value()?)?,
                "--retcd" => wish.retcd = Some(value()?.into()),
                "--etcd" => wish.etcd = Some(value()?.into()),
                "--json" => wish.json = true,
                "--write-docs" => wish.write_docs = true,
                "--help" | "-h" => return Ok(Self::Help),
                _ => return Err(Failure::Usage(format!("{flag} is no flag; see --help"))),
            }
        }
        if wish.cast != ALONE {
            wish.loads.retain(|load| matches!(load.what, What::Rate(_)));
        }
        if wish.cast.follower && wish.cast.members == 1 {
            return Err(Failure::Usage("one member has no follower".to_owned()));
        }
        Ok(Self::Measure(wish))
    }
}

fn at(who: &str) -> Result<bool, Failure> {
    match who {
        "leader" => Ok(false),
        "follower" => Ok(true),
        _ => Err(Failure::Usage("--at wants leader or follower".to_owned())),
    }
}

/// The loads of these names; `put` stands for all that begin with `put-`.
fn loads(names: &str) -> Result<Vec<&'static Named>, Failure> {
    if names == "all" {
        return Ok(LOADS.iter().collect());
    }
    let wanted = |load: &Named, name: &str| {
        let rest = load.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    for name in &names {
        if !LOADS.iter().any(|load| wanted(load, name)) {
            return Err(Failure::Usage(format!("{name:?} is no load; see --help")));
        }
    }
    Ok(LOADS.iter().filter(|load| names.iter().any(|name| wanted(load, name))).collect())
}

fn number(flag: &str, value: &str, min: f64, max: f64) -> Result<f64, Failure> {
    let number = value.parse().ok().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| Failure::Usage(format!("{flag} wants a number from {min} to {max}")))
}

pub(crate) fn help() -> String {
    let mut text = "\
bench: retcd beside Go etcd on the same loads, in turns.

  --loads NAME,…   which loads, or `all` (the default); `put` stands for every put-…
  --seconds N      how long each is counted, each time (3)
  --rounds N       how often, in turns; medians are told (3)
  --members N      how many members each server has, all on its core (1); then rates only are measured
  --at WHO         whether the leader is asked or a follower (leader)
  --retcd PATH     the retcd to measure (default: the one beside this executable)
  --etcd PATH      the etcd to measure (default: $RETCD_REFERENCE_ETCD, else it is built with Go)
  --json           print JSON, not tables
  --write-docs     put the tables into docs/benchmarks.md

Loads (connections × requests in flight on each):

"
    .to_owned();
    for load in LOADS {
        text.push_str(&format!("  {:<24}{}\n", load.name, load.doc));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        match Wish::parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Wish::Measure(arguments)) => Ok(arguments),
            Ok(Wish::Help) => Err("help".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn loads_are_chosen_by_name_or_by_beginning() {
        let names = |line| -> Vec<&str> {
            parse(line).expect("sound flags").loads.iter().map(|load| load.name).collect()
        };
        assert_eq!(names("--loads range100"), ["range100"]);
        assert_eq!(names("--loads=watch,put-1x1").len(), 4);
        assert_eq!(names("--loads all").len(), LOADS.len());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--at follower",
            "--members 9",
            "--loads nothing",
            "--seconds 0",
            "--rounds x",
            "--frobnicate",
            "--etcd",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
