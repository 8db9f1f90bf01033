//! The story of a method on a channel: what concerns the channel alone is done at once; declarations go to control,
//! requests to a queue go to its owner, and the connection waits for the answer.
//!
//! A declare of something that exists already as asked is judged on the connection's own core, from its copy of the
//! topology; only a change travels to control.

use super::Shard;
use super::connect::Next;
use super::connections::{Awaited, AwaitedRequest, Hold};
use super::control::{ControlAction, ControlRequest, ReplyTo};
use super::mailbox::{ConsumeRequest, Settlement, ShardMessage};
use super::queues::NO_SLOT;
use crate::channel::{ChannelConsumer, Consumers};
use crate::model::{
    ChannelNumber, ConnectionId, ConsumerId, DeliveryTag, FieldTableRef, QueueId, Refusal, ReplyCode,
    ShardId, ShortString, short_string::base64url,
};
use crate::protocol::method::*;
use crate::topology::{DeclareVerdict, QueueDeclare};

/// Where a method came from.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub slot: u32,
    pub channel: ChannelNumber,
    pub method: (u16, u16),
}

impl Shard {
    /// Carries out a method on an open channel.
    pub(super) fn obey(&mut self, slot: u32, channel: ChannelNumber, method: Method<'_>) -> Next {
        let at = At {
            slot,
            channel,
            method: (method.class_id(), method.method_id()),
        };
        let done = match method {
            Method::ExchangeDeclare(declare) => self.declare_exchange(at, &declare),
            Method::ExchangeDelete(delete) => self.delete_exchange(at, &delete),
            Method::ExchangeBind(bind) => self.bind_exchange(at, &bind),
            Method::ExchangeUnbind(unbind) => self.unbind_exchange(at, &unbind),
            Method::QueueDeclare(declare) => self.declare_queue(at, &declare),
            Method::QueueBind(bind) => self.bind_queue(at, &bind),
            Method::QueueUnbind(unbind) => self.unbind_queue(at, &unbind),
            Method::QueuePurge(purge) => self.ask_purge(at, &purge),
            Method::QueueDelete(delete) => self.delete_queue(at, &delete),
            Method::BasicConsume(consume) => self.consume(at, &consume),
            Method::BasicCancel(cancel) => self.cancel(at, &cancel),
            Method::BasicGet(get) => self.get(at, &get),
            Method::BasicQos(qos) => self.set_prefetch(at, &qos),
            Method::BasicAck(ack) => {
                return self.settle_at(at, ack.delivery_tag, ack.multiple, Settlement::Acknowledge);
            }
            Method::BasicNack(nack) => {
                return self.settle_at(at, nack.delivery_tag, nack.multiple, refused_to(nack.requeue));
            }
            Method::BasicReject(reject) => {
                return self.settle_at(at, reject.delivery_tag, false, refused_to(reject.requeue));
            }
            Method::BasicRecover(recover) => self.recover_at(at, recover.requeue, true),
            Method::BasicRecoverAsync(recover) => self.recover_at(at, recover.requeue, false),
            Method::BasicCancelOk(_) => Ok(Next::Pull),
            Method::ConfirmSelect(select) => self.select_confirms(at, select.nowait),
            Method::ChannelFlow(flow) => self.flow(at, flow.active),
            Method::ChannelFlowOk(_) => Ok(Next::Pull),
            Method::AccessRequest(_) => {
                self.answer_at(at, Method::AccessRequestOk(AccessRequestOk { ticket: 1 }))
            }
            Method::TxSelect(_) | Method::TxCommit(_) | Method::TxRollback(_) => Err(Refusal::new(
                ReplyCode::NotImplemented,
                "transactions are not implemented",
            )),
            _ => Err(Refusal::new(ReplyCode::CommandInvalid, "unimplemented method")),
        };
        done.unwrap_or_else(|refusal| self.refuse_method(slot, channel, &refusal, at.method))
    }

    fn vhost_at(&mut self, slot: u32) -> ShortString {
        self.connections
            .get_mut(slot)
            .expect("a method came on it")
            .connection
            .vhost()
            .clone()
    }

    fn id_at(&mut self, slot: u32) -> ConnectionId {
        self.connections.get_mut(slot).expect("a method came on it").id
    }

    pub(super) fn channel_of(&mut self, at: At) -> &mut crate::channel::Channel {
        self.channel_at(at.slot, at.channel)
            .expect("the method came on it")
    }

    fn answer_at(&mut self, at: At, method: Method<'_>) -> Result<Next, Refusal> {
        self.reply(at.slot, at.channel, &method);
        Ok(Next::Pull)
    }

