//! Given: the text of an option and the name of its flag or variable, and parsers for the common kinds of values. It
//! owns the wording of errors; it must not know what an option is for, and must never show a secret.

use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::Misuse;
use crate::http::authorization::Secret;
use crate::limits::SECRET_BYTES_MAX;

/// The text given for an option.
#[derive(Clone, Default)]
pub(super) struct Given {
    /// The flag or variable that it comes from.
    pub(super) name: String,
    pub(super) value: String,
}

impl Given {
    pub(super) fn new(name: &str, value: OsString) -> Result<Given, Misuse> {
        let refused = |_| Misuse(format!("{name}: the value is not UTF-8: use plain text"));
        let (name, value) = (name.to_owned(), value.into_string().map_err(refused)?);
        Ok(Given { name, value })
    }

    pub(super) fn boolean(&self) -> Result<bool, Misuse> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "0" => Ok(false),
            _ => Err(self.is_not("a boolean: use true, t, yes, y, 1 or false, f, no, n, 0")),
        }
    }

    pub(super) fn number<N>(&self, allowed: RangeInclusive<N>) -> Result<N, Misuse>
    where
        N: FromStr + PartialOrd + fmt::Display,
    {
        let number = digits(&self.value).filter(|number| allowed.contains(number));
        let (least, most) = allowed.into_inner();
        number.ok_or_else(|| self.is_not(&format!("a number from {least} to {most}")))
    }

    pub(super) fn seconds(&self, allowed: RangeInclusive<u64>) -> Result<Duration, Misuse> {
        self.number(allowed).map(Duration::from_secs)
    }

    /// A size in bytes, KiB or MiB.
    pub(super) fn bytes(&self, allowed: RangeInclusive<usize>) -> Result<usize, Misuse> {
        let typed = self.value.to_ascii_lowercase();
        let unit_start = typed.find(|letter: char| !letter.is_ascii_digit());
        let (count, unit) = typed.split_at(unit_start.unwrap_or(typed.len()));
        let size = digits::<usize>(count).and_then(|count| match unit {
            "" => Some(count),
            "k" | "kb" | "kib" => count.checked_mul(1 << 10),
            "m" | "mb" | "mib" => count.checked_mul(1 << 20),
            _ => None,
        });
        let size = size.filter(|size| allowed.contains(size));
        let (least, most) = allowed.into_inner();
        let forms = format!("a size from {least} to {most} bytes, such as 512k or 4MiB");
        size.ok_or_else(|| self.is_not(&forms))
    }

    /// One of these, by name in any case.
    pub(super) fn choice<T: Copy + fmt::Display>(&self, choices: &[T]) -> Result<T, Misuse> {
        let names: Vec<String> = choices.iter().map(ToString::to_string).collect();
        let typed = self.value.to_ascii_lowercase();
        let chosen = names.iter().position(|name| *name == typed);
        let refused = || self.is_not(&format!("one of {}", names.join(", ")));
        chosen.map(|index| choices[index]).ok_or_else(refused)
    }

    pub(super) fn secret(&self) -> Result<Secret, Misuse> {
        Secret::new(&self.value).ok_or_else(|| {
            self.refuse_secret(&format!(
                "1 to {SECRET_BYTES_MAX} ASCII letters, digits and punctuation marks, without spaces"
            ))
        })
    }

    /// The entries of a comma-separated list.
    pub(super) fn entries(&self) -> impl Iterator<Item = &str> {
        self.value.split(',').map(str::trim)
    }

    /// What the entries of a list stand for, at most `max` of them and without duplicates. `parse` returns what one
    /// entry stands for, or why it is refused.
    pub(super) fn list<T: PartialEq>(
        &self,
        max: usize,
        noun: &str,
        parse: impl Fn(&str) -> Result<Vec<T>, String>,
    ) -> Result<Vec<T>, Misuse> {
        let mut items = Vec::new();
        for entry in self.entries() {
            let refused = |reason: String| self.refuse(&format!("{entry:?} {reason}"));
            for item in parse(entry).map_err(refused)? {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        match items.len() {
            found if found > max => {
                Err(self.refuse(&format!("{found} {noun} are too many: use {max} at most")))
            }
            _ => Ok(items),
        }
    }

    pub(super) fn is_not(&self, forms: &str) -> Misuse {
        self.refuse(&format!("{:?} is not {forms}", self.value))
    }

    /// An error that does not show the value.
    pub(super) fn refuse_secret(&self, forms: &str) -> Misuse {
        self.refuse(&format!(
            "the value (not shown, it is a secret) is invalid: use {forms}"
        ))
    }

    pub(super) fn refuse(&self, reason: &str) -> Misuse {
        Misuse(format!("{}: {reason}", self.name))
    }
}

/// A number that consists of digits only: the standard parser also accepts a plus sign.
pub(super) fn digits<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::super::table::flag_of;
    use super::super::tests::{command, config, misuse};

    #[test]
    fn booleans_in_all_spellings() {
        let raw = |value: &str| command(&[], &[("ENABLE_RAW_STREAM", value)]);
        for (spellings, expected) in [
            ("true t yes y 1 TRUE Yes", true),
            ("false f no n 0 FALSE No", false),
        ] {
            for spelling in spellings.split(' ') {
                let config = config(&[], &[("ENABLE_RAW_STREAM", spelling)]);
                assert_eq!(config.server.streams.raw_enabled, expected, "{spelling}");
            }
        }
        for bad in ["on", "off", "2", " true", "truee", "-1"] {
            let expected = format!(
                "ENABLE_RAW_STREAM: {bad:?} is not a boolean: use true, t, yes, y, 1 or false, f, no, n, 0"
            );
            assert_eq!(raw(bad).err(), Some(expected));
        }
    }

    #[test]
    fn the_error_for_a_bad_number_names_the_range() {
        #[rustfmt::skip]
        let table: &[(&str, &[&str], &str)] = &[
            ("PORT", &["80a", "-1", "+1", " 1", "1 ", "65536", "99999999999999999999999", "0x1", "1.0"],
                "a number from 0 to 65535"),
            ("DEMO_RATE", &["0", "100001", "-5", "many"], "a number from 1 to 100000"),
            ("DEMO_SEED", &["-1", "x", "18446744073709551616"],
                "a number from 0 to 18446744073709551615"),
            ("SSE_SCORE_RETRY_MS", &["3600001", "1s", "-1"],
                "a number from 0 to 3600000"),
            ("SSE_DETAIL_RETRY_MS", &["3600001", "1s", "-1"],
                "a number from 0 to 3600000"),
            ("SSE_RECONNECT_MS", &["3600001", "1s", "-1"],
                "a number from 0 to 3600000"),
            ("STATUS_CONNECTIONS_MAX", &["-1", "1251", "all"],
                "a number from 0 to 1250"),
            ("REPLAY_SEC", &["-1", "3601", "8s"], "a number from 0 to 3600"),
            ("CHANNEL_STATS_MAX", &["-1", "10001", "all"],
                "a number from 0 to 10000"),
            ("KEEPALIVE_SEC", &["0", "51", "15s"], "a number from 1 to 50"),
            ("LOG_BYTES_MAX", &["262143", "1073741825", "0", "k", "4 m", "4g", "-4m", "4mm", "4é",
                "255k", "1025m", "99999999999999999999m", "18014398509481984k"],
                "a size from 262144 to 1073741824 bytes, such as 512k or 4MiB"),
        ];
        for (variable, values, allowed) in table {
            for value in *values {
                let flag = flag_of(variable);
                let joined = format!("{flag}={value}");
                let refused = format!("{value:?} is not {allowed}");
                assert_eq!(
                    misuse(&[], &[(variable, value)]),
                    format!("{variable}: {refused}")
                );
                assert_eq!(misuse(&[&joined], &[]), format!("{flag}: {refused}"));
            }
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        let table = [
            ("262144", 262_144),
            ("1073741824", 1 << 30),
            ("256k", 262_144),
            ("512KB", 524_288),
            ("512KiB", 524_288),
            ("4m", 4_194_304),
            ("4Mb", 4_194_304),
            ("1024mib", 1 << 30),
        ];
        for (typed, expected) in table {
            let config = config(&[], &[("LOG_BYTES_MAX", typed)]);
            assert_eq!(config.server.pacing.log_bytes_max, expected, "{typed}");
        }
    }
}
