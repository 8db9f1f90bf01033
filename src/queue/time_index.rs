//! `TimeIndex`: what falls due when, over all queues of a core: messages that expire, delays that end, queues nobody uses.
//!
//! ```text
//!            now           horizon
//!   ──────────┼───────────────┼─────────────┬─────────────┬─────────────┬───────► time
//!     due     │   near: heap  │  far: a bucket for each 8 s, unsorted, 16 bytes an item
//!             └─ 24 bytes ────┘
//! ```
//!
//! Far away nothing is sorted: an item is appended to the bucket of its time. While the time draws near, a bucket is moved
//! to the heap in slices, so that no tick has much to do. Whatever leaves its queue earlier stays behind here, and is found
//! dead when it falls due; when the dead outnumber the living, [`TimeIndex::sweep`] throws them out, in slices too.
//!
//! Inserting takes a few nanoseconds far away, logarithmic time nearby. Times are milliseconds since 1970.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Milliseconds of a bucket, as a power of two.
const BUCKET_BITS: u32 = 13;
const BUCKET_MILLISECONDS: u64 = 1 << BUCKET_BITS;
/// Sequences are kept in 48 bits: a million messages a second for nine years.
const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
/// Numbers that stand for what is no message, in place of a sequence.
const COMMON_DEADLINE: u64 = 0;
const QUEUE_LEASE: u64 = SEQUENCE_MASK;
const REMEMBERED_VALUE: u64 = SEQUENCE_MASK - 1;
/// Items that one sweep needs to be worth its while.
const SWEEP_MIN: usize = 4096;

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// The first of the messages that stay as long as their queue says.
    CommonDeadline,
    /// The queue itself, if nobody has used it.
    QueueLease,
    /// The oldest of the values that the queue remembers.
    RememberedValue,
    /// The message in this place.
    Message(u64),
}

/// Something that falls due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When.
    pub at: u64,
    /// Slot of the queue in the core's table.
    pub queue_slot: u32,
    /// The low half of the queue's id, since slots are used again.
    pub queue_stamp: u32,
    /// What.
    pub occasion: Occasion,
}

/// An item of a bucket; its bucket knows the rest of the time.
#[derive(Clone, Copy, Debug)]
struct FarItem {
    /// Milliseconds within the bucket above, and the occasion below.
    when_and_what: u64,
    queue_slot: u32,
    queue_stamp: u32,
}

const _: () = assert!(size_of::<FarItem>() == 16, "a waiting item takes two words");

/// Everything that falls due on one core.
#[derive(Debug, Default)]
pub struct TimeIndex {
    near: BinaryHeap<Reverse<Due>>,
    far: BTreeMap<u64, Vec<FarItem>>,
    /// Whatever is due before this is in the heap; a multiple of a bucket.
    horizon: u64,
    far_len: usize,
    /// The bucket that a sweep goes on with.
    sweep_at: Option<u64>,
    /// Its length when it was last asked whether a sweep is due.
    len_judged: usize,
}

impl TimeIndex {
    /// Notes that something falls due.
    pub fn insert(&mut self, due: Due) {
        if due.at < self.horizon {
            self.near.push(Reverse(due));
        } else {
            self.far
                .entry(due.at >> BUCKET_BITS)
                .or_default()
                .push(FarItem::of(&due));
            self.far_len += 1;
        }
    }

    /// Items it holds, dead ones among them.
    pub fn len(&self) -> usize {
        self.near.len() + self.far_len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it has.
    pub fn bytes_allocated(&self) -> usize {
        let far: usize = self.far.values().map(Vec::capacity).sum();
        self.near.capacity() * size_of::<Due>() + far * size_of::<FarItem>()
    }

    /// Moves what falls due soon into the heap: up to `budget` items while there is time, and all that cannot wait.
    pub fn advance(&mut self, now: u64, mut budget: usize) {
        while let Some(mut first) = self.far.first_entry() {
            let begins = *first.key() << BUCKET_BITS;
            if begins > now + BUCKET_MILLISECONDS || (budget == 0 && begins > now) {
                return;
            }
            let bucket = *first.key();
            let items = first.get_mut();
            let count = match begins > now {
                true => items.len().min(budget),
                false => items.len(),
            };
            budget = budget.saturating_sub(count);
            let moved = items
                .drain(items.len() - count..)
                .map(|item| Reverse(item.due(bucket)));
            self.near.extend(moved);
            self.far_len -= count;
            if items.is_empty() {
                first.remove();
                self.horizon = self.horizon.max((bucket + 1) << BUCKET_BITS);
            }
        }
    }

    /// Takes the next item that is due by `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<Due> {
        let is_due = self.near.peek().is_some_and(|Reverse(due)| due.at <= now);
        is_due.then(|| self.near.pop().expect("just looked at").0)
    }

    /// When to look again: the time of the next item, or that of its bucket.
    pub fn next_due(&self) -> Option<u64> {
        let near = self.near.peek().map(|Reverse(due)| due.at);
        let far = self
            .far
            .first_key_value()
            .map(|(bucket, _)| bucket << BUCKET_BITS);
        near.into_iter().chain(far).min()
    }

    /// Whether so many items are dead that a sweep is due, when `living` are not.
    pub fn wants_sweep(&mut self, living: usize) -> bool {
        self.len_judged = self.len();
        self.sweep_at.is_some() || self.len() > 2 * living + SWEEP_MIN
    }

    /// Whether it has more than doubled since it was last asked whether a sweep is due.
    pub fn has_doubled(&self) -> bool {
        self.len() > 2 * self.len_judged + SWEEP_MIN
    }

