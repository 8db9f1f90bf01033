//! Back-pressure of consumers: a connection that takes its deliveries too slowly, and a channel whose prefetch is used up,
//! have their consumers paused at the queues' owners.
//!
//! A queue of this core hears of it before it delivers again. One of another core may have deliveries under way, which the
//! channel cannot take, and what it can take later must not overtake them. So once one has gone back, all that come behind
//! it go back too, until their owner says that no more are under way: one round, however many there are.
//!
//! ```text
//!   connection's core                       owner
//!     full: Pause ─────────────────────────▶
//!     ◀───────────────────────── deliveries   (sent before)
//!     refused: Return ─────────────────────▶ back to their places; the consumer gets no more
//!     ◀───────────────────────── Returned     behind all that was sent before
//!     room: Pause{paused: false} ──────────▶
//! ```

use super::Shard;
use super::connections::Hold;
use super::dispatch::Dispatch;
use super::mailbox::ShardMessage;
use super::obey::At;
use crate::channel::ChannelConsumer;
use crate::model::{ChannelNumber, ConsumerId, QueueId, QueueSequence, ShardId};
use crate::queue::{Pause, Pauses};

impl Shard {
    /// After a delivery: pauses the connection's consumers when its output is full, the channel's when its prefetch is.
    #[inline]
    pub(super) fn restrain(&mut self, consumer: ConsumerId) {
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
    pub(super) fn pause_channel(&mut self, slot: u32, number: ChannelNumber, paused: bool) {
        if let Some(channel) = self.channel_at(slot, number) {
            channel.is_paused = paused;
            self.pause_consumers(slot, number, Pause::ChannelPrefetch, paused);
        }
    }

    fn pause_consumers(&mut self, slot: u32, number: ChannelNumber, reason: Pause, paused: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let id = connection.id;
        let Some(channel) = connection.connection.channel_mut(number) else {
            return;
        };
        // Whose returns are under way hears of room when they have been answered.
        let may_hear = |consumer: &&ChannelConsumer| {
            paused || reason != Pause::ChannelPrefetch || consumer.returning == 0
        };
        let consumers: Vec<(ShardId, QueueId, u32)> = channel
            .consumers
            .iter()
            .filter(may_hear)
            .map(|consumer| (consumer.owner, consumer.queue, consumer.number))
            .collect();
        for (owner, queue, consumer) in consumers {
            let consumer = ConsumerId {
                connection: id,
                channel: number,
                number: consumer,
            };
            self.pause_consumer(owner, queue, consumer, reason, paused);
        }
    }

    /// Reasons not to serve a consumer that is made now.
    pub(super) fn pauses_at(&mut self, at: At) -> Pauses {
        let is_congested = self
            .connections
            .get_mut(at.slot)
            .is_some_and(|connection| connection.is_congested);
        let is_paused = self.channel_of(at).is_paused;
        Pauses::default()
            .and(Pause::Output, is_congested)
            .and(Pause::ChannelPrefetch, is_paused)
    }

    /// Holds back a consumer, wherever its queue is, or lets it go on.
    pub(super) fn pause_consumer(
        &mut self,
        owner: ShardId,
        queue: QueueId,
        consumer: ConsumerId,
        reason: Pause,
        paused: bool,
    ) {
        if owner == self.id {
            return self.pause_own(queue, consumer, reason, paused);
        }
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

    /// Deliveries of another core's queue go back: their consumer has gone, or its channel takes none now.
    pub(super) fn return_deliveries(&mut self, first: &Dispatch, sequences: Vec<QueueSequence>) {
        if sequences.is_empty() {
            return;
        }
        let consumer = first.consumer;
        if let Some(channel) = self.connections.channel(consumer.connection, consumer.channel)
            && let Some(at_channel) = channel.consumers.get_mut(consumer.number)
        {
            at_channel.returning += 1;
        }
        let first = *first;
        self.say(first.message.owner, ShardMessage::Return { first, sequences });
    }

    /// Deliveries of a queue of this core have come back.
    pub(super) fn take_returned(&mut self, first: &Dispatch, sequences: &[QueueSequence]) {
        let Dispatch {
            consumer, message, ..
        } = *first;
        if let Some((slot, queue)) = self.queues.find(message.queue, message.queue_slot) {
            queue.queue.pause(consumer, Pause::ChannelPrefetch);
            sequences
                .iter()
                .for_each(|&sequence| queue.queue.take_back(sequence));
            self.list_deliverable(slot);
        }
        self.say(consumer.connection.shard, ShardMessage::Returned { consumer });
    }

    /// No delivery is under way any more that was sent before the owner took the returned ones. The consumer takes others
    /// again when that was the last return, and its channel has room; one that is full says so later.
    pub(super) fn returned(&mut self, consumer: ConsumerId) {
        let Some(channel) = self.connections.channel(consumer.connection, consumer.channel) else {
            return;
        };
        let has_room = !channel.is_full() && !channel.is_paused;
        let Some(at_channel) = channel.consumers.get_mut(consumer.number) else {
            return;
        };
        at_channel.returning -= 1;
        if at_channel.returning == 0 && has_room {
            let (owner, queue) = (at_channel.owner, at_channel.queue);
            self.pause_consumer(owner, queue, consumer, Pause::ChannelPrefetch, false);
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
}
