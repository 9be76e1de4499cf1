//! Breaks: the numbers up to which messages may be missing that the source never gave us. It owns which ones are known, by
//! stream; it must not know who is told.

use std::collections::VecDeque;

use super::namespace::Stream;
use crate::limits::BREAKS_MAX;

/// The last breaks of each stream.
#[derive(Default)]
pub struct Breaks {
    numbers: [VecDeque<u64>; Stream::ALL.len()],
}

impl Breaks {
    /// These streams have a break at a number, which is greater than those before.
    pub fn add(&mut self, streams: &[Stream], number: u64) {
        for &stream in streams {
            let numbers = &mut self.numbers[stream as usize];
            numbers.push_back(number);
            if numbers.len() > BREAKS_MAX {
                numbers.pop_front();
            }
        }
    }

    /// The breaks of a stream after `number`, in order.
    pub fn after(&self, stream: Stream, number: u64) -> impl DoubleEndedIterator<Item = u64> {
        let numbers = &self.numbers[stream as usize];
        let place = numbers.partition_point(|&it| it <= number);
        numbers.range(place..).copied()
    }

    /// The last break of a stream, or zero.
    pub fn last(&self, stream: Stream) -> u64 {
        self.after(stream, 0).next_back().unwrap_or(0)
    }

    /// The number from which on all breaks of a stream are known.
    pub fn known_since(&self, stream: Stream) -> u64 {
        let numbers = &self.numbers[stream as usize];
        let oldest = numbers.front().filter(|_| numbers.len() == BREAKS_MAX);
        oldest.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_breaks_are_known_and_a_position_before_them_is_not_complete() {
        let mut breaks = Breaks::default();
        let (stream, most) = (Stream::Channels, BREAKS_MAX as u64);
        breaks.add(&[Stream::Raw, stream], 12);
        assert_eq!((breaks.last(stream), breaks.last(Stream::Eps)), (12, 0));
        assert_eq!(breaks.known_since(stream), 0);
        (13..12 + most + 5).for_each(|number| breaks.add(&[stream], number));
        assert_eq!(
            (breaks.known_since(stream), breaks.last(stream)),
            (17, most + 16)
        );
        assert_eq!(
            breaks.after(stream, most + 14).collect::<Vec<_>>(),
            [most + 15, most + 16]
        );
    }
}
