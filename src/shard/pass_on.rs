//! The story of a message that an exchange's memory passes on: it has a place in the memory of an exchange that deduplicates,
//! goes on from there in the way of any transfer, and its publisher hears of what becomes of it.
//!
//! ```text
//!   publisher's core            core of the memory                   cores of queues behind
//!     publish ───────────────▶  a place, and the value: pass_on
//!             ◀── PassedOn ──   tell_passed_on
//!             ◀── Confirmed ─   its log has it
//!                               transfer ──────────────────────────▶ taken, or refused
//!             ◀── Refused ───   tell_arrived ◀───────────────────── Confirmed
//!             ◀── Arrived ───
//! ```
//!
//! What a queue refuses is nacked, and its value forgotten, so that the message may come again. Where one such exchange leads to
//! another, the first one's memory is as far as a publisher sees: two that waited for each other would wait for ever.

use super::Shard;
use super::deduplicate::value_of;
use super::mailbox::{Publisher, ShardMessage};
use super::queues::NO_SLOT;
use super::transfer::Cause;
use crate::model::{ChannelNumber, ConnectionId, PublishSequence, QueueId, QueueSequence, ShardId};

impl Shard {
    /// In the memory of an exchange that deduplicates, a message goes on at once. A client that publishes it hears of what
    /// becomes of it there.
    pub(super) fn pass_on(&mut self, queue_slot: u32, sequence: QueueSequence, publisher: Option<Publisher>) {
        let queue = self.queues.get_mut(queue_slot).filter(|queue| queue.passes_on());
        let Some(entry) = queue.and_then(|queue| queue.queue.take_ready(sequence)) else {
            return;
        };
        self.give_up(queue_slot, sequence, entry, Cause::Due);
        if let Some(publisher) = publisher.filter(|publisher| !self.is_itself(publisher.connection)) {
            self.transfers.name_publisher_of_last(publisher);
            self.passed_on = Some(publisher);
        }
    }

    /// Tells the publisher's core which of its publishes are passed on, if a run just taken in had some.
    pub(super) fn tell_passed_on(&mut self) {
        let Some(publisher) = self.passed_on.take() else {
            return;
        };
        let Publisher {
            connection,
            channel,
            last,
        } = publisher;
        match connection.shard == self.id {
            true => self.note_passed_on(connection, channel, self.id, last),
            false => self.say(
                connection.shard,
                ShardMessage::PassedOn {
                    connection,
                    channel,
                    last,
                },
            ),
        }
    }

    /// `owner` passes publishes of the channel on, up to `last`, and will tell when they have arrived.
    pub(super) fn note_passed_on(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        owner: ShardId,
        last: PublishSequence,
    ) {
        if let Some(confirms) = self.confirms_of(connection, number) {
            confirms.passed_on_by(owner, last);
        }
    }

    /// All that `owner` passes on for the channel up to `through` has arrived.
    pub(super) fn note_arrived(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        owner: ShardId,
        through: PublishSequence,
    ) {
        if let Some(confirms) = self.confirms_of(connection, number) {
            confirms.arrived_from(owner, through);
            self.list_answering(connection, number);
        }
    }

    /// Tells the client that waits for a message's arrival what became of it.
    pub(super) fn tell_arrived(
        &mut self,
        publisher: Publisher,
        (memory, sequence): (QueueId, QueueSequence),
        is_refused: bool,
    ) {
        let Publisher {
            connection,
            channel,
            last,
        } = publisher;
        if is_refused {
            self.forget_refused(memory, sequence);
            match connection.shard == self.id {
                true => self.note_refused(connection, channel, &[last]),
                false => self.tell_refused(publisher, 1, &[0]),
            }
        }
        match connection.shard == self.id {
            true => self.note_arrived(connection, channel, self.id, last),
            false => self.say(
                connection.shard,
                ShardMessage::Arrived {
                    connection,
                    channel,
                    through: last,
                },
            ),
        }
    }

    /// A queue refused what was passed on to it: its publisher may send it again.
    fn forget_refused(&mut self, queue: QueueId, sequence: QueueSequence) {
        let Some((slot, queue)) = self.queues.find(queue, NO_SLOT) else {
            return;
        };
        let Some(&entry) = queue.queue.leaving(sequence) else {
            return;
        };
        let bytes = self.stored_bytes(slot, &entry);
        let queue = self.queues.get_mut(slot).expect("just found");
        let Some(deduplication) = queue.deduplication.as_deref_mut() else {
            return;
        };
        let value = value_of(deduplication, super::dispatch::whole(&bytes));
        let stub = value.and_then(|value| deduplication.forget(&value)).flatten();
        stub.into_iter().for_each(|stub| self.release_stub(slot, stub));
    }
}