    /// Throws out items of which `is_alive` says no, looking at about `budget`. Returns whether there is more to look at.
    pub fn sweep(&mut self, mut budget: usize, mut is_alive: impl FnMut(&Due) -> bool) -> bool {
        let mut from = match self.sweep_at {
            Some(bucket) => bucket,
            None => {
                self.near.retain(|Reverse(due)| is_alive(due));
                0
            }
        };
        while let Some((&bucket, items)) = self.far.range_mut(from..).next() {
            if budget == 0 {
                self.sweep_at = Some(bucket);
                return true;
            }
            budget = budget.saturating_sub(items.len());
            let before = items.len();
            items.retain(|item| is_alive(&item.due(bucket)));
            items.shrink_to(items.len() * 2);
            self.far_len -= before - items.len();
            if items.is_empty() {
                self.far.remove(&bucket);
            }
            from = bucket + 1;
        }
        self.sweep_at = None;
        false
    }
}

impl FarItem {
    fn of(due: &Due) -> Self {
        let what = match due.occasion {
            Occasion::CommonDeadline => COMMON_DEADLINE,
            Occasion::QueueLease => QUEUE_LEASE,
            Occasion::RememberedValue => REMEMBERED_VALUE,
            Occasion::Message(sequence) => sequence & SEQUENCE_MASK,
        };
        let when = due.at & (BUCKET_MILLISECONDS - 1);
        Self {
            when_and_what: when << SEQUENCE_BITS | what,
            queue_slot: due.queue_slot,
            queue_stamp: due.queue_stamp,
        }
    }

    fn due(&self, bucket: u64) -> Due {
        Due {
            at: (bucket << BUCKET_BITS) | (self.when_and_what >> SEQUENCE_BITS),
            queue_slot: self.queue_slot,
            queue_stamp: self.queue_stamp,
            occasion: match self.when_and_what & SEQUENCE_MASK {
                COMMON_DEADLINE => Occasion::CommonDeadline,
                QUEUE_LEASE => Occasion::QueueLease,
                REMEMBERED_VALUE => Occasion::RememberedValue,
                sequence => Occasion::Message(sequence),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(at: u64, sequence: u64) -> Due {
        Due {
            at,
            queue_slot: 7,
            queue_stamp: 3,
            occasion: Occasion::Message(sequence),
        }
    }

    fn pop_all(index: &mut TimeIndex, now: u64) -> Vec<Due> {
        std::iter::from_fn(|| index.pop_due(now)).collect()
    }

    #[test]
    fn whatever_falls_due_comes_out_in_its_order_and_not_before() {
        let mut index = TimeIndex::default();
        for (at, sequence) in [(90_000, 1), (20, 2), (1_000_000, 3), (20, 4)] {
            index.insert(message(at, sequence));
        }
        for (at, occasion) in [(30, Occasion::QueueLease), (50_000, Occasion::RememberedValue)] {
            index.insert(Due {
                occasion,
                ..message(at, 0)
            });
        }
        index.advance(25, 1000);
        assert_eq!(pop_all(&mut index, 25), [message(20, 2), message(20, 4)]);
        index.advance(90_000, 0);
        let due = pop_all(&mut index, 90_000);
        assert_eq!(due[0].occasion, Occasion::QueueLease);
        assert_eq!(due[1].occasion, Occasion::RememberedValue);
        assert_eq!(due[2..], [message(90_000, 1)]);
        assert_eq!(index.len(), 1);
        assert!(index.next_due().is_some_and(|at| at <= 1_000_000));
    }

    #[test]
    fn a_bucket_is_moved_in_slices_while_there_is_time() {
        let mut index = TimeIndex::default();
        let at = 10 * BUCKET_MILLISECONDS;
        (1..=1000).for_each(|sequence| index.insert(message(at, sequence)));
        index.advance(at - BUCKET_MILLISECONDS, 300);
        assert_eq!((index.near.len(), index.len()), (300, 1000));
        index.advance(at, 0);
        assert_eq!((index.near.len(), index.len()), (1000, 1000));
    }

    #[test]
    fn a_sweep_throws_out_the_dead_in_slices() {
        let mut index = TimeIndex::default();
        for sequence in 1..=20_000 {
            index.insert(message(sequence * 100, sequence));
        }
        assert!(index.has_doubled() && index.wants_sweep(5_000));
        let mut rounds = 1;
        while index.sweep(
            1000,
            |due| matches!(due.occasion, Occasion::Message(s) if s % 4 == 0),
        ) {
            rounds += 1;
        }
        assert!(rounds > 10, "{rounds} rounds");
        assert_eq!(index.len(), 5_000);
        assert!(!index.wants_sweep(5_000) && !index.has_doubled());
    }

    proptest! {
        #[test]
        fn an_index_behaves_like_a_sorted_list(
            steps in proptest::collection::vec((0..40_000u64, 0..3_000u64, 0..50usize), 1..200)
        ) {
            let (mut index, mut model, mut now) = (TimeIndex::default(), Vec::new(), 0);
            for (sequence, (ahead, passes, budget)) in (1..).zip(steps) {
                let due = message(now + ahead, sequence);
                index.insert(due);
                model.push(due);
                now += passes;
                index.advance(now, budget);
                let found = pop_all(&mut index, now);
                let mut expected: Vec<Due> = model.extract_if(.., |due| due.at <= now).collect();
                expected.sort();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(index.len(), model.len());
                let next = model.iter().map(|due| due.at).min();
                prop_assert!(next.is_none_or(|next| index.next_due().is_some_and(|at| at <= next)));
            }
        }
    }
}
