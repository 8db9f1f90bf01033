//! A queue: which message is next, whose turn it is, who holds what unacked.
//!
//! ```text
//!                push, restore                   next_delivery, get
//!   (nothing) ────────────────────►   ready   ─────────────────────────►  unacked ──► (nothing)
//!       ▲                               │ ▲                                  │    acknowledge, reject
//!       └────────── purge ──────────────┘ └──────────── requeue ─────────────┘
//!                                         next_delivery, get without ack: ready ──► (nothing)
//!   hand_off: (nothing) ──► a consumer without ack, when nothing is ready
//! ```
//!
//! A message's sequence is its place for good: ready messages leave in its order, so one that is requeued stands
//! before all that came later, wherever it was (as RabbitMQ does). Both states are `OrderedSlots` by sequence, at
//! 24 and 28 bytes a message; returned messages need no place of their own, being lower than the rest. Set aside:
//! a `VecDeque` for ready messages with a tree beside it for the returned ones, which has to look at both for each
//! delivery and to know about gaps.
//!
//! A queue does not know what a message says: an `Entry` tells where its content lies, and `Arena` is one such
//! place, the queue's memory for small ones. It knows no names, no arguments, no permissions, no delivery tags, no
//! disk: its shard logs what must be logged, sends what is delivered, and drops content whose entry comes back.
//! Nor does it limit its length; its shard asks [`Limits`] and refuses.
//!
//! For each message that is pushed, delivered and acknowledged, two slots are written and cleared and a consumer's
//! counter goes up and down: 25 to 35 ns in all, 15 to 20 ns without ack, 3 ns for a batch that is handed off. No
//! allocation, no hash, and no look at consumers that cannot be served.

mod arena;
mod consumers;
pub mod dead_letter;
mod deadlines;
pub mod deduplication;
mod entry;
mod limits;
mod ready;
mod served;
mod single_active;
#[cfg(test)]
mod tests;
mod time_index;
mod turns;

pub use arena::{Arena, ArenaSlot};
pub use consumers::{ConsumeRefused, Consumer, Pause, Pauses, Removed};
pub use entry::{Entry, Locator};
pub use limits::Limits;
pub use single_active::Succession;
pub use time_index::{Due, Occasion, TimeIndex};

use crate::model::{ConsumerId, OrderedSlots, QueueSequence};
use consumers::{Consumers, Turn};
use deadlines::Deadlines;
use ready::Ready;
use served::Served;
use std::collections::BTreeMap;

/// The messages of one queue in their order, and its consumers.
#[derive(Debug)]
pub struct Queue {
    ready: Ready,
    unacked: OrderedSlots<Unacked>,
    /// On their way to another queue, until that has them for good; and what is kept aside.
    leaving: OrderedSlots<Entry>,
    deadlines: Deadlines,
    consumers: Consumers,
    /// Sequence of the next message; all in the queue have lower ones.
    next_sequence: u64,
    served: Served,
}

/// Messages that a consumer may have without their being queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOff {
    /// Who gets them; it does not ack.
    pub consumer: ConsumerId,
    /// How many, from 1 to what was asked for.
    pub count: u32,
    /// Sequence of the first; the others follow it without a gap.
    pub first_sequence: QueueSequence,
}

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Its place in the queue.
    pub sequence: QueueSequence,
    /// What is known of it, as it is delivered.
    pub entry: Entry,
    /// Whether it is unacked now. Else it has left the queue, and its content may be dropped once sent.
    pub needs_ack: bool,
    /// Whether its consumer gets no more until it is granted some.
    pub spends_grant: bool,
}

/// A message that basic.get took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its place in the queue.
    pub sequence: QueueSequence,
    /// What is known of it, as it is delivered.
    pub entry: Entry,
    /// Ready messages left (`message-count` of basic.get-ok).
    pub remaining: u32,
}

#[derive(Clone, Copy, Debug)]
struct Unacked {
    entry: Entry,
    holder: u32,
}

