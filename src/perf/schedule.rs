//! `Schedule`: when each message of an open loop is meant to be sent, fixed before anything happens.
//!
//! Latency is measured from these times, so a broker that stalls is charged for every message that should have been
//! sent meanwhile (no coordinated omission).

use super::workload::Arrival;

/// Intended send times of one publisher, in nanoseconds of the run's clock, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrival: Arrival,
    interval: f64,
    next: f64,
    random: u64,
}

impl Schedule {
    /// A schedule of `rate` messages a second (above zero). `share` in 0..1 shifts a constant one by that part of an
    /// interval, so that the publishers of a group take turns; `seed` fixes a random one.
    pub fn new(arrival: Arrival, rate: f64, share: f64, seed: u64) -> Self {
        let interval = 1e9 / rate;
        let mut schedule = Self {
            arrival,
            interval,
            next: interval * share,
            random: seed | 1,
        };
        if arrival == Arrival::Poisson {
            schedule.next = schedule.draw();
        }
        schedule
    }

    /// Moves the whole schedule to begin at `start`; before the first `advance`.
    pub fn begin(&mut self, start: u64) {
        self.next += start as f64;
    }

    /// When the next message is meant to be sent.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next as u64
    }

    /// Whether the next message should be on its way at `now`.
    #[inline]
    pub fn is_due(&self, now: u64) -> bool {
        self.next() <= now
    }

    /// Goes on to the message after the next.
    #[inline]
    pub fn advance(&mut self) {
        self.next += match self.arrival {
            Arrival::Constant => self.interval,
            Arrival::Poisson => self.draw(),
        };
    }

    /// An exponentially distributed interval (xorshift64*, then the inverse of the distribution).
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        let uniform = (bits as f64 + 1.0) / (1u64 << 53) as f64;
        -uniform.ln() * self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_schedule_keeps_its_intervals_however_late_it_is_asked() {
        let mut schedule = Schedule::new(Arrival::Constant, 10_000.0, 0.0, 1);
        schedule.begin(5_000_000);
        let times: Vec<u64> = (0..4)
            .map(|_| {
                let time = schedule.next();
                schedule.advance();
                time
            })
            .collect();
        assert_eq!(times, [5_000_000, 5_100_000, 5_200_000, 5_300_000]);
        assert!(schedule.is_due(5_400_000) && !schedule.is_due(5_399_999));
    }

    #[test]
    fn publishers_of_a_group_take_turns() {
        let second = Schedule::new(Arrival::Constant, 1_000.0, 0.5, 1);
        assert_eq!(second.next(), 500_000);
    }

    #[test]
    fn a_constant_schedule_does_not_drift_over_a_day() {
        let mut schedule = Schedule::new(Arrival::Constant, 3.0, 0.0, 1);
        schedule.begin(0);
        (0..3 * 86_400).for_each(|_| schedule.advance());
        assert!(
            schedule.next().abs_diff(86_400_000_000_000) < 1_000_000,
            "{}",
            schedule.next()
        );
    }

    #[test]
    fn a_poisson_schedule_has_the_rate_as_its_mean_and_is_fixed_by_its_seed() {
        let mut schedule = Schedule::new(Arrival::Poisson, 1_000.0, 0.0, 7);
        let mut same = schedule.clone();
        (0..100_000).for_each(|_| schedule.advance());
        (0..100_000).for_each(|_| same.advance());
        assert_eq!(schedule.next(), same.next());
        let seconds = schedule.next() as f64 / 1e9;
        assert!(
            (99.0..101.0).contains(&seconds),
            "100,000 messages at 1,000/s took {seconds} s"
        );
    }
}
