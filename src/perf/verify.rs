//! `Stream`: which messages of one publisher have come out of one queue, and in which order.
//!
//! Of a publisher's numbers a queue gets those of its route: `first`, `first + stride`, … . Their ordinals 0, 1, 2, …
//! are what a stream keeps: all below `next` have come, and a flag each says which of the later ones have.
//!
//! ```text
//!   ordinals:  0 1 2 3 4 5 │ 6 7 8 9 10 …          next = 6 (missing), 7 and 9 have come
//!              all here     next   one flag each from `next` on
//! ```

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What an arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// For the first time.
    Fresh,
    /// Once more.
    Again,
    /// A number that this queue should not get.
    Astray,
}

/// Messages of one publisher in one queue.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Number expected next when nothing is missing; `next` in the publisher's numbers.
    next_number: u64,
    stride: u64,
    first: u64,
    next: u64,
    /// Flag n says that ordinal `next + n` has come; empty when nothing beyond `next` has.
    later: VecDeque<bool>,
    given_up: u64,
}

impl Stream {
    /// A stream of the numbers `first`, `first + stride`, …; `stride` is at least 1.
    pub fn new(first: u64, stride: u64) -> Self {
        Self {
            next_number: first,
            stride,
            first,
            next: 0,
            later: VecDeque::new(),
            given_up: 0,
        }
    }

    /// Notes the arrival of `number`.
    #[inline]
    pub fn accept(&mut self, number: u64) -> Arrived {
        if number == self.next_number && self.later.is_empty() {
            self.next += 1;
            self.next_number += self.stride;
            return Arrived::Fresh;
        }
        self.accept_out_of_line(number)
    }

    /// Messages missing, once the publisher has sent `published` in all.
    pub fn missing(&self, published: u64) -> u64 {
        let expected = self.expected(published);
        let come_later = self.later.iter().filter(|&&has_come| has_come).count() as u64;
        self.given_up + expected.saturating_sub(self.next + come_later)
    }

    /// How many of a publisher's first `published` messages belong here.
    pub fn expected(&self, published: u64) -> u64 {
        published.saturating_sub(self.first).div_ceil(self.stride)
    }

    #[cold]
    #[inline(never)]
    fn accept_out_of_line(&mut self, number: u64) -> Arrived {
        let Some(distance) = number.checked_sub(self.first) else {
            return Arrived::Astray;
        };
        if distance % self.stride != 0 {
            return Arrived::Astray;
        }
        let ordinal = distance / self.stride;
        if ordinal < self.next {
            return Arrived::Again;
        }
        self.mark(ordinal)
    }

    fn mark(&mut self, ordinal: u64) -> Arrived {
        let mut index = (ordinal - self.next) as usize;
        if index >= LATER_MAX {
            self.give_up(index + 1 - LATER_MAX);
            index = LATER_MAX - 1;
        }
        if self.later.len() <= index {
            self.later.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.later[index], true) {
            return Arrived::Again;
        }
        self.advance();
        Arrived::Fresh
    }

    /// Moves `next` over what has come.
    fn advance(&mut self) {
        while self.later.front() == Some(&true) {
            self.later.pop_front();
            self.next += 1;
            self.next_number += self.stride;
        }
    }

    /// Stops waiting for what is missing among the next `count` ordinals, so that a hole does not hold memory.
    fn give_up(&mut self, count: usize) {
        for _ in 0..count {
            let has_come = self.later.pop_front().unwrap_or(false);
            self.given_up += u64::from(!has_come);
            self.next += 1;
            self.next_number += self.stride;
        }
    }
}

/// How far behind the newest a missing message is waited for, in messages of a stream.
const LATER_MAX: usize = 1 << 21;

