//! `Frame`: how a record is written. `record` draws what is written here.

use super::record::{
    DurableMark, QUEUE_HEAD_BYTES, QueueStamp, RANGE_BYTES, RECORD_ALIGNMENT, RECORD_HEADER_BYTES,
    RecordKind, SNAPSHOT_BEGIN, SNAPSHOT_END, SettleKind, SnapshotPiece, checksum, padded,
};
use crate::model::{Lsn, QueueSequence, SegmentId, VshardId};

/// What a record to be written is, but for its payload.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub segment: SegmentId,
    pub byte: u32,
    pub lsn: Lsn,
    pub kind: RecordKind,
    pub flags: u8,
    pub count: u16,
}

impl Frame {
    /// The record's header, its checksum left for `seal`.
    #[inline]
    pub(super) fn header(&self, length: usize) -> [u8; RECORD_HEADER_BYTES] {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        header[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        header[16] = self.kind as u8;
        header[17] = self.flags;
        header[18..20].copy_from_slice(&self.count.to_le_bytes());
        header
    }

    /// Pads the record that begins at `begin` of `out` and has all its payload, and computes its checksum.
    #[inline]
    pub(super) fn seal(&self, out: &mut Vec<u8>, begin: usize) {
        let length = out.len() - begin;
        // A store of fixed size, where the exact padding would be a call to memcpy.
        out.extend_from_slice(&[0; RECORD_ALIGNMENT]);
        out.truncate(begin + padded(length));
        let record = &mut out[begin..];
        let sum = checksum(self.segment, self.byte, &record[4..]);
        record[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Writes a whole record whose payload is `head` and then `rest`.
    pub(super) fn write(&self, head: &[u8], rest: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let length = RECORD_HEADER_BYTES + head.len() + rest.len();
        out.reserve(length + RECORD_ALIGNMENT);
        out.extend_from_slice(&self.header(length));
        out.extend_from_slice(head);
        out.extend_from_slice(rest);
        self.seal(out, begin);
    }
}

/// Payload of an opaque record before its bytes.
pub(super) fn opaque_head(bytes: &[u8]) -> [u8; 4] {
    (bytes.len() as u32).to_le_bytes()
}

/// Flags of a topology snapshot's piece, and its bytes.
pub(super) fn snapshot_parts(piece: SnapshotPiece<'_>) -> (u8, &[u8]) {
    match piece {
        SnapshotPiece::Begin => (SNAPSHOT_BEGIN, &[]),
        SnapshotPiece::Change(bytes) => (0, bytes),
        SnapshotPiece::End => (SNAPSHOT_END, &[]),
    }
}

/// Payload of a DurableMark.
pub(super) fn mark_payload(mark: DurableMark) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[..4].copy_from_slice(&mark.oldest.0.to_le_bytes());
    payload[4..].copy_from_slice(&mark.durable.0.to_le_bytes());
    payload
}

/// What the payload of a record of one queue begins with; `settle` is zero but for a Settle.
pub(super) fn queue_head(
    stamp: QueueStamp,
    settle: Option<SettleKind>,
) -> [u8; QUEUE_HEAD_BYTES - RECORD_HEADER_BYTES] {
    let mut head = [0; QUEUE_HEAD_BYTES - RECORD_HEADER_BYTES];
    head[..2].copy_from_slice(&stamp.vshard.0.to_le_bytes());
    head[2] = settle.map_or(0, |kind| kind as u8);
    head[4..12].copy_from_slice(&stamp.queue.0.to_le_bytes());
    head[12..].copy_from_slice(&stamp.vshard_lsn.to_le_bytes());
    head
}

/// One item of a Settle: a range, first and last included.
pub(super) fn range_item((first, last): (QueueSequence, QueueSequence)) -> [u8; RANGE_BYTES] {
    item(first.0.to_le_bytes(), last.0)
}

/// One item of a Requeue.
pub(super) fn requeue_item((sequence, delivery_count): (QueueSequence, u16)) -> [u8; RANGE_BYTES] {
    item(sequence.0.to_le_bytes(), u64::from(delivery_count))
}

/// One item of a VshardLsns.
pub(super) fn vshard_item(vshard: VshardId, last: u64) -> [u8; RANGE_BYTES] {
    item(u64::from(vshard.0).to_le_bytes(), last)
}

fn item(head: [u8; 8], tail: u64) -> [u8; RANGE_BYTES] {
    let mut item = [0; RANGE_BYTES];
    item[..8].copy_from_slice(&head);
    item[8..].copy_from_slice(&tail.to_le_bytes());
    item
}
