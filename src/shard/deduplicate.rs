//! The story of deduplication: a message whose value its queue remembers is dropped, and its publisher told that all is well.
//!
//! ```text
//!   admit ──known──▶ dropped; the confirm waits for the log as that of the first one
//!     └──new──▶ stored ──▶ a stub with the value, behind it in the same log, kept aside ──▶ too many, or too old: settled
//! ```
//!
//! An exchange that deduplicates remembers in a queue of its own (`amq.deduplication-NAME`), which every message passes,
//! on one core, so that two publishers of one value meet there, and goes on from there ([`pass_on`](super::pass_on)).
//!
//! After a power cut no value of a confirmed message is forgotten but those that were too many or too old: a stub that the
//! cut took is not missed, as the message before it is still in its queue, and recovery reads its value there. A message
//! that was on its way through an exchange's queue may be passed on again, as any transfer may ([`transfer`](super::transfer)).
//!
//! What is remembered is no reason for an alarm, as no consumer makes an end of it. It may take a quarter of a core's memory
//! budget; then each new value takes the place of its queue's oldest.

use super::Shard;
use super::publish::Run;
use super::queues::QueueSlot;
use crate::model::{Content, QueueSequence};
use crate::protocol::properties::Properties;
use crate::queue::dead_letter::has_died;
use crate::queue::deduplication::{Deduplication, STUB_EXCHANGE};
use crate::queue::{Entry, Locator, Occasion};
use crate::storage::{Log, SettleKind};
use tracing::warn;

/// Values that may go for one that comes.
const FORGOTTEN_A_VALUE: usize = 2;

impl Shard {
    /// Whether the queue remembers the value of message `at`. A dead letter that comes back is no second message.
    pub(super) fn is_duplicate(&mut self, queue_slot: u32, run: &Run<'_>, at: usize) -> bool {
        let now = self.unix_milliseconds;
        let is_by_broker = run
            .publisher
            .is_some_and(|publisher| self.is_itself(publisher.connection));
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return false;
        };
        let Some(deduplication) = queue.deduplication.as_deref() else {
            return false;
        };
        let headers = Properties::trusted(run.content(at).properties).headers();
        // Which exchanges it has passed its deaths do not tell.
        let died_in = (!queue.passes_on()).then_some(queue.name.as_bytes());
        if is_by_broker && headers.is_some_and(|headers| has_died(headers, died_in)) {
            return false;
        }
        let value = deduplication.value_of(headers);
        let is_known = value.is_some_and(|value| deduplication.knows(&value, now));
        self.counters.messages_deduplicated += u64::from(is_known);
        is_known
    }

    /// Remembers the value of a message that the queue has taken, as durably as the message.
    pub(super) fn remember_value(&mut self, queue_slot: u32, content: Content<'_>, is_logged: bool) {
        let now = self.unix_milliseconds;
        let is_full = self.alarms.is_memory_for_values_full();
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        let Some(mut deduplication) = queue.deduplication.take() else {
            return;
        };
        let value = value_of(&deduplication, content).filter(|value| !deduplication.knows(value, now));
        let mut place_taken = None;
        if let Some(value) = &value {
            place_taken = is_full.then(|| deduplication.forget_oldest()).flatten().flatten();
            let stub = is_logged.then(|| keep_stub(queue, &mut self.log, value));
            deduplication.remember(value, now, stub);
        }
        queue.deduplication = Some(deduplication);
        place_taken
            .into_iter()
            .for_each(|stub| self.release_stub(queue_slot, stub));
        self.forget_values(queue_slot, FORGOTTEN_A_VALUE);
        self.watch_values(queue_slot);
    }

    /// After a start: what is one too many goes, and a value whose stub a power cut took gets another, so that it outlives its
    /// message.
    pub(super) fn complete_stubs(&mut self, queue_slot: u32) {
        let Some(queue) = self.queues.get_mut(queue_slot).filter(|queue| queue.durable) else {
            return;
        };
        let Some(mut deduplication) = queue.deduplication.take() else {
            return;
        };
        deduplication.complete(|value| keep_stub(queue, &mut self.log, value));
        queue.deduplication = Some(deduplication);
        self.forget_values(queue_slot, usize::MAX);
    }

    /// Forgets values that are too many or too old, `most` of them at most. Returns how many.
    fn forget_values(&mut self, queue_slot: u32, most: usize) -> usize {
        let now = self.unix_milliseconds;
        for count in 0..most {
            let queue = self.queues.get_mut(queue_slot);
            let deduplication = queue.and_then(|queue| queue.deduplication.as_deref_mut());
            match deduplication.and_then(|deduplication| deduplication.forget_one(now)) {
                Some(Some(stub)) => self.release_stub(queue_slot, stub),
                Some(None) => {}
                None => return count,
            }
        }
        most
    }

    /// Sees to it that the time index knows when the queue's oldest value is over.
    pub(super) fn watch_values(&mut self, queue_slot: u32) {
        if let Some(queue) = self.queues.get_mut(queue_slot)
            && let Some(over_at) = queue.deduplication.as_deref_mut().and_then(Deduplication::watch)
        {
            self.time_index
                .insert(queue.due(queue_slot, over_at, Occasion::RememberedValue));
        }
    }

    /// The time of the queue's oldest value is over: forgets what is, `most` values at most. Returns how many.
    pub(super) fn forget_due(&mut self, queue_slot: u32, most: usize) -> usize {
        let queue = self.queues.get_mut(queue_slot);
        if let Some(deduplication) = queue.and_then(|queue| queue.deduplication.as_deref_mut()) {
            deduplication.unwatch();
        }
        let count = self.forget_values(queue_slot, most);
        self.watch_values(queue_slot);
        count
    }

    /// Looks how much memory remembered values take.
    pub(super) fn watch_remembered(&mut self) {
        let bytes: usize = self.queues.iter().map(QueueSlot::remembered_bytes).sum();
        let is_full = bytes as u64 > self.settings.message_memory_max / 4;
        if self.alarms.note_memory_for_values(is_full) && is_full {
            warn!(
                shard = %self.id, bytes,
                "deduplication remembers as much as a quarter of the memory budget: each new value takes the place of an \
                 old one; lower x-cache-size or x-cache-ttl, or raise limits.memory"
            );
        }
    }

    pub(super) fn release_stub(&mut self, queue_slot: u32, stub: QueueSequence) {
        let Some(queue) = self.queues.get_mut(queue_slot) else {
            return;
        };
        if let Some(entry) = queue.queue.finish_leaving(stub) {
            queue.release(stub, entry, SettleKind::Dropped, &mut self.log, &mut self.shared);
            self.list_settling(queue_slot);
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
        if !deduplication.knows(&value, since) {
            deduplication.remember(&value, since, None);
        }
    }
    queue.deduplication = Some(deduplication);
}

pub(super) fn value_of(deduplication: &Deduplication, content: Content<'_>) -> Option<Vec<u8>> {
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