/// What was found when messages were accounted for; all counts are of messages or deliveries in the whole run,
/// warm-up and drain included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integrity {
    /// Messages written to sockets.
    pub published: u64,
    /// Messages of a schedule that could not be sent before the run ended.
    #[serde(default)]
    pub unsent: u64,
    /// Messages the broker confirmed.
    pub confirmed: u64,
    /// Messages the broker refused (basic.nack).
    pub nacked: u64,
    /// Mandatory messages that came back.
    pub returned: u64,
    /// Messages that waited for a confirm in vain.
    pub unconfirmed: u64,
    /// Deliveries that the published messages call for.
    pub expected: u64,
    /// Deliveries received, whatever they were.
    pub delivered: u64,
    /// Expected and never received.
    pub lost: u64,
    /// Received more than once.
    pub duplicated: u64,
    /// Received after a later message of the same publisher and queue, by the same consumer.
    pub disordered: u64,
    /// With a wrong check, length, pattern, or from a queue that should not have it.
    pub corrupted: u64,
    /// Marked as redelivered by the broker.
    pub redelivered: u64,
}

impl Integrity {
    /// Whether everything came once, whole, in order and confirmed. Messages refused or returned are the broker's
    /// right, and as many may be missing; `copies` is the number of queues each message goes to.
    pub fn is_good(&self, copies: u64) -> bool {
        let excused = (self.nacked + self.returned).saturating_mul(copies);
        let is_complete = self.lost <= excused && self.unconfirmed == 0;
        is_complete && self.duplicated == 0 && self.disordered == 0 && self.corrupted == 0
    }

    /// Adds what another thread found.
    pub fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.unsent += other.unsent;
        self.confirmed += other.confirmed;
        self.nacked += other.nacked;
        self.returned += other.returned;
        self.unconfirmed += other.unconfirmed;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.disordered += other.disordered;
        self.corrupted += other.corrupted;
        self.redelivered += other.redelivered;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_in_order_is_complete() {
        let mut stream = Stream::new(2, 3);
        for number in [2, 5, 8, 11] {
            assert_eq!(stream.accept(number), Arrived::Fresh);
        }
        assert_eq!(stream.missing(12), 0);
        assert_eq!(stream.missing(15), 1);
        assert_eq!(stream.expected(2), 0);
    }

    #[test]
    fn a_lost_message_is_missing_at_the_end() {
        let mut stream = Stream::new(0, 1);
        for number in [0, 1, 3, 4] {
            assert_eq!(stream.accept(number), Arrived::Fresh);
        }
        assert_eq!(stream.missing(5), 1);
        assert_eq!(stream.accept(2), Arrived::Fresh);
        assert_eq!(stream.missing(5), 0);
    }

    #[test]
    fn a_doubled_message_is_seen_before_and_behind_a_gap() {
        let mut stream = Stream::new(0, 1);
        for number in [0, 1, 3] {
            stream.accept(number);
        }
        assert_eq!(stream.accept(1), Arrived::Again);
        assert_eq!(stream.accept(3), Arrived::Again);
        assert_eq!(stream.missing(4), 1);
    }

    #[test]
    fn a_message_of_another_route_is_astray() {
        let mut stream = Stream::new(1, 4);
        assert_eq!(stream.accept(0), Arrived::Astray);
        assert_eq!(stream.accept(3), Arrived::Astray);
        assert_eq!(stream.accept(1), Arrived::Fresh);
    }

    #[test]
    fn a_hole_is_given_up_after_a_bounded_while_and_stays_counted() {
        let mut stream = Stream::new(0, 1);
        let count = LATER_MAX as u64 + 10;
        for number in 1..count {
            assert_eq!(stream.accept(number), Arrived::Fresh);
        }
        assert!(stream.later.len() <= LATER_MAX);
        assert_eq!(stream.missing(count), 1);
    }

    proptest! {
        #[test]
        fn any_arrivals_agree_with_a_set(
            first in 0u64..5, stride in 1u64..5, numbers in prop::collection::vec(0u64..200, 0..300)
        ) {
            let mut stream = Stream::new(first, stride);
            let mut seen = BTreeSet::new();
            for number in numbers {
                let is_ours = number >= first && (number - first) % stride == 0;
                let expected = match (is_ours, seen.insert(number)) {
                    (false, _) => Arrived::Astray,
                    (true, true) => Arrived::Fresh,
                    (true, false) => Arrived::Again,
                };
                prop_assert_eq!(stream.accept(number), expected);
            }
            let ours = (first..200).step_by(stride as usize).filter(|number| !seen.contains(number)).count();
            prop_assert_eq!(stream.missing(200), ours as u64);
        }
    }
}
