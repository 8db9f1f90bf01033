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
    /// Nothing is meant to be sent from here on.
    end: u64,
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
            end: u64::MAX,
            random: seed | 1,
        };
        if arrival == Arrival::Poisson {
            schedule.next = schedule.draw();
        }
        schedule
    }

    /// Moves the whole schedule to begin at `start`, and ends it before `end`; before the first `advance`.
    pub fn begin(&mut self, start: u64, end: u64) {
        self.next += start as f64;
        self.end = end;
    }

    /// When the next message is meant to be sent, `None` when there is none left.
    #[inline]
    pub fn next(&self) -> Option<u64> {
        let next = self.next as u64;
        (next < self.end).then_some(next)
    }

    /// The intended send time of the next message, if that has come at `now`.
    #[inline]
    pub fn due(&self, now: u64) -> Option<u64> {
        self.next().filter(|&next| next <= now)
    }

    /// Messages left.
    pub fn remaining(&self) -> u64 {
        let mut rest = self.clone();
        let mut count = 0;
        while rest.next().is_some() {
            rest.advance();
            count += 1;
        }
        count
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
        schedule.begin(5_000_000, u64::MAX);
        let times: Vec<u64> = (0..4)
            .map(|_| {
                let time = schedule.next().expect("it has no end");
                schedule.advance();
                time
            })
            .collect();
        assert_eq!(times, [5_000_000, 5_100_000, 5_200_000, 5_300_000]);
        assert_eq!(
            (schedule.due(5_400_000), schedule.due(5_399_999)),
            (Some(5_400_000), None)
        );
    }

    #[test]
    fn publishers_of_a_group_take_turns() {
        let second = Schedule::new(Arrival::Constant, 1_000.0, 0.5, 1);
        assert_eq!(second.next(), Some(500_000));
    }

    #[test]
    fn a_constant_schedule_does_not_drift_over_a_day() {
        let mut schedule = Schedule::new(Arrival::Constant, 3.0, 0.0, 1);
        schedule.begin(0, u64::MAX);
        (0..3 * 86_400).for_each(|_| schedule.advance());
        let drift = schedule.next - 86_400e9;
        assert!(drift.abs() < 1e6, "{drift} ns");
    }

    #[test]
    fn a_poisson_schedule_has_the_rate_as_its_mean_and_is_fixed_by_its_seed() {
        let mut schedule = Schedule::new(Arrival::Poisson, 1_000.0, 0.0, 7);
        let mut same = schedule.clone();
        (0..100_000).for_each(|_| schedule.advance());
        (0..100_000).for_each(|_| same.advance());
        assert_eq!(schedule.next(), same.next());
        let seconds = schedule.next / 1e9;
        assert!(
            (99.0..101.0).contains(&seconds),
            "100,000 messages at 1,000/s took {seconds} s"
        );
    }

    #[test]
    fn what_is_scheduled_does_not_depend_on_when_it_is_asked_for() {
        let mut schedule = Schedule::new(Arrival::Constant, 2_000.0, 0.0, 1);
        schedule.begin(0, 500_000_000);
        assert_eq!(schedule.remaining(), 1_000);
        let much_later = 9_000_000_000;
        let mut count = 0;
        while schedule.due(much_later).is_some() {
            schedule.advance();
            count += 1;
        }
        assert_eq!((count, schedule.next(), schedule.remaining()), (1_000, None, 0));
    }
}
