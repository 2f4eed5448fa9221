//! Seeded generation: every random test replays from one number.
//!
//! [`each_seed`] runs a property for many seeds. A failing one names itself, and
//! `SEED=n cargo test name_of_the_test` runs that one alone. `SEEDS=n` runs more of them, and
//! `SEEDS=a..b` others.

use std::env;
use std::ops::{Range, RangeInclusive};
use std::panic::{self, AssertUnwindSafe};

/// How many seeds a property is tried with unless `SEEDS` says otherwise.
const SEEDS_DEFAULT: u64 = 256;

/// Runs `property` once per seed; the panic of a failing one is preceded by the line that replays it.
pub fn each_seed(property: impl FnMut(&mut Generator)) {
    each_seed_of(SEEDS_DEFAULT, property);
}

/// As [`each_seed`], for properties too slow for the usual number of seeds.
#[expect(clippy::print_stderr, reason = "the seed has to reach whoever reads the test's output")]
pub fn each_seed_of(seeds: u64, mut property: impl FnMut(&mut Generator)) {
    if let Ok(seed) = env::var("SEED") {
        return property(&mut Generator::new(number("SEED", &seed)));
    }
    for seed in env::var("SEEDS").map_or(0..seeds, |text| span(&text)) {
        let run = AssertUnwindSafe(|| property(&mut Generator::new(seed)));
        if let Err(failure) = panic::catch_unwind(run) {
            eprintln!("rerun with SEED={seed}");
            panic::resume_unwind(failure);
        }
    }
}

/// `n` for the first so many, or `a..b`.
fn span(text: &str) -> Range<u64> {
    let (start, end) = text.split_once("..").unwrap_or(("0", text));
    number("SEEDS", start)..number("SEEDS", end)
}

fn number(name: &str, text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{name}: {text} is not a number"))
}

/// A stream of pseudo-random choices that depends on its seed alone (xorshift64*, seeded by splitmix64).
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { state: (z ^ (z >> 31)) | 1 }
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing lies below 0");
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `range`, both ends included.
    pub fn int(&mut self, range: RangeInclusive<usize>) -> usize {
        let span = (range.end() - range.start()) as u64 + 1;
        range.start() + self.below(span) as usize
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Bytes, as many as some number in `length` (end excluded).
    pub fn bytes(&mut self, length: Range<usize>) -> Vec<u8> {
        self.vec(length, |g| g.number() as u8)
    }

    /// Items made by `make`, as many as some number in `length` (end excluded).
    pub fn vec<T>(&mut self, length: Range<usize>, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let n = self.int(length.start..=length.end - 1);
        (0..n).map(|_| make(self)).collect()
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.int(0..=i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let mut a = Generator::new(7);
        let mut b = Generator::new(7);
        assert_eq!(a.bytes(0..100), b.bytes(0..100));
        assert_ne!(Generator::new(1).number(), Generator::new(2).number());
    }

    #[test]
    fn seeds_are_so_many_or_from_one_to_another() {
        assert_eq!(span("12"), 0..12);
        assert_eq!(span("7..9"), 7..9);
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_both_ends() {
        let mut seen = [false; 3];
        each_seed(|g| seen[g.int(4..=6) - 4] = true);
        assert_eq!(seen, [true; 3]);
    }
}
