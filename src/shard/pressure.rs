//! Back-pressure of consumers: a connection that takes its deliveries too slowly, and a channel whose prefetch is used up,
//! have their consumers paused at the queues' owners.
//!
//! A queue of this core hears of it before it delivers again. One of another core may have deliveries under way, which the
//! channel cannot take, and what it can take later must not overtake them:
//!
//! ```text
//!   connection's core                       owner
//!     full: Pause ─────────────────────────▶
//!     ◀──────────────── deliveries, resumes n   (sent before)
//!     refused: Return ─────────────────────▶ back to their places
//!     room: Pause{paused: false}, n+1 ─────▶
//!     ◀─────────────── deliveries, resumes n+1  taken; those with n still go back
//! ```

use super::Shard;
use super::connections::Hold;
use super::mailbox::ShardMessage;
use crate::model::{ChannelNumber, ConsumerId, QueueId, ShardId};
use crate::queue::Pause;

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
        let has_room_again = !paused && reason == Pause::ChannelPrefetch;
        let consumers: Vec<(ShardId, QueueId, u32, u32)> = channel
            .consumers
            .iter_mut()
            .map(|consumer| {
                consumer.resumes += u32::from(has_room_again);
                (consumer.owner, consumer.queue, consumer.number, consumer.resumes)
            })
            .collect();
        for (owner, queue, consumer, resumes) in consumers {
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
                        resumes,
                    },
                );
            }
        }
    }

    /// Notes how often a consumer of another core was let go on: deliveries tell, so that those sent too early are known.
    pub(super) fn note_resumes(&mut self, queue: QueueId, consumer: ConsumerId, resumes: u32) {
        if resumes > 0
            && let Some((_, queue)) = self.queues.find(queue, super::queues::NO_SLOT)
            && queue.queue.has_consumer(consumer)
        {
            queue.resumes.insert(consumer, resumes);
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
