//! A histogram of times: fixed memory, and quantiles within 2 %.

/// Parts that each power of two is cut into.
const PARTS: u64 = 64;

/// Counts of nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Counts one time.
    pub fn add(&mut self, nanos: u64) {
        let place = place_of(nanos);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest of them.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time that this share of all does not exceed; 0 where nothing was counted.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return end_of(place).min(self.max);
            }
        }
        self.max
    }
}

/// Small times have a place each; above, each power of two has as many places as [`PARTS`].
fn place_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - PARTS.ilog2();
    let part = (nanos >> shift) - PARTS;
    (PARTS + u64::from(shift) * PARTS + part) as usize
}

/// The longest time that has this place.
fn end_of(place: usize) -> u64 {
    let place = place as u64;
    if place < PARTS {
        return place;
    }
    let shift = (place - PARTS) / PARTS;
    let part = (place - PARTS) % PARTS;
    ((PARTS + part + 1) << shift) - 1
}
