//! The story of a delivery that is not settled in time: its channel closes, and gives back all that it holds.
//!
//! Looked at once a beat. A connection that waits is not read, so what it has settled may not be known yet: it is judged
//! when it goes on. Of a channel the oldest delivery decides, by the timeout of its queue, as in RabbitMQ.

use super::Shard;
use super::connections::ConnectionSlot;
use crate::model::{ChannelNumber, Moment, QueueId, Refusal, ReplyCode};
use crate::topology::Topology;
use std::collections::BTreeMap;

/// Milliseconds that deliveries may wait, as far as one beat had to find out.
#[derive(Default)]
pub(super) struct Timeouts(BTreeMap<QueueId, Option<u64>>);

impl Timeouts {
    /// The queue's own word before everybody's, and 0 is for ever.
    fn of(&mut self, queue: QueueId, topology: &Topology, common: u64) -> Option<u64> {
        *self.0.entry(queue).or_insert_with(|| {
            let definition = topology.queue_by_id(queue);
            let own = definition.and_then(|definition| topology.queue_settings(definition).consumer_timeout);
            Some(own.unwrap_or(common)).filter(|&timeout| timeout > 0)
        })
    }
}

impl Shard {
    /// Closes the channels of a connection whose oldest delivery has waited for longer than it may.
    pub(super) fn close_overdue_channels(&mut self, slot: u32, now: Moment, timeouts: &mut Timeouts) {
        let common = self.settings.consumer_timeout_milliseconds;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let topology = &self.topology;
        let timeout_of = |queue| timeouts.of(queue, topology, common);
        for (number, timeout) in overdue_channels(connection, timeout_of, now) {
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
    mut timeout_of: impl FnMut(QueueId) -> Option<u64>,
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
            let timeout = timeout_of(oldest.queue).filter(|&timeout| waited > timeout);
            overdue.extend(timeout.map(|timeout| (channel.number(), timeout)));
        }
    }
    overdue
}
