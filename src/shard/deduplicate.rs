//! The story of deduplication: a message whose value its queue remembers is dropped, and its publisher told that all is well.
//!
//! ```text
//!   admit ──known──▶ dropped; the confirm waits for the log as that of the first one
//!     └──new──▶ stored ──▶ a stub with the value, behind it in the same log, kept aside ──▶ too many, or too old: settled
//! ```
//!
//! An exchange that deduplicates remembers in a queue of its own (`amq.deduplication-NAME`), which every message passes,
//! on one core, so that two publishers of one value meet there.
//!
//! After a power cut no value of a confirmed message is forgotten but those that were too many or too old: a stub that the
//! cut took is not missed, as the message before it is still in its queue, and recovery reads its value there. A message
//! that was on its way through an exchange's queue may be passed on again, as any transfer may ([`transfer`](super::transfer)).

use super::Shard;
use super::queues::QueueSlot;
use super::transfer::Cause;
use crate::model::{Content, QueueSequence};
use crate::protocol::properties::Properties;
use crate::queue::deduplication::{Deduplication, STUB_EXCHANGE};
use crate::queue::{Entry, Locator};
use crate::storage::{Log, SettleKind};

impl Shard {
    /// Whether the queue remembers the message's value.
    pub(super) fn is_duplicate(&mut self, queue_slot: u32, content: Content<'_>) -> bool {
        self.forget_values(queue_slot);
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return false;
        };
        let Some(deduplication) = queue.deduplication.as_deref() else {
            return false;
        };
        let value = value_of(deduplication, content);
        let is_known = value.is_some_and(|value| deduplication.knows(&value));
        self.counters.messages_deduplicated += u64::from(is_known);
        is_known
    }

    /// Remembers the value of a message that the queue has taken, as durably as the message.
    pub(super) fn remember_value(&mut self, queue_slot: u32, content: Content<'_>, is_logged: bool) {
        let now = self.unix_milliseconds;
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        let Some(deduplication) = queue.deduplication.as_deref_mut() else {
            return;
        };
        let Some(value) = value_of(deduplication, content) else {
            return;
        };
        let stub = is_logged.then(|| keep_stub(queue, &mut self.log, &value));
        if let Some(deduplication) = queue.deduplication.as_deref_mut() {
            deduplication.remember(&value, now, stub);
        }
        self.forget_values(queue_slot);
    }

    /// After a start: a value whose stub a power cut took gets another, so that it outlives its message.
    pub(super) fn complete_stubs(&mut self, queue_slot: u32) {
        let Some(queue) = self.queues.get_mut(queue_slot).filter(|queue| queue.durable) else {
            return;
        };
        let Some(mut deduplication) = queue.deduplication.take() else {
            return;
        };
        deduplication.complete(|value| keep_stub(queue, &mut self.log, value));
        queue.deduplication = Some(deduplication);
    }

    /// Forgets values that are too many or too old.
    fn forget_values(&mut self, queue_slot: u32) {
        let now = self.unix_milliseconds;
        loop {
            let Some(queue) = self.queues.get_mut(queue_slot) else {
                return;
            };
            let forgotten = queue
                .deduplication
                .as_deref_mut()
                .and_then(|deduplication| deduplication.forget_one(now));
            match forgotten {
                Some(Some(stub)) => self.release_stub(queue_slot, stub),
                Some(None) => {}
                None => return,
            }
        }
    }

    fn release_stub(&mut self, queue_slot: u32, stub: QueueSequence) {
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        if let Some(entry) = queue.queue.finish_leaving(stub) {
            queue.release(stub, entry, SettleKind::Dropped, &mut self.log, &mut self.shared);
            self.list_settling(queue_slot);
        }
    }

    /// In the memory of an exchange that deduplicates, a message goes on at once.
    pub(super) fn pass_on(&mut self, queue_slot: u32, sequence: QueueSequence) {
        let queue = self.queues.get_mut(queue_slot).filter(|queue| queue.passes_on());
        if let Some(entry) = queue.and_then(|queue| queue.queue.take_ready(sequence)) {
            self.give_up(queue_slot, sequence, entry, Cause::Due);
        }
    }
}

/// A restored queue remembers what its stubs tell, and the values of messages whose stubs a power cut took: those behind the
/// last stub, since the log ends early and never in the middle. Other messages without a stub have waited for longer than
/// their values were remembered.
pub(super) fn restore_values(queue: &mut QueueSlot, log: &Log) {
    let Some(mut deduplication) = queue.deduplication.take() else {
        return;
    };
    let mut restored: Vec<(QueueSequence, Entry)> = queue
        .queue
        .live()
        .map(|(sequence, entry)| (sequence, *entry))
        .collect();
    restored.sort_unstable_by_key(|(sequence, _)| *sequence);
    let mut without_stub: Vec<(Vec<u8>, u64)> = Vec::new();
    for (sequence, entry) in restored {
        let Locator::Log { position, .. } = entry.locator else {
            continue;
        };
        let stored = log.read(position);
        if stored.content.exchange == STUB_EXCHANGE {
            if let Some(entry) = queue.queue.take_ready(sequence) {
                queue.queue.hold_leaving(sequence, entry);
            }
            without_stub.clear();
            let value = stored.content.routing_key;
            deduplication.remember(value, stored.published_at(), Some(sequence));
        } else if let Some(value) = value_of(&deduplication, stored.content) {
            without_stub.push((value, stored.published_at()));
        }
    }
    for (value, since) in without_stub {
        if !deduplication.knows(&value) {
            deduplication.remember(&value, since, None);
        }
    }
    queue.deduplication = Some(deduplication);
}

fn value_of(deduplication: &Deduplication, content: Content<'_>) -> Option<Vec<u8>> {
    deduplication.value_of(Properties::trusted(content.properties).headers())
}

/// Writes a stub behind all that the log holds, and keeps it aside in the queue.
fn keep_stub(queue: &mut QueueSlot, log: &mut Log, value: &[u8]) -> QueueSequence {
    let header = queue.entry_header();
    let appended = log.append_message(&[header], stub_of(value), None);
    let locator = Locator::Log {
        position: appended.position,
        length: appended.length,
    };
    queue.queue.keep_aside(Entry {
        locator,
        body_bytes: 0,
        delivery_count: 0,
        priority: 0,
        redelivered: false,
    })
}

fn stub_of(value: &[u8]) -> Content<'_> {
    Content {
        exchange: STUB_EXCHANGE,
        routing_key: value,
        properties: &[0, 0],
        body: b"",
    }
}
