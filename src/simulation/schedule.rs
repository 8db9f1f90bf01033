//! `Schedule`: what will happen and when, on a clock that jumps from one happening to the next.

use crate::model::Moment;
use std::collections::BTreeMap;

/// Things that will happen, with the virtual clock.
#[derive(Debug)]
pub struct Schedule<T> {
    now: Moment,
    arranged: u64,
    pending: BTreeMap<(Moment, u64), T>,
}

impl<T> Default for Schedule<T> {
    /// Nothing yet, a second after the clock's zero.
    fn default() -> Self {
        Self {
            now: Moment(1_000_000_000),
            arranged: 0,
            pending: BTreeMap::new(),
        }
    }
}

impl<T> Schedule<T> {
    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Arranges for `thing` to happen in so many nanoseconds; of two at the same moment, the one arranged first does.
    pub fn after(&mut self, nanoseconds: u64, thing: T) {
        self.arranged += 1;
        self.pending
            .insert((Moment(self.now.0 + nanoseconds), self.arranged), thing);
    }

    /// The next thing, with the clock set to its moment.
    pub fn take_next(&mut self) -> Option<T> {
        let ((moment, _), thing) = self.pending.pop_first()?;
        self.now = moment;
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order_of_time_then_of_arrangement() {
        let mut schedule = Schedule::default();
        schedule.after(20, "late");
        schedule.after(10, "early");
        schedule.after(10, "as early");
        let order: Vec<_> = std::iter::from_fn(|| schedule.take_next()).collect();
        assert_eq!(order, ["early", "as early", "late"]);
        assert_eq!(schedule.now(), Moment(1_000_000_020));
    }
}
