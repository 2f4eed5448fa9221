//! A failing run, made as short as it gets.
//!
//! Delta debugging: acts of the nemesis are left out, many at once at first and single ones in the end,
//! as long as the run fails in the same way. Then it is tried with fewer clients and a shorter life.

use std::collections::BTreeSet;

use crate::plan::Plan;

/// In which way a run failed: where it was noticed, and the sentence without its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict(String);

impl Verdict {
    pub fn new(place: &str, text: &str) -> Self {
        let sentence = text.lines().next().unwrap_or_default();
        let sentence = sentence.split('{').next().unwrap_or_default();
        let plain =
            |word| if str::contains(word, |c: char| c.is_ascii_digit()) { "#" } else { word };
        let words: Vec<&str> = sentence.split_whitespace().map(plain).collect();
        Self(format!("{place} {}", words.join(" ")))
    }

    /// As the process that lived through it said it.
    pub fn said(line: &str) -> Self {
        Self(line.to_owned())
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Lives for a run, in seconds, that are tried.
const LIVES: [u64; 5] = [1, 2, 4, 8, 16];

/// The smallest plan found of which `fails` holds. It holds of `plan`, in which the nemesis did `acts`.
pub fn shrink(mut plan: Plan, acts: &[u64], mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut acts = acts.to_vec();
    loop {
        let n_before = acts.len();
        acts = fewer(acts, |some| fails(&with_acts(&plan, some)));
        plan = with_acts(&plan, &acts);
        let clients =
            (0..plan.clients.unwrap_or(5)).map(|n| Plan { clients: Some(n), ..plan.clone() });
        plan = clients.into_iter().find(&mut fails).unwrap_or(plan);
        let longest = plan.heal.unwrap_or(u64::MAX);
        let lives = LIVES.into_iter().filter(|heal| *heal < longest);
        let shorter = lives.map(|heal| Plan { heal: Some(heal), ..plan.clone() }).find(&mut fails);
        plan = shorter.unwrap_or(plan);
        if acts.len() == n_before {
            return plan;
        }
    }
}

fn with_acts(plan: &Plan, acts: &[u64]) -> Plan {
    let only: BTreeSet<u64> = acts.iter().copied().collect();
    // A list says by itself which kinds are left out.
    Plan { only: Some(only), without: Vec::new(), ..plan.clone() }
}

/// Leaves out of `all` what is not needed for `fails` to hold.
fn fewer(mut all: Vec<u64>, mut fails: impl FnMut(&[u64]) -> bool) -> Vec<u64> {
    let mut n_parts = 1;
    while !all.is_empty() {
        let size = all.len().div_ceil(n_parts);
        let rest = |from: usize| [&all[..from], &all[all.len().min(from + size)..]].concat();
        let found = (0..all.len()).step_by(size).map(rest).find(|rest| fails(rest));
        match found {
            Some(rest) => {
                all = rest;
                n_parts = (n_parts - 1).max(2);
            }
            None if size == 1 => break,
            None => n_parts = (2 * n_parts).min(all.len()),
        }
    }
    all
}

#[cfg(test)]
mod tests;
