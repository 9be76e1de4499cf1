//! Figures: the results of one measurement, and their summary over several.

use std::collections::BTreeMap;

/// Numbers by name, and what was wrong.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The numbers.
    pub values: BTreeMap<&'static str, f64>,
    /// What contradicts the plan, or kept the measurement from being made.
    pub wrong: Vec<String>,
}

impl Figures {
    /// Adds a number, unless it came from a division by nothing.
    pub fn set(&mut self, name: &'static str, value: f64) {
        if value.is_finite() {
            self.values.insert(name, value);
        }
    }

    /// A number that was measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// The medians of several rounds, and all that was wrong in any.
    pub fn median(rounds: &[Figures]) -> Figures {
        let mut figures = Figures::default();
        let names = rounds.iter().flat_map(|round| round.values.keys());
        for &name in names {
            let values = rounds.iter().filter_map(|round| round.get(name));
            figures.set(name, median(values.collect()));
        }
        figures.wrong = rounds
            .iter()
            .flat_map(|round| round.wrong.clone())
            .collect();
        figures
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
