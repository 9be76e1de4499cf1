//! The tape: score updates by their numbers, four bytes each. It owns the blocks that they lie in; it must not know
//! what a symbol stands for.
//!
//! A block holds a run of consecutive numbers. A number of something else within the run takes a slot as well, so
//! that a score is found by subtraction; a longer run of such numbers ends the block. What a block has not used when it
//! ends is given back: numbers cost nothing, so those that channels take when they come, however many, push nothing
//! out of the log.

use std::collections::VecDeque;

use super::symbols::Symbol;
use crate::time::Time;

/// Slots in one block, of four bytes each: large enough that blocks are few, small enough that evicting one is not
/// noticed.
const BLOCK_SLOTS: usize = 1024;

const BLOCK_BYTES: usize = BLOCK_SLOTS * size_of::<Symbol>() + size_of::<Block>();

/// Numbers of other messages between two scores that are bridged within a block.
const BRIDGED_MAX: u64 = 64;

/// What a slot holds whose number is not a score's.
const NO_SCORE: Symbol = Symbol(u32::MAX);

/// Score updates, oldest first.
pub struct Tape {
    blocks: VecDeque<Block>,
    /// Bytes of new ids with which a block ends, so that evicting it does not free much more than is needed.
    id_bytes_max: usize,
    scores: usize,
    bytes: usize,
}

struct Block {
    /// The number of the first slot.
    first: u64,
    /// The number of the last score in it.
    last: u64,
    began_at: Time,
    /// How many scores came before it since the start, and how many are in it.
    before: usize,
    scores: usize,
    /// Bytes of the ids that were new when they came.
    id_bytes: usize,
    slots: Vec<Symbol>,
}

impl Block {
    /// The number after the last slot.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn bytes(&self) -> usize {
        size_of::<Block>() + self.slots.capacity() * size_of::<Symbol>()
    }

    /// Bytes of slots that are not used.
    fn spare_bytes(&self) -> usize {
        (self.slots.capacity() - self.slots.len()) * size_of::<Symbol>()
    }

    /// The slots of the numbers in `(from, to]`, and the number of the first of them.
    fn slots_in(&self, from: u64, to: u64) -> (u64, &[Symbol]) {
        let place =
            |number: u64| (number.saturating_sub(self.first) as usize).min(self.slots.len());
        let (start, end) = (place(from + 1), place(to.saturating_add(1)));
        (self.first + start as u64, &self.slots[start.min(end)..end])
    }
}

impl Tape {
    /// An empty tape. A block ends with so many bytes of new ids at the latest.
    pub fn new(id_bytes_max: usize) -> Tape {
        Tape {
            blocks: VecDeque::new(),
            id_bytes_max,
            scores: 0,
            bytes: 0,
        }
    }

    /// Appends a score whose id took so many bytes if it was new. Numbers only grow.
    pub fn push(&mut self, number: u64, symbol: Symbol, id_bytes: usize, now: Time) {
        let growth = self.growth(number);
        if growth > 0 {
            self.bytes += growth;
            if let Some(last) = self.blocks.back_mut() {
                last.slots.shrink_to_fit();
            }
            self.blocks.push_back(Block {
                first: number,
                last: number,
                began_at: now,
                before: self
                    .blocks
                    .back()
                    .map_or(0, |last| last.before + last.scores),
                scores: 0,
                id_bytes: 0,
                slots: Vec::with_capacity(BLOCK_SLOTS),
            });
        }
        if let Some(block) = self.blocks.back_mut() {
            block
                .slots
                .resize((number - block.first) as usize, NO_SCORE);
            block.slots.push(symbol);
            block.last = number;
            block.scores += 1;
            block.id_bytes += id_bytes;
            self.scores += 1;
        }
    }

    /// Drops the oldest block: calls `release` for each of its symbols, and returns the number of its last score.
    pub fn evict(&mut self, mut release: impl FnMut(Symbol)) -> Option<u64> {
        let block = self.blocks.pop_front()?;
        for &symbol in block.slots.iter().filter(|&&symbol| symbol != NO_SCORE) {
            release(symbol);
        }
        self.scores -= block.scores;
        self.bytes -= block.bytes();
        Some(block.last)
    }

