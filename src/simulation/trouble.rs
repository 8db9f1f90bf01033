//! `Troubles`: what befalls the broker while its clients work.

use super::broker::{CORES, Death};
use super::dice::Dice;
use crate::config::Durability;

/// Most troubles of a run.
const TROUBLES_MAX: u64 = 4;

/// Something that befalls the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It dies at once.
    Death(Death),
    /// It is told to stop in order.
    Stop,
    /// The disk of this core fails soon, and the power with it.
    BrokenDisk(usize),
}

/// The troubles of a run, with when they come, counted in happenings; ascending.
#[derive(Debug)]
pub struct Troubles(Vec<(u64, Trouble)>);

impl Troubles {
    /// Chooses some within so many happenings.
    pub fn choose(happenings: u64, durability: Durability, dice: &mut Dice) -> Self {
        let count = dice.between(0..=TROUBLES_MAX);
        let mut troubles: Vec<(u64, Trouble)> = (0..count)
            .map(|_| (dice.below(happenings), choose_one(durability, dice)))
            .collect();
        troubles.sort_by_key(|(when, _)| *when);
        Self(troubles)
    }

    /// The next trouble, if it has come when so many things have happened.
    pub fn next(&mut self, happened: u64) -> Option<Trouble> {
        let &(when, trouble) = self.0.first()?;
        if when > happened {
            return None;
        }
        self.0.remove(0);
        Some(trouble)
    }
}

fn choose_one(durability: Durability, dice: &mut Dice) -> Trouble {
    match dice.below(10) {
        0..4 => Trouble::Death(Death::PowerLoss),
        4..7 => Trouble::Death(Death::Kill),
        7..9 => Trouble::Stop,
        // Without syncs, what a failing disk still has is not known.
        _ if durability == Durability::Write => Trouble::Death(Death::Kill),
        _ => Trouble::BrokenDisk(dice.below(CORES as u64) as usize),
    }
}
