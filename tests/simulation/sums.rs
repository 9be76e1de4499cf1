//! The arithmetic of sums: an event of `eps` holds how often each id came in a run of updates, and the next event of
//! the same stream goes on where it ended. How many updates share an event is a matter of time, and not judged.

use std::collections::BTreeMap;

use crate::receiver::Event;

/// How often each id came.
pub type Counts = BTreeMap<String, usize>;

/// The counts of an event, which is never about nothing.
pub fn counts_of(event: &Event) -> Result<Counts, String> {
    let counts: Result<Counts, _> = serde_json::from_str(&event.data);
    let counts = counts.map_err(|error| format!("{event:?} is no sum: {error}"))?;
    match counts.is_empty() || counts.values().any(|&count| count == 0) {
        true => Err(format!("{event:?} counts nothing")),
        false => Ok(counts),
    }
}

/// Where the run of updates ends that begins at `start` and that these sums are of, or what is wrong with the first
/// sum that does not go on with it.
pub fn end_of_run(sums: &[Counts], updates: &[&str], start: usize) -> Result<usize, String> {
    let mut at = start;
    for (number, came) in sums.iter().enumerate() {
        let total: usize = came.values().sum();
        let rest = &updates[at.min(updates.len())..];
        let mut expected = Counts::new();
        for update in rest.iter().take(total) {
            *expected.entry((*update).to_owned()).or_default() += 1;
        }
        if expected != *came {
            return Err(format!(
                "sum {number} of {}, from update {at} of {}\n  expected {expected:?}\n  came     {came:?}",
                sums.len(),
                updates.len()
            ));
        }
        at += total;
    }
    Ok(at)
}
