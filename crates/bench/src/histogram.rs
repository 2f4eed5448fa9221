//! A histogram of durations whose buckets grow with what they count.
//!
//! Each power of two is cut into equally many buckets, so that a bucket is never wider than 0.8 %
//! of what lies in it, be that a microsecond or a minute. Recording is an index and an addition.
//!
//! ```text
//!   0 1 2 … 127 │ 128 129 … 255 │ 256 258 … 510 │ 512 516 …          nanoseconds
//!   exact        │ width 1       │ width 2       │ width 4 …
//! ```
//!
//! # Invariants
//!
//! - What is recorded is never forgotten: the buckets add up to `count`.
//! - A quantile is off by less than 1 %, and never above `max`.   (property)

/// Buckets to a power of two, as a power of two.
const PRECISION: u32 = 7;
const PER_OCTAVE: usize = 1 << PRECISION;
const N_BUCKETS: usize = (64 - PRECISION as usize + 1) * PER_OCTAVE;

pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; N_BUCKETS], count: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What the given share of all records stay at or below; 0 if there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        assert!((0.0..=1.0).contains(&share), "a share lies between none and all");
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (n, counted) in self.buckets.iter().enumerate() {
            seen += counted;
            if seen >= wanted {
                return middle(n).min(self.max);
            }
        }
        0
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.max) = (0, 0);
    }
}

fn bucket(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(PRECISION + 1);
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let shift = (bucket / PER_OCTAVE).saturating_sub(1);
    let low = ((bucket - shift * PER_OCTAVE) as u64) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::each_seed;

    #[test]
    fn a_bucket_holds_its_middle_and_the_last_holds_the_greatest_number() {
        for n in 0..N_BUCKETS {
            assert_eq!(bucket(middle(n)), n);
        }
        assert_eq!(bucket(u64::MAX), N_BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        let empty = Histogram::new();
        assert_eq!((empty.quantile(0.5), empty.count()), (0, 0));
    }

    /// Against sorting all that was recorded.
    #[test]
    fn quantiles_are_within_one_percent_of_the_truth() {
        each_seed(|g| {
            let mut values = g.vec(1..500, |g| g.number() >> g.below(64));
            let mut histogram = Histogram::new();
            values.iter().for_each(|v| histogram.record(*v));
            values.sort_unstable();
            assert_eq!(histogram.count(), values.len() as u64);
            assert_eq!(Some(&histogram.max), values.last());
            for share in [0.0, 0.5, 0.99, 0.999, 1.0] {
                let at = ((values.len() as f64 * share).ceil() as usize).max(1) - 1;
                let (truth, said) = (values[at] as f64, histogram.quantile(share) as f64);
                assert!((truth - said).abs() <= truth * 0.01, "{truth} but {said}");
            }
        });
    }
}
