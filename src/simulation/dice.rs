//! `Dice`: every choice of a run, from its seed.

use crate::shard::settings::Random;
use std::ops::RangeInclusive;

/// Seeded choices.
#[derive(Clone, Debug)]
pub struct Dice(Random);

impl Dice {
    /// The choices of `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    /// A seed for something else that chooses.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// A number of `range`.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// How many of `count` things, at least one: mostly all, sometimes few, as a network or a scheduler cuts.
    pub fn cut(&mut self, count: usize) -> usize {
        match self.below(4) {
            0 => self.between(1..=count.min(16) as u64) as usize,
            1 => self.between(1..=count as u64) as usize,
            _ => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_chooses_the_same() {
        let choices = |seed| {
            let mut dice = Dice::seeded(seed);
            (0..50).map(|_| dice.between(3..=9)).collect::<Vec<_>>()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
        assert!(choices(7).iter().all(|choice| (3..=9).contains(choice)));
    }
}
