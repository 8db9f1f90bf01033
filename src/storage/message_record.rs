//! The Message record: one message of this core, with an entry for each queue that has it.
//!
//! ```text
//!  offset     width
//!   20        4     parts: 0 when the body is here, else the number of MessagePart records that hold it
//!   24        8     time of publishing, milliseconds since 1970
//!   32        32n   entries (n is the frame's count):
//!                     0 8 queue id   8 8 vshard lsn   16 8 queue sequence
//!                     24 2 vshard    26 2 delivery count    28 1 flags (1: redelivered)    29 3 zero
//!   +         8     only with flag EXPIRES (1): time it expires, milliseconds since 1970
//!   +         8     only with parts: length of the whole body
//!   +         16p   only with parts: {segment u32, byte u32, length of the part u32, zero u32}
//!   +         ...   a stretch as `model::Content` draws it; with parts it ends before the body
//! ```
//!
//! One record serves queues of several vshards; each entry carries what its vshard needs to be shipped alone. When
//! the log moves a message forward it writes this record again with the entries still live, same sequences and
//! vshard lsns: the newest record of a (queue, sequence) counts. A body above a part's size lies in MessagePart
//! records before it, so a message is there when this record is.

use super::frame::Frame;
use super::record::{RECORD_HEADER_BYTES, RawRecord, RecordKind, read_u64, u16_at, u32_at, u64_at};
use super::vshard_counters::VshardCounters;
use crate::model::{Content, Position, QueueId, QueueSequence, SegmentId, VshardId};

/// Entries that one record holds at most; a message for more queues of a core is appended several times.
pub const ENTRIES_MAX: usize = 4096;

pub(super) const ENTRY_BYTES: usize = 32;
pub(super) const PART_REFERENCE_BYTES: usize = 16;
const ENTRIES_AT: usize = 32;
const FLAG_EXPIRES: u8 = 1;
const ENTRY_REDELIVERED: u8 = 1;

/// One queue's entry for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The queue.
    pub queue: QueueId,
    /// The vshard it belongs to.
    pub vshard: VshardId,
    /// The entry's number within the vshard, starting at 1; 0 lets the log give the next.
    pub vshard_lsn: u64,
    /// The message's place in the queue.
    pub sequence: QueueSequence,
    /// Times it was returned to the queue.
    pub delivery_count: u16,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

impl EntryHeader {
    /// A message's first entry in a queue, never delivered.
    #[inline]
    pub fn new(queue: QueueId, vshard: VshardId, sequence: QueueSequence) -> Self {
        Self {
            queue,
            vshard,
            vshard_lsn: 0,
            sequence,
            delivery_count: 0,
            redelivered: false,
        }
    }

    #[inline]
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.queue.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.vshard_lsn.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.vshard.0.to_le_bytes());
        bytes[26..28].copy_from_slice(&self.delivery_count.to_le_bytes());
        bytes[28] = if self.redelivered { ENTRY_REDELIVERED } else { 0 };
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            queue: QueueId(u64_at(bytes, 0)),
            vshard: VshardId(u16_at(bytes, 24)),
            vshard_lsn: u64_at(bytes, 8),
            sequence: QueueSequence(u64_at(bytes, 16)),
            delivery_count: u16_at(bytes, 26),
            redelivered: bytes[28] & ENTRY_REDELIVERED != 0,
        }
    }
}

/// Where a stretch of a large body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartReference {
    /// The MessagePart record.
    pub position: Position,
    /// Bytes of the body it holds.
    pub length: u32,
}

impl PartReference {
    fn encode(&self) -> [u8; PART_REFERENCE_BYTES] {
        let mut bytes = [0; PART_REFERENCE_BYTES];
        bytes[..4].copy_from_slice(&self.position.segment.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.position.byte.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; PART_REFERENCE_BYTES]) -> Self {
        let position = Position {
            segment: SegmentId(u32_at(bytes, 0)),
            byte: u32_at(bytes, 4),
        };
        Self {
            position,
            length: u32_at(bytes, 8),
        }
    }
}

