//! Compaction: what is live in the oldest segment is copied forward, so that one forgotten message does not hold the
//! whole log.
//!
//! Since only the oldest segment can be recycled, a live message in it holds everything behind it. Its survivors are
//! appended again with the entries still wanted: same sequences, same vshard lsns, delivery counts brought up to
//! date. Recovery takes the newest record of an entry, and the old segment goes once the copies are durable.
//!
//! Copying begins when the log is longer than eight segments and four times what is live, or when less than half of
//! the oldest segment is live and there are more than four. The first bounds the log's length, the second copies
//! where it is cheap: at most one byte for each byte freed.

use super::error::StorageError;
use super::log::Log;
use super::message_record::{EntryHeader, MessageDraft, MessageRecord, PartReference};
use super::record::{RawRecord, RecordKind, read_record};
use super::segment::{SEGMENT_HEADER_BYTES, segment_name};
use crate::model::{Lsn, Position, QueueId, QueueSequence, SegmentId};
use crate::storage::Appended;

const SEGMENTS_MIN: usize = 8;
const SEGMENTS_MIN_FOR_HALF: usize = 4;
const LENGTH_FACTOR: u64 = 4;

/// What a queue says of a message that is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Times it was returned to the queue.
    pub delivery_count: u16,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

/// Who knows which messages are still wanted: the shard's queues.
pub trait Survivors {
    /// The message, if the queue still has it, ready or unacked, **and** its content lies at `position`.
    fn resolve(&mut self, queue: QueueId, sequence: QueueSequence, position: Position) -> Option<Survivor>;

    /// The message's content now lies at `to`; called for each message resolved, before the step returns.
    fn moved(&mut self, queue: QueueId, sequence: QueueSequence, to: Appended);
}

/// How far a step of compaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionProgress {
    /// There is nothing to move.
    Idle,
    /// The step's budget is used up; there is more.
    More,
    /// The oldest segment is walked through. It goes when the copies are durable, unless parts of a message that is
    /// still arriving hold it; then a later step walks it again.
    Walked,
}

/// How far the oldest segment was walked.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    segment: SegmentId,
    byte: u32,
}

impl Log {
    /// Whether moving what is live in the oldest segment pays.
    pub fn wants_compaction(&self) -> bool {
        let Some((id, oldest)) = self.segments.oldest() else {
            return false;
        };
        if !oldest.has_live()
            || oldest.file.is_none()
            || self.place.active == Some(id)
            || oldest.last_lsn > self.flushed_lsn()
        {
            return false;
        }
        let count = self.segments.count();
        let is_long = count > SEGMENTS_MIN && self.log_bytes() > LENGTH_FACTOR * self.live_bytes();
        let is_half_dead = count > SEGMENTS_MIN_FOR_HALF && oldest.live_bytes() < u64::from(oldest.end) / 2;
        is_long || is_half_dead
    }

    /// Walks some of the oldest segment and copies its survivors forward, if that pays: at most `budget_bytes` read
    /// or copied, and one record more. The copies are in the batch when it returns.
    ///
    /// # Errors
    /// A record is damaged: it is not copied under a new checksum.
    pub fn compaction_step(
        &mut self,
        budget_bytes: u64,
        survivors: &mut dyn Survivors,
    ) -> Result<CompactionProgress, StorageError> {
        if !self.wants_compaction() {
            return Ok(CompactionProgress::Idle);
        }
        let Some((id, oldest)) = self.segments.oldest() else {
            return Ok(CompactionProgress::Idle);
        };
        let (map, end) = (oldest.map().clone(), oldest.end);
        let segment_bytes = map.bytes(0..end as usize);
        let mut byte = match self.cursor {
            Some(cursor) if cursor.segment == id => cursor.byte,
            _ => SEGMENT_HEADER_BYTES as u32,
        };
        let mut spent = 0;
        while byte < end && spent < budget_bytes && self.segments.get(id).has_live() {
            let raw = self.verified(segment_bytes, id, byte)?;
            let before = self.batch.length();
            self.move_record(raw, Position { segment: id, byte }, survivors);
            byte += raw.padded_length() as u32;
            spent += raw.padded_length() as u64 + self.batch.length().saturating_sub(before) as u64;
        }
        let is_walked = byte >= end || !self.segments.get(id).has_live();
        self.cursor = (!is_walked).then_some(Cursor { segment: id, byte });
        Ok(if is_walked {
            CompactionProgress::Walked
        } else {
            CompactionProgress::More
        })
    }

