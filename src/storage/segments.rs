//! `Segments`: the segments of an open log, oldest first.

use super::segment::Segment;
use crate::model::SegmentId;
use std::collections::VecDeque;

/// Segments by number; numbers follow one another.
#[derive(Default)]
pub(super) struct Segments(VecDeque<(SegmentId, Segment)>);

impl Segments {
    /// Adds the newest segment.
    pub(super) fn push(&mut self, id: SegmentId, segment: Segment) {
        assert!(
            self.newest().is_none_or(|newest| newest.0 + 1 == id.0),
            "numbers follow one another"
        );
        self.0.push_back((id, segment));
    }

    /// Takes the oldest segment out.
    pub(super) fn pop_oldest(&mut self) -> Option<(SegmentId, Segment)> {
        self.0.pop_front()
    }

    /// The oldest segment.
    pub(super) fn oldest(&self) -> Option<(SegmentId, &Segment)> {
        self.0.front().map(|(id, segment)| (*id, segment))
    }

    /// Number of the newest segment.
    fn newest(&self) -> Option<SegmentId> {
        self.0.back().map(|(id, _)| *id)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.0.iter().map(|(id, segment)| (*id, segment))
    }

    /// Oldest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SegmentId, &mut Segment)> {
        self.0.iter_mut().map(|(id, segment)| (*id, segment))
    }

    /// The segment `id`.
    ///
    /// # Panics
    /// If the log has none: whoever names a position holds something live in its segment.
    #[inline]
    pub(super) fn get(&self, id: SegmentId) -> &Segment {
        &self.0[self.index_of(id)].1
    }

    /// The segment `id`.
    ///
    /// # Panics
    /// As `get`.
    #[inline]
    pub(super) fn get_mut(&mut self, id: SegmentId) -> &mut Segment {
        let index = self.index_of(id);
        &mut self.0[index].1
    }

    /// Where the segment is, or beyond the end for one that the log no longer has.
    #[inline]
    fn index_of(&self, id: SegmentId) -> usize {
        let first = self.0.front().map_or(0, |(first, _)| first.0);
        id.0.wrapping_sub(first) as usize
    }
}