    /// Lets the connection wait for the answer to `request`.
    fn wait(&mut self, at: At, nowait: bool, request: AwaitedRequest) -> Result<Next, Refusal> {
        let connection = self.connections.get_mut(at.slot).expect("a method came on it");
        connection.hold = Some(Hold::Answer(Awaited {
            channel: at.channel,
            method: at.method,
            nowait,
            request,
        }));
        Ok(Next::Wait)
    }

    fn ask_control(
        &mut self,
        at: At,
        nowait: bool,
        action: ControlAction,
        request: AwaitedRequest,
    ) -> Result<Next, Refusal> {
        let reply_to = ReplyTo::Connection(self.id_at(at.slot));
        let vhost = self.vhost_at(at.slot);
        self.send_to_control(ControlRequest {
            reply_to,
            vhost,
            action,
        });
        self.wait(at, nowait, request)
    }

    fn ask_owner(
        &mut self,
        at: At,
        owner: ShardId,
        message: ShardMessage,
        nowait: bool,
        request: AwaitedRequest,
    ) -> Result<Next, Refusal> {
        self.say(owner, message);
        self.wait(at, nowait, request)
    }

    // ---- exchanges

    fn declare_exchange(&mut self, at: At, declare: &ExchangeDeclare<'_>) -> Result<Next, Refusal> {
        let vhost = self.vhost_at(at.slot);
        let name = crate::topology::strip_cr_lf(declare.exchange);
        let wanted = crate::topology::ExchangeDeclare {
            vhost: vhost.as_bytes(),
            name: &name,
            kind: declare.kind,
            passive: declare.passive,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        };
        if self.topology.decide_exchange_declare(&wanted)?.is_none() {
            return match declare.nowait {
                true => Ok(Next::Pull),
                false => self.answer_at(at, Method::ExchangeDeclareOk(ExchangeDeclareOk {})),
            };
        }
        let action = ControlAction::DeclareExchange {
            name: short(&name),
            kind: short(declare.kind),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.to_owned(),
        };
        self.ask_control(at, declare.nowait, action, AwaitedRequest::ExchangeDeclare)
    }

    fn delete_exchange(&mut self, at: At, delete: &ExchangeDelete<'_>) -> Result<Next, Refusal> {
        let name = short(&crate::topology::strip_cr_lf(delete.exchange));
        let action = ControlAction::DeleteExchange {
            name,
            if_unused: delete.if_unused,
        };
        self.ask_control(at, delete.nowait, action, AwaitedRequest::ExchangeDelete)
    }

    fn bind_exchange(&mut self, at: At, bind: &ExchangeBind<'_>) -> Result<Next, Refusal> {
        let action = exchange_binding(
            false,
            bind.source,
            bind.destination,
            bind.routing_key,
            bind.arguments,
        );
        self.ask_control(at, bind.nowait, action, AwaitedRequest::ExchangeBind)
    }

    fn unbind_exchange(&mut self, at: At, unbind: &ExchangeUnbind<'_>) -> Result<Next, Refusal> {
        let action = exchange_binding(
            true,
            unbind.source,
            unbind.destination,
            unbind.routing_key,
            unbind.arguments,
        );
        self.ask_control(at, unbind.nowait, action, AwaitedRequest::ExchangeUnbind)
    }

    // ---- queues

    fn declare_queue(
        &mut self,
        at: At,
        declare: &crate::protocol::method::QueueDeclare<'_>,
    ) -> Result<Next, Refusal> {
        let (vhost, connection) = (self.vhost_at(at.slot), self.id_at(at.slot));
        if declare.passive {
            return self.declare_passively(at, &vhost, declare);
        }
        let server_named = declare.queue.is_empty();
        let name = match server_named {
            true => ShortString::truncated(&format!("amq.gen-{}", base64url(self.random.next_u128()))),
            false => short(&crate::topology::strip_cr_lf(declare.queue)),
        };
        let wanted = QueueDeclare {
            vhost: vhost.as_bytes(),
            name: name.as_bytes(),
            server_named,
            passive: false,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments,
            connection,
        };
        if let DeclareVerdict::Exists(queue) = self.topology.check_queue_declare(&wanted)? {
            return self.ask_status(at, declare.nowait, queue, name);
        }
        let action = ControlAction::DeclareQueue {
            name: name.clone(),
            server_named,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.to_owned(),
            connection,
        };
        self.ask_control(at, declare.nowait, action, AwaitedRequest::QueueDeclare { name })
    }

    fn declare_passively(
        &mut self,
        at: At,
        vhost: &ShortString,
        declare: &crate::protocol::method::QueueDeclare<'_>,
    ) -> Result<Next, Refusal> {
        let connection = self.id_at(at.slot);
        let name = short(&crate::topology::strip_cr_lf(declare.queue));
        let queue = self
            .topology
            .check_queue_access(vhost.as_bytes(), name.as_bytes(), connection)?
            .id;
        self.ask_status(at, declare.nowait, queue, name)
    }