/// A Message record, its lengths checked and its fields where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRecord<'a> {
    bytes: &'a [u8],
    entry_count: usize,
    part_count: usize,
    expires: Option<u64>,
    parts_at: usize,
    stretch_at: usize,
}

impl<'a> MessageRecord<'a> {
    /// The record's fields, or `None` when its lengths do not add up.
    #[inline]
    pub fn decode(raw: RawRecord<'a>) -> Option<Self> {
        let bytes = raw.bytes;
        let entry_count = raw.count();
        let mut at = ENTRIES_AT + entry_count * ENTRY_BYTES;
        if bytes.len() < at {
            return None;
        }
        let part_count = u32_at(bytes, RECORD_HEADER_BYTES) as usize;
        let mut expires = None;
        if raw.flags() & FLAG_EXPIRES != 0 {
            expires = Some(read_u64(bytes, at)?);
            at += 8;
        }
        let parts_at = at;
        if part_count > 0 {
            at = at.checked_add(part_count.checked_mul(PART_REFERENCE_BYTES)?.checked_add(8)?)?;
        }
        (at <= bytes.len()).then_some(Self {
            bytes,
            entry_count,
            part_count,
            expires,
            parts_at,
            stretch_at: at,
        })
    }

    /// Its entries, in the order written.
    pub fn entries(&self) -> impl Iterator<Item = EntryHeader> + use<'a> {
        let bytes = &self.bytes[ENTRIES_AT..ENTRIES_AT + self.entry_count * ENTRY_BYTES];
        bytes.as_chunks().0.iter().map(EntryHeader::decode)
    }

    /// Number of its entries.
    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Whether the body lies in MessagePart records.
    #[inline]
    pub fn has_parts(&self) -> bool {
        self.part_count > 0
    }

    /// Where the parts of its body lie, in order; none when the body is here.
    pub fn parts(&self) -> impl Iterator<Item = PartReference> + use<'a> {
        let begin = self.parts_at + 8;
        let bytes = match self.part_count {
            0 => &[][..],
            count => &self.bytes[begin..begin + count * PART_REFERENCE_BYTES],
        };
        bytes.as_chunks().0.iter().map(PartReference::decode)
    }

    /// When it was published, in milliseconds since 1970.
    pub fn published_at(&self) -> u64 {
        u64_at(self.bytes, 24)
    }

    /// When it expires, in milliseconds since 1970, if ever.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires
    }

    /// Exchange, routing key, properties and body, or everything but the body when it lies in parts; `None` when the
    /// stretch is not one.
    #[inline]
    pub fn content(&self) -> Option<Content<'a>> {
        Content::decode(self.stretch())
    }

    /// Length of the whole body.
    pub fn body_bytes(&self) -> u64 {
        match self.part_count {
            0 => self.content().map_or(0, |content| content.body.len() as u64),
            _ => u64_at(self.bytes, self.parts_at),
        }
    }

    /// The stretch as written.
    #[inline]
    pub(super) fn stretch(&self) -> &'a [u8] {
        &self.bytes[self.stretch_at..]
    }
}

/// A Message record to be written.
#[derive(Clone, Copy)]
pub(super) struct MessageDraft<'a> {
    pub entries: &'a [EntryHeader],
    pub published_at: u64,
    pub expires_at: Option<u64>,
    /// Empty when the body is in the stretch.
    pub parts: &'a [PartReference],
    /// Length of the whole body; written only with parts.
    pub body_bytes: u64,
}

