//! Ids: distinct types for distinct numbers.

use std::fmt;

/// Number of vshards a broker's queues are spread over; recorded with each queue, so it never changes.
pub const VSHARD_COUNT: u16 = 1024;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A core of this broker, counted from zero; shard 0 is the control shard.
    ShardId(u16)
}
id! {
    /// One of `VSHARD_COUNT` groups of queues; the unit in which queues move between cores, and one day nodes.
    VshardId(u16)
}
id! {
    /// A queue's incarnation: unique for the life of the data directory, so a queue deleted and declared again
    /// under the same name has another id. Given out by the control shard, starting at 1.
    QueueId(u64)
}
id! {
    /// A message's place in its queue, starting at 1; order of publishing, kept through requeues.
    QueueSequence(u64)
}
id! {
    /// Number of a log record within one core's log, starting at 1.
    Lsn(u64)
}
id! {
    /// Number of a segment file within one core's log, starting at 1, never reused.
    SegmentId(u32)
}
id! {
    /// Delivery tag of a channel, starting at 1 (AMQP 0-9-1 §1.8.3.13).
    DeliveryTag(u64)
}
id! {
    /// A channel's number on its connection, 1 to channel_max; 0 is the connection itself (AMQP 0-9-1 §4.2.3).
    ChannelNumber(u16)
}
id! {
    /// Sequence of a publish on a channel in confirm mode, starting at 1 with the first publish after confirm.select.
    PublishSequence(u64)
}

/// A connection of this broker process: the core that holds it, its slot there, and the slot's generation, so that
/// a message for a connection that has gone is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The core that accepted the connection.
    pub shard: ShardId,
    /// Slot in that core's table of connections.
    pub slot: u32,
    /// Times the slot was used before.
    pub generation: u32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.slot, self.generation)
    }
}

/// A consumer as the queue's owner knows it: its connection, its channel, and a number the channel gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId {
    /// The consumer's connection.
    pub connection: ConnectionId,
    /// The channel on that connection.
    pub channel: ChannelNumber,
    /// Number of the consumer on that channel, never used again on a channel of that number while the connection lives.
    pub number: u32,
}

/// Where a record begins: a segment and a byte in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Byte in the segment's file, a multiple of 8.
    pub byte: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} byte {}", self.segment, self.byte)
    }
}
