//! Histograms: how often something took how long, in buckets that never change. It owns the bounds; it must
//! not know what is measured.

use std::time::Duration;

/// Counts of durations, by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many durations were at most as long as the bound of the same place, and longer than the one
    /// before; the last place is for those beyond all bounds.
    counts: [u64; Histogram::BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Histogram {
    /// Upper bounds in microseconds. The finest is what a turn takes, one lies at the tick, and the coarsest
    /// is where somebody would call it an outage.
    pub const BOUNDS_US: [u64; 14] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 17_000, 25_000, 50_000, 100_000, 250_000,
        1_000_000, 5_000_000,
    ];

    /// Counts `times` durations of this length.
    pub fn observe(&mut self, duration: Duration, times: u64) {
        let micros = duration.as_micros() as u64;
        let bucket = Histogram::BOUNDS_US.partition_point(|&bound| bound < micros);
        self.counts[bucket] += times;
        self.sum_us += micros * times;
    }

    /// The counts, not summed up: one for each bound, and one for what is beyond.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All durations together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted since `earlier`, a former state of this histogram.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut since = self.clone();
        for (count, before) in since.counts.iter_mut().zip(earlier.counts) {
            *count -= before;
        }
        since.sum_us -= earlier.sum_us;
        since
    }

    /// The bound in microseconds below which this share of the durations lies; the largest bound where they
    /// go beyond all, and zero where there are none.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if wanted > 0 && seen >= wanted {
                let last = Histogram::BOUNDS_US.len() - 1;
                return Histogram::BOUNDS_US[bucket.min(last)];
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut histogram = Histogram::default();
        for (micros, times) in [(0, 1), (100, 2), (101, 3), (5_000_000, 1), (5_000_001, 1)] {
            histogram.observe(Duration::from_micros(micros), times);
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (3, 3, 1, 1));
        assert_eq!(histogram.total(), 8);
        assert_eq!(histogram.sum_us(), 200 + 303 + 10_000_001);
        let earlier = histogram.clone();
        histogram.observe(Duration::from_millis(3), 4);
        let since = histogram.since(&earlier);
        assert_eq!((since.total(), since.sum_us()), (4, 12_000));
        let quantiles = [0.0, 0.3, 0.5, 0.9, 1.0].map(|share| earlier.quantile_us(share));
        assert_eq!(quantiles, [0, 100, 250, 5_000_000, 5_000_000]);
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }
}
