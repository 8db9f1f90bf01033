//! `Ready`: messages that wait for a consumer, by priority and within it by place.
//!
//! ```text
//!   highest ─► level 9   3 ─ 8                 taken first: 3, 8, then 5, then 1, 2, 4
//!              level 4   5
//!   lowest     level 0   1 ─ 2 ─ 4             a queue without priorities has this one only
//! ```
//!
//! A requeued message goes back to its place in its level. A queue without `x-max-priority` pays a look at an empty
//! list; with it, taking the first passes over the empty levels below the highest one used, 255 at most.

use super::entry::Entry;
use crate::model::OrderedSlots;

/// The ready messages of one queue.
#[derive(Debug)]
pub(super) struct Ready {
    lowest: OrderedSlots<Entry>,
    /// Levels 1 to the queue's highest priority.
    higher: Vec<OrderedSlots<Entry>>,
    /// No level above this one holds a message; 0 is the lowest.
    highest_used: usize,
    in_higher: usize,
    bytes: u64,
}

impl Ready {
    /// Nothing is ready; messages have priorities up to `max_priority`.
    pub(super) fn new(max_priority: u8) -> Self {
        Self {
            lowest: OrderedSlots::new(),
            higher: (0..max_priority).map(|_| OrderedSlots::new()).collect(),
            highest_used: 0,
            in_higher: 0,
            bytes: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.lowest.len() + self.in_higher
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum of the bodies' lengths.
    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The highest priority a message can have here.
    pub(super) fn max_priority(&self) -> u8 {
        self.higher.len() as u8
    }

    /// Puts a message in its place. Panics if something has it.
    #[inline]
    pub(super) fn insert(&mut self, sequence: u64, entry: Entry) {
        self.bytes += u64::from(entry.body_bytes);
        if self.higher.is_empty() || entry.priority == 0 {
            self.lowest.insert(sequence, entry);
        } else {
            self.insert_higher(sequence, entry);
        }
    }

    #[inline(never)]
    fn insert_higher(&mut self, sequence: u64, entry: Entry) {
        let level = usize::from(entry.priority).min(self.higher.len());
        self.higher[level - 1].insert(sequence, entry);
        self.in_higher += 1;
        self.highest_used = self.highest_used.max(level);
    }

    /// The message that would be taken first.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, &Entry)> {
        if self.in_higher == 0 {
            return self.lowest.first();
        }
        self.higher.iter().rev().find_map(OrderedSlots::first)
    }

    /// Takes the first message.
    #[inline]
    pub(super) fn pop_first(&mut self) -> Option<(u64, Entry)> {
        let (sequence, entry) = match self.in_higher {
            0 => self.lowest.pop_first()?,
            _ => self.pop_higher()?,
        };
        self.bytes -= u64::from(entry.body_bytes);
        Some((sequence, entry))
    }

    #[inline(never)]
    fn pop_higher(&mut self) -> Option<(u64, Entry)> {
        while self.higher[self.highest_used - 1].is_empty() {
            self.highest_used -= 1;
        }
        self.in_higher -= 1;
        self.higher[self.highest_used - 1].pop_first()
    }

    /// The message in this place.
    pub(super) fn get(&self, sequence: u64) -> Option<&Entry> {
        let in_higher = || self.higher.iter().find_map(|level| level.get(sequence));
        self.lowest.get(sequence).or_else(in_higher)
    }

    /// The message in this place, to be changed in all but priority and length.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        match self.lowest.get_mut(sequence) {
            Some(entry) => Some(entry),
            None => self.higher.iter_mut().find_map(|level| level.get_mut(sequence)),
        }
    }

    /// Takes the message in this place.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let entry = match self.lowest.remove(sequence) {
            Some(entry) => entry,
            None => {
                let entry = self.higher.iter_mut().find_map(|level| level.remove(sequence))?;
                self.in_higher -= 1;
                entry
            }
        };
        self.bytes -= u64::from(entry.body_bytes);
        Some(entry)
    }

    /// Takes everything, first to last.
    pub(super) fn drain(&mut self, mut take: impl FnMut(u64, Entry)) {
        self.higher
            .iter_mut()
            .rev()
            .for_each(|level| level.drain(&mut take));
        self.lowest.drain(&mut take);
        (self.in_higher, self.highest_used, self.bytes) = (0, 0, 0);
    }

    /// All messages, ascending within each level, the lowest level first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let higher = self.higher.iter().flat_map(OrderedSlots::iter);
        self.lowest.iter().chain(higher)
    }

    /// Gives back memory held for messages to come.
    pub(super) fn shrink(&mut self) {
        self.lowest.shrink();
        self.higher.iter_mut().for_each(OrderedSlots::shrink);
    }

    /// Panics when the levels contradict their counts.
    pub(super) fn check_invariants(&self) {
        self.lowest.check_invariants();
        self.higher.iter().for_each(OrderedSlots::check_invariants);
        let in_higher: usize = self.higher.iter().map(OrderedSlots::len).sum();
        assert_eq!(in_higher, self.in_higher, "the higher levels are counted");
        let is_used = |(_, level): &(usize, &OrderedSlots<Entry>)| !level.is_empty();
        let highest = self
            .higher
            .iter()
            .enumerate()
            .filter(is_used)
            .map(|(at, _)| at + 1)
            .max();
        assert!(
            highest.unwrap_or(0) <= self.highest_used,
            "no level above the highest is used"
        );
        let bytes: u64 = self.iter().map(|(_, entry)| u64::from(entry.body_bytes)).sum();
        assert_eq!(bytes, self.bytes, "ready bytes are the sum of the bodies'");
    }
}
