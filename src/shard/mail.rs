//! What comes from other cores, and from this one to itself: each word goes to its story.

use super::Shard;
use super::deliver::Dispatch;
use super::mailbox::{Batch, ConsumeRequest, Got, Publisher, QueueAnswer, ShardMessage};
use super::publish::Run;
use crate::model::{ConnectionId, ConsumerId, Content, QueueId, Refusal, ReplyCode, ShardId};
use crate::queue::{Consumer, Locator};
use bytes::Bytes;
use std::sync::Arc;

impl Shard {
    /// A batch came.
    pub(super) fn take_mail(&mut self, from: ShardId, batch: Batch) {
        self.counters.batches_forwarded_in += 1;
        if self.mailbox.receive(from, &batch) {
            self.resume_publishers();
        }
        if self.early_mail.iter().any(|(sender, _)| *sender == from) {
            self.early_mail.push((from, batch));
        } else {
            self.take_messages(from, batch);
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
        match message {
            ShardMessage::PublishRun { queues, .. } | ShardMessage::PublishShared { queues, .. } => {
                queues.iter().any(|&queue| self.queues.is_from_the_future(queue))
            }
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
                };
                self.take_forwarded(&queues, publisher, &run);
            }
            ShardMessage::PublishShared {
                queues,
                publisher,
                is_persistent,
                content,
            } => {
                self.take_forwarded_shared(&queues, publisher, is_persistent, &content);
            }
            ShardMessage::Confirmed {
                connection,
                channel,
                through,
            } => self.confirmed(connection, channel, from, through),
            ShardMessage::DeliverRun {
                queue,
                queue_slot,
                consumer,
                needs_ack,
                count,
                bytes,
            } => {
                let dispatch = Dispatch {
                    consumer,
                    queue,
                    owner: from,
                    queue_slot,
                    sequence: Default::default(),
                    redelivered: false,
                    needs_ack,
                };
                self.take_deliveries(
                    dispatch,
                    count,
                    &batch.bytes[bytes.start as usize..bytes.end as usize],
                );
            }
            ShardMessage::DeliverShared {
                queue,
                queue_slot,
                consumer,
                needs_ack,
                sequence,
                redelivered,
                content,
            } => {
                let dispatch = Dispatch {
                    consumer,
                    queue,
                    owner: from,
                    queue_slot,
                    sequence,
                    redelivered,
                    needs_ack,
                };
                self.take_shared_delivery(dispatch, &content);
            }
            ShardMessage::Settle {
                queue,
                queue_slot,
                settlement,
                sequences,
            } => {
                self.settle_own(queue, queue_slot, settlement, sequences.into_iter());
            }
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

    fn take_forwarded(&mut self, queues: &[QueueId], publisher: Option<Publisher>, run: &Run<'_>) {
        self.counters.messages_forwarded_in += run.places.len() as u64;
        let slots: Vec<u32> = queues
            .iter()
            .filter_map(|&queue| self.queues.slot_of(queue))
            .collect();
        let must_sync = match slots[..] {
            [only] => self.enqueue(only, run),
            _ => self.enqueue_to_all(&slots, run),
        };
        if let Some(publisher) = publisher {
            self.promise_forwarded(publisher, must_sync);
        }
    }

    fn take_forwarded_shared(
        &mut self,
        queues: &Arc<[QueueId]>,
        publisher: Option<Publisher>,
        is_persistent: bool,
        bytes: &Bytes,
    ) {
        let content = Content::decode(bytes).expect("a peer sends whole contents");
        let properties_begin = content.prefix_length() - content.properties.len();
        let body_begin = content.prefix_length();
        let place = super::mailbox::Place {
            properties: (properties_begin as u32, body_begin as u32),
            body: (body_begin as u32, bytes.len() as u32),
            is_persistent,
        };
        let run = Run {
            exchange: content.exchange,
            routing_key: content.routing_key,
            bytes,
            places: std::slice::from_ref(&place),
        };
        self.take_forwarded(queues, publisher, &run);
    }

    fn answer(&mut self, connection: ConnectionId, answer: Result<QueueAnswer, Refusal>) {
        self.say(connection.shard, ShardMessage::Answer { connection, answer });
    }

    fn add_consumer(&mut self, request: &ConsumeRequest) {
        let connection = request.consumer.connection;
        let Some((slot, queue)) = self
            .queues
            .find(request.queue, super::queues::NO_SLOT)
            .filter(|(_, q)| !q.is_frozen)
        else {
            return self.answer(connection, Err(gone()));
        };
        let added = queue.queue.add_consumer(Consumer {
            id: request.consumer,
            no_ack: request.no_ack,
            prefetch_count: request.prefetch_count,
            exclusive: request.exclusive,
            priority: request.priority,
        });
        let (name, vhost) = (&queue.name, &queue.vhost);
        let answer = match added {
            Ok(()) => Ok(QueueAnswer::Consuming { queue_slot: slot }),
            Err(refused) => {
                let text = format!("queue '{name}' in vhost '{vhost}' {refused}");
                Err(Refusal::new(ReplyCode::AccessRefused, text))
            }
        };
        self.answer(connection, answer);
        self.list_deliverable(slot);
    }

    fn remove_consumer(&mut self, queue: QueueId, consumer: ConsumerId, answer: bool) {
        self.remove_own_consumer(queue, consumer);
        if answer {
            self.answer(consumer.connection, Ok(QueueAnswer::Cancelled));
        }
    }

    /// Removes a consumer from a queue of this core; an auto-delete queue goes with its last one.
    pub(super) fn remove_own_consumer(&mut self, queue_id: QueueId, consumer: ConsumerId) {
        let Some((_, queue)) = self.queues.find(queue_id, super::queues::NO_SLOT) else {
            return;
        };
        let removed = queue.queue.remove_consumer(consumer);
        if removed.is_some_and(|removed| removed.was_last) && queue.auto_delete && !queue.is_frozen {
            self.delete_unasked(queue_id);
        }
    }

    fn get_from(&mut self, queue_id: QueueId, getter: ConsumerId, no_ack: bool) {
        let Some((slot, queue)) = self
            .queues
            .find(queue_id, super::queues::NO_SLOT)
            .filter(|(_, q)| !q.is_frozen)
        else {
            return self.answer(getter.connection, Err(gone()));
        };
        let Some(got) = queue.queue.get(getter, no_ack) else {
            return self.answer(getter.connection, Ok(QueueAnswer::Empty));
        };
        let content = match got.entry.locator {
            Locator::Arena(at) => queue.arena.read(at).to_vec(),
            Locator::Shared(at) => self.shared.get(at).to_vec(),
            Locator::Log { position, .. } => {
                let stored = self.log.read(position);
                super::deliver::in_one_stretch(&stored.content, &stored.parts().collect::<Vec<_>>()).to_vec()
            }
        };
        if no_ack {
            queue.release(got.sequence, got.entry, &mut self.log, &mut self.shared);
            self.list_settling(slot);
        }
        self.counters.messages_got += 1;
        let answer = Got {
            queue: queue_id,
            queue_slot: slot,
            sequence: got.sequence,
            redelivered: got.entry.redelivered,
            needs_ack: !no_ack,
            remaining: got.remaining,
            content,
        };
        self.answer(getter.connection, Ok(QueueAnswer::Got(Box::new(answer))));
    }

    fn inspect(&mut self, queue: QueueId, connection: ConnectionId) {
        let answer = match self.queues.find(queue, super::queues::NO_SLOT) {
            Some((_, queue)) => Ok(QueueAnswer::Status {
                message_count: queue.queue.ready_count(),
                consumer_count: queue.queue.consumer_count(),
            }),
            None => Err(gone()),
        };
        self.answer(connection, answer);
    }

    fn purge(&mut self, queue_id: QueueId, connection: ConnectionId) {
        let Shard {
            queues, log, shared, ..
        } = self;
        let Some((slot, queue)) = queues.find(queue_id, super::queues::NO_SLOT) else {
            return self.answer(connection, Err(gone()));
        };
        let mut purged = Vec::new();
        let count = queue
            .queue
            .purge(|sequence, entry| purged.push((sequence, entry)));
        for (sequence, entry) in purged {
            queue.release(sequence, entry, log, shared);
        }
        self.list_settling(slot);
        self.answer(connection, Ok(QueueAnswer::Purged(count)));
    }
}

/// The refusal when the queue went away between being found and being asked; the connection's core adds the name.
fn gone() -> Refusal {
    Refusal::new(ReplyCode::NotFound, "no queue")
}