    /// Asks the owner for the counts of queue.declare-ok.
    pub(super) fn ask_status(
        &mut self,
        at: At,
        nowait: bool,
        queue: QueueId,
        name: ShortString,
    ) -> Result<Next, Refusal> {
        let owner = self.topology.queue_by_id(queue).expect("just found").owner;
        let connection = self.id_at(at.slot);
        let message = ShardMessage::Inspect { queue, connection };
        self.ask_owner(at, owner, message, nowait, AwaitedRequest::QueueDeclare { name })
    }

    fn bind_queue(&mut self, at: At, bind: &QueueBind<'_>) -> Result<Next, Refusal> {
        let queue = self.queue_named(at, bind.queue)?;
        // An empty queue name with an empty key stands for the last declared queue twice (RabbitMQ).
        let is_shortcut = bind.queue.is_empty() && bind.routing_key.is_empty();
        let routing_key = if is_shortcut {
            queue.clone()
        } else {
            short(bind.routing_key)
        };
        let connection = self.id_at(at.slot);
        let action = queue_binding(
            false,
            queue,
            bind.exchange,
            routing_key,
            bind.arguments,
            connection,
        );
        self.ask_control(at, bind.nowait, action, AwaitedRequest::QueueBind)
    }

    fn unbind_queue(&mut self, at: At, unbind: &QueueUnbind<'_>) -> Result<Next, Refusal> {
        let queue = self.queue_named(at, unbind.queue)?;
        let connection = self.id_at(at.slot);
        let key = short(unbind.routing_key);
        let action = queue_binding(true, queue, unbind.exchange, key, unbind.arguments, connection);
        self.ask_control(at, false, action, AwaitedRequest::QueueUnbind)
    }

    fn ask_purge(&mut self, at: At, purge: &QueuePurge<'_>) -> Result<Next, Refusal> {
        let (queue, owner) = self.accessible_queue(at, purge.queue)?;
        let connection = self.id_at(at.slot);
        self.ask_owner(
            at,
            owner,
            ShardMessage::Purge { queue, connection },
            purge.nowait,
            AwaitedRequest::QueuePurge,
        )
    }

    fn delete_queue(&mut self, at: At, delete: &QueueDelete<'_>) -> Result<Next, Refusal> {
        let (queue, owner) = match self.accessible_queue(at, delete.queue) {
            Ok(found) => found,
            // What is not there is deleted (RabbitMQ since 3.2).
            Err(refusal) if refusal.code == ReplyCode::NotFound && !delete.queue.is_empty() => {
                return match delete.nowait {
                    true => Ok(Next::Pull),
                    false => self.answer_at(at, Method::QueueDeleteOk(QueueDeleteOk { message_count: 0 })),
                };
            }
            Err(refusal) => return Err(refusal),
        };
        let connection = self.id_at(at.slot);
        let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
        let message = ShardMessage::Delete {
            queue,
            connection,
            if_unused,
            if_empty,
        };
        self.ask_owner(at, owner, message, delete.nowait, AwaitedRequest::QueueDelete)
    }

    /// The name a method means: itself without line ends, or the last declared queue's when empty.
    fn queue_named(&mut self, at: At, name: &[u8]) -> Result<ShortString, Refusal> {
        let name = crate::topology::strip_cr_lf(name);
        self.channel_of(at).queue_named(&name)
    }

    /// The queue a method means, if this connection may use it, and its owner.
    fn accessible_queue(&mut self, at: At, name: &[u8]) -> Result<(QueueId, ShardId), Refusal> {
        let name = self.queue_named(at, name)?;
        let (vhost, connection) = (self.vhost_at(at.slot), self.id_at(at.slot));
        let queue = self
            .topology
            .check_queue_access(vhost.as_bytes(), name.as_bytes(), connection)?;
        Ok((queue.id, queue.owner))
    }

    // ---- consumers

