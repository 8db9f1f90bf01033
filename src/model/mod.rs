//! The words every folder shares: ids, names, messages, field tables, places in the log, reply codes.
//!
//! `model` imports nothing of this crate and decides nothing. A type comes here when two folders must mean the
//! same thing by it.

pub mod field_table;
pub mod ids;
pub mod message;
pub mod ordered_slots;
pub mod pattern;
pub mod record_fields;
pub mod reply;
pub mod short_string;
pub mod usage;

pub use field_table::{FieldTable, FieldTableRef, FieldValue};
pub use ids::{
    ChannelNumber, ConnectionId, ConsumerId, DeliveryTag, Lsn, Position, PublishSequence, QueueId,
    QueueSequence, SegmentId, ShardId, VSHARD_COUNT, VshardId,
};
pub use message::{Content, ContentBuffer};
pub use ordered_slots::OrderedSlots;
pub use pattern::{Pattern, PatternError};
pub use reply::{Closes, Refusal, ReplyCode};
pub use short_string::ShortString;
pub use usage::{Share, Usage};

/// Nanoseconds on a monotonic clock whose zero is arbitrary; the only form in which time reaches a pure folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `milliseconds` later, saturating.
    pub fn after_milliseconds(self, milliseconds: u64) -> Moment {
        Moment(self.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
    }

    /// Whole milliseconds from `earlier` to this moment, zero if `earlier` is later.
    pub fn milliseconds_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}
