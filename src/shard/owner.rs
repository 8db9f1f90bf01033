//! The story of a question to a queue's owner: consume, cancel, get, inspect, purge. The connection waits for the
//! answer, on this core or on another, and [`answer`](super::answer) gives it to the client.

use super::Shard;
use super::delivery_count::counted_content;
use super::mailbox::{ConsumeRequest, Got, QueueAnswer, ShardMessage};
use super::queues::NO_SLOT;
use crate::model::{ConnectionId, ConsumerId, QueueId, Refusal, ReplyCode};
use crate::queue::{Consumer, Locator};
use crate::storage::SettleKind;
use bytes::Bytes;

/// How often a get lets a thousand expired messages go before it finds that nothing is there.
const EXPIRY_ROUNDS_A_GET: usize = 64;

impl Shard {
    pub(super) fn answer(&mut self, connection: ConnectionId, answer: Result<QueueAnswer, Refusal>) {
        self.say(connection.shard, ShardMessage::Answer { connection, answer });
    }

    pub(super) fn add_consumer(&mut self, request: &ConsumeRequest) {
        let connection = request.consumer.connection;
        let Some((slot, queue)) = self
            .queues
            .find(request.queue, NO_SLOT)
            .filter(|(_, q)| !q.is_frozen)
        else {
            return self.answer(connection, Ok(QueueAnswer::Gone));
        };
        let added = queue.queue.add_consumer(Consumer {
            id: request.consumer,
            no_ack: request.no_ack,
            prefetch_count: request.prefetch_count,
            exclusive: request.exclusive,
            priority: request.priority,
            pauses: request.pauses,
            grant: request.grant,
        });
        let (name, vhost) = (&queue.name, &queue.vhost);
        let answer = match added {
            Ok(()) => Ok(QueueAnswer::Consuming {
                queue_slot: slot,
                pauses: request.pauses,
            }),
            Err(refused) => {
                let text = format!("queue '{name}' in vhost '{vhost}' {refused}");
                Err(Refusal::new(ReplyCode::AccessRefused, text))
            }
        };
        self.answer(connection, answer);
        self.renew_lease(slot);
        self.list_deliverable(slot);
    }

    pub(super) fn remove_consumer(&mut self, queue: QueueId, consumer: ConsumerId, answer: bool) {
        self.remove_own_consumer(queue, consumer);
        if answer {
            self.answer(consumer.connection, Ok(QueueAnswer::Cancelled));
        }
    }

    /// Removes a consumer from a queue of this core; an auto-delete queue goes with its last one.
    pub(super) fn remove_own_consumer(&mut self, queue_id: QueueId, consumer: ConsumerId) {
        let Some((slot, queue)) = self.queues.find(queue_id, NO_SLOT) else {
            return;
        };
        let removed = queue.queue.remove_consumer(consumer);
        let ends = queue.auto_delete && !queue.is_frozen;
        if removed.is_some_and(|removed| removed.was_last) && ends {
            self.delete_unasked(queue_id);
        }
        self.renew_lease(slot);
        // Where one is served at a time, the next one is now.
        self.list_deliverable(slot);
    }

    pub(super) fn get_from(&mut self, queue_id: QueueId, getter: ConsumerId, no_ack: bool) {
        self.deliver_first(queue_id);
        let now = self.unix_milliseconds;
        let Some((slot, queue)) = self.queues.find(queue_id, NO_SLOT).filter(|(_, q)| !q.is_frozen) else {
            return self.answer(getter.connection, Ok(QueueAnswer::Gone));
        };
        if let Err(refusal) = queue.check_gets() {
            return self.answer(getter.connection, Err(refusal));
        }
        queue.last_used = now;
        let may_be_got = !self.is_expiry_behind || (0..EXPIRY_ROUNDS_A_GET).any(|_| self.expire_front(slot));
        let queue = self.queues.get_mut(slot).expect("found above");
        let got = may_be_got.then(|| queue.queue.get(getter, no_ack)).flatten();
        let Some(got) = got else {
            return self.answer(getter.connection, Ok(QueueAnswer::Empty));
        };
        let content = match got.entry.locator {
            Locator::Arena(at) => Bytes::copy_from_slice(queue.arena.read(at)),
            Locator::Shared(at) => self.shared.get(at).clone(),
            Locator::Log { position, .. } => {
                let stored = self.log.read(position);
                super::dispatch::in_one_stretch(&stored.content, &stored.parts().collect::<Vec<_>>())
            }
        };
        let content = match queue.is_quorum() {
            true => Bytes::from(counted_content(&content, got.entry.delivery_count)),
            false => content,
        };
        if no_ack {
            let kind = SettleKind::AutoAcknowledged;
            queue.release(got.sequence, got.entry, kind, &mut self.log, &mut self.shared);
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

    /// Tells the counts of queue.declare-ok. A queue that is being deleted answers when it has gone, because whoever
    /// declares it now means the next one.
    pub(super) fn inspect(&mut self, queue: QueueId, connection: ConnectionId) {
        self.deliver_first(queue);
        let now = self.unix_milliseconds;
        let answer = match self.queues.find(queue, NO_SLOT) {
            Some((_, queue)) if queue.is_frozen => return queue.inspectors.push(connection),
            Some((_, queue)) => {
                queue.last_used = now;
                QueueAnswer::Status {
                    message_count: queue.queue.ready_count(),
                    consumer_count: queue.queue.consumer_count(),
                }
            }
            None => QueueAnswer::Gone,
        };
        self.answer(connection, Ok(answer));
    }

    pub(super) fn purge(&mut self, queue_id: QueueId, connection: ConnectionId) {
        self.deliver_first(queue_id);
        let Shard {
            queues, log, shared, ..
        } = self;
        let Some((slot, queue)) = queues.find(queue_id, NO_SLOT) else {
            return self.answer(connection, Ok(QueueAnswer::Gone));
        };
        let mut purged = Vec::new();
        let count = queue
            .queue
            .purge(|sequence, entry| purged.push((sequence, entry)));
        for (sequence, entry) in purged {
            queue.release(sequence, entry, SettleKind::Purged, log, shared);
        }
        self.list_settling(slot);
        self.answer(connection, Ok(QueueAnswer::Purged(count)));
    }
}
