//! What comes from other cores, and from this one to itself: each word goes to its story. What a queue is asked by a
//! connection, wherever that is, is in [`owner`](super::owner).

use super::Shard;
use super::mailbox::{Batch, ConsumeRequest, ShardMessage};
use super::publish::Run;
use crate::model::{QueueId, ShardId};

impl Shard {
    /// A batch came.
    pub(super) fn take_mail(&mut self, from: ShardId, batch: Batch) {
        self.counters.batches_forwarded_in += 1;
        let credit = batch.credit;
        if self.early_mail.iter().any(|(sender, _)| *sender == from) {
            self.early_mail.push((from, batch));
        } else {
            self.take_messages(from, batch);
        }
        // The batch may say of a consumer that it takes no more: its credit counts behind that, whoever waits for it.
        if self.mailbox.receive(from, credit) {
            self.resume_publishers();
            self.resume_queues();
        }
    }

    /// Carries out a batch's words in order. From the first that speaks of a queue this core has not heard of yet, they
    /// wait until it has: control's word of the queue is under way in another lane.
    fn take_messages(&mut self, from: ShardId, mut batch: Batch) {
        let mut messages = std::mem::take(&mut batch.messages).into_iter();
        while let Some(message) = messages.next() {
            if self.speaks_of_the_future(&message) {
                batch.messages = std::iter::once(message).chain(messages).collect();
                self.early_mail.push((from, batch));
                return;
            }
            self.take_message(from, message, &batch);
        }
    }

    fn speaks_of_the_future(&self, message: &ShardMessage) -> bool {
        let is_early = |queue: &QueueId| self.queues.is_from_the_future(*queue);
        match message {
            ShardMessage::PublishRun { queues, .. } | ShardMessage::PublishShared { queues, .. } => {
                queues.iter().any(is_early)
            }
            ShardMessage::Consume(ConsumeRequest { queue, .. })
            | ShardMessage::Get { queue, .. }
            | ShardMessage::Inspect { queue, .. }
            | ShardMessage::Purge { queue, .. }
            | ShardMessage::Delete { queue, .. } => is_early(queue),
            _ => false,
        }
    }

    /// Goes on with batches that waited for word of a queue.
    pub(super) fn take_early_mail(&mut self) {
        for (from, batch) in std::mem::take(&mut self.early_mail) {
            if self.early_mail.iter().any(|(sender, _)| *sender == from) {
                self.early_mail.push((from, batch));
            } else {
                self.take_messages(from, batch);
            }
        }
    }

    /// Carries out one word of `from`, whose bytes lie in `batch`.
    pub(super) fn take_message(&mut self, from: ShardId, message: ShardMessage, batch: &Batch) {
        match message {
            ShardMessage::PublishRun {
                queues,
                publisher,
                exchange,
                routing_key,
                places,
            } => {
                let run = Run {
                    exchange: exchange.as_bytes(),
                    routing_key: routing_key.as_bytes(),
                    bytes: &batch.bytes,
                    places: &batch.places[places.start as usize..places.end as usize],
                    shared: None,
                    publisher,
                };
                self.take_forwarded(&queues, &run);
            }
            ShardMessage::PublishShared {
                queues,
                publisher,
                is_persistent,
                expires,
                content,
            } => {
                let flags = (is_persistent, expires);
                self.take_forwarded_shared(&queues, publisher, flags, &content);
            }
            ShardMessage::Refused {
                connection,
                channel,
                sequences,
            } => self.note_refused(connection, channel, &sequences),
            ShardMessage::Reply {
                address,
                publisher,
                content,
            } => self.take_reply(&address, publisher, content),
            ShardMessage::Unroutable {
                connection,
                channel,
                content,
            } => self.take_unroutable(connection, channel, &content),
            ShardMessage::InspectReply { address, connection } => self.inspect_reply(&address, connection),
            ShardMessage::Confirmed {
                connection,
                channel,
                through,
            } => self.confirmed(connection, channel, from, through),
            ShardMessage::PassedOn {
                connection,
                channel,
                last,
            } => self.note_passed_on(connection, channel, from, last),
            ShardMessage::Arrived {
                connection,
                channel,
                through,
            } => self.note_arrived(connection, channel, from, through),
            ShardMessage::DeliverRun { first, count, bytes } => {
                let bytes = &batch.bytes[bytes.start as usize..bytes.end as usize];
                self.take_deliveries(first, count, bytes);
            }
            ShardMessage::DeliverShared { dispatch, content } => {
                self.take_shared_delivery(dispatch, &content);
            }
            ShardMessage::Return { first, sequences } => self.take_returned(&first, &sequences),
            ShardMessage::Returned { consumer } => self.returned(consumer),
            ShardMessage::Grant {
                queue,
                consumer,
                most,
            } => self.take_grant(queue, consumer, most),
            ShardMessage::Granted { consumer } => self.granted(consumer),
            ShardMessage::Spent { consumer } => self.spent(consumer),
            ShardMessage::Settle {
                queue,
                queue_slot,
                settlement,
                sequences,
            } => {
                self.settle_own(queue, queue_slot, settlement, sequences.into_iter());
            }
            ShardMessage::KeepSettles(publisher) => self.promise_forwarded(publisher, true),
            ShardMessage::Consume(request) => self.add_consumer(&request),
            ShardMessage::Cancel {
                queue,
                consumer,
                answer,
            } => self.remove_consumer(queue, consumer, answer),
            ShardMessage::Pause {
                queue,
                consumer,
                reason,
                paused,
            } => self.pause_own(queue, consumer, reason, paused),
            ShardMessage::Get {
                queue,
                getter,
                no_ack,
            } => self.get_from(queue, getter, no_ack),
            ShardMessage::Inspect { queue, connection } => self.inspect(queue, connection),
            ShardMessage::Purge { queue, connection } => self.purge(queue, connection),
            ShardMessage::Delete {
                queue,
                connection,
                if_unused,
                if_empty,
            } => {
                self.freeze(queue, connection, if_unused, if_empty);
            }
            ShardMessage::Answer { connection, answer } => self.take_answer(connection, answer),
            ShardMessage::ConsumerGone { consumer } => self.notify_cancel(consumer),
            ShardMessage::Shortage(shortage) => self.take_shortage(from, shortage),
            ShardMessage::Request(request) => self.decide(*request),
            ShardMessage::Apply { number, changes } => self.apply(number, &changes),
            ShardMessage::Applied { number } => self.applied(from, number),
            ShardMessage::ControlAnswer { connection, answer } => {
                self.take_control_answer(connection, answer)
            }
        }
    }
}