    fn verified<'a>(
        &self,
        bytes: &'a [u8],
        segment: SegmentId,
        byte: u32,
    ) -> Result<RawRecord<'a>, StorageError> {
        read_record(bytes, segment, byte).map_err(|fault| StorageError::Corruption {
            file: segment_name(segment),
            byte,
            lsn: Lsn(0),
            durable: self.durable,
            fault,
        })
    }

    fn move_record(&mut self, raw: RawRecord<'_>, position: Position, survivors: &mut dyn Survivors) {
        match RecordKind::from_number(raw.kind()) {
            Some(RecordKind::Message) => {
                let parts = self.large.parts(position).to_vec();
                self.move_message(raw, position, parts, survivors);
            }
            Some(RecordKind::MessagePart) => self.move_part(position, survivors),
            _ => {}
        }
    }

    /// Appends the message again if an entry is still wanted.
    fn move_message(
        &mut self,
        raw: RawRecord<'_>,
        from: Position,
        parts: Vec<PartReference>,
        survivors: &mut dyn Survivors,
    ) {
        let message = MessageRecord::decode(raw).expect("the log wrote it");
        let entries = surviving_entries(message, from, survivors);
        if !entries.is_empty() {
            self.append_moved(message, from, &entries, parts, survivors);
        }
    }

    fn append_moved(
        &mut self,
        message: MessageRecord<'_>,
        from: Position,
        entries: &[EntryHeader],
        parts: Vec<PartReference>,
        survivors: &mut dyn Survivors,
    ) {
        let draft = MessageDraft {
            entries,
            published_at: message.published_at(),
            expires_at: message.expires_at(),
            parts: &parts,
            body_bytes: message.body_bytes(),
        };
        let stretch = message.stretch();
        let to = self.append_draft(draft, stretch.len(), |out| out.extend_from_slice(stretch));
        self.release_entries(from, entries.len() as u64);
        if !parts.is_empty() {
            self.large.remove(from);
            self.large.insert(to.position, entries.len() as u64, parts);
        }
        self.metrics.messages_moved += 1;
        self.metrics.bytes_moved += stretch.len() as u64;
        for entry in entries {
            survivors.moved(entry.queue, entry.sequence, to);
        }
    }

    /// Appends a part again, and then its message, which names it; the message may lie anywhere behind the part.
    fn move_part(&mut self, from: Position, survivors: &mut dyn Survivors) {
        let Some(owner) = self.large.message_of(from) else {
            return;
        };
        let record = self.record_at(owner).bytes.to_vec();
        let message =
            MessageRecord::decode(RawRecord { bytes: &record }).expect("a large message lies there");
        let entries = surviving_entries(message, owner, survivors);
        if entries.is_empty() {
            return;
        }
        let mut parts = self.large.parts(owner).to_vec();
        let part = parts
            .iter_mut()
            .find(|part| part.position == from)
            .expect("the part is the message's");
        let old = std::mem::replace(part, self.append_copy_of_part(*part));
        self.append_moved(message, owner, &entries, parts, survivors);
        self.release_parts(&[old]);
    }

    fn append_copy_of_part(&mut self, part: PartReference) -> PartReference {
        let segment = self.segments.get(part.position.segment);
        let (map, end) = (segment.map().clone(), segment.end as usize);
        let begin = part.position.byte as usize + super::record::RECORD_HEADER_BYTES + 4;
        assert!(begin + part.length as usize <= end, "a part lies in its segment");
        self.metrics.bytes_moved += u64::from(part.length);
        self.append_part(map.bytes(begin..begin + part.length as usize))
    }
}

fn surviving_entries(
    message: MessageRecord<'_>,
    at: Position,
    survivors: &mut dyn Survivors,
) -> Vec<EntryHeader> {
    let resolved = message.entries().filter_map(|entry| {
        let Survivor {
            delivery_count,
            redelivered,
        } = survivors.resolve(entry.queue, entry.sequence, at)?;
        Some(EntryHeader {
            delivery_count,
            redelivered,
            ..entry
        })
    });
    resolved.collect()
}
