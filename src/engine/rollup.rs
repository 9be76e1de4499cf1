//! The rollup: the counts of one tick become one frame, and the frames of several ticks become one. It
//! owns counting and the JSON of counts; it must not know ticks' times or who receives them.

use std::collections::HashMap;
use std::io::Write;

use crate::limits::{ROLLUP_BYTES_MAX, ROLLUP_KEY_BYTES_MAX, ROLLUP_KEYS_MAX};

/// Why an update was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountError {
    /// The key is longer than [`ROLLUP_KEY_BYTES_MAX`].
    KeyTooLong,
    /// There are [`ROLLUP_KEYS_MAX`] different keys, or [`ROLLUP_BYTES_MAX`] bytes of them: send what is
    /// counted, then count again.
    Full,
}

/// Counts by key, in the order in which keys first came.
#[derive(Default)]
pub struct Rollup {
    /// Keys as they stand in JSON, between the quotes. The table outlives ticks, so that a known key is
    /// counted without an allocation.
    names: Vec<Box<[u8]>>,
    indices: HashMap<Box<[u8]>, u32>,
    tick: Counts,
    /// What the tick will take as JSON, at most.
    tick_bytes: usize,
    sum: Counts,
}

#[derive(Default)]
struct Counts {
    /// One count for each name; zero where the name is not in `touched`.
    counts: Vec<u64>,
    touched: Vec<u32>,
}

impl Rollup {
    /// Counts one update of `key`, which is valid UTF-8.
    ///
    /// # Errors
    /// Any [`CountError`]; nothing was counted.
    pub fn count(&mut self, key: &[u8]) -> Result<(), CountError> {
        if key.len() > ROLLUP_KEY_BYTES_MAX {
            return Err(CountError::KeyTooLong);
        }
        let index = if needs_escape(key) {
            let text = serde_json::Value::from(String::from_utf8_lossy(key)).to_string();
            self.index_of(&text.as_bytes()[1..text.len() - 1])
        } else {
            self.index_of(key)
        };
        let index = index.ok_or(CountError::Full)?;
        if self.tick.is_new(index) {
            // Beside the name: quotes, colon, comma, and the digits of any count.
            let len = self.names[index as usize].len() + 24;
            if self.tick_bytes + len > ROLLUP_BYTES_MAX {
                return Err(CountError::Full);
            }
            self.tick_bytes += len;
        }
        self.tick.add(index, 1);
        Ok(())
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.tick.touched.is_empty()
    }

    /// Appends what was counted as a JSON object and starts over. Nothing is appended for nothing.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        if !self.tick.touched.is_empty() {
            self.tick.drain(&self.names, out);
        }
        self.tick_bytes = 0;
        // A client of the broker could invent keys for ever; between ticks nobody needs the table.
        if self.names.len() >= ROLLUP_KEYS_MAX {
            self.names.clear();
            self.indices.clear();
            self.tick = Counts::default();
            self.sum = Counts::default();
        }
    }

    /// Appends the sum of several objects that [`Rollup::take`] made. The same objects give the same
    /// bytes, on which resuming after a partial write relies.
    pub fn sum<'a>(&mut self, objects: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        for object in objects {
            for (name, count) in pairs(object) {
                // Sums may exceed the table's bound by what one log holds; they are rare and short-lived.
                let index = match self.indices.get(name) {
                    Some(&index) => index,
                    None => self.insert(name),
                };
                self.sum.add(index, count);
            }
        }
        if !self.sum.touched.is_empty() {
            self.sum.drain(&self.names, out);
        }
    }

    fn index_of(&mut self, name: &[u8]) -> Option<u32> {
        match self.indices.get(name) {
            Some(&index) => Some(index),
            None if self.names.len() >= ROLLUP_KEYS_MAX => None,
            None => Some(self.insert(name)),
        }
    }

    fn insert(&mut self, name: &[u8]) -> u32 {
        let index = self.names.len() as u32;
        self.names.push(name.into());
        self.indices.insert(name.into(), index);
        index
    }
}

