//! The histograms that openraft counts its batches in, in place of the published crate of this name.
//!
//! The published crate computes, before the first value is counted, the tables of sixteen scales, of which openraft uses
//! the third: 26 MB that every process holds for good. Here is what openraft calls, at that one scale, whose buckets
//! need no table. It can go once the published crate makes a scale's table when the scale is first used.
//!
//! ```text
//! value      0  1  2  3  4  5  6  7  8-9  10-11  12-13  14-15  16-19  20-23 ...
//! bucket     0  1  2  3  4  5  6  7  8    9      10     11     12     13
//! ```

use std::fmt;
use std::marker::PhantomData;

/// How many buckets a power of two is cut into.
const QUARTERS: u32 = 4;
/// Values below `QUARTERS` are a bucket each.
const QUARTERS_BITS: u32 = QUARTERS.ilog2();
const BUCKETS: usize = (QUARTERS * (u64::BITS - QUARTERS_BITS + 1)) as usize;

/// Counts of values by their size. `T` is what the published crate notes of a stretch of time, and nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    samples: u64,
    of: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            samples: 0,
            of: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that came `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[bucket(value)] += count;
        self.samples += count;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.samples
    }

    /// Where the values lie. A percentile is told as the least value of its bucket.
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |permille| self.at(permille);
        PercentileStats {
            samples: self.samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The least value of the bucket that so many thousandths of the values lie in or below; 0 without values.
    fn at(&self, permille: u64) -> u64 {
        let rank = u128::from(self.samples) * u128::from(permille);
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += u128::from(*count);
            if passed > 0 && passed * 1000 >= rank {
                return least_value(bucket);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    match value.checked_ilog2() {
        Some(power) if power >= QUARTERS_BITS => {
            let halvings = power - QUARTERS_BITS;
            // From QUARTERS to twice as many, without those halvings.
            let leading = (value >> halvings) as usize;
            (QUARTERS * halvings) as usize + leading
        }
        _ => value as usize,
    }
}

fn least_value(bucket: usize) -> u64 {
    let quarters = QUARTERS as usize;
    match (bucket / quarters).checked_sub(1) {
        Some(halvings) => ((bucket % quarters + quarters) as u64) << halvings,
        None => bucket as u64,
    }
}

/// Where the values of a histogram lie: a tenth percent of them is at or below `p0_1`, and so on.
#[expect(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples,
            p50,
            p90,
            p99,
            p99_9,
            ..
        } = self;
        write!(f, "n={samples} p50={p50} p90={p90} p99={p99} p99.9={p99_9}")
    }
}

/// Several histograms under their names, a line each when printed.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// One without histograms.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.series.iter().try_for_each(|(name, histogram)| {
            writeln!(f, "{name}: {}", histogram.percentile_stats())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_last_bucket_that_begins_at_or_below_it() {
        let values = (0..10_000).chain((0..64).flat_map(|power| {
            let value = 1u64 << power;
            [value - 1, value, value + value / 4, value + value / 2]
        }));
        for value in values.chain([u64::MAX]) {
            let found = bucket(value);
            assert!(least_value(found) <= value, "{value} in {found}");
            if found + 1 < BUCKETS {
                assert!(value < least_value(found + 1), "{value} in {found}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_told_as_the_least_value_of_their_bucket() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(3, 90);
        (0..9).for_each(|_| histogram.record(21));
        histogram.record(1000);
        let stats = histogram.percentile_stats();
        assert_eq!(histogram.total(), 100);
        let told = (stats.p0_1, stats.p50, stats.p90, stats.p99, stats.p99_9);
        assert_eq!(told, (3, 3, 3, 20, 896));
        let chart = AsciiChart::new().add("sizes", histogram);
        assert_eq!(
            chart.to_string(),
            "sizes: n=100 p50=3 p90=3 p99=20 p99.9=896\n"
        );
    }
}
