//! The story of a delivery: the queue names message and consumer, the channel gives the tag, the frames go into the
//! connection's output, or across to the core that holds the connection.

use super::Shard;
use super::connections::Hold;
use super::mailbox::{DeliveryHead, SHARED_CONTENT_BYTES, ShardMessage};
use super::publish::Run;
use super::queues::QueueSlot;
use crate::channel::Unacked;
use crate::model::{ConsumerId, Content, QueueId, QueueSequence, ShardId};
use crate::net::Outbound;
use crate::protocol::frame::{FRAME_END, FRAME_OVERHEAD};
use crate::queue::{Delivery, Locator, Pause};
use crate::storage::SettleKind;
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

/// Why no more was delivered from a queue.
enum Stopped {
    /// Nothing is ready, or nobody takes it.
    Done,
    /// The tick has delivered enough.
    TickIsSpent,
    /// The lane to the next consumer's core has no credit.
    NoCredit,
}

impl Shard {
    /// Delivers from the listed queues, as much as a tick may.
    pub(super) fn deliver_ready(&mut self) {
        let mut budget = self.settings.deliveries_a_tick;
        for queue_slot in std::mem::take(&mut self.deliverable) {
            match self.deliver_from(queue_slot, &mut budget) {
                Stopped::Done => {}
                Stopped::TickIsSpent => self.deliverable.push(queue_slot),
                Stopped::NoCredit => self.starved.push(queue_slot),
            }
        }
        self.has_spent_tick = budget == 0;
    }

    /// Delivers what the queue can.
    fn deliver_from(&mut self, queue_slot: u32, budget: &mut u32) -> Stopped {
        loop {
            if *budget == 0 {
                return Stopped::TickIsSpent;
            }
            let Some(queue) = self.queues.get_mut(queue_slot) else {
                return Stopped::Done;
            };
            let next = queue.queue.next_consumer();
            if next.is_some_and(|next| !self.mailbox.has_credit(next.connection.shard)) {
                return Stopped::NoCredit;
            }
            let Some(delivery) = queue.queue.next_delivery() else {
                queue.is_listed = false;
                return Stopped::Done;
            };
            self.deliver(queue_slot, &delivery);
            *budget -= 1;
        }
    }

    /// A lane has credit again: queues that wanted it go on.
    pub(super) fn resume_queues(&mut self) {
        self.deliverable.append(&mut self.starved);
    }

    /// Notes that the queue may have something to deliver.
    #[inline]
    pub(super) fn list_deliverable(&mut self, queue_slot: u32) {
        if let Some(queue) = self.queues.get_mut(queue_slot)
            && !queue.is_listed
            && queue.queue.can_deliver()
        {
            queue.is_listed = true;
            self.deliverable.push(queue_slot);
        }
    }

    fn deliver(&mut self, queue_slot: u32, delivery: &Delivery) {
        let Shard {
            queues,
            log,
            shared,
            connections,
            mailbox,
            id,
            ..
        } = self;
        let queue = queues.get_mut(queue_slot).expect("the delivery came from it");
        let dispatch = Dispatch {
            consumer: delivery.consumer,
            queue: queue.id,
            owner: *id,
            queue_slot,
            sequence: delivery.sequence,
            redelivered: delivery.entry.redelivered,
            needs_ack: delivery.needs_ack,
        };
        let bodied = match delivery.entry.locator {
            Locator::Arena(slot) => Bodied::Whole(whole(queue.arena.read(slot))),
            Locator::Shared(slot) => Bodied::Shared(shared.get(slot)),
            Locator::Log { position, .. } => {
                let stored = log.read(position);
                match stored.is_whole() {
                    true => Bodied::Whole(stored.content),
                    false => Bodied::Parts(stored.content, stored.parts().collect()),
                }
            }
        };
        self.counters.messages_delivered += 1;
        if delivery.consumer.connection.shard == *id {
            let taken = connections.take_delivery(&dispatch, bodied);
            debug_assert!(
                taken,
                "a consumer of this core leaves its queues before it goes, and is paused when it is full"
            );
        } else {
            mailbox.send_delivery(&dispatch, bodied);
        }
        if !delivery.needs_ack {
            let queue = self
                .queues
                .get_mut(queue_slot)
                .expect("the delivery came from it");
            let (sequence, entry) = (delivery.sequence, delivery.entry);
            queue.release(
                sequence,
                entry,
                SettleKind::Acknowledged,
                &mut self.log,
                &mut self.shared,
            );
            self.list_settling(queue_slot);
        }
        if delivery.consumer.connection.shard == self.id {
            self.restrain(delivery.consumer);
        }
    }

