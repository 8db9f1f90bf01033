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
    /// It dies as soon as a client reads a confirm of something durable.
    DeathAtConfirm(Death),
    /// It is told to stop in order.
    Stop,
    /// The disk of this core fails soon, and the power with it.
    BrokenDisk(usize),
}

/// The troubles of a run.
#[derive(Debug)]
pub struct Troubles {
    /// With when they come, counted in happenings; ascending.
    coming: Vec<(u64, Trouble)>,
    /// A death that waits for more durable confirms than these.
    awaiting: Option<(u64, Death)>,
}

impl Troubles {
    /// Chooses some within so many happenings.
    pub fn choose(happenings: u64, durability: Durability, dice: &mut Dice) -> Self {
        let count = dice.between(0..=TROUBLES_MAX);
        let mut coming: Vec<(u64, Trouble)> = (0..count)
            .map(|_| (dice.below(happenings), choose_one(durability, dice)))
            .collect();
        coming.sort_by_key(|(when, _)| *when);
        Self {
            coming,
            awaiting: None,
        }
    }

    /// The next trouble, if it has come when so many things have happened and so many durable confirms were read.
    pub fn next(&mut self, happened: u64, confirms: u64) -> Option<Trouble> {
        if let Some((_, death)) = self.awaiting.take_if(|(before, _)| *before < confirms) {
            return Some(Trouble::Death(death));
        }
        let &(when, trouble) = self.coming.first()?;
        if when > happened {
            return None;
        }
        self.coming.remove(0);
        if let Trouble::DeathAtConfirm(death) = trouble {
            self.awaiting = Some((confirms, death));
            return None;
        }
        Some(trouble)
    }
}

fn choose_one(durability: Durability, dice: &mut Dice) -> Trouble {
    match dice.below(10) {
        0..2 => Trouble::Death(Death::PowerLoss),
        2..4 => Trouble::DeathAtConfirm(Death::PowerLoss),
        4..7 => Trouble::Death(Death::Kill),
        7..9 => Trouble::Stop,
        // Without syncs, what a failing disk still has is not known.
        _ if durability == Durability::Write => Trouble::Death(Death::Kill),
        _ => Trouble::BrokenDisk(dice.below(CORES as u64) as usize),
    }
}
