//! The two clocks: a monotonic one for decisions, the wall clock for timestamps people read.

use crate::model::Moment;
use rustix::time::{ClockId, clock_gettime};

/// This instant on `CLOCK_MONOTONIC`; the same clock on every core of the machine.
#[inline]
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Milliseconds since 1970-01-01 UTC. It may jump in both directions.
pub fn unix_milliseconds() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// A number that nobody can guess, from the system: for names and secrets.
pub fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(read, Ok(8), "the system gives eight random bytes");
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_run_backwards() {
        let first = now();
        assert!(now() >= first);
        assert!(first.0 > 0);
    }

    #[test]
    fn the_wall_clock_counts_milliseconds() {
        let seconds = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("the clock is past 1970")
            .as_secs();
        assert!(unix_milliseconds().abs_diff(seconds * 1_000) < 5_000);
    }
}