impl MessageDraft<'_> {
    /// Bytes of the record before its stretch.
    #[inline]
    pub(super) fn head_length(&self) -> usize {
        let expiry = if self.expires_at.is_some() { 8 } else { 0 };
        let parts = if self.parts.is_empty() {
            0
        } else {
            8 + self.parts.len() * PART_REFERENCE_BYTES
        };
        ENTRIES_AT + self.entries.len() * ENTRY_BYTES + expiry + parts
    }

    /// The record's flags.
    #[inline]
    pub(super) fn flags(&self) -> u8 {
        if self.expires_at.is_some() {
            FLAG_EXPIRES
        } else {
            0
        }
    }

    /// Writes everything before the stretch; entries without a vshard lsn get their vshard's next.
    #[inline]
    pub(super) fn encode_head(
        &self,
        frame: &Frame,
        length: usize,
        vshards: &mut VshardCounters,
        out: &mut Vec<u8>,
    ) {
        debug_assert_eq!(frame.kind, RecordKind::Message, "only messages have this head");
        let mut head = [0; ENTRIES_AT];
        head[..RECORD_HEADER_BYTES].copy_from_slice(&frame.header(length));
        head[RECORD_HEADER_BYTES..24].copy_from_slice(&(self.parts.len() as u32).to_le_bytes());
        head[24..].copy_from_slice(&self.published_at.to_le_bytes());
        out.extend_from_slice(&head);
        for entry in self.entries {
            let vshard_lsn = match entry.vshard_lsn {
                0 => vshards.next(entry.vshard),
                given => given,
            };
            out.extend_from_slice(&EntryHeader { vshard_lsn, ..*entry }.encode());
        }
        if let Some(expires) = self.expires_at {
            out.extend_from_slice(&expires.to_le_bytes());
        }
        if !self.parts.is_empty() {
            out.extend_from_slice(&self.body_bytes.to_le_bytes());
            self.parts
                .iter()
                .for_each(|part| out.extend_from_slice(&part.encode()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::read_record;
    use super::*;
    use crate::model::Lsn;

    fn entry(queue: u64, sequence: u64) -> EntryHeader {
        EntryHeader {
            delivery_count: 3,
            vshard_lsn: 8,
            ..EntryHeader::new(QueueId(queue), VshardId(5), QueueSequence(sequence))
        }
    }

    fn written(draft: MessageDraft<'_>, stretch: &[u8]) -> Vec<u8> {
        let (segment, kind) = (SegmentId(1), RecordKind::Message);
        let count = draft.entries.len() as u16;
        let frame = Frame {
            segment,
            byte: 0,
            lsn: Lsn(1),
            kind,
            flags: draft.flags(),
            count,
        };
        let mut out = Vec::new();
        draft.encode_head(
            &frame,
            draft.head_length() + stretch.len(),
            &mut VshardCounters::default(),
            &mut out,
        );
        out.extend_from_slice(stretch);
        frame.seal(&mut out, 0);
        out
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let content = Content {
            exchange: b"x",
            routing_key: b"k",
            properties: &[0, 0],
            body: b"hello",
        };
        let mut stretch = Vec::new();
        content.encode(&mut stretch);
        for expires_at in [None, Some(77)] {
            let entries = [entry(1, 10), entry(2, 20)];
            let draft = MessageDraft {
                entries: &entries,
                published_at: 99,
                expires_at,
                parts: &[],
                body_bytes: 0,
            };
            let bytes = written(draft, &stretch);
            let message = MessageRecord::decode(read_record(&bytes, SegmentId(1), 0).unwrap()).unwrap();
            assert_eq!(message.content(), Some(content));
            assert!(message.entries().eq(entries));
            assert_eq!((message.published_at(), message.expires_at()), (99, expires_at));
            assert_eq!(
                (message.has_parts(), message.body_bytes(), message.parts().count()),
                (false, 5, 0)
            );
        }
    }

    #[test]
    fn a_large_message_names_its_parts() {
        let position = Position {
            segment: SegmentId(4),
            byte: 4096,
        };
        let parts = [
            PartReference {
                position,
                length: 100,
            },
            PartReference { position, length: 50 },
        ];
        let entries = [entry(1, 10)];
        let draft = MessageDraft {
            entries: &entries,
            published_at: 0,
            expires_at: Some(1),
            parts: &parts,
            body_bytes: 150,
        };
        let bytes = written(draft, &[0, 0, 0, 0]);
        let message = MessageRecord::decode(read_record(&bytes, SegmentId(1), 0).unwrap()).unwrap();
        assert!(message.has_parts() && message.parts().eq(parts));
        assert_eq!(
            (message.body_bytes(), message.content().unwrap().body),
            (150, &[][..])
        );
    }
}
