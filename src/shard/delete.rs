//! The story of a queue's end: its owner judges whether it may go and freezes it, control deletes it everywhere, the owner
//! drops its messages and tells its consumers.

use super::Shard;
use super::control::{ControlAction, ControlAnswer, ControlRequest, ReplyTo};
use super::mailbox::{QueueAnswer, ShardMessage};
use super::queues::NO_SLOT;
use crate::model::{ConnectionId, ConsumerId, QueueId, Refusal, ReplyCode};
use crate::protocol::method::{BasicCancel, Method};
use crate::storage::SettleKind;

impl Shard {
    /// Judges queue.delete at the owner. A queue that may go is frozen, and control is asked to delete it.
    pub(super) fn freeze(&mut self, id: QueueId, connection: ConnectionId, if_unused: bool, if_empty: bool) {
        let verdict = self.judge_deletion(id, if_unused, if_empty);
        match verdict {
            Ok(Some(message_count)) => self.ask_deletion(id, message_count, ReplyTo::Connection(connection)),
            Ok(None) => self.answer(connection, Ok(QueueAnswer::Gone)),
            Err(refusal) => self.answer(connection, Err(refusal)),
        }
    }

    /// How many messages go with the queue; `None` when it has gone already.
    fn judge_deletion(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<Option<u32>, Refusal> {
        self.deliver_first(id);
        let Some((_, queue)) = self.queues.find(id, NO_SLOT) else {
            return Ok(None);
        };
        let (name, vhost) = (&queue.name, &queue.vhost);
        let refuse = |why| {
            Err(Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("queue '{name}' in vhost '{vhost}' {why}"),
            ))
        };
        if if_empty && queue.queue.ready_count() > 0 {
            return refuse("not empty");
        }
        if if_unused && queue.queue.consumer_count() > 0 {
            return refuse("in use");
        }
        queue.is_frozen = true;
        Ok(Some(queue.queue.ready_count()))
    }

    /// An auto-delete queue has lost its last consumer.
    pub(super) fn delete_unasked(&mut self, id: QueueId) {
        if let Ok(Some(message_count)) = self.judge_deletion(id, false, false) {
            self.ask_deletion(id, message_count, ReplyTo::Nobody);
        }
    }

    fn ask_deletion(&mut self, queue: QueueId, message_count: u32, reply_to: ReplyTo) {
        let vhost = self
            .queues
            .find(queue, NO_SLOT)
            .map(|(_, queue)| queue.vhost.clone())
            .unwrap_or_default();
        self.send_to_control(ControlRequest {
            reply_to,
            vhost,
            action: ControlAction::DeleteQueue { queue, message_count },
        });
    }

    /// Control has deleted a queue: its messages are dropped and its consumers told.
    pub(super) fn drop_queue(&mut self, id: QueueId) {
        self.carry_all_of(id);
        let Some(mut queue) = self.queues.remove(id) else {
            return;
        };
        let mut entries = Vec::new();
        queue
            .queue
            .drain(|sequence, entry| entries.push((sequence, entry)));
        for (sequence, entry) in entries {
            queue.release(
                sequence,
                entry,
                SettleKind::Dropped,
                &mut self.log,
                &mut self.shared,
            );
        }
        if queue.durable {
            self.log.append_queue_deleted(id, queue.vshard);
        }
        for connection in std::mem::take(&mut queue.inspectors) {
            self.answer(connection, Ok(QueueAnswer::Gone));
        }
        let consumers: Vec<ConsumerId> = queue.queue.consumer_ids().collect();
        for consumer in consumers {
            self.say(consumer.connection.shard, ShardMessage::ConsumerGone { consumer });
        }
        self.counters.queues_deleted += 1;
    }

    /// The queue of a consumer is gone: a client that understands it gets basic.cancel.
    pub(super) fn notify_cancel(&mut self, consumer: ConsumerId) {
        let Some(connection) = self.connections.find(consumer.connection) else {
            return;
        };
        let understands = connection.connection.capabilities().consumer_cancel_notify;
        let Some(channel) = connection.connection.channel_mut(consumer.channel) else {
            return;
        };
        let Some(gone) = channel.consumers.remove_number(consumer.number) else {
            return;
        };
        if understands {
            let cancel = BasicCancel {
                consumer_tag: gone.tag.as_bytes(),
                nowait: true,
            };
            self.reply(
                consumer.connection.slot,
                consumer.channel,
                &Method::BasicCancel(cancel),
            );
        }
    }

    /// An exclusive queue was made for a connection that has gone meanwhile.
    pub(super) fn delete_orphan(
        &mut self,
        connection: ConnectionId,
        answer: &Result<ControlAnswer, Refusal>,
    ) {
        if let Ok(ControlAnswer::QueueDeclared { queue, .. }) = answer
            && let Some(definition) = self.topology.queue_by_id(*queue)
            && definition.exclusive == Some(connection)
        {
            let (queue, owner) = (*queue, definition.owner);
            self.say(
                owner,
                ShardMessage::Delete {
                    queue,
                    connection,
                    if_unused: false,
                    if_empty: false,
                },
            );
        }
    }
}
