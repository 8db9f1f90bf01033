//! The story of a method on a channel: what concerns the channel alone is done at once; declarations go to control,
//! requests to a queue go to its owner, and the connection waits for the answer; settles go to owners without one.

use super::Shard;
use super::connect::Next;
use super::connections::{Awaited, AwaitedRequest, Hold};
use super::control::{ControlAction, ControlRequest, ReplyTo};
use super::mailbox::{Settlement, ShardMessage};
use crate::model::{
    ChannelNumber, ConnectionId, DeliveryTag, QueueId, Refusal, ReplyCode, ShardId, ShortString,
};
use crate::protocol::method::*;

/// Where a method came from.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub slot: u32,
    pub channel: ChannelNumber,
    pub method: (u16, u16),
}

/// A queue that a method names.
pub(super) struct FoundQueue {
    pub id: QueueId,
    pub owner: ShardId,
    pub name: ShortString,
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
            Method::TxSelect(_) => self.select_transaction(at),
            Method::TxCommit(_) => self.commit(at),
            Method::TxRollback(_) => self.roll_back(at),
            _ => Err(Refusal::new(ReplyCode::CommandInvalid, "unimplemented method")),
        };
        done.unwrap_or_else(|refusal| self.refuse_method(slot, channel, &refusal, at.method))
    }

    #[inline]
    pub(super) fn channel_at(
        &mut self,
        slot: u32,
        number: ChannelNumber,
    ) -> Option<&mut crate::channel::Channel> {
        self.connections.get_mut(slot)?.connection.channel_mut(number)
    }

    pub(super) fn vhost_at(&mut self, slot: u32) -> ShortString {
        self.connections
            .get_mut(slot)
            .expect("a method came on it")
            .connection
            .vhost()
            .clone()
    }

    pub(super) fn id_at(&mut self, slot: u32) -> ConnectionId {
        self.connections.get_mut(slot).expect("a method came on it").id
    }

    pub(super) fn channel_of(&mut self, at: At) -> &mut crate::channel::Channel {
        self.channel_at(at.slot, at.channel)
            .expect("the method came on it")
    }

    pub(super) fn answer_at(&mut self, at: At, method: Method<'_>) -> Result<Next, Refusal> {
        self.reply(at.slot, at.channel, &method);
        Ok(Next::Pull)
    }

    /// Lets the connection wait for the answer to `request`, which speaks of `queue`.
    pub(super) fn wait(&mut self, at: At, nowait: bool, queue: ShortString, request: AwaitedRequest) {
        let connection = self
            .connections
            .get_mut(at.slot)
            .expect("a connection that waits is there");
        connection.hold = Some(Hold::Answer(Awaited {
            channel: at.channel,
            method: at.method,
            nowait,
            queue,
            request,
        }));
    }

    pub(super) fn send_request(&mut self, at: At, action: ControlAction) {
        let reply_to = ReplyTo::Connection(self.id_at(at.slot));
        let vhost = self.vhost_at(at.slot);
        self.send_to_control(ControlRequest {
            reply_to,
            vhost,
            action,
        });
    }

    pub(super) fn ask_control(
        &mut self,
        at: At,
        nowait: bool,
        action: ControlAction,
        request: AwaitedRequest,
    ) -> Result<Next, Refusal> {
        self.send_request(at, action);
        self.wait(at, nowait, ShortString::default(), request);
        Ok(Next::Wait)
    }

    /// Asks the owner of a queue that was found.
    pub(super) fn ask_owner(
        &mut self,
        at: At,
        found: FoundQueue,
        message: ShardMessage,
        nowait: bool,
        request: AwaitedRequest,
    ) -> Result<Next, Refusal> {
        self.say(found.owner, message);
        self.wait(at, nowait, found.name, request);
        Ok(Next::Wait)
    }

    // ---- the channel alone

    fn set_prefetch(&mut self, at: At, qos: &BasicQos) -> Result<Next, Refusal> {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Refusal::new(ReplyCode::NotImplemented, text));
        }
        let channel = self.channel_of(at);
        if !qos.global {
            channel.consumer_prefetch = qos.prefetch_count;
        }
        // RabbitMQ has the consumers' own prefetch lift the one they shared before.
        self.set_channel_prefetch(at, if qos.global { qos.prefetch_count } else { 0 });
        self.answer_at(at, Method::BasicQosOk(BasicQosOk {}))
    }

    fn set_channel_prefetch(&mut self, at: At, prefetch_count: u16) {
        let channel = self.channel_of(at);
        channel.channel_prefetch = prefetch_count;
        match (channel.is_full(), channel.is_paused) {
            (true, false) => self.pause_channel(at.slot, at.channel),
            (false, true) => self.unpause_channel(at.slot, at.channel),
            (true, true) | (false, false) => {}
        }
    }

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
        // What comes back may be delivered at once. A client takes what it got before the answer for returned.
        if answer {
            self.reply(at.slot, at.channel, &Method::BasicRecoverOk(BasicRecoverOk {}));
        }
        self.requeue_unacked(at.slot, at.channel);
        Ok(Next::Pull)
    }

    fn select_confirms(&mut self, at: At, nowait: bool) -> Result<Next, Refusal> {
        self.channel_of(at).select_confirms()?;
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

fn refused_to(requeue: bool) -> Settlement {
    if requeue {
        Settlement::Requeue
    } else {
        Settlement::Reject
    }
}
