//! `Bounds`: what a core may hold for its clients and for other cores, whatever they do: looked at after every tick.

use super::broker::CORES;
use super::core::Core;
use crate::model::ShardId;
use crate::shard::settings::Settings;

/// The one that was let through at the bound: a message, or a run of publishes that fills a receive buffer.
const OVERSHOOT_BYTES: u64 = 208 << 10;

/// The bounds of every core.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Output of a connection: some times what pauses it, with what is under way to it from other cores.
    output_bytes: u64,
    /// Publishes and deliveries under way to another core.
    lane_bytes: u64,
}

impl Bounds {
    /// The bounds that follow from `settings`.
    pub fn new(settings: &Settings) -> Self {
        // A publish that was granted its credit may first be handed on from a queue here to the same core.
        let lane_bytes = settings.ring_credit_bytes + 2 * OVERSHOOT_BYTES;
        Self {
            output_bytes: 4 * settings.output_bytes_max as u64 + OVERSHOOT_BYTES + lane_bytes,
            lane_bytes,
        }
    }

    /// Checks a core between two ticks.
    ///
    /// # Errors
    /// What it holds too much of.
    pub fn check(self, core: &mut Core) -> Result<(), String> {
        self.check_lanes(core)?;
        self.check_outputs(core)
    }

    fn check_lanes(self, core: &Core) -> Result<(), String> {
        let (id, most) = (core.shard.id(), self.lane_bytes);
        for other in (0..CORES as u16).map(ShardId) {
            let bytes = core.shard.mailbox().unaccepted_bytes(other);
            if bytes > most {
                return Err(format!(
                    "core {id} has {bytes} bytes under way to core {other}, whose credit allows {most}"
                ));
            }
        }
        Ok(())
    }

    fn check_outputs(self, core: &mut Core) -> Result<(), String> {
        let (id, most) = (core.shard.id(), self.output_bytes);
        let connections = core.shard.connections();
        let slots: Vec<u32> = connections.slots().collect();
        for slot in slots {
            let connection = connections.get_mut(slot).expect("it is in use");
            let (bytes, connection) = (connection.outbound.len() as u64, connection.id);
            if bytes > most {
                return Err(format!(
                    "core {id} holds {bytes} bytes of output for connection {connection}, {most} at most"
                ));
            }
        }
        Ok(())
    }
}
