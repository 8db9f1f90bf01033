//! `Manner`: how a publisher chooses what it sends.

use super::auditor::Publishing;
use super::catalogue::{QUEUES, TARGETS};
use super::dice::Dice;

/// Most publishes of an ordinary turn.
const BURST_MAX: u64 = 24;
/// Most publishes of a turn that mixes them.
const MIXED_BURST_MAX: u64 = 8;
/// Most publishes of a turn that pours.
const POURING_BURST_MAX: u64 = 40;

/// A publisher's habits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Anything to anywhere, mostly to one target.
    #[default]
    Ordinary,
    /// Runs to one durable queue that mix large with small and persistent with transient, and end in a transient one: of
    /// what crosses to another core in parts, the last needs no sync.
    Mixed,
    /// Much and transient, to queues whose consumers need not ack.
    Pouring,
}

impl Manner {
    /// What a turn publishes, all to one target, by a publisher that likes `favourite` most.
    pub fn burst(self, favourite: usize, dice: &mut Dice) -> Vec<Publishing> {
        match self {
            Manner::Ordinary => ordinary_burst(favourite, dice),
            Manner::Mixed => mixed_burst(dice),
            Manner::Pouring => pouring_burst(dice),
        }
    }
}

fn ordinary_burst(favourite: usize, dice: &mut Dice) -> Vec<Publishing> {
    let target = match dice.chance(50) {
        true => favourite,
        false => dice.below(TARGETS.len() as u64) as usize,
    };
    let count = dice.between(1..=BURST_MAX);
    let publishing = |_| Publishing {
        target,
        body_length: body_length(dice),
        is_persistent: dice.chance(70),
        is_mandatory: is_mandatory(target, dice),
    };
    (0..count).map(publishing).collect()
}

fn mixed_burst(dice: &mut Dice) -> Vec<Publishing> {
    let target = one_durable_target(dice);
    let count = dice.between(2..=MIXED_BURST_MAX);
    let publishing = |number| Publishing {
        target,
        body_length: match dice.chance(25) {
            true => dice.between(16_384..=30_000) as usize,
            false => dice.between(1..=200) as usize,
        },
        is_persistent: number + 1 < count && dice.chance(60),
        is_mandatory: false,
    };
    (0..count).map(publishing).collect()
}

fn pouring_burst(dice: &mut Dice) -> Vec<Publishing> {
    let target = lossy_target(dice);
    let count = dice.between(1..=POURING_BURST_MAX);
    let publishing = |_| Publishing {
        target,
        body_length: dice.between(4_000..=15_000) as usize,
        is_persistent: false,
        is_mandatory: false,
    };
    (0..count).map(publishing).collect()
}

/// A target that leads to one queue, which may lose messages.
fn lossy_target(dice: &mut Dice) -> usize {
    let is_lossy = |&target: &usize| matches!(TARGETS[target].queues, [only] if QUEUES[*only].is_lossy);
    let targets: Vec<usize> = (0..TARGETS.len()).filter(is_lossy).collect();
    *dice.pick(&targets)
}

/// A target that leads to one queue, which is durable.
fn one_durable_target(dice: &mut Dice) -> usize {
    let leads_to_one = |&target: &usize| matches!(TARGETS[target].queues, [only] if QUEUES[*only].is_durable);
    let targets: Vec<usize> = (0..TARGETS.len()).filter(leads_to_one).collect();
    *dice.pick(&targets)
}

/// Mostly small; sometimes in several frames, above what crosses by copy, or in parts of the log.
fn body_length(dice: &mut Dice) -> usize {
    let length = match dice.below(200) {
        0 => dice.between(60_000..=200_000),
        1..4 => dice.between(15_000..=40_000),
        4..12 => dice.between(1_000..=9_000),
        12..16 => 0,
        _ => dice.between(1..=200),
    };
    length as usize
}

fn is_mandatory(target: usize, dice: &mut Dice) -> bool {
    let target = &TARGETS[target];
    (target.is_routable() || target.is_unroutable()) && dice.chance(30)
}
