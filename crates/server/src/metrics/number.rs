//! Counters, gauges and histograms: atomics that no thread waits for.
//!
//! Everything here is relaxed: a scrape sees each number at some moment, not all at the same one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that comes and goes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    #[inline]
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Sets it to a size or an index; those beyond `i64` stay at its end.
    #[inline]
    pub fn set_unsigned(&self, n: u64) {
        self.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    pub fn set_bool(&self, yes: bool) {
        self.set(i64::from(yes));
    }

    #[inline]
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The most buckets a histogram has, the endless one not counted.
const BUCKETS_MAX: usize = 24;

/// Nanoseconds in a second, as a unit of display.
const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// Where the buckets of a histogram end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// Each bucket ends at twice the one before.
    Doubling { first: u64, n: usize },
    /// At these values, in order.
    Listed(&'static [u64]),
}

impl Bounds {
    fn len(self) -> usize {
        match self {
            Self::Doubling { n, .. } => n,
            Self::Listed(bounds) => bounds.len(),
        }
    }

    fn at(self, bucket: usize) -> u64 {
        match self {
            Self::Doubling { first, .. } => first << bucket,
            Self::Listed(bounds) => bounds[bucket],
        }
    }

    /// The first bucket that `value` is not above; `len` if there is none.
    #[inline]
    fn bucket_of(self, value: u64) -> usize {
        match self {
            // value ≤ first·2^k  ⟺  (value - 1) / first < 2^k
            Self::Doubling { first, n } => {
                let quotient = value.saturating_sub(1) / first;
                ((u64::BITS - quotient.leading_zeros()) as usize).min(n)
            }
            Self::Listed(bounds) => bounds.partition_point(|&bound| bound < value),
        }
    }
}

/// How a histogram counts and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    bounds: Bounds,
    /// How many of what is counted make one of what is shown.
    unit: u64,
}

/// Buckets that Go's client gives whoever names none: 5 ms to 10 s.
const USUAL: &[u64] = &[
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
];

impl Scale {
    /// Times, shown in seconds: `n` buckets from `first` on.
    pub const fn seconds(first: Duration, n: usize) -> Self {
        Self::of(first.as_nanos() as u64, n, SECOND)
    }

    /// Times, shown in milliseconds.
    pub const fn milliseconds(first: Duration, n: usize) -> Self {
        Self::of(first.as_nanos() as u64, n, MILLISECOND)
    }

    /// Whole numbers.
    pub const fn numbers(first: u64, n: usize) -> Self {
        Self::of(first, n, 1)
    }

    pub const USUAL_SECONDS: Self = Self { bounds: Bounds::Listed(USUAL), unit: SECOND };

    const fn of(first: u64, n: usize, unit: u64) -> Self {
        assert!(first > 0 && n <= BUCKETS_MAX && first.leading_zeros() as usize > n);
        Self { bounds: Bounds::Doubling { first, n }, unit }
    }
}

/// How often values fell into each bucket, and their sum.
#[derive(Debug)]
pub struct Histogram {
    scale: Scale,
    buckets: [AtomicU64; BUCKETS_MAX + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(scale: Scale) -> Self {
        Self { scale, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    #[inline]
    pub fn observe(&self, took: Duration) {
        self.observe_number(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a value in the scale's own unit: nanoseconds where it is a time.
    #[inline]
    pub fn observe_number(&self, value: u64) {
        self.observe_many(value, 1);
    }

    /// Counts the same value `n` times.
    #[inline]
    pub fn observe_many(&self, value: u64, n: u64) {
        self.buckets[self.scale.bounds.bucket_of(value)].fetch_add(n, Ordering::Relaxed);
        self.sum.fetch_add(value * n, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Each bucket's end, and how many values lie at or below it.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        (0..self.scale.bounds.len()).map(move |bucket| {
            below += self.buckets[bucket].load(Ordering::Relaxed);
            (self.shown(self.scale.bounds.at(bucket)), below)
        })
    }

    pub(super) fn sum(&self) -> f64 {
        self.shown(self.sum.load(Ordering::Relaxed))
    }

    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.scale.unit as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_it_is_not_above() {
        stdx::each_seed(|g| {
            let first = 1 + g.below(1_000_000);
            let n = g.int(1..=BUCKETS_MAX);
            let bounds = Bounds::Doubling { first, n };
            let near = (first << g.int(0..=n)) + g.below(3);
            let value = if g.chance(50) { near - 1 } else { g.number() >> g.below(64) };
            let expected = (0..n).find(|&k| value <= first << k).unwrap_or(n);
            assert_eq!(bounds.bucket_of(value), expected, "{value} of {bounds:?}");
        });
    }

    #[test]
    fn listed_bounds_end_their_own_buckets() {
        let histogram = Histogram::new(Scale::USUAL_SECONDS);
        for ms in [5, 6, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(ms));
        }
        let counts: Vec<_> = histogram.cumulated().map(|(_, n)| n).collect();
        assert_eq!(counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 20.012));
    }
}
