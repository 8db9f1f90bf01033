//! Records: the frame that every record of the log has, its checksum, and what each kind holds.
//!
//! ```text
//!  offset  width
//!   0      4     crc32 of everything behind it up to the padded end, seeded with segment and byte
//!   4      4     length: bytes of header and payload, without padding
//!   8      8     lsn: one more than the record before
//!  16      1     kind, see `RecordKind`
//!  17      1     flags, by kind
//!  18      2     count: of entries, ranges or items, by kind
//!  20      ...   payload, then zeros up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. A record begins at a multiple of 8 and lies in one segment. It is valid when its
//! length fits the segment, its checksum agrees and its lsn is the expected one; since segment and byte seed the
//! checksum, what an earlier use of the file or a misdirected write left behind is never valid. Twenty zero bytes
//! where a record should begin say that nothing was written there: every batch ends in them.
//!
//! Kinds that concern one queue (3 to 6) begin their payload alike:
//!
//! ```text
//!  20  2  vshard
//!  22  1  settle kind, see `SettleKind`, else zero
//!  23  1  zero
//!  24  8  queue id
//!  32  8  vshard lsn: the record's number within its vshard, so that a vshard can be shipped alone
//!  40     Settle: count × {first sequence u64, last sequence u64}, both included
//!         Requeue: count × {sequence u64, delivery count u16, zero u16, zero u32}
//!         QueuePurged: sequence u64 below which every entry is gone, unacked ones included
//!         QueueDeleted: nothing
//! ```
//!
//! The payload of a DurableMark is {oldest segment needed u32, durable lsn u64}, of VshardLsns {zero u32, count ×
//! {vshard u16, zero u16, zero u32, last vshard lsn u64}}, of Topology, TopologySnapshot and MessagePart {length
//! u32, bytes}, of SegmentEnd {zero u32}. `message_record` draws Message. Format version 1, for good: a kind never
//! changes its bytes, later versions add kinds.
//!
//! The changes of one decision are neighbouring Topology records, of which flag 1 marks the first and flag 2 the last.
//! A decision without its last record was never made: recovery passes over the others. One with neither flag, outside of
//! a decision, is a decision of its own.

use super::message_record::MessageRecord;
pub use super::record_kind::{RecordKind, SettleKind, SettledRange};
use crate::model::{Lsn, QueueId, QueueSequence, SegmentId, VshardId};
use std::fmt;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 20;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT: usize = 8;
/// Bytes of a DurableMark.
pub const DURABLE_MARK_BYTES: usize = 32;
/// Bytes of a SegmentEnd.
pub const SEGMENT_END_BYTES: usize = 24;
/// Ranges or items in one Settle or Requeue; longer lists become several records.
pub const ITEMS_MAX: usize = 4096;

pub(super) const QUEUE_HEAD_BYTES: usize = 40;
pub(super) const RANGE_BYTES: usize = 16;

/// The queue a record concerns, and the record's place in its vshard's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStamp {
    /// The queue.
    pub queue: QueueId,
    /// The vshard it belongs to.
    pub vshard: VshardId,
    /// The record's number within the vshard, starting at 1.
    pub vshard_lsn: u64,
}

/// One change of a decision about what is declared; a decision is made when its last change is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyChange<'a> {
    /// The change, encoded.
    pub bytes: &'a [u8],
    /// Whether the decision begins with it.
    pub is_first: bool,
    /// Whether the decision ends with it.
    pub is_last: bool,
}

/// Which piece of a topology snapshot a record is; they follow one another without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPiece<'a> {
    /// The snapshot begins.
    Begin,
    /// One encoded change.
    Change(&'a [u8]),
    /// The snapshot is complete and replaces all earlier topology.
    End,
}

pub(super) const DECISION_FIRST: u8 = 1;
pub(super) const DECISION_LAST: u8 = 2;
pub(super) const SNAPSHOT_BEGIN: u8 = 1;
pub(super) const SNAPSHOT_END: u8 = 2;

