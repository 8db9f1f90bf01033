//! The story of a delivery: the queue names message and consumer, its content is read from where it lies (memory, or the
//! log), the channel gives the tag, the frames go into the connection's output, or across to the core that holds the
//! connection ([`dispatch`](super::dispatch) writes both), where `take_deliveries` goes on. A message that comes while a
//! consumer without acks waits is handed over as it came (`hand_over`).

use super::Shard;
use super::delivery_count::counted;
use super::dispatch::{Bodied, Dispatch, whole};
use super::mailbox::{DeliveryHead, ShardMessage};
use super::publish::Run;
use crate::channel::Unacked;
use crate::model::{ConsumerId, QueueSequence};
use crate::queue::{Delivery, Locator};
use crate::storage::SettleKind;
use bytes::Bytes;

/// Why no more was delivered from a queue.
pub(super) enum Stopped {
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
        let mut served_last = None;
        for queue_slot in std::mem::take(&mut self.deliverable) {
            let had_budget = budget > 0;
            match self.deliver_from(queue_slot, &mut budget) {
                Stopped::Done => {}
                // One queue alone spends it; others may have stopped because they wait for their expired messages to go.
                Stopped::TickIsSpent if had_budget && budget == 0 => served_last = Some(queue_slot),
                Stopped::TickIsSpent => self.deliverable.push(queue_slot),
                Stopped::NoCredit => self.starved.push(queue_slot),
            }
        }
        // Who has spent the tick goes on behind those who had nothing of it.
        self.deliverable.extend(served_last);
        self.has_spent_tick = budget == 0;
    }

    /// Delivers what the queue can.
    fn deliver_from(&mut self, queue_slot: u32, budget: &mut u32) -> Stopped {
        loop {
            if *budget == 0 {
                return Stopped::TickIsSpent;
            }
            if let Err(stopped) = self.deliver_next(queue_slot) {
                if let Stopped::Done = stopped
                    && let Some(queue) = self.queues.get_mut(queue_slot)
                {
                    queue.is_listed = false;
                }
                return stopped;
            }
            *budget -= 1;
        }
    }

    /// Delivers the queue's next message.
    #[inline]
    pub(super) fn deliver_next(&mut self, queue_slot: u32) -> Result<(), Stopped> {
        if self.is_expiry_behind && !self.expire_front(queue_slot) {
            return Err(Stopped::TickIsSpent);
        }
        let queue = self.queues.get_mut(queue_slot).ok_or(Stopped::Done)?;
        let next = queue.queue.next_consumer();
        if next.is_some_and(|next| !self.mailbox.has_credit(next.connection.shard)) {
            return Err(Stopped::NoCredit);
        }
        let delivery = queue.queue.next_delivery().ok_or(Stopped::Done)?;
        self.deliver(queue_slot, &delivery);
        Ok(())
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
        let properties;
        let dispatch = Dispatch {
            consumer: delivery.consumer,
            message: Unacked {
                queue: queue.id,
                owner: *id,
                queue_slot,
                sequence: delivery.sequence,
            },
            redelivered: delivery.entry.redelivered,
            needs_ack: delivery.needs_ack,
        };
        let mut bodied = match delivery.entry.locator {
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
        if delivery.entry.delivery_count > 0 && queue.is_quorum() {
            properties = counted(bodied.properties(), delivery.entry.delivery_count);
            bodied = bodied.with_properties(&properties);
        }
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
            if delivery.spends_grant {
                let consumer = delivery.consumer;
                mailbox.send(consumer.connection.shard, ShardMessage::Spent { consumer });
            }
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
            let message = Unacked {
                queue,
                owner: self.id,
                queue_slot,
                sequence: QueueSequence(first.0 + at as u64),
            };
            let dispatch = Dispatch {
                consumer,
                message,
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
            let message = Unacked {
                sequence: head.sequence,
                ..first.message
            };
            let dispatch = Dispatch {
                message,
                redelivered: head.redelivered,
                ..first
            };
            let taken = self
                .connections
                .take_delivery(&dispatch, Bodied::Whole(whole(content)));
            if !taken && dispatch.needs_ack {
                returned.push(head.sequence);
            }
        }
        self.return_deliveries(&first, returned);
        self.restrain(first.consumer);
    }

    /// The same for a large one.
    pub(super) fn take_shared_delivery(&mut self, dispatch: Dispatch, content: &Bytes) {
        let taken = self.connections.take_delivery(&dispatch, Bodied::Shared(content));
        if !taken && dispatch.needs_ack {
            self.return_deliveries(&dispatch, vec![dispatch.message.sequence]);
        }
        self.restrain(dispatch.consumer);
    }
}
