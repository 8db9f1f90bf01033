//! Back-pressure of consumers: a connection that takes its deliveries too slowly, and a channel whose prefetch is used up,
//! have their consumers paused at the queues' owners.
//!
//! A queue of this core hears of it before it delivers again. One of another core may have deliveries under way, which a
//! channel without room cannot take, and what it can take later must not overtake them. So once one has gone back, all that
//! come behind it go back too, until their owner says that no more are under way: one round, however many there are. It
//! sends no more than it was granted, so those are few.
//!
//! ```text
//!   connection's core                       owner
//!     full: Pause ─────────────────────────▶
//!     ◀───────────────────────── deliveries   (sent before)
//!     refused: Return ─────────────────────▶ back to their places; the consumer gets no more
//!     ◀───────────────────────── Returned     behind all that was sent before
//!     room for n: Grant{n} ────────────────▶
//!     ◀───────────────────────── Granted      before what it has at once
//!     ◀───────────────────────── deliveries, Spent behind the n-th
//! ```
//!
//! The consumers of one channel are called in turn, another one first each time, and the next one of another core not
//! before the one before it has had its chance: none starves beside one whose queue is long, or near.

use super::Shard;
use super::connections::Hold;
use super::dispatch::Dispatch;
use super::mailbox::ShardMessage;
use super::obey::At;
use crate::channel::ChannelConsumer;
use crate::model::{ChannelNumber, ConsumerId, QueueId, QueueSequence};
use crate::queue::{Pause, Pauses};

impl Shard {
    /// After a delivery: lists the connection for writing, and pauses its consumers when its output is full, the channel's
    /// when its prefetch is.
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
            self.pause_channel(consumer.connection.slot, consumer.channel);
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

    fn pause_connection(&mut self, slot: u32, paused: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        for number in connection.connection.channel_numbers() {
            self.pause_consumers(slot, number, Pause::Output, paused);
        }
    }

    /// Holds back all consumers of a channel, whose own prefetch is used up.
    pub(super) fn pause_channel(&mut self, slot: u32, number: ChannelNumber) {
        if let Some(channel) = self.channel_at(slot, number) {
            channel.is_paused = true;
            self.pause_consumers(slot, number, Pause::ChannelPrefetch, true);
        }
    }

    fn pause_consumers(&mut self, slot: u32, number: ChannelNumber, reason: Pause, paused: bool) {
        let Some(channel) = self.channel_at(slot, number) else {
            return;
        };
        // Who does not acknowledge uses up no prefetch, and is not held back by it.
        let is_concerned = |consumer: &&ChannelConsumer| reason != Pause::ChannelPrefetch || !consumer.no_ack;
        let concerned = channel.consumers.iter().filter(is_concerned);
        let consumers: Vec<u32> = concerned.map(|consumer| consumer.number).collect();
        for consumer in consumers {
            self.pause_consumer((slot, number, consumer), reason, paused);
        }
    }

    /// A paused channel whose prefetch has room again calls its consumers.
    pub(super) fn unpause_channel(&mut self, slot: u32, number: ChannelNumber) {
        let Some(channel) = self.channel_at(slot, number) else {
            return;
        };
        if channel.is_paused && !channel.is_full() {
            channel.is_paused = false;
            channel.begin_calls();
            self.call_consumers(slot, number);
        }
    }

    /// Lets consumers go on in their turn, up to the first of another core: the next one is called when that has answered.
    fn call_consumers(&mut self, slot: u32, number: ChannelNumber) {
        loop {
            let id = self.id;
            let Some(channel) = self.channel_at(slot, number) else {
                return;
            };
            if channel.is_paused || channel.is_full() {
                return;
            }
            let Some(consumer) = channel.calls.take_next() else {
                return;
            };
            let Some(owner) = channel.consumers.get_mut(consumer).map(|called| called.owner) else {
                continue;
            };
            self.pause_consumer((slot, number, consumer), Pause::ChannelPrefetch, false);
            if owner != id {
                return self.ask(slot, number, consumer);
            }
        }
    }

