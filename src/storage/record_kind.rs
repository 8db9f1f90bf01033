//! `RecordKind` and `SettleKind`: what a record says, and why entries left their queue. Their numbers are those of format
//! version 1: never changed, only added to.

use crate::model::QueueSequence;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a record says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RecordKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl RecordKind {
            /// The kind with this number, if there is one.
            #[inline]
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A message and the queue entries it has.
    Message = 1,
    /// A stretch of a large body; dead without the Message that names it.
    MessagePart = 2,
    /// Entries of a queue that are gone.
    Settle = 3,
    /// Entries of a queue that came back, with their delivery counts.
    Requeue = 4,
    /// All entries of a queue below a sequence are gone.
    QueuePurged = 5,
    /// A queue and all its entries are gone.
    QueueDeleted = 6,
    /// A change of what is declared, one of those of a decision; opaque here.
    Topology = 7,
    /// A piece of a snapshot that replaces all earlier Topology records.
    TopologySnapshot = 8,
    /// Everything up to an lsn was synced before this was written.
    DurableMark = 9,
    /// The segment's last record: the log goes on in the next.
    SegmentEnd = 10,
    /// The last vshard lsn of each vshard, at the head of a segment.
    VshardLsns = 11,
    /// Reserved: queue table and live counts, so that recovery may begin there.
    Checkpoint = 12,
    /// Reserved: positions of a long queue's messages.
    IndexChunk = 13,
    /// Reserved: what a sealed segment holds, for a scan without bodies.
    SegmentFooter = 14,
    /// Reserved: a vshard went to another log.
    VshardMoved = 15,
    /// Reserved: the entries of a transaction, all or none.
    TransactionCommit = 16,
}

/// Why entries left their queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SettleKind {
    /// basic.ack.
    Acknowledged = 1,
    /// basic.reject or basic.nack without requeue.
    Rejected = 2,
    /// Its time to live ran out.
    Expired = 3,
    /// A length limit dropped it.
    Dropped = 4,
    /// queue.purge.
    Purged = 5,
    /// Handed to a dead letter exchange, whose targets hold it durably.
    DeadLettered = 6,
    /// Delivered or got by somebody who does not acknowledge (`no-ack`).
    AutoAcknowledged = 7,
}

/// Neighbouring entries of a queue that left it for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRange {
    /// Why.
    pub kind: SettleKind,
    /// The first of them.
    pub first: QueueSequence,
    /// The last, included.
    pub last: QueueSequence,
}

impl SettleKind {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Acknowledged,
            2 => Self::Rejected,
            3 => Self::Expired,
            4 => Self::Dropped,
            5 => Self::Purged,
            6 => Self::DeadLettered,
            7 => Self::AutoAcknowledged,
            _ => return None,
        })
    }
}
