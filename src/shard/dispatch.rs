//! `Dispatch`: one delivery on its way out, into its connection's output, or into the batch for the core that holds it.

use super::connections::Connections;
use super::mailbox::{DeliveryHead, Mailbox, SHARED_CONTENT_BYTES, ShardMessage};
use crate::channel::Unacked;
use crate::model::{ConsumerId, Content, QueueId, QueueSequence, ShardId};
use crate::net::Outbound;
use crate::protocol::content::{body_payload_max, encode_body};
use crate::protocol::frame::{FRAME_END, FrameKind, frame_head};
use bytes::Bytes;

/// What a delivery tells of its message besides the content.
#[derive(Clone, Copy)]
pub(super) struct Dispatch {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Its queue.
    pub queue: QueueId,
    /// The queue's owner.
    pub owner: ShardId,
    /// The queue's slot at the owner.
    pub queue_slot: u32,
    /// Its place in the queue.
    pub sequence: QueueSequence,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether it must be settled.
    pub needs_ack: bool,
    /// How often its queue's owner was told that the channel's prefetch has room again.
    pub resumes: u32,
}

/// The bytes of a message on its way out.
pub(super) enum Bodied<'a> {
    /// All in one stretch, to be copied.
    Whole(Content<'a>),
    /// The body goes on in further stretches.
    Parts(Content<'a>, Vec<&'a [u8]>),
    /// One counted stretch, whose body is sent without a copy.
    Shared(&'a Bytes),
}

impl Connections {
    /// Writes a delivery to its consumer's connection. Returns whether the consumer is still there and its channel takes it.
    #[inline]
    pub(super) fn take_delivery(&mut self, dispatch: &Dispatch, bodied: Bodied<'_>) -> bool {
        let consumer = dispatch.consumer;
        let shard = consumer.connection.shard;
        let Some(slot) = self.find(consumer.connection) else {
            return false;
        };
        let frame_max = slot.connection.frame_max();
        let Some(channel) = slot.connection.channel_mut(consumer.channel) else {
            return false;
        };
        let is_full = channel.is_full();
        let Some(at_channel) = channel.consumers.get_mut(consumer.number) else {
            return false;
        };
        if dispatch.needs_ack && (is_full || dispatch.resumes < at_channel.takes_from) {
            // Nothing is under way from a queue of this core, so nothing can come too early.
            if dispatch.owner != shard {
                at_channel.takes_from = at_channel.resumes + 1;
            }
            return false;
        }
        let Dispatch {
            queue,
            owner,
            queue_slot,
            sequence,
            redelivered,
            ..
        } = *dispatch;
        let tag = match dispatch.needs_ack {
            true => channel.deliver_unacked(Unacked {
                queue,
                owner,
                queue_slot,
                sequence,
            }),
            false => channel.deliver_settled(),
        };
        let at_channel = channel
            .consumers
            .get_mut(consumer.number)
            .expect("looked at just above");
        match bodied {
            Bodied::Whole(content) => {
                let template = at_channel.template(consumer.channel.0, content.exchange, content.routing_key);
                let out = slot.outbound.buffer();
                template.encode(
                    tag.0,
                    redelivered,
                    content.properties,
                    content.body,
                    frame_max,
                    out,
                );
            }
            Bodied::Parts(content, parts) => {
                let body_size = content.body.len() + parts.iter().map(|part| part.len()).sum::<usize>();
                let template = at_channel.template(consumer.channel.0, content.exchange, content.routing_key);
                template.encode_head(
                    tag.0,
                    redelivered,
                    content.properties,
                    body_size as u64,
                    slot.outbound.buffer(),
                );
                let stretches: Vec<&[u8]> = std::iter::once(content.body).chain(parts).collect();
                encode_body(consumer.channel.0, &stretches, frame_max, slot.outbound.buffer());
            }
            Bodied::Shared(bytes) => {
                let content = whole(bytes);
                let template = at_channel.template(consumer.channel.0, content.exchange, content.routing_key);
                let body = bytes.slice(bytes.len() - content.body.len()..);
                template.encode_head(
                    tag.0,
                    redelivered,
                    content.properties,
                    body.len() as u64,
                    slot.outbound.buffer(),
                );
                write_shared(consumer.channel.0, &body, frame_max, &mut slot.outbound);
            }
        }
        true
    }
}

impl Mailbox {
    /// Adds a delivery to the batch for the consumer's core; one that follows its like joins its run.
    #[inline]
    pub(super) fn send_delivery(&mut self, dispatch: &Dispatch, bodied: Bodied<'_>) {
        let to = dispatch.consumer.connection.shard;
        let content = match bodied {
            Bodied::Whole(content) if content.encoded_length() < SHARED_CONTENT_BYTES => {
                return self.send_copied_delivery(dispatch, content);
            }
            Bodied::Whole(content) => in_one_stretch(&content, &[]),
            Bodied::Parts(content, parts) => in_one_stretch(&content, &parts),
            Bodied::Shared(bytes) => bytes.clone(),
        };
        self.spend_credit(to, content.len() as u64);
        let Dispatch {
            queue,
            queue_slot,
            consumer,
            needs_ack,
            sequence,
            redelivered,
            ..
        } = *dispatch;
        let message = ShardMessage::DeliverShared {
            queue,
            queue_slot,
            consumer,
            needs_ack,
            resumes: dispatch.resumes,
            sequence,
            redelivered,
            content,
        };
        self.send(to, message);
    }

    fn send_copied_delivery(&mut self, dispatch: &Dispatch, content: Content<'_>) {
        let to = dispatch.consumer.connection.shard;
        let batch = self.batch_for(to);
        let begin = batch.bytes.len() as u32;
        let length = content.encoded_length() as u32;
        DeliveryHead {
            sequence: dispatch.sequence,
            redelivered: dispatch.redelivered,
            length,
        }
        .encode(&mut batch.bytes);
        content.encode(&mut batch.bytes);
        let end = batch.bytes.len() as u32;
        match batch.messages.last_mut() {
            Some(ShardMessage::DeliverRun {
                queue,
                consumer,
                count,
                bytes,
                ..
            }) if *queue == dispatch.queue && *consumer == dispatch.consumer && bytes.end == begin => {
                *count += 1;
                bytes.end = end;
            }
            _ => batch.messages.push(ShardMessage::DeliverRun {
                queue: dispatch.queue,
                queue_slot: dispatch.queue_slot,
                consumer: dispatch.consumer,
                needs_ack: dispatch.needs_ack,
                resumes: dispatch.resumes,
                count: 1,
                bytes: begin..end,
            }),
        }
        self.spend_credit(to, u64::from(end - begin));
    }
}

pub(super) fn whole(bytes: &[u8]) -> Content<'_> {
    Content::decode(bytes).expect("a stretch is stored as it was encoded")
}

pub(super) fn in_one_stretch(content: &Content<'_>, parts: &[&[u8]]) -> Bytes {
    let more: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(content.encoded_length() + more);
    content.encode(&mut bytes);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Bytes::from(bytes)
}

/// Body frames whose payloads are not copied.
fn write_shared(channel: u16, body: &Bytes, frame_max: u32, outbound: &mut Outbound) {
    let mut at = 0;
    while at < body.len() {
        let end = body.len().min(at.saturating_add(body_payload_max(frame_max)));
        let head = frame_head(FrameKind::Body, channel, (end - at) as u32);
        outbound.buffer().extend_from_slice(&head);
        outbound.push_shared(body.slice(at..end));
        outbound.buffer().push(FRAME_END);
        at = end;
    }
}
