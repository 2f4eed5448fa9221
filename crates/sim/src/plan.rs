//! What is lived through: a seed, and what of it is left out.
//!
//! A plan is written as the words that `sim` takes, so what it prints replays it.

use std::collections::BTreeSet;
use std::fmt;

use crate::nemesis::Fault;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Kinds of faults that are left out.
    pub without: Vec<Fault>,
    /// If given, the only acts of the nemesis.
    pub only: Option<BTreeSet<u64>>,
    /// If given, how many clients there are at most.
    pub clients: Option<usize>,
    /// If given, after how many seconds all is healed at the latest.
    pub heal: Option<u64>,
}

impl Plan {
    /// All that the seed decides.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn allows(&self, number: u64, fault: Fault) -> bool {
        let is_listed = self.only.as_ref().is_none_or(|only| only.contains(&number));
        is_listed && !self.without.contains(&fault)
    }

    /// Takes a word and its value, if it is about what is left out.
    ///
    /// # Errors
    ///
    /// A sentence, if the value makes no sense.
    pub fn take(&mut self, word: &str, value: &str) -> Result<(), String> {
        match word {
            "--without" => self.without = list(value)?,
            "--only" => self.only = Some(list(value)?),
            "--clients" => self.clients = Some(number(value)?),
            "--heal" => self.heal = Some(number(value)?),
            other => return Err(format!("{other} is unknown")),
        }
        Ok(())
    }

    /// As `sim` takes it.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["--seed".to_owned(), self.seed.to_string()];
        let mut say = |word: &str, value: String| words.extend([word.to_owned(), value]);
        if !self.without.is_empty() {
            say("--without", joined(&self.without));
        }
        if let Some(only) = &self.only {
            say("--only", joined(only));
        }
        if let Some(clients) = self.clients {
            say("--clients", clients.to_string());
        }
        if let Some(heal) = self.heal {
            say("--heal", heal.to_string());
        }
        words
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

/// The word `none` is the list of nothing.
const NONE: &str = "none";

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { NONE.to_owned() } else { items.join(",") }
}

fn list<T: std::str::FromStr, C: FromIterator<T>>(text: &str) -> Result<C, String> {
    let items = text.split(',').filter(|item| *item != NONE);
    items.map(|item| item.parse().map_err(|_| format!("{item} is not in any list"))).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_what_its_words_say() {
        let plans = [
            Plan::new(7),
            Plan { without: vec![Fault::Kill, Fault::Pause], ..Plan::new(1) },
            Plan { only: Some(BTreeSet::new()), ..Plan::new(2) },
            Plan {
                only: Some(BTreeSet::from([3, 17])),
                clients: Some(1),
                heal: Some(4),
                ..Plan::new(3)
            },
        ];
        for plan in plans {
            let words = plan.words();
            let mut told = Plan::new(words[1].parse().expect("a seed"));
            for pair in words[2..].chunks(2) {
                told.take(&pair[0], &pair[1]).expect("its own words");
            }
            assert_eq!(told, plan);
        }
    }

    #[test]
    fn words_that_make_no_sense_are_refused() {
        for (word, value) in [("--only", "3,x"), ("--without", "fire"), ("--seed", "1")] {
            assert!(Plan::new(1).take(word, value).is_err(), "{word} {value}");
        }
    }
}
