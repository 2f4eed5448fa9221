//! A failure that is planted by a judge of the test's own, found again in a run of a few acts.

use std::panic::{self, AssertUnwindSafe};

use super::*;
use crate::trace;
use crate::world::{SECOND, World};

/// What must not be here: that two machines are down at once, 10 s after the beginning or later.
fn judge(world: &World) {
    let down = world.hosts.iter().filter(|host| host.process.is_none()).count();
    assert!(world.now < 10 * SECOND || down < 2, "{down} members are down at once");
}

/// The verdict, and the trace that led to it.
fn live(plan: &Plan) -> Option<(Verdict, Vec<String>)> {
    trace::clear();
    let world = World::new(plan.clone());
    let end = panic::catch_unwind(AssertUnwindSafe(|| world.run(judge))).err()?;
    let text = end.downcast_ref::<String>().map_or("", String::as_str);
    Some((Verdict::new("", text), trace::last()))
}

#[test]
fn a_planted_failure_is_shrunk_to_a_few_acts_that_replay_it() {
    let (mut n_shrunk, mut n_acts) = (0, 0);
    for seed in 0..8 {
        let plan = Plan::new(seed);
        let Some((verdict, _)) = live(&plan) else { continue };
        let acts = trace::acts();
        let fails = |plan: &Plan| live(plan).is_some_and(|(other, _)| other == verdict);
        let small = shrink(plan, &acts, fails);
        let left = small.only.as_ref().expect("a list").len();
        assert!(left <= 3, "seed {seed}: {left} acts are left of {}: {small}", acts.len());
        let (again, last) = live(&small).expect("it still fails");
        assert_eq!(again, verdict);
        assert_eq!(live(&small), Some((again, last)), "it does not replay");
        n_shrunk += 1;
        n_acts += acts.len();
    }
    assert!(n_shrunk > 2 && n_acts > 10 * n_shrunk, "{n_shrunk} runs of {n_acts} acts");
}

#[test]
fn nothing_is_left_but_what_is_needed() {
    stdx::generate::each_seed(|g| {
        let all: Vec<u64> = (1..=1 + g.below(60)).collect();
        let needed: Vec<u64> = all.iter().copied().filter(|_| g.chance(5)).collect();
        let found = fewer(all, |some| needed.iter().all(|act| some.contains(act)));
        assert_eq!(found, needed);
    });
}

#[test]
fn clients_and_time_are_left_out_as_well() {
    let fails = |plan: &Plan| {
        let needs = |act| plan.only.as_ref().is_none_or(|only| only.contains(&act));
        needs(4) && needs(9) && plan.clients.unwrap_or(5) >= 2 && plan.heal.unwrap_or(99) > 2
    };
    let acts: Vec<u64> = (1..30).collect();
    let small = shrink(Plan::new(1), &acts, fails);
    assert_eq!(small.to_string(), "--seed 1 --only 4,9 --clients 2 --heal 4");
}

#[test]
fn a_verdict_has_no_numbers_and_keeps_places_apart() {
    let verdict = |text| Verdict::new("oracle.rs:99", text);
    assert_eq!(verdict("two leaders in term 7"), verdict("two leaders in term 12"));
    assert_ne!(verdict("two leaders in term 7"), verdict("logs do not match: 3@2"));
    assert_ne!(verdict("two leaders in term 7"), Verdict::new("", "two leaders in term 7"));
}
