//! `Settings`: the part of the configuration a shard decides by, as plain numbers; and its source of randomness.

use crate::config::{Config, Durability, available_memory};
use crate::connection::Tuning;

/// Memory assumed when the machine does not tell how much it has.
const MEMORY_UNKNOWN: u64 = 1 << 30;

/// What a shard decides by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What connection.tune offers.
    pub tuning: Tuning,
    /// Largest body in bytes.
    pub message_bytes_max: u64,
    /// Time for the handshake.
    pub handshake_milliseconds: u64,
    /// Time that a delivery may stay unsettled, 0 for ever.
    pub consumer_timeout_milliseconds: u64,
    /// Output bytes of a connection above which its consumers are paused; half of it resumes them.
    pub output_bytes_max: usize,
    /// Bytes that a channel's transaction may keep.
    pub transaction_bytes_max: u64,
    /// Bytes of publishes and deliveries under way to another core.
    pub ring_credit_bytes: u64,
    /// Whether confirms wait for the sync.
    pub durability: Durability,
    /// Longest time a written record waits for its sync.
    pub sync_interval_max_milliseconds: u64,
    /// Bytes of messages a core may hold in memory.
    pub message_memory_max: u64,
    /// Free bytes of the disk below which publishers wait.
    pub disk_free_min: u64,
    /// Most deliveries of a tick.
    pub deliveries_a_tick: u32,
}

impl Settings {
    /// The settings of `config` for one of `shards` cores.
    pub fn new(config: &Config, shards: u16) -> Self {
        let limits = &config.limits;
        Self {
            tuning: Tuning {
                channel_max: limits.channel_max.get(),
                frame_max: limits.frame_max.get(),
                heartbeat_seconds: limits.heartbeat_seconds.get(),
            },
            message_bytes_max: u64::from(limits.message_bytes_max.get()),
            handshake_milliseconds: u64::from(limits.handshake_timeout_milliseconds.get()),
            consumer_timeout_milliseconds: u64::from(limits.consumer_timeout_milliseconds.get()),
            output_bytes_max: limits.output_bytes_max.get() as usize,
            transaction_bytes_max: u64::from(limits.transaction_bytes_max.get()),
            ring_credit_bytes: u64::from(limits.ring_credit_bytes.get()),
            durability: config.durability,
            sync_interval_max_milliseconds: u64::from(config.log.sync_interval_max_milliseconds.get()),
            message_memory_max: limits.memory.bytes(available_memory().unwrap_or(MEMORY_UNKNOWN))
                / u64::from(shards),
            disk_free_min: 4 * u64::from(config.log.segment_bytes.get()) * u64::from(shards),
            deliveries_a_tick: 16_384,
        }
    }
}

/// Random numbers from a seed: SplitMix64. For names that must not collide; the seed comes from the system, or from the simulator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next 128 bits.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}
