//! `SingleActive`: which consumer of a queue is served where only one may be at a time, and who is next.
//!
//! ```text
//!   first consumer ──────────────► active ── removed ──► (nobody)
//!                                    ▲
//!   further ones ──► waiting ────────┘ when the active one is removed
//! ```
//!
//! Who waits carries a reason not to be served, as one that is paused does; so the rings know nothing of this, and a
//! queue without it pays nothing. What a consumer holds when it is removed stays unacked and does not hold up the next
//! one. RabbitMQ 3.10's quorum queues do the same; its classic ones leave what is ready until something else moves the
//! queue, which nobody can want.

use std::cmp::Reverse;

/// Who becomes the active consumer when the one before has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// Of those that wait, the first to have subscribed, as on RabbitMQ's quorum queues.
    BySubscription,
    /// The same among those of the highest `x-priority`, as on its classic queues. The active one stays, whoever comes.
    ByPriority,
}

/// The active consumer of a queue and those that wait, as indexes of holders.
#[derive(Debug)]
pub(super) struct SingleActive {
    succession: Succession,
    active: Option<u32>,
    /// In the order of their subscription.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    holder: u32,
    priority: i64,
}

impl SingleActive {
    pub(super) fn new(succession: Succession) -> Self {
        Self {
            succession,
            active: None,
            waiting: Vec::new(),
        }
    }

    /// A consumer comes. Returns whether it must wait.
    pub(super) fn add(&mut self, holder: u32, priority: i64) -> bool {
        if self.active.is_none() {
            self.active = Some(holder);
            return false;
        }
        self.waiting.push(Waiting { holder, priority });
        true
    }

    /// A consumer goes. Returns who is active from now on, if that has changed.
    pub(super) fn remove(&mut self, holder: u32) -> Option<u32> {
        if self.active == Some(holder) {
            self.active = self.take_next();
            return self.active;
        }
        self.waiting.retain(|waiting| waiting.holder != holder);
        None
    }

    /// Who is active.
    pub(super) fn active(&self) -> Option<u32> {
        self.active
    }

    /// How many wait.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    fn take_next(&mut self) -> Option<u32> {
        let rank = |waiting: &Waiting| match self.succession {
            Succession::BySubscription => 0,
            Succession::ByPriority => waiting.priority,
        };
        let by_rank = |&(_, it): &(usize, &Waiting)| Reverse(rank(it));
        // The first of equals is taken.
        let (at, _) = self.waiting.iter().enumerate().min_by_key(by_rank)?;
        Some(self.waiting.remove(at).holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holders 0 to 4 with priorities 0, 0, 5, 9 and 5, in the order in which they become active.
    fn turns(succession: Succession) -> Vec<u32> {
        let mut single = SingleActive::new(succession);
        for (holder, priority) in (0..).zip([0, 0, 5, 9, 5]) {
            assert_eq!(single.add(holder, priority), holder > 0);
        }
        let mut turns = vec![single.active().expect("the first")];
        while let Some(next) = single.remove(turns[turns.len() - 1]) {
            turns.push(next);
        }
        turns
    }

    #[test]
    fn the_highest_priority_is_next_and_of_equals_the_first_that_came() {
        assert_eq!(turns(Succession::ByPriority), [0, 3, 2, 4, 1]);
    }

    #[test]
    fn a_quorum_queues_next_is_the_first_that_came() {
        assert_eq!(turns(Succession::BySubscription), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_waits_may_go_and_changes_nothing() {
        let mut single = SingleActive::new(Succession::ByPriority);
        let waits = [0, 1, 2].map(|holder| single.add(holder, 0));
        assert_eq!(waits, [false, true, true]);
        assert_eq!(single.remove(1), None);
        assert_eq!((single.active(), single.waiting_count()), (Some(0), 1));
        assert_eq!(single.remove(0), Some(2));
        assert_eq!(single.remove(2), None);
        assert!(!single.add(3, 0), "the queue has nobody else");
    }
}
