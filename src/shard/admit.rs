//! The story of a message at a queue with rules, or with a time to live of its own: whether the queue takes it, its place
//! by priority, when it runs out, and who has to go for it.
//!
//! ```text
//!   full, and new ones are refused ──▶ basic.nack          (dead-lettered too, if the queue says so)
//!   else ──▶ stored ──▶ deadline noted ──▶ while too much is ready, the first goes
//! ```
//!
//! Deliveries happen at the end of a tick, but what counts is what RabbitMQ's queue would find ready: before a message is
//! refused, dropped or found expired at once, consumers who wait take what they can.

use super::Shard;
use super::forward::{counted, is_large};
use super::mailbox::Publisher;
use super::publish::Run;
use super::queues::{NO_SLOT, QueueSlot};
use super::transfer::Cause;
use crate::model::{Content, QueueId, QueueSequence};
use crate::protocol::properties::Properties;
use crate::queue::dead_letter::DeathReason;
use crate::queue::{Limits, Occasion};
use crate::routing::delay_of;
use crate::topology::Overflow;

/// What a message asks of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// How long it may stay, in milliseconds (`expiration`).
    pub expiration: Option<u64>,
    /// Its priority.
    pub priority: u8,
    /// How long it is to wait in its exchange's memory, in milliseconds (`x-delay`).
    pub delay: Option<u64>,
}

impl Wishes {
    /// A message that asks for nothing.
    pub(super) const NONE: Self = Self {
        expiration: None,
        priority: 0,
        delay: None,
    };

    /// What checked properties ask for.
    pub(super) fn of(properties: &[u8]) -> Self {
        let properties = Properties::trusted(properties);
        let digits = properties
            .expiration()
            .and_then(|digits| std::str::from_utf8(digits).ok());
        Self {
            expiration: digits
                .and_then(|digits| digits.parse().ok())
                .map(i64::unsigned_abs),
            priority: properties.priority().unwrap_or(0),
            delay: delay_of(properties.headers()),
        }
    }
}

impl Shard {
    /// Gives a run to queues of this core, message by message. Returns whether a confirm must wait for the log; which
    /// messages a queue refused is in `refused`.
    pub(super) fn admit(&mut self, queue_slots: &[u32], run: &Run<'_>) -> bool {
        let mut must_sync = false;
        for at in 0..run.places.len() {
            let wishes = Wishes::of(run.content(at).properties);
            let (mut durable, mut transient, mut refusing) = (Vec::new(), Vec::new(), Vec::new());
            for &slot in queue_slots {
                if self.queues.get_mut(slot).is_none_or(|queue| queue.is_frozen) {
                    continue;
                }
                if self.is_duplicate(slot, run, at) {
                    // Its publisher hears of it when the first one is safe.
                    let queue = self.queues.get_mut(slot).expect("just asked");
                    must_sync |= queue.durable && (run.places[at].is_persistent || queue.is_quorum());
                    continue;
                }
                match self.takes(slot, run.content(at), run.places[at].is_persistent) {
                    Some(true) => durable.push(slot),
                    Some(false) => transient.push(slot),
                    None => refusing.push(slot),
                }
            }
            must_sync |= !durable.is_empty();
            self.admit_one(&durable, &transient, run, at, wishes);
            for &slot in &durable {
                self.remember_value(slot, run.content(at), true);
            }
            for &slot in &transient {
                self.remember_value(slot, run.content(at), false);
            }
            // The message is in its queues before what becomes of it elsewhere gets there.
            for slot in refusing {
                self.refuse(slot, run.content(at), at as u32);
            }
        }
        must_sync
    }

    fn admit_one(&mut self, durable: &[u32], transient: &[u32], run: &Run<'_>, at: usize, wishes: Wishes) {
        let next = |shard: &mut Shard, slot| {
            let queue = shard.queues.get_mut(slot).expect("it takes the message");
            queue.queue.next_sequence()
        };
        let sequences: Vec<QueueSequence> = durable.iter().map(|&slot| next(self, slot)).collect();
        if !durable.is_empty() {
            self.store_logged(durable, run.content(at), wishes);
        }
        let publisher = run.publisher_of(at);
        for (&slot, sequence) in durable.iter().zip(sequences) {
            self.take_in(slot, sequence, wishes, publisher);
        }
        // A large message is held once for all.
        let is_worth_it = run.shared.is_none() && transient.len() > 1 && is_large(&run.places[at]);
        let made = is_worth_it.then(|| self.shared.add(counted(&run.content(at))));
        for &slot in transient {
            let shared = run.shared.or(made);
            let sequence = self.store_transient(slot, run.content(at), shared, wishes.priority);
            self.take_in(slot, sequence, wishes, publisher);
        }
        if let Some(held_meanwhile) = made {
            self.shared.remove(held_meanwhile);
        }
    }