    /// Hands messages of a run, as they come from the publisher, to a consumer that does not acknowledge.
    pub(super) fn hand_over(
        &mut self,
        queue_slot: u32,
        consumer: ConsumerId,
        first: QueueSequence,
        run: &Run<'_>,
    ) {
        self.counters.messages_delivered += run.places.len() as u64;
        if consumer.connection.shard != self.id {
            return self.hand_across(queue_slot, consumer, first, run);
        }
        let output_bytes_max = self.settings.output_bytes_max;
        let slot = self
            .connections
            .find(consumer.connection)
            .expect("a connection leaves its queues before it goes");
        let frame_max = slot.connection.frame_max();
        let channel = slot
            .connection
            .channel_mut(consumer.channel)
            .expect("a channel leaves its queues before it goes");
        let first_tag = channel.deliver_settled_run(run.places.len() as u32);
        let at_channel = channel
            .consumers
            .get_mut(consumer.number)
            .expect("a consumer leaves its queue before it goes");
        let template = at_channel.template(consumer.channel.0, run.exchange, run.routing_key);
        let out = slot.outbound.buffer();
        for at in 0..run.places.len() {
            let content = run.content(at);
            template.encode(
                first_tag.0 + at as u64,
                false,
                content.properties,
                content.body,
                frame_max,
                out,
            );
        }
        let is_over = slot.outbound.len() > output_bytes_max;
        self.connections.note_output(consumer.connection.slot);
        if is_over {
            self.congest(consumer.connection.slot);
        }
    }

    fn hand_across(&mut self, queue_slot: u32, consumer: ConsumerId, first: QueueSequence, run: &Run<'_>) {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it").id;
        for at in 0..run.places.len() {
            let sequence = QueueSequence(first.0 + at as u64);
            let owner = self.id;
            let dispatch = Dispatch {
                consumer,
                queue,
                owner,
                queue_slot,
                sequence,
                redelivered: false,
                needs_ack: false,
            };
            self.mailbox
                .send_delivery(&dispatch, Bodied::Whole(run.content(at)));
        }
    }

    /// Deliveries came from a queue of another core. Those whose consumer has gone, or whose channel's prefetch is used
    /// up meanwhile, go back to their queue without a trace.
    pub(super) fn take_deliveries(&mut self, first: Dispatch, count: u32, mut bytes: &[u8]) {
        let mut returned = Vec::new();
        for _ in 0..count {
            let (head, content, rest) = DeliveryHead::split(bytes);
            bytes = rest;
            let dispatch = Dispatch {
                sequence: head.sequence,
                redelivered: head.redelivered,
                ..first
            };
            let taken = self
                .connections
                .take_delivery(&dispatch, Bodied::Whole(whole(content)));
            if !taken && dispatch.needs_ack {
                returned.push(dispatch.sequence);
            }
        }
        self.return_to_owner(&first, returned);
        self.restrain(first.consumer);
    }

    /// The same for a large one.
    pub(super) fn take_shared_delivery(&mut self, dispatch: Dispatch, content: &Bytes) {
        let taken = self.connections.take_delivery(&dispatch, Bodied::Shared(content));
        if !taken && dispatch.needs_ack {
            self.return_to_owner(&dispatch, vec![dispatch.sequence]);
        }
        self.restrain(dispatch.consumer);
    }