impl Counts {
    fn is_new(&self, index: u32) -> bool {
        self.counts
            .get(index as usize)
            .is_none_or(|&count| count == 0)
    }

    fn add(&mut self, index: u32, count: u64) {
        let place = index as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        if self.counts[place] == 0 {
            self.touched.push(index);
        }
        self.counts[place] += count;
    }

    /// Appends the object and clears the counts.
    fn drain(&mut self, names: &[Box<[u8]>], out: &mut Vec<u8>) {
        let mut separator = b'{';
        for index in self.touched.drain(..) {
            let place = index as usize;
            out.extend_from_slice(&[separator, b'"']);
            out.extend_from_slice(&names[place]);
            let _infallible = write!(out, "\":{}", self.counts[place]);
            self.counts[place] = 0;
            separator = b',';
        }
        out.push(b'}');
    }
}

fn needs_escape(key: &[u8]) -> bool {
    key.iter()
        .any(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
}

/// The pairs of an object that this module wrote: names as they stand in JSON, and counts.
fn pairs(object: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    let mut rest = object;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&byte| byte == b'"')? + 1;
        let mut end = start;
        while *rest.get(end)? != b'"' {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let digits = rest.get(end + 2..)?;
        let len = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let count = digits[..len]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let name = &rest[start..end];
        rest = &digits[len..];
        Some((name, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(rollup: &mut Rollup, keys: &[&str]) -> String {
        for key in keys {
            rollup.count(key.as_bytes()).unwrap();
        }
        let mut out = Vec::new();
        rollup.take(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ticks_become_objects_and_objects_become_sums() {
        let mut rollup = Rollup::default();
        let first = tick(&mut rollup, &["1F4C2", "2665", "1F4C2"]);
        assert_eq!(first, r#"{"1F4C2":2,"2665":1}"#);
        assert_eq!(tick(&mut rollup, &[]), "");
        let second = tick(&mut rollup, &["2665", "A\"\\\n", "\u{2764}", ""]);
        assert_eq!(
            second,
            "{\"2665\":1,\"A\\\"\\\\\\n\":1,\"\u{2764}\":1,\"\":1}"
        );
        for _ in 0..2 {
            let mut out = Vec::new();
            let objects = [&first, &second, &first].map(String::as_bytes);
            rollup.sum(objects.into_iter(), &mut out);
            let expected = "{\"1F4C2\":4,\"2665\":3,\"A\\\"\\\\\\n\":1,\"\u{2764}\":1,\"\":1}";
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_sum_does_not_disturb_the_tick_that_is_being_counted() {
        let mut rollup = Rollup::default();
        rollup.count(b"A").unwrap();
        let mut out = Vec::new();
        rollup.sum([&br#"{"A":5,"B":1}"#[..]].into_iter(), &mut out);
        assert_eq!(out, br#"{"A":5,"B":1}"#);
        assert_eq!(tick(&mut rollup, &["A"]), r#"{"A":2}"#);
    }

    #[test]
    fn keys_are_bounded_in_length_and_number() {
        let mut rollup = Rollup::default();
        let long = vec![b'A'; ROLLUP_KEY_BYTES_MAX + 1];
        assert_eq!(rollup.count(&long), Err(CountError::KeyTooLong));
        let mut ticks = 0;
        for number in 0..ROLLUP_KEYS_MAX {
            let key = number.to_string();
            if rollup.count(key.as_bytes()) == Err(CountError::Full) {
                let mut out = Vec::new();
                rollup.take(&mut out);
                assert!((ROLLUP_BYTES_MAX / 8..=ROLLUP_BYTES_MAX).contains(&out.len()));
                assert!(serde_json::from_slice::<HashMap<String, u64>>(&out).is_ok());
                assert_eq!(rollup.count(key.as_bytes()), Ok(()));
                ticks += 1;
            }
        }
        assert!(ticks > 1, "a tick is bounded in bytes");
        assert_eq!(
            rollup.count(b"new"),
            Err(CountError::Full),
            "the table is bounded"
        );
        rollup.take(&mut Vec::new());
        assert_eq!(rollup.count(b"new"), Ok(()));
    }
}