    /// A queue does not take message `at` of the run: its publisher is told, and it is dead-lettered if the queue says so.
    fn refuse(&mut self, queue_slot: u32, content: Content<'_>, at: u32) {
        if self.refused.last() != Some(&at) {
            self.refused.push(at);
        }
        let is_kept = |queue: &mut QueueSlot| queue.settings.overflow == Overflow::RejectPublishDlx;
        if self.queues.get_mut(queue_slot).is_some_and(is_kept) {
            self.dead_letter_refused(queue_slot, content);
        }
    }

    /// Whether the queue takes one more message, and if so, whether the message survives a restart.
    fn takes(&mut self, queue_slot: u32, content: Content<'_>, is_persistent: bool) -> Option<bool> {
        let queue = self.queues.get_mut(queue_slot)?;
        let overflow = queue.settings.overflow;
        let is_durable = queue.durable && (is_persistent || queue.is_quorum());
        let body_bytes = content.body.len() as u64;
        if overflow == Overflow::DropHead || !queue.would_overflow(body_bytes) {
            return Some(is_durable);
        }
        self.deliver_while(queue_slot, |queue| queue.would_overflow(body_bytes));
        let queue = self.queues.get_mut(queue_slot)?;
        (!queue.would_overflow(body_bytes)).then_some(is_durable)
    }

    /// A message has its place: notes when it runs out, and lets go what is too much, or what only passes through.
    fn take_in(
        &mut self,
        queue_slot: u32,
        sequence: QueueSequence,
        wishes: Wishes,
        publisher: Option<Publisher>,
    ) {
        self.set_deadline(queue_slot, sequence, wishes, self.unix_milliseconds);
        self.keep_limits(queue_slot);
        self.pass_on(queue_slot, sequence, publisher);
        if wishes.expiration == Some(0) || self.message_ttl(queue_slot) == Some(0) {
            self.deliver_while(queue_slot, |queue| queue.queue.deadline(sequence).is_some());
            self.expire_if_due(queue_slot, sequence);
        }
        self.list_deliverable(queue_slot);
    }

    fn message_ttl(&mut self, queue_slot: u32) -> Option<u64> {
        self.queues.get_mut(queue_slot)?.settings.message_ttl
    }

    /// Notes when a message runs out that came at `since`.
    pub(super) fn set_deadline(
        &mut self,
        queue_slot: u32,
        sequence: QueueSequence,
        wishes: Wishes,
        since: u64,
    ) {
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        match queue.set_deadline(sequence, wishes, since) {
            Some(at) => self
                .time_index
                .insert(queue.due(queue_slot, at, Occasion::Message(sequence.0))),
            None => self.arm_common_deadline(queue_slot),
        }
    }

    /// Lets go the first messages while more is ready than may be, once consumers have taken what they can.
    pub(super) fn keep_limits(&mut self, queue_slot: u32) {
        self.deliver_while(queue_slot, |queue| queue.has_surplus());
        self.drop_surplus(queue_slot);
    }

    /// Lets go the first messages while more is ready than may be.
    pub(super) fn drop_surplus(&mut self, queue_slot: u32) {
        while let Some(queue) = self.queues.get_mut(queue_slot).filter(|q| q.has_surplus()) {
            let Some((sequence, entry)) = queue.queue.take_front() else {
                return;
            };
            self.give_up(queue_slot, sequence, entry, Cause::Death(DeathReason::MaxLength));
        }
    }

    /// What was unacked when the broker ended is ready again, and may be too much, once what ran out has gone. What a queue
    /// remembers is completed.
    pub(super) fn limit_recovered(&mut self) {
        if std::mem::take(&mut self.is_just_recovered) {
            for slot in self.queues.slots_in_use() {
                self.drop_surplus(slot);
                self.complete_stubs(slot);
            }
        }
    }

    /// Messages are about to come back to a queue with limits: consumers who wait take what was ready before, as what comes
    /// back counts against the limits before it is delivered again (as in RabbitMQ).
    pub(super) fn deliver_before_return(&mut self, queue_slot: u32) {
        self.deliver_while(queue_slot, |queue| queue.limits != Limits::NONE);
    }

    /// A client asks for what is ready: consumers who wait have taken what they can by then.
    pub(super) fn deliver_first(&mut self, queue: QueueId) {
        if let Some((slot, _)) = self.queues.find(queue, NO_SLOT) {
            self.deliver_while(slot, |_| true);
        }
    }

    /// Delivers while consumers wait and `is_needed` says so.
    fn deliver_while(&mut self, queue_slot: u32, is_needed: impl Fn(&QueueSlot) -> bool) {
        while self
            .queues
            .get_mut(queue_slot)
            .is_some_and(|queue| is_needed(queue) && queue.queue.can_deliver())
        {
            if self.deliver_next(queue_slot).is_err() {
                return;
            }
        }
    }
}