const _: () = assert!(
    size_of::<Option<Entry>>() == 24,
    "a ready message takes no more than its entry"
);
const _: () = assert!(
    size_of::<Option<Unacked>>() == 28,
    "an unacked message takes its entry and its holder"
);

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// An empty queue without consumers and priorities, whose first message will have sequence 1.
    pub fn new() -> Self {
        Self::with_priorities(0)
    }

    /// The same, whose messages have priorities up to `max_priority`.
    pub fn with_priorities(max_priority: u8) -> Self {
        Self {
            ready: Ready::new(max_priority),
            unacked: OrderedSlots::new(),
            leaving: OrderedSlots::new(),
            deadlines: Deadlines::default(),
            consumers: Consumers::default(),
            next_sequence: 1,
            served: Served::default(),
        }
    }

    /// The highest priority that a message has here; one that asks for more gets this.
    pub fn max_priority(&self) -> u8 {
        self.ready.max_priority()
    }

    /// Serves one consumer at a time from now on; whoever goes is followed by the next. Panics if there are some already.
    pub fn serve_one_consumer(&mut self, succession: Succession) {
        self.consumers.serve_one(succession);
    }

    // Publishing

    /// Appends a message to the ready ones.
    #[inline]
    pub fn push(&mut self, entry: Entry) -> QueueSequence {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.make_ready(sequence, entry);
        QueueSequence(sequence)
    }

    /// Gives up to `count` messages that are not queued yet to the next consumer: only if nothing is ready, so that
    /// none is overtaken, and if that consumer does not ack. It gets one, unless no other can be served at its
    /// priority. Their sequences are taken as if they had been pushed.
    #[inline]
    pub fn hand_off(&mut self, count: u32) -> Option<HandOff> {
        if count == 0 || !self.ready.is_empty() {
            return None;
        }
        let (consumer, count) = self.consumers.take_turn_without_ack(count)?;
        let first_sequence = QueueSequence(self.next_sequence);
        self.next_sequence += u64::from(count);
        self.served.note(consumer, self.next_sequence - 1);
        Some(HandOff {
            consumer,
            count,
            first_sequence,
        })
    }

    /// Appends a message that recovery found, at its old place: above all that the queue holds. Sequences may have
    /// gaps, where messages were settled.
    pub fn restore(&mut self, sequence: QueueSequence, entry: Entry) {
        assert!(
            sequence.0 >= self.next_sequence,
            "messages are restored in their order"
        );
        self.next_sequence = sequence.0 + 1;
        self.make_ready(sequence.0, entry);
    }

    /// Sees to it that messages to come have sequences of at least `least`, as lower ones may have been given out.
    pub fn set_next_sequence(&mut self, least: QueueSequence) {
        self.next_sequence = self.next_sequence.max(least.0);
    }

    /// The sequence of the next message.
    #[inline]
    pub fn next_sequence(&self) -> QueueSequence {
        QueueSequence(self.next_sequence)
    }

    /// What is known of a message, ready, unacked or leaving.
    pub fn entry(&self, sequence: QueueSequence) -> Option<&Entry> {
        let unacked = || self.unacked.get(sequence.0).map(|unacked| &unacked.entry);
        let leaving = || self.leaving.get(sequence.0);
        self.ready.get(sequence.0).or_else(unacked).or_else(leaving)
    }

    /// Notes that a message's content lies elsewhere now. Returns whether the queue has it.
    pub fn relocate(&mut self, sequence: QueueSequence, locator: Locator) -> bool {
        if let Some(unacked) = self.unacked.get_mut(sequence.0) {
            unacked.entry.locator = locator;
            return true;
        }
        let leaving = self.leaving.get_mut(sequence.0);
        let found = leaving.or_else(|| self.ready.get_mut(sequence.0));
        found.map(|entry| entry.locator = locator).is_some()
    }

    // Consumers

    /// Adds a consumer, which is served after all others of its priority.
    ///
    /// Refused where exclusive use forbids it (403). Panics if the channel used the consumer's number before.
    pub fn add_consumer(&mut self, consumer: Consumer) -> Result<(), ConsumeRefused> {
        self.consumers.add(consumer)
    }

    /// Removes a consumer, `None` if it is gone. What it holds stays unacked (RabbitMQ: cancel does not requeue).
    pub fn remove_consumer(&mut self, id: ConsumerId) -> Option<Removed> {
        self.consumers.remove(id)
    }

    /// Stops serving a consumer until it is resumed for the same reason; nothing if it is gone or paused so already.
    pub fn pause(&mut self, id: ConsumerId, reason: Pause) {
        self.consumers.pause(id, reason);
    }

    /// Serves a consumer again, after all others of its priority, unless it is paused for another reason. For its channel's
    /// prefetch, that grants it any number of messages.
    pub fn resume(&mut self, id: ConsumerId, reason: Pause) {
        self.consumers.resume(id, reason);
    }

    /// Serves a consumer again whose channel's prefetch was used up, until it got `most` messages that it must ack, above
    /// 0 and `u32::MAX` for any number. A delivery says when it was the last of them.
    pub fn grant(&mut self, id: ConsumerId, most: u32) {
        debug_assert!(most > 0, "nothing to grant");
        self.consumers.grant(id, most);
    }

    /// Number of consumers, paused ones among them.
    pub fn consumer_count(&self) -> u32 {
        self.consumers.count()
    }

    /// The consumers, ascending by id: those to tell when the queue is deleted.
    pub fn consumer_ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.consumers.ids()
    }

    /// Whether the queue ever had a consumer; an auto-delete queue is deleted when its last one goes, not before
    /// its first one came.
    pub fn has_had_consumer(&self) -> bool {
        self.consumers.has_had_consumer()
    }

    // Delivering

    /// Whether `next_delivery` would give one.
    #[inline]
    pub fn can_deliver(&self) -> bool {
        !self.ready.is_empty() && self.consumers.can_serve()
    }

    /// Whether the consumer is one of its.
    pub fn has_consumer(&self, id: ConsumerId) -> bool {
        self.consumers.has(id)
    }

    /// Who would get the next message, if there is one who can.
    #[inline]
    pub fn next_consumer(&self) -> Option<ConsumerId> {
        self.consumers.next()
    }

    /// Takes the first ready message for the next consumer that is neither paused nor at its prefetch count: of the
    /// highest priority, and there by round robin.
    #[inline]
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        if self.ready.is_empty() {
            return None;
        }
        let turn = self.consumers.take_turn()?;
        let (sequence, entry) = self.take_first()?;
        if turn.needs_ack {
            self.unacked.insert(
                sequence,
                Unacked {
                    entry,
                    holder: turn.holder,
                },
            );
        } else {
            self.deadlines.remove(sequence);
        }
        let Turn {
            consumer,
            needs_ack,
            spends_grant,
            ..
        } = turn;
        self.served.note(consumer, sequence);
        Some(Delivery {
            consumer,
            sequence: QueueSequence(sequence),
            entry,
            needs_ack,
            spends_grant,
        })
    }

    /// Takes the first ready message for basic.get. `getter` is connection and channel, with number 0; unless
    /// `no_ack`, it holds the message from now on, beside what prefetch counts.
    pub fn get(&mut self, getter: ConsumerId, no_ack: bool) -> Option<Got> {
        let (sequence, entry) = self.take_first()?;
        self.served.note(getter, sequence);
        if !no_ack {
            let holder = self.consumers.hold(getter);
            self.unacked.insert(sequence, Unacked { entry, holder });
        } else {
            self.deadlines.remove(sequence);
        }
        Some(Got {
            sequence: QueueSequence(sequence),
            entry,
            remaining: self.ready_count(),
        })
    }

    // Settling

    /// Takes out an unacked message; its content may be dropped. `None` if it is not unacked.
    #[inline]
    pub fn acknowledge(&mut self, sequence: QueueSequence) -> Option<Entry> {
        let entry = self.take_unacked(sequence)?;
        self.deadlines.remove(sequence.0);
        Some(entry)
    }

    /// Takes out an unacked message that its consumer does not want. `None` if it is not unacked.
    #[inline]
    pub fn reject(&mut self, sequence: QueueSequence) -> Option<Entry> {
        self.acknowledge(sequence)
    }

    /// Returns an unacked message to its place among the ready ones, redelivered and counted once more, and tells
    /// what is known of it now. `None` if it is not unacked.
    pub fn requeue(&mut self, sequence: QueueSequence) -> Option<Entry> {
        let mut entry = self.take_unacked(sequence)?;
        entry.return_once();
        self.make_ready(sequence.0, entry);
        Some(entry)
    }

    /// Puts an unacked message back to its place: it did not get to its consumer. It looks as if it had never been handed
    /// out, unless others have got later ones meanwhile: what comes out of order is marked as redelivered.
    pub fn take_back(&mut self, sequence: QueueSequence) {
        let Some(unacked) = self.unacked.remove(sequence.0) else {
            return;
        };
        let consumer = self.consumers.id_of(unacked.holder);
        self.consumers.settle(unacked.holder);
        let mut entry = unacked.entry;
        entry.redelivered |= self.served.has_overtaken(consumer, sequence.0);
        self.make_ready(sequence.0, entry);
    }

    // Leaving otherwise

    /// Notes until when the newest message may stay, in milliseconds since 1970: as long as the queue says (`is_common`), or
    /// less. Returns whether it needs a place in the time index by itself; if not, the queue's first common deadline does.
    pub fn set_deadline(&mut self, sequence: QueueSequence, at: u64, is_common: bool) -> bool {
        self.deadlines.insert(sequence.0, at, is_common)
    }

    /// Until when a message may stay.
    pub fn deadline(&self, sequence: QueueSequence) -> Option<u64> {
        self.deadlines.get(sequence.0)
    }

    /// When the first of the messages runs out that stay as long as the queue says.
    pub fn first_common_deadline(&self) -> Option<u64> {
        self.deadlines.first_common().map(|(_, at)| at)
    }

    /// The messages that need a place in the time index by themselves, and until when they may stay.
    pub fn own_deadlines(&self) -> impl Iterator<Item = (QueueSequence, u64)> {
        self.deadlines
            .own()
            .map(|(sequence, at)| (QueueSequence(sequence), at))
    }

    /// How many they are.
    pub fn own_deadline_count(&self) -> usize {
        self.deadlines.own_count()
    }

    /// Takes the next ready message whose common deadline has come. Unacked ones stay; they are looked at when they return.
    pub fn take_expired(&mut self, now: u64) -> Option<(QueueSequence, Entry)> {
        while let Some((sequence, at)) = self.deadlines.first_common() {
            if at > now {
                return None;
            }
            match self.take_ready(QueueSequence(sequence)) {
                Some(entry) => return Some((QueueSequence(sequence), entry)),
                None => self.deadlines.set_aside_first(),
            }
        }
        None
    }

    /// Takes a message if it is ready and its deadline has come.
    pub fn take_if_expired(&mut self, sequence: QueueSequence, now: u64) -> Option<Entry> {
        let is_due = self.deadline(sequence).is_some_and(|at| at <= now);
        is_due.then(|| self.take_ready(sequence)).flatten()
    }

    /// Takes the first ready message: the queue has too many.
    pub fn take_front(&mut self) -> Option<(QueueSequence, Entry)> {
        let (sequence, entry) = self.ready.pop_first()?;
        self.deadlines.remove(sequence);
        Some((QueueSequence(sequence), entry))
    }

    /// Takes one ready message.
    pub fn take_ready(&mut self, sequence: QueueSequence) -> Option<Entry> {
        let entry = self.ready.remove(sequence.0)?;
        self.deadlines.remove(sequence.0);
        Some(entry)
    }

    /// Keeps a message that was taken while it is on its way to another queue: it is neither ready nor unacked, and not
    /// gone.
    pub fn hold_leaving(&mut self, sequence: QueueSequence, entry: Entry) {
        self.leaving.insert(sequence.0, entry);
    }

    /// Keeps what was stored in the next place and is not to be delivered: it is neither ready nor unacked.
    pub fn keep_aside(&mut self, entry: Entry) -> QueueSequence {
        let sequence = self.next_sequence();
        self.next_sequence += 1;
        self.leaving.insert(sequence.0, entry);
        sequence
    }

    /// What is known of a message on its way.
    pub fn leaving(&self, sequence: QueueSequence) -> Option<&Entry> {
        self.leaving.get(sequence.0)
    }

    /// Lets go of a message that has arrived where it went. `None` if it is not on its way.
    pub fn finish_leaving(&mut self, sequence: QueueSequence) -> Option<Entry> {
        self.leaving.remove(sequence.0)
    }

    /// Takes out all ready messages, gives each to `take`, in their order, and tells how many. Unacked ones stay
    /// (queue.purge, AMQP 0-9-1 §1.7.2.7).
    pub fn purge(&mut self, mut take: impl FnMut(QueueSequence, Entry)) -> u32 {
        let count = self.ready_count();
        let deadlines = &mut self.deadlines;
        self.ready.drain(|sequence, entry| {
            deadlines.remove(sequence);
            take(QueueSequence(sequence), entry);
        });
        count
    }

    /// Takes out all messages, the ready, the unacked and those on their way, and tells how many were ready: the queue is
    /// being deleted. Its consumers stay, to be told.
    pub fn drain(&mut self, mut take: impl FnMut(QueueSequence, Entry)) -> u32 {
        let count = self.purge(&mut take);
        let consumers = &mut self.consumers;
        self.unacked.drain(|sequence, unacked| {
            consumers.settle(unacked.holder);
            take(QueueSequence(sequence), unacked.entry);
        });
        self.leaving
            .drain(|sequence, entry| take(QueueSequence(sequence), entry));
        self.deadlines = Deadlines::default();
        count
    }

    /// Gives back memory held for messages to come: the queue has been idle for a while, or memory is short.
    pub fn shrink(&mut self) {
        self.ready.shrink();
        self.unacked.shrink();
        self.leaving.shrink();
        self.deadlines.shrink();
    }

    // Questions

    /// Bytes that knowing of one message takes which is neither ready nor unacked.
    pub const LEAVING_BYTES: usize = size_of::<Option<Entry>>();

    /// Bytes that knowing of its messages takes, whatever is held for more to come.
    pub fn index_bytes(&self) -> usize {
        let entries = self.ready.len() + self.leaving.len();
        entries * size_of::<Option<Entry>>()
            + self.unacked.len() * size_of::<Option<Unacked>>()
            + self.deadlines.bytes()
    }

    /// Number of ready messages (`message-count` of queue.declare-ok), at most `u32::MAX`.
    #[inline]
    pub fn ready_count(&self) -> u32 {
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }

    /// Number of unacked messages, at most `u32::MAX`.
    #[inline]
    pub fn unacked_count(&self) -> u32 {
        u32::try_from(self.unacked.len()).unwrap_or(u32::MAX)
    }

    /// Sum of the ready messages' body lengths in bytes.
    #[inline]
    pub fn ready_bytes(&self) -> u64 {
        self.ready.bytes()
    }

    /// The first ready message.
    #[inline]
    pub fn front(&self) -> Option<(QueueSequence, &Entry)> {
        self.ready
            .first()
            .map(|(sequence, entry)| (QueueSequence(sequence), entry))
    }

    /// All messages that the queue holds, in no order.
    pub fn live(&self) -> impl Iterator<Item = (QueueSequence, &Entry)> {
        let unacked = self
            .unacked
            .iter()
            .map(|(sequence, unacked)| (sequence, &unacked.entry));
        let live = self.ready.iter().chain(unacked).chain(self.leaving.iter());
        live.map(|(sequence, entry)| (QueueSequence(sequence), entry))
    }

    /// All messages that were given out, those unacked and those that came back, in no order: what must say redelivered
    /// after a restart.
    pub fn given_out(&self) -> impl Iterator<Item = (QueueSequence, &Entry)> {
        let unacked = self
            .unacked
            .iter()
            .map(|(sequence, unacked)| (sequence, &unacked.entry));
        let returned = self.ready.iter().filter(|(_, entry)| entry.redelivered);
        unacked
            .chain(returned)
            .map(|(sequence, entry)| (QueueSequence(sequence), entry))
    }

    /// Panics when the queue contradicts itself.
    pub fn check_invariants(&self) {
        self.ready.check_invariants();
        self.unacked.check_invariants();
        self.leaving.check_invariants();
        let mut sequences: Vec<u64> = self.live().map(|(sequence, _)| sequence.0).collect();
        sequences.sort_unstable();
        assert!(
            sequences.is_sorted_by(|low, high| low < high),
            "a message is ready, unacked or leaving"
        );
        assert!(
            sequences.last().is_none_or(|&last| last < self.next_sequence),
            "sequences were given out"
        );
        self.deadlines
            .check_invariants(|sequence| sequences.binary_search(&sequence).is_ok());
        let mut unacked_by_holder = BTreeMap::new();
        for (_, unacked) in self.unacked.iter() {
            *unacked_by_holder.entry(unacked.holder).or_insert(0) += 1;
        }
        self.consumers.check_invariants(&unacked_by_holder);
    }

    #[inline]
    fn make_ready(&mut self, sequence: u64, entry: Entry) {
        self.ready.insert(sequence, entry);
    }

    #[inline]
    fn take_unacked(&mut self, sequence: QueueSequence) -> Option<Entry> {
        let unacked = self.unacked.remove(sequence.0)?;
        self.consumers.settle(unacked.holder);
        Some(unacked.entry)
    }

    #[inline]
    fn take_first(&mut self) -> Option<(u64, Entry)> {
        self.ready.pop_first()
    }
}
