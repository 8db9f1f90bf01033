//! The story of a consumer's wish: basic.consume, basic.cancel and basic.get, asked of the queue's owner.

use super::Shard;
use super::connect::Next;
use super::connections::AwaitedRequest;
use super::declare::short;
use super::mailbox::{ConsumeRequest, ShardMessage};
use super::obey::{At, FoundQueue};
use super::queues::NO_SLOT;
use crate::auth::Access;
use crate::channel::reply_to::is_reply_queue;
use crate::channel::{ChannelConsumer, Consumers};
use crate::model::{ConsumerId, FieldTableRef, Refusal, ReplyCode, ShortString};
use crate::protocol::method::*;
use crate::topology::QueueType;

impl Shard {
    pub(super) fn consume(&mut self, at: At, consume: &BasicConsume<'_>) -> Result<Next, Refusal> {
        if is_reply_queue(consume.queue) {
            return self.consume_replies(at, consume);
        }
        let channel = self.channel_of(at);
        // RabbitMQ looks at the tag before it looks for the queue, unless that has no name.
        channel.queue_named(consume.queue)?;
        channel.check_tag_is_free(consume.consumer_tag)?;
        let found = self.accessible_queue(at, Access::Read, consume.queue)?;
        let (queue, owner) = (found.id, found.owner);
        let tag = match consume.consumer_tag.is_empty() {
            true => Consumers::tag_for(self.random.next_u128()),
            false => short(consume.consumer_tag),
        };
        let vhost = self.vhost_at(at.slot);
        let priority = consumer_priority(&found.name, &vhost, consume.arguments)?;
        let is_quorum = self.queue_type(queue) == QueueType::Quorum;
        if is_quorum && self.channel_of(at).channel_prefetch > 0 {
            let name = &found.name;
            let text = format!("queue '{name}' in vhost '{vhost}' does not support global qos");
            return Err(Refusal::new(ReplyCode::NotImplemented, text));
        }
        let connection = self.id_at(at.slot);
        let (pauses, is_own) = (self.pauses_at(at, consume.no_ack), owner == self.id);
        let channel = self.channel_of(at);
        // Nothing is under way from a queue of this core, which hears at once that the channel is full.
        let grant = if is_own { u32::MAX } else { channel.room() };
        let number = channel.consumers.next_number();
        let request = ConsumeRequest {
            queue,
            consumer: ConsumerId {
                connection,
                channel: at.channel,
                number,
            },
            no_ack: consume.no_ack,
            prefetch_count: channel.consumer_prefetch,
            // RabbitMQ's quorum queues take no notice of it.
            exclusive: consume.exclusive && !is_quorum,
            priority,
            pauses,
            grant,
        };
        let consumer = ChannelConsumer::new(tag, number, queue, owner, NO_SLOT, consume.no_ack);
        let awaited = AwaitedRequest::Consume(Box::new(consumer));
        self.ask_owner(at, found, ShardMessage::Consume(request), consume.nowait, awaited)
    }

    pub(super) fn cancel(&mut self, at: At, cancel: &BasicCancel<'_>) -> Result<Next, Refusal> {
        let tag = short(cancel.consumer_tag);
        let connection = self.id_at(at.slot);
        let channel = self.channel_of(at);
        let Some(consumer) = channel.consumers.by_tag(cancel.consumer_tag) else {
            channel.reply_consumer.take_if(|consumer| consumer.tag == tag);
            return match cancel.nowait {
                true => Ok(Next::Pull),
                false => self.answer_at(
                    at,
                    Method::BasicCancelOk(BasicCancelOk {
                        consumer_tag: tag.as_bytes(),
                    }),
                ),
            };
        };
        let found = FoundQueue {
            id: consumer.queue,
            owner: consumer.owner,
            name: ShortString::default(),
        };
        let queue = found.id;
        let consumer = ConsumerId {
            connection,
            channel: at.channel,
            number: consumer.number,
        };
        let message = ShardMessage::Cancel {
            queue,
            consumer,
            answer: true,
        };
        self.ask_owner(at, found, message, cancel.nowait, AwaitedRequest::Cancel { tag })
    }

    pub(super) fn get(&mut self, at: At, get: &BasicGet<'_>) -> Result<Next, Refusal> {
        let found = self.accessible_queue(at, Access::Read, get.queue)?;
        let (queue, owner) = (found.id, found.owner);
        let getter = ConsumerId {
            connection: self.id_at(at.slot),
            channel: at.channel,
            number: 0,
        };
        let message = ShardMessage::Get {
            queue,
            getter,
            no_ack: get.no_ack,
        };
        self.ask_owner(at, found, message, false, AwaitedRequest::Get { queue, owner })
    }
}

/// The argument `x-priority` of basic.consume, 0 when absent.
fn consumer_priority(
    queue: &ShortString,
    vhost: &ShortString,
    arguments: FieldTableRef<'_>,
) -> Result<i64, Refusal> {
    let Some(value) = arguments.get(b"x-priority") else {
        return Ok(0);
    };
    value.as_integer().ok_or_else(|| {
        let found = value.rabbit_type_name();
        let text = format!(
            "invalid arg 'x-priority' for queue '{queue}' in vhost '{vhost}': \"expected integer, got {found}\""
        );
        Refusal::new(ReplyCode::PreconditionFailed, text)
    })
}