/// A valid record, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// See `RecordKind::Message`.
    Message(MessageRecord<'a>),
    /// See `RecordKind::MessagePart`; the body's bytes.
    MessagePart(&'a [u8]),
    /// See `RecordKind::Settle`.
    Settle {
        /// Which queue.
        stamp: QueueStamp,
        /// Why.
        kind: SettleKind,
        /// Which entries.
        ranges: Ranges<'a>,
    },
    /// See `RecordKind::Requeue`.
    Requeue {
        /// Which queue.
        stamp: QueueStamp,
        /// Which entries, and how often each was returned.
        items: Requeued<'a>,
    },
    /// See `RecordKind::QueuePurged`.
    QueuePurged {
        /// Which queue.
        stamp: QueueStamp,
        /// Entries with a lower sequence are gone.
        below: QueueSequence,
    },
    /// See `RecordKind::QueueDeleted`.
    QueueDeleted(QueueStamp),
    /// See `RecordKind::Topology`.
    Topology(TopologyChange<'a>),
    /// See `RecordKind::TopologySnapshot`.
    TopologySnapshot(SnapshotPiece<'a>),
    /// See `RecordKind::DurableMark`.
    DurableMark(DurableMark),
    /// See `RecordKind::SegmentEnd`.
    SegmentEnd,
    /// See `RecordKind::VshardLsns`.
    VshardLsns(VshardLsns<'a>),
}

/// What was known to be safe when the mark was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurableMark {
    /// Records up to this one are durable; 0 before the first.
    pub durable: Lsn,
    /// Segments below this one are no longer needed.
    pub oldest: SegmentId,
}

/// Ranges of sequences, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges<'a>(&'a [u8]);

/// Sequences with their delivery counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requeued<'a>(&'a [u8]);

/// Vshards with their last vshard lsn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VshardLsns<'a>(&'a [u8]);

impl Ranges<'_> {
    /// Each range, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (QueueSequence, QueueSequence)> {
        items(self.0).map(|item| (QueueSequence(u64_at(item, 0)), QueueSequence(u64_at(item, 8))))
    }
}

impl Requeued<'_> {
    /// Each entry, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = (QueueSequence, u16)> {
        items(self.0).map(|item| (QueueSequence(u64_at(item, 0)), u16_at(item, 8)))
    }
}

impl VshardLsns<'_> {
    /// Each vshard.
    pub fn iter(&self) -> impl Iterator<Item = (VshardId, u64)> {
        items(self.0).map(|item| (VshardId(u16_at(item, 0)), u64_at(item, 8)))
    }
}

fn items(bytes: &[u8]) -> impl Iterator<Item = &[u8; RANGE_BYTES]> {
    bytes.as_chunks::<RANGE_BYTES>().0.iter()
}

/// Why no valid record begins somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// Zeros.
    NeverWritten,
    /// A length that no record here can have.
    Length(u32),
    /// Contents and checksum disagree.
    Checksum {
        /// What the record says.
        found: u32,
        /// What its contents give.
        computed: u32,
    },
    /// A valid record, out of its order.
    Lsn {
        /// Its lsn.
        found: Lsn,
        /// The one that should be here.
        expected: Lsn,
    },
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::NeverWritten => write!(f, "zeros where a record should be"),
            RecordFault::Length(length) => write!(f, "a record cannot have length {length}"),
            RecordFault::Checksum { found, computed } => {
                write!(f, "checksum {found:#010x} found, {computed:#010x} expected")
            }
            RecordFault::Lsn { found, expected } => write!(f, "record {found} found, {expected} expected"),
        }
    }
}

