//! The story of an answer: a queue's owner, or control, has done what a connection asked; the client gets its reply and
//! the connection goes on.

use super::Shard;
use super::connections::{Awaited, AwaitedRequest, Hold};
use super::control::ControlAnswer;
use super::dispatch::write_shared_body;
use super::mailbox::{Got, QueueAnswer, SHARED_CONTENT_BYTES, Settlement, ShardMessage};
use super::obey::At;
use crate::channel::{ChannelConsumer, Unacked};
use crate::model::{ConnectionId, Content, Refusal, ReplyCode, ShardId, ShortString};
use crate::protocol::blind_copies::visible;
use crate::protocol::content::{encode_body, encode_content_header};
use crate::protocol::method::*;
use crate::queue::{Pause, Pauses};

impl Shard {
    /// A queue's owner has answered.
    pub(super) fn take_answer(&mut self, id: ConnectionId, answer: Result<QueueAnswer, Refusal>) {
        if self.count_deleted_queue(id) {
            return;
        }
        let Some((at, awaited)) = self.take_awaited(id) else {
            return self.return_got(answer);
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refuse_method(at.slot, at.channel, &refusal, at.method);
                return self.resume(at.slot);
            }
        };
        if let QueueAnswer::Gone = answer {
            return self.queue_gone(at, awaited);
        }
        match (answer, awaited.request) {
            (
                QueueAnswer::Status {
                    message_count,
                    consumer_count,
                },
                AwaitedRequest::QueueDeclare { .. },
            ) => {
                self.queue_declared(at, awaited.nowait, awaited.queue, message_count, consumer_count);
            }
            (QueueAnswer::Consuming { queue_slot, pauses }, AwaitedRequest::Consume(mut consumer)) => {
                consumer.queue_slot = queue_slot;
                self.consuming(at, awaited.nowait, *consumer, pauses);
            }
            (QueueAnswer::Cancelled, AwaitedRequest::Cancel { tag }) => {
                self.channel_of(at).consumers.remove_tag(tag.as_bytes());
                let ok = Method::BasicCancelOk(BasicCancelOk {
                    consumer_tag: tag.as_bytes(),
                });
                self.reply_unless(awaited.nowait, at, &ok);
            }
            (QueueAnswer::Purged(message_count), AwaitedRequest::QueuePurge) => {
                self.reply_unless(
                    awaited.nowait,
                    at,
                    &Method::QueuePurgeOk(QueuePurgeOk { message_count }),
                );
            }
            (QueueAnswer::Got(got), AwaitedRequest::Get { owner, .. }) => self.got(at, owner, &got),
            (QueueAnswer::Empty, AwaitedRequest::Get { .. }) => {
                self.counters.gets_empty += 1;
                self.reply(
                    at.slot,
                    at.channel,
                    &Method::BasicGetEmpty(BasicGetEmpty { cluster_id: b"" }),
                );
            }
            (answer, request) => unreachable!("the answer {answer:?} fits what was asked: {request:?}"),
        }
        self.resume(at.slot);
    }

    /// The queue went before its owner was asked: a declare makes another, a delete is content, what else needs the queue
    /// is refused.
    fn queue_gone(&mut self, at: At, awaited: Awaited) {
        let Awaited {
            nowait,
            queue,
            request,
            ..
        } = awaited;
        match request {
            AwaitedRequest::QueueDeclare { anew: Some(action) } => {
                return self.declare_at_control(at, nowait, queue, *action);
            }
            AwaitedRequest::QueueDelete => {
                let ok = QueueDeleteOk { message_count: 0 };
                self.reply_unless(nowait, at, &Method::QueueDeleteOk(ok));
            }
            _ => {
                let vhost = self.vhost_at(at.slot);
                let text = format!("no queue '{queue}' in vhost '{vhost}'");
                self.refuse_method(
                    at.slot,
                    at.channel,
                    &Refusal::new(ReplyCode::NotFound, text),
                    at.method,
                );
            }
        }
        self.resume(at.slot);
    }

    /// Control has answered.
    pub(super) fn take_control_answer(&mut self, id: ConnectionId, answer: Result<ControlAnswer, Refusal>) {
        if self.count_deleted_queue(id) {
            return;
        }
        let Some((at, awaited)) = self.take_awaited(id) else {
            return self.delete_orphan(id, &answer);
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refuse_method(at.slot, at.channel, &refusal, at.method);
                return self.resume(at.slot);
            }
        };
        match (answer, awaited.request) {
            (
                ControlAnswer::QueueDeclared {
                    queue,
                    created: false,
                },
                AwaitedRequest::QueueDeclare { anew },
            ) => {
                return match (self.topology.queue_by_id(queue), anew) {
                    (None, Some(action)) => {
                        self.declare_at_control(at, awaited.nowait, awaited.queue, *action)
                    }
                    (_, anew) => self.ask_status(at, awaited.nowait, queue, awaited.queue, anew),
                };
            }
            (ControlAnswer::QueueDeclared { .. }, AwaitedRequest::QueueDeclare { .. }) => {
                self.queue_declared(at, awaited.nowait, awaited.queue, 0, 0);
            }
            (ControlAnswer::QueueDeleted { message_count }, AwaitedRequest::QueueDelete) => {
                self.reply_unless(
                    awaited.nowait,
                    at,
                    &Method::QueueDeleteOk(QueueDeleteOk { message_count }),
                );
            }
            (_, request) => self.reply_unless(awaited.nowait, at, &plain_ok(&request)),
        }
        self.resume(at.slot);
    }

    /// What the connection waits for, unless it has gone.
    fn take_awaited(&mut self, id: ConnectionId) -> Option<(At, Awaited)> {
        let connection = self.connections.find(id)?;
        match connection.hold.take() {
            Some(Hold::Answer(awaited)) => {
                let at = At {
                    slot: id.slot,
                    channel: awaited.channel,
                    method: awaited.method,
                };
                Some((at, awaited))
            }
            other => {
                connection.hold = other;
                None
            }
        }
    }

    /// A message that was got for a connection that has gone meanwhile goes back.
    fn return_got(&mut self, answer: Result<QueueAnswer, Refusal>) {
        if let Ok(QueueAnswer::Got(got)) = answer
            && got.needs_ack
            && let Some(definition) = self.topology.queue_by_id(got.queue)
        {
            let (owner, queue, queue_slot) = (definition.owner, got.queue, got.queue_slot);
            let sequences = vec![got.sequence];
            self.say(
                owner,
                ShardMessage::Settle {
                    queue,
                    queue_slot,
                    settlement: Settlement::Requeue,
                    sequences,
                },
            );
        }
    }

    fn reply_unless(&mut self, nowait: bool, at: At, method: &Method<'_>) {
        if !nowait {
            self.reply(at.slot, at.channel, method);
        }
    }

    fn queue_declared(
        &mut self,
        at: At,
        nowait: bool,
        name: ShortString,
        message_count: u32,
        consumer_count: u32,
    ) {
        self.channel_of(at).last_queue = Some(name.clone());
        let ok = QueueDeclareOk {
            queue: name.as_bytes(),
            message_count,
            consumer_count,
        };
        self.reply_unless(nowait, at, &Method::QueueDeclareOk(ok));
    }

    /// The owner has the consumer, which it began with `pauses`; what has changed meanwhile it hears now.
    fn consuming(&mut self, at: At, nowait: bool, consumer: ChannelConsumer, pauses: Pauses) {
        let ok = Method::BasicConsumeOk(BasicConsumeOk {
            consumer_tag: consumer.tag.as_bytes(),
        });
        self.reply_unless(nowait, at, &ok);
        let (number, now) = (consumer.number, self.pauses_at(at, consumer.no_ack));
        self.channel_of(at).consumers.add(consumer);
        for reason in [Pause::Output, Pause::ChannelPrefetch] {
            if now.has(reason) != pauses.has(reason) {
                self.pause_consumer((at.slot, at.channel, number), reason, now.has(reason));
            }
        }
    }

    fn got(&mut self, at: At, owner: ShardId, got: &Got) {
        let Some(connection) = self.connections.get_mut(at.slot) else {
            return;
        };
        let frame_max = connection.connection.frame_max();
        let Some(channel) = connection.connection.channel_mut(at.channel) else {
            return;
        };
        let Got {
            queue,
            queue_slot,
            sequence,
            ..
        } = *got;
        let message = Unacked {
            queue,
            owner,
            queue_slot,
            sequence,
        };
        let tag = channel.fetch(message, got.needs_ack);
        let content = Content::decode(&got.content).expect("an owner sends whole contents");
        let ok = BasicGetOk {
            delivery_tag: tag.0,
            redelivered: got.redelivered,
            exchange: content.exchange,
            routing_key: content.routing_key,
            message_count: got.remaining,
        };
        let before = connection.outbound.len();
        let out = connection.outbound.buffer();
        Method::BasicGetOk(ok).encode(at.channel.0, out);
        let body = content.body.len();
        encode_content_header(at.channel.0, &visible(content.properties), body as u64, out);
        if body < SHARED_CONTENT_BYTES {
            encode_body(at.channel.0, &[content.body], frame_max, out);
        } else {
            let body = got.content.slice(got.content.len() - body..);
            write_shared_body(at.channel.0, &body, frame_max, &mut connection.outbound);
        }
        connection.replied_bytes += connection.outbound.len() - before;
        self.connections.note_output(at.slot);
    }
}

fn plain_ok(request: &AwaitedRequest) -> Method<'static> {
    match request {
        AwaitedRequest::ExchangeDeclare => Method::ExchangeDeclareOk(ExchangeDeclareOk {}),
        AwaitedRequest::ExchangeDelete => Method::ExchangeDeleteOk(ExchangeDeleteOk {}),
        AwaitedRequest::ExchangeBind => Method::ExchangeBindOk(ExchangeBindOk {}),
        AwaitedRequest::ExchangeUnbind => Method::ExchangeUnbindOk(ExchangeUnbindOk {}),
        AwaitedRequest::QueueBind => Method::QueueBindOk(QueueBindOk {}),
        AwaitedRequest::QueueUnbind => Method::QueueUnbindOk(QueueUnbindOk {}),
        request => unreachable!("control does not answer {request:?} with a plain ok"),
    }
}
