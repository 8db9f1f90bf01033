//! `Dispatch`: one delivery on its way out, into its connection's output, or into the batch for the core that holds it.

use super::connections::Connections;
use super::mailbox::{DeliveryHead, Mailbox, SHARED_CONTENT_BYTES, ShardMessage};
use crate::channel::{ChannelConsumer, Unacked};
use crate::model::{ConsumerId, Content};
use crate::net::Outbound;
use crate::protocol::content::{body_payload_max, encode_body};
use crate::protocol::frame::{FRAME_END, FrameKind, frame_head};
use bytes::Bytes;

/// What a delivery tells of its message besides the content.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Which message of which queue.
    pub message: Unacked,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether it must be settled.
    pub needs_ack: bool,
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

impl<'a> Bodied<'a> {
    /// The message's properties.
    pub(super) fn properties(&self) -> &'a [u8] {
        match self {
            Bodied::Whole(content) | Bodied::Parts(content, _) => content.properties,
            Bodied::Shared(bytes) => whole(bytes).properties,
        }
    }

    /// The same message with other properties.
    pub(super) fn with_properties(self, properties: &'a [u8]) -> Self {
        match self {
            Bodied::Whole(content) => Bodied::Whole(Content {
                properties,
                ..content
            }),
            Bodied::Parts(content, parts) => Bodied::Parts(
                Content {
                    properties,
                    ..content
                },
                parts,
            ),
            Bodied::Shared(bytes) => Bodied::Whole(Content {
                properties,
                ..whole(bytes)
            }),
        }
    }
}

impl Connections {
    /// Writes a delivery to its consumer's connection. Returns whether the consumer is still there and its channel takes it.
    #[inline]
    pub(super) fn take_delivery(&mut self, dispatch: &Dispatch, bodied: Bodied<'_>) -> bool {
        let consumer = dispatch.consumer;
        let Some(slot) = self.find(consumer.connection) else {
            return false;
        };
        let frame_max = slot.connection.frame_max();
        let Some((tag, at_channel)) = slot
            .connection
            .channel_mut(consumer.channel)
            .and_then(|channel| channel.deliver_to(consumer.number, dispatch.message, dispatch.needs_ack))
        else {
            return false;
        };
        let delivery = (consumer.channel.0, tag.0, dispatch.redelivered);
        match bodied {
            Bodied::Whole(content) => {
                write_whole(at_channel, delivery, &content, frame_max, &mut slot.outbound)
            }
            Bodied::Parts(content, parts) => {
                write_parts(
                    at_channel,
                    delivery,
                    &content,
                    parts,
                    frame_max,
                    &mut slot.outbound,
                );
            }
            Bodied::Shared(bytes) => write_shared(at_channel, delivery, bytes, frame_max, &mut slot.outbound),
        }
        true
    }
}

/// Channel, tag and redelivered flag of a delivery.
type Head = (u16, u64, bool);

#[inline]
fn write_whole(
    to: &mut ChannelConsumer,
    (channel, tag, redelivered): Head,
    content: &Content<'_>,
    frame_max: u32,
    outbound: &mut Outbound,
) {
    let template = to.template(channel, content.exchange, content.routing_key);
    let out = outbound.buffer();
    template.encode(tag, redelivered, content.properties, content.body, frame_max, out);
}

fn write_parts(
    to: &mut ChannelConsumer,
    (channel, tag, redelivered): Head,
    content: &Content<'_>,
    parts: Vec<&[u8]>,
    frame_max: u32,
    outbound: &mut Outbound,
) {
    let stretches: Vec<&[u8]> = std::iter::once(content.body).chain(parts).collect();
    let body_size: usize = stretches.iter().map(|stretch| stretch.len()).sum();
    let template = to.template(channel, content.exchange, content.routing_key);
    let out = outbound.buffer();
    template.encode_head(tag, redelivered, content.properties, body_size as u64, out);
    encode_body(channel, &stretches, frame_max, out);
}

/// Body frames whose payloads are not copied.
fn write_shared(
    to: &mut ChannelConsumer,
    (channel, tag, redelivered): Head,
    bytes: &Bytes,
    frame_max: u32,
    outbound: &mut Outbound,
) {
    let content = whole(bytes);
    let body = bytes.slice(bytes.len() - content.body.len()..);
    let template = to.template(channel, content.exchange, content.routing_key);
    let out = outbound.buffer();
    template.encode_head(tag, redelivered, content.properties, body.len() as u64, out);
    write_shared_body(channel, &body, frame_max, outbound);
}

/// The frames of a body that is not copied.
pub(super) fn write_shared_body(channel: u16, body: &Bytes, frame_max: u32, outbound: &mut Outbound) {
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
        let message = ShardMessage::DeliverShared {
            dispatch: *dispatch,
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
            sequence: dispatch.message.sequence,
            redelivered: dispatch.redelivered,
            length,
        }
        .encode(&mut batch.bytes);
        content.encode(&mut batch.bytes);
        let end = batch.bytes.len() as u32;
        match batch.messages.last_mut() {
            Some(ShardMessage::DeliverRun { first, count, bytes })
                if first.message.queue == dispatch.message.queue
                    && first.consumer == dispatch.consumer
                    && bytes.end == begin =>
            {
                *count += 1;
                bytes.end = end;
            }
            _ => batch.messages.push(ShardMessage::DeliverRun {
                first: *dispatch,
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
