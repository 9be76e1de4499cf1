//! Decimal: exact decimal fractions. Values are integers in the smallest unit, because floating point would round.

use std::fmt;

/// Millionths: 17,000 of them are written as `0.017`.
pub struct Millionths(pub u64);

/// Thousandths: 17,000 of them are written as `17`.
pub struct Thousandths(pub u64);

impl fmt::Display for Millionths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(formatter, self.0, 6)
    }
}

impl fmt::Display for Thousandths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(formatter, self.0, 3)
    }
}

/// Writes a number with its last `places` digits after the point, without trailing zeros.
fn write(formatter: &mut fmt::Formatter<'_>, number: u64, mut places: u32) -> fmt::Result {
    let unit = 10_u64.pow(places);
    let (whole, mut fraction) = (number / unit, number % unit);
    if fraction == 0 {
        return write!(formatter, "{whole}");
    }
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        places -= 1;
    }
    write!(
        formatter,
        "{whole}.{fraction:0width$}",
        width = places as usize
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::stats::Histogram;

    #[test]
    fn numbers_are_exact_and_short() {
        let table = [
            (0, "0", "0"),
            (1, "0.000001", "0.001"),
            (100, "0.0001", "0.1"),
            (1_000, "0.001", "1"),
            (17_000, "0.017", "17"),
            (1_000_000, "1", "1000"),
            (1_000_010, "1.00001", "1000.01"),
            (10_100_000, "10.1", "10100"),
            (u64::MAX, "18446744073709.551615", "18446744073709551.615"),
        ];
        for (number, millionths, thousandths) in table {
            assert_eq!(Millionths(number).to_string(), millionths, "{number}");
            assert_eq!(Thousandths(number).to_string(), thousandths, "{number}");
        }
    }

    #[test]
    fn histogram_bounds_are_exact() {
        let seconds = Histogram::BOUNDS_US.map(|bound| Millionths(bound).to_string());
        let expected =
            "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.017 0.025 0.05 0.1 0.25 1 5";
        assert_eq!(seconds.join(" "), expected);
    }
}
