//! The story of a delivery: the queue names message and consumer, the channel gives the tag, the frames go into the
//! connection's output, or across to the core that holds the connection ([`dispatch`](super::dispatch) writes both).

use super::Shard;
use super::dispatch::{Bodied, Dispatch, whole};
use super::mailbox::{DeliveryHead, ShardMessage};
use super::publish::Run;
use super::queues::QueueSlot;
use crate::model::{ConsumerId, QueueSequence};
use crate::queue::{Delivery, Locator, Pause};
use crate::storage::SettleKind;
use bytes::Bytes;

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
            resumes: queue.resumes_of(delivery.consumer),
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
            if !taken && delivery.needs_ack {
                let queue = queues.get_mut(queue_slot).expect("the delivery came from it");
                queue.queue.take_back(delivery.sequence);
                return self.restrain(delivery.consumer);
            }
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
                SettleKind::AutoAcknowledged,
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
                resumes: 0,
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

    /// After deliveries went back: the consumer takes others again, once its owner has heard of it behind those. A channel
    /// that is full says so when it has room.
    fn call_for_more(&mut self, dispatch: &Dispatch) {
        let Dispatch {
            consumer,
            queue,
            owner,
            ..
        } = *dispatch;
        let Some(channel) = self.connections.channel(consumer.connection, consumer.channel) else {
            return;
        };
        if channel.is_full() || channel.is_paused {
            return;
        }
        let Some(at_channel) = channel.consumers.get_mut(consumer.number) else {
            return;
        };
        at_channel.resumes += 1;
        let word = ShardMessage::Pause {
            queue,
            consumer,
            reason: Pause::ChannelPrefetch,
            paused: false,
            resumes: at_channel.resumes,
        };
        self.say(owner, word);
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
            self.call_for_more(dispatch);
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