    fn ask(&mut self, slot: u32, number: ChannelNumber, consumer: u32) {
        if let Some(channel) = self.channel_at(slot, number) {
            channel.calls.ask(consumer);
        }
    }

    /// Reasons not to serve a consumer that is made now.
    pub(super) fn pauses_at(&mut self, at: At, no_ack: bool) -> Pauses {
        let is_congested = self
            .connections
            .get_mut(at.slot)
            .is_some_and(|connection| connection.is_congested);
        let is_paused = !no_ack && self.channel_of(at).is_paused;
        Pauses::default()
            .and(Pause::Output, is_congested)
            .and(Pause::ChannelPrefetch, is_paused)
    }

    /// Holds back a consumer, wherever its queue is, or lets it go on.
    pub(super) fn pause_consumer(
        &mut self,
        (slot, channel, number): (u32, ChannelNumber, u32),
        reason: Pause,
        paused: bool,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let id = ConsumerId {
            connection: connection.id,
            channel,
            number,
        };
        let Some(channel) = connection.connection.channel_mut(channel) else {
            return;
        };
        let most = channel.room();
        let Some(consumer) = channel.consumers.get_mut(number) else {
            return;
        };
        let (owner, queue) = (consumer.owner, consumer.queue);
        let word = match (reason, paused) {
            _ if owner == self.id => return self.pause_own(queue, id, reason, paused),
            (Pause::ChannelPrefetch, false) => {
                consumer.granting += 1;
                ShardMessage::Grant {
                    queue,
                    consumer: id,
                    most,
                }
            }
            _ => ShardMessage::Pause {
                queue,
                consumer: id,
                reason,
                paused,
            },
        };
        self.say(owner, word);
    }

    /// The channel of a consumer of another core has room again.
    pub(super) fn take_grant(&mut self, queue: QueueId, consumer: ConsumerId, most: u32) {
        self.say(consumer.connection.shard, ShardMessage::Granted { consumer });
        if let Some((slot, queue)) = self.queues.find(queue, super::queues::NO_SLOT) {
            queue.queue.grant(consumer, most);
            self.list_deliverable(slot);
        }
    }

    /// A consumer of another core has had its chance: the next one is called, if this one was called in its turn.
    pub(super) fn granted(&mut self, consumer: ConsumerId) {
        let Some(channel) = self.connections.channel(consumer.connection, consumer.channel) else {
            return;
        };
        if let Some(granted) = channel.consumers.get_mut(consumer.number) {
            granted.granting = granted.granting.saturating_sub(1);
            if granted.granting > 0 {
                return;
            }
        }
        if channel.calls.answered(consumer.number) {
            self.call_consumers(consumer.connection.slot, consumer.channel);
        }
    }

    /// A consumer of another core got all it was granted. One whose channel is full, or whose returns are under way, is
    /// granted more later.
    pub(super) fn spent(&mut self, consumer: ConsumerId) {
        let Some(channel) = self.connections.channel(consumer.connection, consumer.channel) else {
            return;
        };
        let has_room = !channel.is_full() && !channel.is_paused;
        let is_settled = |at_channel: &mut ChannelConsumer| at_channel.returning == 0;
        if has_room && channel.consumers.get_mut(consumer.number).is_some_and(is_settled) {
            let place = (consumer.connection.slot, consumer.channel, consumer.number);
            self.pause_consumer(place, Pause::ChannelPrefetch, false);
        }
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
            // Their time may have come on the way, and others may have come in meanwhile.
            sequences
                .iter()
                .for_each(|&sequence| self.expire_if_due(slot, sequence));
            self.drop_surplus(slot);
            self.list_deliverable(slot);
        }
        self.say(consumer.connection.shard, ShardMessage::Returned { consumer });
    }

    /// No delivery is under way any more that was sent before the owner took the returned ones. With the last return
    /// answered, the consumer is granted what its channel has room for; one that is full grants it later.
    pub(super) fn returned(&mut self, consumer: ConsumerId) {
        let channel = self.connections.channel(consumer.connection, consumer.channel);
        if let Some(at_channel) = channel.and_then(|channel| channel.consumers.get_mut(consumer.number)) {
            at_channel.returning -= 1;
            self.spent(consumer);
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