    fn return_to_owner(&mut self, dispatch: &Dispatch, sequences: Vec<QueueSequence>) {
        if !sequences.is_empty() {
            let Dispatch {
                queue,
                queue_slot,
                owner,
                ..
            } = *dispatch;
            let settlement = super::mailbox::Settlement::Return;
            self.say(
                owner,
                ShardMessage::Settle {
                    queue,
                    queue_slot,
                    settlement,
                    sequences,
                },
            );
        }
    }

    /// After a delivery: pauses the connection's consumers when its output is full, the channel's when its prefetch is.
    #[inline]
    fn restrain(&mut self, consumer: ConsumerId) {
        let output_bytes_max = self.settings.output_bytes_max;
        let Some(slot) = self.connections.find(consumer.connection) else {
            return;
        };
        let is_over = slot.outbound.len() > output_bytes_max && !slot.is_congested;
        let fills_channel = slot
            .connection
            .channel_mut(consumer.channel)
            .is_some_and(|c| c.is_full() && !c.is_paused);
        self.connections.note_output(consumer.connection.slot);
        if is_over {
            self.congest(consumer.connection.slot);
        }
        if fills_channel {
            self.pause_channel(consumer.connection.slot, consumer.channel, true);
        }
    }

    /// The connection takes its deliveries too slowly: its consumers get none until it has caught up.
    pub(super) fn congest(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !std::mem::replace(&mut connection.is_congested, true) {
            self.counters.congestions += 1;
            self.pause_connection(slot, true);
        }
    }

    /// The connection's output has become less: its consumers get deliveries again, if it is little enough.
    pub fn relieve(&mut self, slot: u32) {
        let limit = self.settings.output_bytes_max / 2;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.outbound.len() > limit {
            return;
        }
        connection.replied_bytes = 0;
        let waits = matches!(connection.hold, Some(Hold::Output));
        if std::mem::take(&mut connection.is_congested) {
            self.pause_connection(slot, false);
        }
        if waits {
            self.resume(slot);
        }
    }

    pub(super) fn pause_connection(&mut self, slot: u32, paused: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        for number in connection.connection.channel_numbers() {
            self.pause_consumers(slot, number, Pause::Output, paused);
        }
    }

    /// Holds back or lets go on all consumers of a channel, whose own prefetch is used up or has room again.
    pub(super) fn pause_channel(&mut self, slot: u32, number: crate::model::ChannelNumber, paused: bool) {
        if let Some(channel) = self.channel_at(slot, number) {
            channel.is_paused = paused;
            self.pause_consumers(slot, number, Pause::ChannelPrefetch, paused);
        }
    }

    fn pause_consumers(
        &mut self,
        slot: u32,
        number: crate::model::ChannelNumber,
        reason: Pause,
        paused: bool,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let id = connection.id;
        let Some(channel) = connection.connection.channel(number) else {
            return;
        };
        let consumers: Vec<(ShardId, QueueId, u32)> = channel
            .consumers
            .iter()
            .map(|consumer| (consumer.owner, consumer.queue, consumer.number))
            .collect();
        for (owner, queue, consumer) in consumers {
            let consumer = ConsumerId {
                connection: id,
                channel: number,
                number: consumer,
            };
            if owner == self.id {
                self.pause_own(queue, consumer, reason, paused);
            } else {
                self.say(
                    owner,
                    ShardMessage::Pause {
                        queue,
                        consumer,
                        reason,
                        paused,
                    },
                );
            }
        }
    }

    /// Holds back a consumer at a queue of this core, or lets it go on.
    pub(super) fn pause_own(&mut self, queue: QueueId, consumer: ConsumerId, reason: Pause, paused: bool) {
        let Some((slot, queue)) = self.queues.find(queue, super::queues::NO_SLOT) else {
            return;
        };
        if paused {
            queue.queue.pause(consumer, reason);
        } else {
            queue.queue.resume(consumer, reason);
            self.list_deliverable(slot);
        }
    }

