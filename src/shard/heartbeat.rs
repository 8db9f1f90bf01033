//! The story of time: ten times a second a look at memory and disk ([`alarm`](super::alarm)) and the log's durable mark; once
//! a second heartbeats, handshakes that take too long, deliveries that are not settled in time
//! ([`overdue`](super::overdue)), and buffers nobody uses.

use super::Shard;
use super::overdue::Timeouts;
use crate::connection::SilentPeer;
use crate::model::Moment;
use crate::net::Outbound;
use tracing::warn;

/// Time between looks at every connection.
const BEAT_MILLISECONDS: u64 = 1000;

impl Shard {
    /// The coarse timer has ticked.
    pub(super) fn keep_time(&mut self, now: Moment) {
        self.is_mark_due = true;
        self.watch_resources(now);
        if self.time_index.has_doubled() {
            self.judge_time_index();
        }
        if now.milliseconds_since(self.last_beat) < BEAT_MILLISECONDS {
            return;
        }
        self.last_beat = now;
        self.judge_time_index();
        let slots: Vec<u32> = self.connections.slots().collect();
        let mut timeouts = Timeouts::default();
        for slot in slots {
            if let Err(silence) = self.beat(slot, now) {
                self.let_go(slot, silence);
            }
            self.close_overdue_channels(slot, now, &mut timeouts);
        }
    }

    /// A connection that waits is not read, so its silence is not its peer's.
    fn beat(&mut self, slot: u32, now: Moment) -> Result<(), SilentPeer> {
        let handshake = self.settings.handshake_milliseconds;
        let Some(connection) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let is_reading = connection.hold.is_none();
        connection.outbound.shrink_when_idle();
        let before = connection.outbound.len();
        connection
            .connection
            .beat(now, is_reading, handshake, connection.outbound.buffer())?;
        if connection.outbound.len() > before {
            self.connections.note_output(slot);
        }
        Ok(())
    }

    fn let_go(&mut self, slot: u32, silence: SilentPeer) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let (slot, generation) = (connection.id.slot, connection.id.generation);
        warn!(connection = %connection.id, peer = %connection.peer.address, reason = %silence, "closing connection");
        connection.outbound = Outbound::new();
        self.disconnect((slot, generation), &silence.to_string());
    }
}