    fn consume(&mut self, at: At, consume: &BasicConsume<'_>) -> Result<Next, Refusal> {
        let (queue, owner) = self.accessible_queue(at, consume.queue)?;
        let tag = match consume.consumer_tag.is_empty() {
            true => Consumers::tag_for(self.random.next_u128()),
            false => short(consume.consumer_tag),
        };
        let priority = consumer_priority(consume.arguments)?;
        let connection = self.id_at(at.slot);
        let channel = self.channel_of(at);
        channel.consumers.check_tag_is_free(&tag)?;
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
            exclusive: consume.exclusive,
            priority,
        };
        let consumer = ChannelConsumer::new(tag, number, queue, owner, NO_SLOT, consume.no_ack);
        let awaited = AwaitedRequest::Consume(Box::new(consumer));
        self.ask_owner(at, owner, ShardMessage::Consume(request), consume.nowait, awaited)
    }

    fn cancel(&mut self, at: At, cancel: &BasicCancel<'_>) -> Result<Next, Refusal> {
        let tag = short(cancel.consumer_tag);
        let connection = self.id_at(at.slot);
        let Some(consumer) = self.channel_of(at).consumers.by_tag(cancel.consumer_tag) else {
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
        let (queue, owner) = (consumer.queue, consumer.owner);
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
        self.ask_owner(at, owner, message, cancel.nowait, AwaitedRequest::Cancel { tag })
    }

    fn get(&mut self, at: At, get: &BasicGet<'_>) -> Result<Next, Refusal> {
        let (queue, owner) = self.accessible_queue(at, get.queue)?;
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
        self.ask_owner(at, owner, message, false, AwaitedRequest::Get { queue, owner })
    }

    fn set_prefetch(&mut self, at: At, qos: &BasicQos) -> Result<Next, Refusal> {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Refusal::new(ReplyCode::NotImplemented, text));
        }
        let channel = self.channel_of(at);
        if qos.global {
            channel.channel_prefetch = qos.prefetch_count;
            let (is_full, is_paused) = (channel.is_full(), channel.is_paused);
            if is_full != is_paused {
                self.pause_channel(at.slot, at.channel, is_full);
            }
        } else {
            channel.consumer_prefetch = qos.prefetch_count;
        }
        self.answer_at(at, Method::BasicQosOk(BasicQosOk {}))
    }

    // ---- the channel alone

    fn settle_at(&mut self, at: At, tag: u64, multiple: bool, settlement: Settlement) -> Next {
        self.settle(
            at.slot,
            at.channel,
            (DeliveryTag(tag), multiple),
            settlement,
            at.method,
        )
    }

    fn recover_at(&mut self, at: At, requeue: bool, answer: bool) -> Result<Next, Refusal> {
        if !requeue {
            return Err(Refusal::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        self.recover(at.slot, at.channel);
        match answer {
            true => self.answer_at(at, Method::BasicRecoverOk(BasicRecoverOk {})),
            false => Ok(Next::Pull),
        }
    }

    fn select_confirms(&mut self, at: At, nowait: bool) -> Result<Next, Refusal> {
        self.channel_of(at).select_confirms();
        match nowait {
            true => Ok(Next::Pull),
            false => self.answer_at(at, Method::ConfirmSelectOk(ConfirmSelectOk {})),
        }
    }

    fn flow(&mut self, at: At, active: bool) -> Result<Next, Refusal> {
        match active {
            true => self.answer_at(at, Method::ChannelFlowOk(ChannelFlowOk { active })),
            false => Err(Refusal::new(ReplyCode::NotImplemented, "active=false")),
        }
    }
}

fn short(bytes: &[u8]) -> ShortString {
    ShortString::new(bytes).expect("the decoder bounds a shortstr to 255 bytes")
}

fn refused_to(requeue: bool) -> Settlement {
    if requeue {
        Settlement::Requeue
    } else {
        Settlement::Reject
    }
}

fn exchange_binding(
    unbind: bool,
    source: &[u8],
    destination: &[u8],
    key: &[u8],
    arguments: FieldTableRef<'_>,
) -> ControlAction {
    ControlAction::BindExchange {
        unbind,
        source: short(&crate::topology::strip_cr_lf(source)),
        destination: short(&crate::topology::strip_cr_lf(destination)),
        routing_key: short(key),
        arguments: arguments.to_owned(),
    }
}

fn queue_binding(
    unbind: bool,
    queue: ShortString,
    exchange: &[u8],
    routing_key: ShortString,
    arguments: FieldTableRef<'_>,
    connection: ConnectionId,
) -> ControlAction {
    let exchange = short(&crate::topology::strip_cr_lf(exchange));
    ControlAction::BindQueue {
        unbind,
        queue,
        exchange,
        routing_key,
        arguments: arguments.to_owned(),
        connection,
    }
}

/// The argument `x-priority` of basic.consume, 0 when absent.
fn consumer_priority(arguments: FieldTableRef<'_>) -> Result<i32, Refusal> {
    let Some(value) = arguments.get(b"x-priority") else {
        return Ok(0);
    };
    let integer = value
        .as_integer()
        .and_then(|priority| i32::try_from(priority).ok());
    integer.ok_or_else(|| {
        let text = format!(
            "Unsupported x-priority argument, type {} expected integer",
            value.rabbit_type_name()
        );
        Refusal::new(ReplyCode::PreconditionFailed, text)
    })
}
