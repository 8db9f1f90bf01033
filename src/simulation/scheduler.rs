//! `Scheduler`: the seeded choice of what happens next, to whom, and how long everything takes.
//!
//! It holds what lies between the broker and its clients: clock, network, dice and trace.

use super::dice::Dice;
use super::network::{LinkId, Network};
use super::schedule::Schedule;
use super::trace::Trace;
use crate::model::Moment;
use std::fmt;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
/// Interval of a core's coarse timer.
const TIMER_INTERVAL: u64 = 100 * MILLISECOND;

/// Something that happens at its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Something at a core, in this life of the broker.
    Core {
        /// The broker's life; in a later one it does not happen.
        life: u32,
        /// The core.
        core: usize,
        /// What.
        what: CoreHappening,
    },
    /// Bytes reach the broker.
    Reach(LinkId),
    /// A client reads.
    Read(LinkId),
    /// A client does something, in this session.
    Turn {
        /// The client.
        client: usize,
        /// Its session.
        session: u32,
    },
    /// A client connects.
    Connect {
        /// The client.
        client: usize,
    },
    /// The broker starts.
    Restart,
}

/// Something that happens at a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreHappening {
    /// It ticks.
    Tick,
    /// A batch arrives from this core.
    Mail {
        /// The sender.
        from: usize,
    },
    /// Its sync ends.
    Synced,
    /// Its segment is prepared.
    Prepared,
    /// Its timer ticks.
    Timer,
}

/// What everything happens in.
pub struct Scheduler {
    /// What will happen.
    pub schedule: Schedule<Happening>,
    /// The connections.
    pub network: Network,
    /// Every choice.
    pub dice: Dice,
    /// What has happened.
    pub trace: Trace,
}

impl Scheduler {
    /// The beginning of the run of `seed`.
    pub fn new(seed: u64, trace: Trace) -> Self {
        trace.begin(seed);
        Self {
            schedule: Schedule::default(),
            network: Network::default(),
            dice: Dice::seeded(seed),
            trace,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.schedule.now()
    }

    /// Adds a line to the trace.
    pub fn say(&self, what: fmt::Arguments<'_>) {
        self.trace.say(self.now(), what);
    }

    /// Arranges for something at a core.
    pub fn arrange(&mut self, life: u32, core: usize, what: CoreHappening) {
        let delay = self.delay_of(what);
        self.schedule.after(delay, Happening::Core { life, core, what });
    }

    /// Arranges for the broker's reader to look, if there is something and it does not look yet.
    pub fn arrange_reach(&mut self, id: LinkId) {
        let delay = self.dice.between(2 * MICROSECOND..=60 * MICROSECOND);
        if let Some(link) = self.network.link(id)
            && link.can_be_read()
            && !std::mem::replace(&mut link.is_reach_arranged, true)
        {
            self.schedule.after(delay, Happening::Reach(id));
        }
    }

    /// Arranges for the client to read, if there is something and it does not read yet.
    pub fn arrange_read(&mut self, id: LinkId) {
        let slow = self.dice.chance(3);
        let delay = match slow {
            true => self.dice.between(MILLISECOND..=4 * MILLISECOND),
            false => self.dice.between(2 * MICROSECOND..=80 * MICROSECOND),
        };
        if let Some(link) = self.network.link(id)
            && (link.has_bytes_for_client() || link.is_ended_for_client())
            && !std::mem::replace(&mut link.is_read_arranged, true)
        {
            self.schedule.after(delay, Happening::Read(id));
        }
    }

    /// Arranges for a look at a connection whose client does not listen, or is gone.
    pub fn arrange_late_read(&mut self, id: LinkId) {
        if let Some(link) = self.network.link(id) {
            link.is_read_arranged = true;
            self.schedule.after(MILLISECOND, Happening::Read(id));
        }
    }

    /// Arranges for a client's next turn.
    pub fn arrange_turn(&mut self, client: usize, session: u32) {
        let delay = self.dice.between(10 * MICROSECOND..=400 * MICROSECOND);
        self.schedule.after(delay, Happening::Turn { client, session });
    }

    /// Arranges for a client to connect.
    pub fn arrange_connect(&mut self, client: usize) {
        let delay = self.dice.between(50 * MICROSECOND..=3 * MILLISECOND);
        self.schedule.after(delay, Happening::Connect { client });
    }

    /// Arranges for the broker to start.
    pub fn arrange_restart(&mut self) {
        let delay = self.dice.between(MILLISECOND..=30 * MILLISECOND);
        self.schedule.after(delay, Happening::Restart);
    }

    fn delay_of(&mut self, what: CoreHappening) -> u64 {
        let dice = &mut self.dice;
        match what {
            CoreHappening::Timer => TIMER_INTERVAL,
            // Now and then a core is held up: by a page fault, a long tick, or another process on its processor.
            CoreHappening::Tick if dice.chance(1) => dice.between(MILLISECOND..=5 * MILLISECOND),
            CoreHappening::Tick => dice.between(MICROSECOND..=25 * MICROSECOND),
            CoreHappening::Mail { .. } if dice.chance(2) => dice.between(MILLISECOND..=3 * MILLISECOND),
            CoreHappening::Mail { .. } => dice.between(MICROSECOND / 2..=20 * MICROSECOND),
            CoreHappening::Synced => dice.between(80 * MICROSECOND..=3 * MILLISECOND),
            CoreHappening::Prepared => dice.between(MILLISECOND..=20 * MILLISECOND),
        }
    }
}