/// A valid record's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// Header and payload, without padding.
    pub bytes: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Its lsn.
    pub fn lsn(&self) -> Lsn {
        Lsn(u64_at(self.bytes, 8))
    }

    /// Number of its kind.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.bytes[16]
    }

    #[inline]
    pub(super) fn flags(&self) -> u8 {
        self.bytes[17]
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        usize::from(u16_at(self.bytes, 18))
    }

    /// Bytes it takes in the segment, padding included.
    pub fn padded_length(&self) -> usize {
        padded(self.bytes.len())
    }

    /// Its meaning, or `None` when its kind is unknown to this version or its payload is not one of its kind.
    pub fn decode(self) -> Option<Record<'a>> {
        match RecordKind::from_number(self.kind())? {
            RecordKind::Message => MessageRecord::decode(self).map(Record::Message),
            RecordKind::MessagePart => self.opaque().map(Record::MessagePart),
            RecordKind::Settle => self.settle(),
            RecordKind::Requeue => {
                let items = Requeued(self.items(QUEUE_HEAD_BYTES)?);
                Some(Record::Requeue {
                    stamp: self.stamp()?,
                    items,
                })
            }
            RecordKind::QueuePurged => {
                let below = QueueSequence(read_u64(self.bytes, QUEUE_HEAD_BYTES)?);
                Some(Record::QueuePurged {
                    stamp: self.stamp()?,
                    below,
                })
            }
            RecordKind::QueueDeleted => self.stamp().map(Record::QueueDeleted),
            RecordKind::Topology => self.topology_change().map(Record::Topology),
            RecordKind::TopologySnapshot => self.snapshot_piece().map(Record::TopologySnapshot),
            RecordKind::DurableMark => self.durable_mark().map(Record::DurableMark),
            RecordKind::SegmentEnd => Some(Record::SegmentEnd),
            RecordKind::VshardLsns => Some(Record::VshardLsns(VshardLsns(self.items(24)?))),
            RecordKind::Checkpoint
            | RecordKind::IndexChunk
            | RecordKind::SegmentFooter
            | RecordKind::VshardMoved
            | RecordKind::TransactionCommit => None,
        }
    }

    fn settle(self) -> Option<Record<'a>> {
        let kind = SettleKind::from_number(*self.bytes.get(22)?)?;
        Some(Record::Settle {
            stamp: self.stamp()?,
            kind,
            ranges: Ranges(self.items(QUEUE_HEAD_BYTES)?),
        })
    }

    fn stamp(self) -> Option<QueueStamp> {
        Some(QueueStamp {
            queue: QueueId(read_u64(self.bytes, 24)?),
            vshard: VshardId(u16_at(self.bytes, 20)),
            vshard_lsn: read_u64(self.bytes, 32)?,
        })
    }

    fn items(self, at: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at + self.count() * RANGE_BYTES)
    }

    fn opaque(self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(*self.bytes.get(20..)?.first_chunk()?);
        self.bytes.get(24..)?.get(..length as usize)
    }

    fn topology_change(self) -> Option<TopologyChange<'a>> {
        let flags = self.flags();
        let is_known = flags & !(DECISION_FIRST | DECISION_LAST) == 0;
        Some(TopologyChange {
            bytes: self.opaque().filter(|_| is_known)?,
            is_first: flags & DECISION_FIRST != 0,
            is_last: flags & DECISION_LAST != 0,
        })
    }

    fn snapshot_piece(self) -> Option<SnapshotPiece<'a>> {
        match self.flags() {
            0 => self.opaque().map(SnapshotPiece::Change),
            SNAPSHOT_BEGIN => Some(SnapshotPiece::Begin),
            SNAPSHOT_END => Some(SnapshotPiece::End),
            _ => None,
        }
    }

    fn durable_mark(self) -> Option<DurableMark> {
        let durable = Lsn(read_u64(self.bytes, 24)?);
        Some(DurableMark {
            durable,
            oldest: SegmentId(u32_at(self.bytes, 20)),
        })
    }
}

/// The record at `byte` of a segment whose bytes, up to wherever it ends, are `segment_bytes`.
///
/// # Errors
/// The fault, when none is valid there. The lsn is the caller's to check.
pub fn read_record(
    segment_bytes: &[u8],
    segment: SegmentId,
    byte: u32,
) -> Result<RawRecord<'_>, RecordFault> {
    let bytes = segment_bytes.get(byte as usize..).unwrap_or_default();
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Err(RecordFault::NeverWritten);
    };
    if *header == [0; RECORD_HEADER_BYTES] {
        return Err(RecordFault::NeverWritten);
    }
    let length = u32_at(header, 4);
    let is_possible = length as usize >= RECORD_HEADER_BYTES && length as usize <= bytes.len();
    let Some(record) = bytes.get(..padded(length as usize)).filter(|_| is_possible) else {
        return Err(RecordFault::Length(length));
    };
    let (found, computed) = (u32_at(record, 0), checksum(segment, byte, &record[4..]));
    if found != computed {
        return Err(RecordFault::Checksum { found, computed });
    }
    Ok(RawRecord {
        bytes: &record[..length as usize],
    })
}

