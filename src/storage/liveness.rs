//! What is still wanted: live entries and parts, counted for each segment.
//!
//! Positions are released one by one, and nothing is read for it: a segment counts its live entries and takes them as
//! equally long.

use super::error::StorageError;
use super::log::Log;
use super::message_record::PartReference;
use super::record::RecordKind;
use super::recovered::Recovered;
use super::segment::segment_name;
use crate::model::{Lsn, Position, SegmentId};
use std::collections::BTreeMap;

impl Log {
    /// Notes that one entry of the message at `position` is no longer wanted. The record that says so (Settle,
    /// QueuePurged or QueueDeleted) was appended before, or is before the next flush.
    ///
    /// # Panics
    /// If the segment has no live entry: each is released once.
    #[inline]
    pub fn release(&mut self, position: Position) {
        self.release_entries(position, 1);
        if let Some(parts) = self.large.release(position) {
            self.release_parts(&parts);
        }
    }

    pub(super) fn release_entries(&mut self, position: Position, count: u64) {
        let segment = self.segments.get_mut(position.segment);
        assert!(segment.live_entries >= count, "an entry is released once");
        segment.live_entries -= count;
        self.note_release(position.segment);
    }

    pub(super) fn release_parts(&mut self, parts: &[PartReference]) {
        for part in parts {
            let segment = self.segments.get_mut(part.position.segment);
            segment.live_parts -= 1;
            segment.live_part_bytes -= u64::from(part.length);
            self.note_release(part.position.segment);
        }
    }

    pub(super) fn hold_part(&mut self, part: &PartReference) {
        let segment = self.segments.get_mut(part.position.segment);
        segment.live_parts += 1;
        segment.live_part_bytes += u64::from(part.length);
    }

    #[inline]
    fn note_release(&mut self, id: SegmentId) {
        let settled = &mut self.segments.get_mut(id).settled_lsn;
        if *settled != Lsn(u64::MAX) {
            *settled = Lsn(u64::MAX);
            self.released.push(id);
        }
    }

    /// Bytes of all segments, each at its full size.
    pub fn log_bytes(&self) -> u64 {
        self.segments.count() as u64 * u64::from(self.options.segment_bytes)
    }

    /// Bytes of records that are still wanted, estimated within each segment.
    pub fn live_bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|(_, segment)| segment.live_bytes())
            .sum()
    }

    /// Segments in use.
    pub fn segment_count(&self) -> usize {
        self.segments.count()
    }

    /// Counts what is live in each segment.
    pub(super) fn adopt_live(&mut self, recovered: &mut Recovered) -> Result<(), StorageError> {
        let mut live_of_large = BTreeMap::<Position, u64>::new();
        for message in recovered.queues.values().flat_map(|queue| queue.live.values()) {
            self.segments.get_mut(message.position.segment).live_entries += 1;
            if recovered.parts_of.contains_key(&message.position) {
                *live_of_large.entry(message.position).or_default() += 1;
            }
        }
        for (position, live_entries) in live_of_large {
            let parts = recovered.parts_of.remove(&position).expect("it was found there");
            if !parts.iter().all(|part| recovered.has_part(part)) {
                let (file, kind) = (segment_name(position.segment), RecordKind::Message as u8);
                return Err(StorageError::Malformed {
                    file,
                    byte: position.byte,
                    kind,
                });
            }
            parts.iter().for_each(|part| self.hold_part(part));
            self.large.insert(position, live_entries, parts);
        }
        self.vshards = std::mem::take(&mut recovered.vshards);
        self.snapshot = recovered.snapshot;
        Ok(())
    }

    /// The settles of what was released are in the batch just written.
    pub(super) fn date_releases(&mut self) {
        for id in self.released.drain(..) {
            self.segments.get_mut(id).settled_lsn = self.flushed;
        }
    }
}
