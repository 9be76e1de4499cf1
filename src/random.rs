//! Random: one small seeded generator (SplitMix64, Steele, Lea and Flood 2014), used for jitter, the demo and the
//! faults of the simulation, so that a seed reproduces a run. It must not be used for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A generator whose whole state is 64 bits.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that returns the same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero. The bias (below 2⁻³² for any bound used here) does not matter
    /// for jitter.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "the bound of a random number is zero");
        let wide = u128::from(self.next_u64()) * u128::from(bound.max(1));
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True once in `n` times on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A duration from `low` to `high`, both included, in steps of a microsecond.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let spread = high.saturating_sub(low).as_micros() as u64;
        low + Duration::from_micros(self.below(spread.saturating_add(1)))
    }
}

/// A seed that differs from process to process: it comes from the random keys of the standard library's maps.
pub fn process_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_repeats_and_bounds_hold() {
        let mut first = Random::new(7);
        let mut second = Random::new(7);
        for bound in 1..1_000 {
            let number = first.below(bound);
            assert_eq!(number, second.below(bound));
            assert!(number < bound);
        }
        let (low, high) = (Duration::from_millis(80), Duration::from_millis(100));
        for _ in 0..1_000 {
            let span = first.between(low, high);
            assert!(span >= low && span <= high);
        }
    }
}
