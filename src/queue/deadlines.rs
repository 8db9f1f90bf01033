//! `Deadlines`: until when the messages of one queue may stay, ready or unacked.
//!
//! ```text
//!   common   the queue's own time to live: deadlines ascend with the places, so the first is the next to run out
//!   own      messages with an `expiration` below that, or with a delay: in any order, each in the core's time index
//! ```
//!
//! Times are milliseconds since 1970. A queue without deadlines pays a look at two empty maps for each message that
//! leaves; a deadline takes 8 bytes.

use crate::model::OrderedSlots;
use std::num::NonZeroU64;

/// When messages of one queue run out.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    common: OrderedSlots<NonZeroU64>,
    own: OrderedSlots<NonZeroU64>,
}

impl Deadlines {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.common.is_empty() && self.own.is_empty()
    }

    /// Notes that the newest message may stay until `at`. Returns whether it needs a place in the time index by itself,
    /// because it does not run out after the one before it.
    pub(super) fn insert(&mut self, sequence: u64, at: u64, is_common: bool) -> bool {
        let at = NonZeroU64::new(at).unwrap_or(NonZeroU64::MIN);
        let last = self.common.last_key().and_then(|key| self.common.get(key));
        let ascends = last.is_none_or(|&last| last <= at);
        let is_own = !is_common || !ascends;
        let map = if is_own { &mut self.own } else { &mut self.common };
        map.insert(sequence, at);
        is_own
    }

    /// The message has left the queue.
    #[inline]
    pub(super) fn remove(&mut self, sequence: u64) {
        if !self.is_empty() {
            self.remove_noted(sequence);
        }
    }

    #[inline(never)]
    fn remove_noted(&mut self, sequence: u64) {
        if self.common.remove(sequence).is_none() {
            self.own.remove(sequence);
        }
    }

    /// Until when the message may stay.
    pub(super) fn get(&self, sequence: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let at = self.common.get(sequence).or_else(|| self.own.get(sequence));
        at.map(|at| at.get())
    }

    /// The next common deadline and whose it is.
    pub(super) fn first_common(&self) -> Option<(u64, u64)> {
        self.common.first().map(|(sequence, at)| (sequence, at.get()))
    }

    /// The first common deadline has passed while its message is unacked: it counts when that comes back, and stands
    /// in nobody's way until then.
    pub(super) fn set_aside_first(&mut self) {
        if let Some((sequence, at)) = self.common.pop_first() {
            self.own.insert(sequence, at);
        }
    }

    /// The messages that need a place in the time index by themselves.
    pub(super) fn own(&self) -> impl Iterator<Item = (u64, u64)> {
        self.own.iter().map(|(sequence, at)| (sequence, at.get()))
    }

    /// How many they are.
    pub(super) fn own_count(&self) -> usize {
        self.own.len()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        (self.common.len() + self.own.len()) * size_of::<Option<NonZeroU64>>()
    }

    pub(super) fn shrink(&mut self) {
        self.common.shrink();
        self.own.shrink();
    }

    /// Panics unless every deadline is that of a message for which `has` says so.
    pub(super) fn check_invariants(&self, has: impl Fn(u64) -> bool) {
        self.common.check_invariants();
        self.own.check_invariants();
        let common = || self.common.iter().map(|(_, at)| *at);
        assert!(common().is_sorted(), "common deadlines ascend");
        let mut sequences = self
            .common
            .iter()
            .chain(self.own.iter())
            .map(|(sequence, _)| sequence);
        assert!(sequences.all(has), "a deadline is that of a message in the queue");
    }
}