    /// The number of the last score in the oldest block, with which it would go.
    pub fn evicts_to(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.last)
    }

    /// When the oldest block began.
    pub fn began_at(&self) -> Option<Time> {
        self.blocks.front().map(|block| block.began_at)
    }

    /// The scores with numbers in `(from, to]`, in order.
    pub fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Symbol)> {
        let start = self.blocks.partition_point(|block| block.end() <= from + 1);
        let blocks = self.blocks.range(start..);
        let blocks = blocks.take_while(move |block| block.first <= to);
        blocks.flat_map(move |block| {
            let (first, slots) = block.slots_in(from, to);
            let numbered = (first..).zip(slots.iter().copied());
            numbered.filter(|&(_, symbol)| symbol != NO_SCORE)
        })
    }

    /// The number of the last score with a number in `(from, to]`.
    pub fn last(&self, from: u64, to: u64) -> Option<u64> {
        let end = self.blocks.partition_point(|block| block.first <= to);
        let blocks = self.blocks.range(..end).rev();
        let mut blocks = blocks.take_while(|block| block.end() > from + 1);
        blocks.find_map(|block| {
            let (first, slots) = block.slots_in(from, to);
            let place = slots.iter().rposition(|&symbol| symbol != NO_SCORE)?;
            Some(first + place as u64)
        })
    }

    /// How many scores have numbers in `(from, to]`.
    pub fn count(&self, from: u64, to: u64) -> usize {
        self.count_to(to).saturating_sub(self.count_to(from))
    }

    /// How many scores have numbers up to this one, beside a constant for those that were evicted: no walk over the
    /// blocks, of which a large log has some hundred thousand.
    fn count_to(&self, number: u64) -> usize {
        let next = self.blocks.partition_point(|block| block.first <= number);
        let Some(block) = next.checked_sub(1).and_then(|place| self.blocks.get(place)) else {
            return self.blocks.front().map_or(0, |first| first.before);
        };
        let (_, slots) = block.slots_in(block.first - 1, number);
        block.before + slots.iter().filter(|&&symbol| symbol != NO_SCORE).count()
    }

    /// How many scores there are.
    pub fn len(&self) -> usize {
        self.scores
    }

    /// Bytes of memory that the score of this number, which is a new one, needs beyond those that are held.
    pub fn growth(&self, number: u64) -> usize {
        let fits = |last: &Block| {
            let is_near = number - last.end() <= BRIDGED_MAX;
            let has_slot = number - last.first < BLOCK_SLOTS as u64;
            is_near && has_slot && last.id_bytes < self.id_bytes_max
        };
        match self.blocks.back() {
            Some(last) if fits(last) => 0,
            last => BLOCK_BYTES - last.map_or(0, Block::spare_bytes),
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn scores_are_found_by_number_until_their_block_is_evicted() {
        let mut random = Random::new(5);
        let mut tape = Tape::new(10_000);
        let mut model: Vec<(u64, Symbol)> = Vec::new();
        let mut number = 0;
        for round in 0..20_000_u32 {
            number += match random.below(200) {
                0 => 1 + random.below(5_000),
                1..20 => 1 + random.below(BRIDGED_MAX),
                _ => 1,
            };
            let (before, growth) = (tape.bytes(), tape.growth(number));
            tape.push(number, Symbol(round), random.below(30) as usize, Time::ZERO);
            assert_eq!(tape.bytes() - before, growth, "{number}");
            let held: usize = tape.blocks.iter().map(Block::bytes).sum();
            assert_eq!(tape.bytes(), held, "{number}");
            model.push((number, Symbol(round)));
            if random.one_in(3_000) {
                let mut released = Vec::new();
                let last = tape.evict(|symbol| released.push(symbol)).unwrap();
                let gone = model.partition_point(|&(number, _)| number <= last);
                let expected: Vec<Symbol> = model.drain(..gone).map(|(_, symbol)| symbol).collect();
                assert_eq!(released, expected);
            }
            if random.one_in(100) {
                let from = random.below(number + 2);
                let to = from + random.below(3_000);
                let inside = |&&(number, _): &&(u64, Symbol)| number > from && number <= to;
                let expected: Vec<(u64, Symbol)> = model.iter().filter(inside).copied().collect();
                assert_eq!(tape.count(from, to), expected.len(), "({from}, {to}]");
                assert!(tape.range(from, to).eq(expected), "({from}, {to}]");
            }
            assert_eq!(tape.len(), model.len());
        }
        while tape.evict(|_| {}).is_some() {}
        assert_eq!((tape.len(), tape.evicts_to()), (0, None));
    }
}