    /// Notes that the queue has settles to log.
    #[inline]
    pub(super) fn list_settling(&mut self, queue_slot: u32) {
        let is_new = |queue: &mut QueueSlot| {
            !queue.settled.is_empty() && !std::mem::replace(&mut queue.is_settling, true)
        };
        if self.queues.get_mut(queue_slot).is_some_and(is_new) {
            self.settling.push(queue_slot);
        }
    }
}

impl super::connections::Connections {
    /// Writes a delivery to its consumer's connection. Returns whether the consumer is still there and its channel takes it.
    #[inline]
    fn take_delivery(&mut self, dispatch: &Dispatch, bodied: Bodied<'_>) -> bool {
        let consumer = dispatch.consumer;
        let Some(slot) = self.find(consumer.connection) else {
            return false;
        };
        let frame_max = slot.connection.frame_max();
        let Some(channel) = slot.connection.channel_mut(consumer.channel) else {
            return false;
        };
        let is_full = dispatch.needs_ack && channel.is_full();
        if is_full || channel.consumers.get_mut(consumer.number).is_none() {
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
                write_parts(
                    consumer.channel.0,
                    content.body,
                    &parts,
                    frame_max,
                    slot.outbound.buffer(),
                );
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

impl super::mailbox::Mailbox {
    /// Adds a delivery to the batch for the consumer's core; one that follows its like joins its run.
    #[inline]
    fn send_delivery(&mut self, dispatch: &Dispatch, bodied: Bodied<'_>) {
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
                count: 1,
                bytes: begin..end,
            }),
        }
        self.spend_credit(to, u64::from(end - begin));
    }
}

fn whole(bytes: &[u8]) -> Content<'_> {
    Content::decode(bytes).expect("a stretch is stored as it was encoded")
}

pub(super) fn in_one_stretch(content: &Content<'_>, parts: &[&[u8]]) -> Bytes {
    let more: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(content.encoded_length() + more);
    content.encode(&mut bytes);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Bytes::from(bytes)
}

fn body_frame_head(channel: u16, length: usize, out: &mut Vec<u8>) {
    out.push(crate::protocol::frame::FrameKind::Body as u8);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
}

/// Body frames whose payloads are not copied.
fn write_shared(channel: u16, body: &Bytes, frame_max: u32, outbound: &mut Outbound) {
    let mut at = 0;
    while at < body.len() {
        let end = body.len().min(at + payload_max(frame_max));
        body_frame_head(channel, end - at, outbound.buffer());
        outbound.push_shared(body.slice(at..end));
        outbound.buffer().push(FRAME_END);
        at = end;
    }
}

/// Body frames out of several stretches.
fn write_parts(channel: u16, first: &[u8], more: &[&[u8]], frame_max: u32, out: &mut Vec<u8>) {
    let mut stretches = std::iter::once(first).chain(more.iter().copied());
    let mut stretch = stretches.next().unwrap_or_default();
    let mut left = first.len() + more.iter().map(|part| part.len()).sum::<usize>();
    while left > 0 {
        let length = left.min(payload_max(frame_max));
        body_frame_head(channel, length, out);
        let mut missing = length;
        while missing > 0 {
            if stretch.is_empty() {
                stretch = stretches.next().expect("the stretches hold what is left");
                continue;
            }
            let (now, rest) = stretch.split_at(missing.min(stretch.len()));
            out.extend_from_slice(now);
            missing -= now.len();
            stretch = rest;
        }
        out.push(FRAME_END);
        left -= length;
    }
}

fn payload_max(frame_max: u32) -> usize {
    match frame_max {
        0 => usize::MAX >> 1,
        frame_max => frame_max as usize - FRAME_OVERHEAD,
    }
}
