//! `DeliveryTimes`: since when a channel's oldest delivery waits, to about a second, without a time for each delivery.
//!
//! Once a beat the channel marks how far its delivery tags have come. What lies between two marks was delivered between
//! them, and counts as delivered at the later one, so that it never looks older than it is:
//!
//! ```text
//!   beat        1       2       3       4
//!   last tag   10      25      25      60        tag 12 counts as delivered at beat 2
//!   marks      10@1    25@2            60@4
//! ```
//!
//! Marks below the oldest unsettled delivery go, as nobody asks for them again. The longer that one waits, the further apart
//! are new ones: so they stay few, its own time is exact to a beat, and those behind it are told late by at most a
//! thirty-second of what it waited, and a beat.

use crate::model::Moment;
use std::collections::VecDeque;

/// Marks of how far deliveries had come, ascending by tag and moment.
#[derive(Debug, Default)]
pub(super) struct DeliveryTimes {
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    last_tag: u64,
    at: Moment,
}

/// Part of the oldest delivery's wait that lies between two marks at least.
const WAIT_PARTS: u64 = 32;

impl DeliveryTimes {
    /// Marks that `last_tag` was the last delivery before `now`, and `oldest` the first of those that are not settled. Tells
    /// since when that one waits.
    pub(super) fn mark(&mut self, oldest: u64, last_tag: u64, now: Moment) -> Moment {
        while self.marks.front().is_some_and(|mark| mark.last_tag < oldest) {
            self.marks.pop_front();
        }
        if self.is_mark_due(last_tag, now) {
            self.marks.push_back(Mark { last_tag, at: now });
        }
        self.marks.front().map_or(now, |mark| mark.at)
    }

    /// Everything is settled.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }

    fn is_mark_due(&self, last_tag: u64, now: Moment) -> bool {
        let (Some(first), Some(last)) = (self.marks.front(), self.marks.back()) else {
            return true;
        };
        let (waited, since_last) = (now.milliseconds_since(first.at), now.milliseconds_since(last.at));
        last.last_tag < last_tag && since_last >= waited / WAIT_PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment(second * 1_000_000_000)
    }

    #[test]
    fn a_delivery_waits_since_the_beat_that_first_saw_it() {
        let mut times = DeliveryTimes::default();
        assert_eq!(times.mark(1, 10, second(1)), second(1));
        assert_eq!(times.mark(1, 25, second(2)), second(1));
        assert_eq!(times.mark(10, 25, second(3)), second(1));
        assert_eq!(times.mark(11, 60, second(4)), second(2));
        assert_eq!(times.mark(60, 60, second(5)), second(4));
        assert_eq!(times.mark(61, 61, second(6)), second(6));
    }

    #[test]
    fn what_was_settled_entirely_is_forgotten() {
        let mut times = DeliveryTimes::default();
        times.mark(1, 1, second(1));
        times.clear();
        assert_eq!(times.mark(2, 2, second(9)), second(9));
    }

    #[test]
    fn the_oldest_keeps_its_time_however_long_it_waits_and_the_marks_stay_few() {
        let mut times = DeliveryTimes::default();
        for now in 1..=86_400 {
            assert_eq!(times.mark(5, now * 10, second(now)), second(1));
        }
        assert!(times.marks.len() < 350, "{} marks in a day", times.marks.len());
    }

    #[test]
    fn times_are_never_told_early_and_late_by_a_thirty_second_of_the_oldest_ones_wait_at_most() {
        for delivered in [1, 2, 7, 40, 500, 2000, 3599] {
            let mut times = DeliveryTimes::default();
            for now in 1..3600 {
                times.mark(1, now * 10, second(now));
            }
            let told = times.mark(delivered * 10, 36_000, second(3600));
            let late = told.milliseconds_since(second(delivered)) / 1000;
            assert!(told >= second(delivered), "{delivered} is told early");
            assert!(
                late <= delivered / WAIT_PARTS + 1,
                "{delivered} is told {late} s late"
            );
        }
    }
}
