//! `Scene`: what a run is about, besides what is in every run: its themes, chosen from the seed, and its cast.
//!
//! A theme is in one run of four, so that each meets the others and the crashes, and none hides what the rest finds.

use super::catalogue::QUEUES;
use super::client::Role;
use super::dice::Dice;
use super::manner::Manner;

/// Runs of a hundred in which a theme appears.
const THEME_PERCENT: u64 = 25;
/// Publishers that have too few buffers.
const CROWD: usize = 10;
/// Publishers that pour.
const POURERS: usize = 4;

/// Something that only some runs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Publishers whose runs mix persistent and transient messages, small and large.
    MixedRuns,
    /// Consumers of queues of both cores that share their channel's prefetch.
    SharedPrefetch,
    /// Auto-delete queues that go with each tenant and come with the next.
    AutoDelete,
    /// Clients that declare and delete the same queues at the same time.
    Rivals,
    /// So little memory that alarms hold publishers back.
    ShortMemory,
    /// Many publishers on few receive buffers.
    FewBuffers,
    /// Clients that do not read what they ask for.
    Floods,
    /// More than the credit between cores, for consumers that do not ack.
    Pouring,
    /// Clients that are gone while their connection waits for the broker.
    Vanishing,
}

/// All themes.
const THEMES: [Theme; 9] = [
    Theme::MixedRuns,
    Theme::SharedPrefetch,
    Theme::AutoDelete,
    Theme::Rivals,
    Theme::ShortMemory,
    Theme::FewBuffers,
    Theme::Floods,
    Theme::Pouring,
    Theme::Vanishing,
];

/// The themes of a run.
#[derive(Clone, Debug)]
pub struct Scene(Vec<Theme>);

impl Scene {
    /// Chooses the themes of a run.
    pub fn choose(dice: &mut Dice) -> Self {
        Self(
            THEMES
                .into_iter()
                .filter(|_| dice.chance(THEME_PERCENT))
                .collect(),
        )
    }

    /// Whether the run has this theme.
    pub fn has(&self, theme: Theme) -> bool {
        self.0.contains(&theme)
    }

    /// The clients of the run, each with the roles it plays.
    pub fn cast(&self, dice: &mut Dice) -> Vec<Vec<Role>> {
        let mut clients = match self.has(Theme::ShortMemory) {
            true => one_way_cast(dice),
            false => ordinary_cast(dice),
        };
        if self.has(Theme::FewBuffers) {
            clients.extend((0..CROWD).map(|_| vec![Role::Publish(Manner::Ordinary)]));
        }
        if self.has(Theme::MixedRuns) {
            clients.extend([
                vec![Role::Publish(Manner::Mixed)],
                vec![Role::Publish(Manner::Mixed)],
            ]);
        }
        if self.has(Theme::SharedPrefetch) {
            clients.extend([vec![Role::Share], vec![Role::Share]]);
        }
        if self.has(Theme::AutoDelete) {
            clients.extend((0..dice.between(2..=4)).map(|_| vec![Role::Rent]));
        }
        if self.has(Theme::Rivals) {
            clients.extend((0..dice.between(2..=5)).map(|_| vec![Role::Fight]));
        }
        if self.has(Theme::Pouring) {
            clients.extend((0..POURERS).map(|_| vec![Role::Publish(Manner::Pouring)]));
            let lossy = (0..QUEUES.len()).filter(|&queue| QUEUES[queue].is_lossy);
            clients.extend(lossy.flat_map(|queue| [vec![Role::Consume(queue)], vec![Role::Consume(queue)]]));
        }
        // Who floods settles late what it got: held back with its publishes, it would keep an alarm up.
        if self.has(Theme::Floods) && !self.has(Theme::ShortMemory) {
            clients.extend([vec![Role::Flood], vec![Role::Flood]]);
        }
        clients
    }
}

fn ordinary_cast(dice: &mut Dice) -> Vec<Vec<Role>> {
    let publish = Role::Publish(Manner::Ordinary);
    let mut clients = vec![
        vec![publish],
        vec![publish, publish],
        vec![Role::Get],
        vec![Role::Declare],
    ];
    if dice.chance(50) {
        clients.push(vec![Role::Declare]);
    }
    for _ in 0..dice.below(3) {
        clients.push(vec![Role::Commit]);
    }
    for _ in 0..dice.between(3..=9) {
        clients.push(vec![Role::Consume(dice.below(QUEUES.len() as u64) as usize)]);
    }
    let queue = dice.below(QUEUES.len() as u64) as usize;
    clients.push(vec![Role::Consume(queue), publish, Role::Consume(queue)]);
    clients
}

/// Nobody publishes on a connection on which it must settle, and every queue has a consumer: an alarm ends once what
/// was published is consumed. Queues that are only filled would keep it up.
fn one_way_cast(dice: &mut Dice) -> Vec<Vec<Role>> {
    let publish = Role::Publish(Manner::Ordinary);
    let mut clients = vec![vec![publish], vec![publish, publish], vec![Role::Get]];
    clients.extend((0..QUEUES.len()).map(|queue| vec![Role::Consume(queue)]));
    for _ in 0..dice.between(0..=3) {
        clients.push(vec![Role::Consume(dice.below(QUEUES.len() as u64) as usize)]);
    }
    clients
}
