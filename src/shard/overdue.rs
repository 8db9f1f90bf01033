//! The story of a delivery that is not settled in time: its channel closes, and gives back all that it holds.
//!
//! Looked at once a beat. A connection that waits is not read, so what it has settled may not be known yet: it is judged
//! when it goes on.

use super::Shard;
use super::connections::ConnectionSlot;
use crate::model::{ChannelNumber, Moment, QueueId, Refusal, ReplyCode};
use crate::topology::Topology;

impl Shard {
    /// Closes the channels of a connection whose oldest delivery has waited for longer than it may.
    pub(super) fn close_overdue_channels(&mut self, slot: u32, now: Moment) {
        let common = self.settings.consumer_timeout_milliseconds;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        for (number, timeout) in overdue_channels(connection, &self.topology, common, now) {
            let text = format!(
                "delivery acknowledgement on channel {number} timed out. Timeout value used: {timeout} ms. This timeout \
                 value can be configured, see consumers doc guide to learn more"
            );
            let refusal = Refusal::new(ReplyCode::PreconditionFailed, text);
            self.refuse_channel(slot, number, &refusal, (0, 0));
        }
    }
}

/// Channels whose oldest delivery is late, and the milliseconds that it had.
fn overdue_channels(
    connection: &mut ConnectionSlot,
    topology: &Topology,
    common: u64,
    now: Moment,
) -> Vec<(ChannelNumber, u64)> {
    let is_read = connection.hold.is_none();
    let mut overdue = Vec::new();
    for channel in connection.connection.channels_mut() {
        let Some((oldest, since)) = channel.mark_deliveries(now) else {
            continue;
        };
        let waited = now.milliseconds_since(since);
        if waited > 0 && is_read {
            let timeout = timeout_of(topology, oldest.queue, common);
            overdue.extend(timeout.filter(|&it| waited > it).map(|it| (channel.number(), it)));
        }
    }
    overdue
}

/// Milliseconds that a delivery of a queue may wait: the queue's own word before everybody's, and 0 is for ever.
fn timeout_of(topology: &Topology, queue: QueueId, common: u64) -> Option<u64> {
    let own = topology
        .queue_by_id(queue)
        .and_then(|queue| queue.consumer_timeout());
    Some(own.unwrap_or(common)).filter(|&timeout| timeout > 0)
}