/// A record's checksum. The seed differs between any two places of a segment, and between segments at one place.
#[inline]
pub fn checksum(segment: SegmentId, byte: u32, bytes: &[u8]) -> u32 {
    let seed = segment.0.wrapping_mul(0x9E37_79B1) ^ byte;
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// `length` rounded up to the alignment of records.
#[inline]
pub const fn padded(length: usize) -> usize {
    length.next_multiple_of(RECORD_ALIGNMENT)
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller checked the length"))
}

#[inline]
pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, opaque_head, queue_head, range_item, requeue_item};
    use super::*;
    use proptest::prelude::*;

    fn written(byte: u32, kind: RecordKind, count: u16, head: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut out = vec![0; byte as usize];
        let frame = Frame {
            segment: SegmentId(7),
            byte,
            lsn: Lsn(41),
            kind,
            flags: 0,
            count,
        };
        frame.write(head, rest, &mut out);
        out
    }

    #[test]
    fn a_settle_reads_back_as_it_was_written() {
        let stamp = QueueStamp {
            queue: QueueId(9),
            vshard: VshardId(3),
            vshard_lsn: 12,
        };
        let ranges = [
            (QueueSequence(1), QueueSequence(5)),
            (QueueSequence(8), QueueSequence(8)),
        ];
        let head = queue_head(stamp, Some(SettleKind::Expired));
        let bytes = written(16, RecordKind::Settle, 2, &head, &ranges.map(range_item).concat());
        let raw = read_record(&bytes, SegmentId(7), 16).unwrap();
        assert_eq!((raw.lsn(), raw.padded_length()), (Lsn(41), bytes.len() - 16));
        let Some(Record::Settle {
            stamp: found,
            kind,
            ranges: found_ranges,
        }) = raw.decode()
        else {
            panic!()
        };
        assert_eq!((found, kind), (stamp, SettleKind::Expired));
        assert!(found_ranges.iter().eq(ranges));
    }

    #[test]
    fn a_requeue_reads_back_as_it_was_written() {
        let stamp = QueueStamp {
            queue: QueueId(9),
            vshard: VshardId(3),
            vshard_lsn: 12,
        };
        let items = [(QueueSequence(4), 1), (QueueSequence(6), u16::MAX)];
        let bytes = written(
            0,
            RecordKind::Requeue,
            2,
            &queue_head(stamp, None),
            &items.map(requeue_item).concat(),
        );
        let decoded = read_record(&bytes, SegmentId(7), 0).unwrap().decode();
        let Some(Record::Requeue {
            stamp: found,
            items: found_items,
        }) = decoded
        else {
            panic!()
        };
        assert_eq!(found, stamp);
        assert!(found_items.iter().eq(items));
    }

    #[test]
    fn a_record_is_valid_in_its_segment_and_at_its_byte_alone() {
        let bytes = written(8, RecordKind::Topology, 0, &opaque_head(b"declared"), b"declared");
        assert!(read_record(&bytes, SegmentId(7), 8).is_ok());
        assert!(read_record(&bytes, SegmentId(8), 8).is_err());
        let mut moved = vec![0; 8];
        moved.extend_from_slice(&bytes);
        assert!(read_record(&moved, SegmentId(7), 16).is_err());
        assert_eq!(
            read_record(&bytes, SegmentId(7), bytes.len() as u32),
            Err(RecordFault::NeverWritten)
        );
        assert_eq!(
            read_record(&[0; 64], SegmentId(7), 8),
            Err(RecordFault::NeverWritten)
        );
    }

    #[test]
    fn a_reserved_kind_is_valid_and_not_understood() {
        let bytes = written(0, RecordKind::Checkpoint, 0, &[], &[]);
        assert_eq!(read_record(&bytes, SegmentId(7), 0).unwrap().decode(), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes(at in 0..60usize, bit in 0..8) {
            let mut bytes = written(0, RecordKind::MessagePart, 0, &opaque_head(&[5; 36]), &[5; 36]);
            prop_assert_eq!(bytes.len(), 64);
            bytes[at] ^= 1u8 << bit;
            prop_assert!(read_record(&bytes, SegmentId(7), 0).is_err());
        }

        #[test]
        fn arbitrary_payloads_of_every_kind_decode_or_are_refused(
            kind in 1..17u8, flags: u8, count: u16, payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let kind = RecordKind::from_number(kind).unwrap();
            let mut bytes = Vec::new();
            Frame { segment: SegmentId(1), byte: 0, lsn: Lsn(1), kind, flags, count }.write(&payload, &[], &mut bytes);
            let decoded = read_record(&bytes, SegmentId(1), 0).unwrap().decode();
            if let Some(Record::Message(message)) = decoded {
                let _ = (message.entries().count(), message.parts().count(), message.body_bytes(), message.content());
            }
        }
    }
}
