//! A few seeds with every test run; `cargo run --release -p sim -- --seeds A..B` lives through more.

use sim::{Plan, Summary};

const SEEDS: u64 = 24;

#[test]
fn a_few_seeds_break_no_promise_and_see_every_kind_of_fault() {
    let mut total = Summary::default();
    for seed in 0..SEEDS {
        total.add(&sim::run(&Plan::new(seed)));
    }
    assert_eq!(total.faults.len(), sim::Fault::ALL.len(), "{total}");
    assert!(total.answered > 100 * SEEDS, "{total}");
    assert!(total.snapshots > 0, "nobody was ever far behind: {total}");
    assert!(total.damage_found > 0, "no flipped bit was met: {total}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1000..1004 {
        assert_eq!(sim::run(&Plan::new(seed)), sim::run(&Plan::new(seed)));
    }
}
