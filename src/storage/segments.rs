//! `Segments`: the segments of an open log, oldest first.

use super::segment::Segment;
use crate::model::SegmentId;
use std::collections::VecDeque;

/// Segments by number. Numbers are consecutive but where recovery left some out, so a segment is found where its
/// number says, or else by bisection.
#[derive(Default)]
pub(super) struct Segments(VecDeque<(SegmentId, Segment)>);

impl Segments {
    /// Adds the newest segment.
    pub(super) fn push(&mut self, id: SegmentId, segment: Segment) {
        debug_assert!(self.newest().is_none_or(|newest| newest < id), "numbers ascend");
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
    pub(super) fn newest(&self) -> Option<SegmentId> {
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

    #[inline]
    fn index_of(&self, id: SegmentId) -> usize {
        let first = self.0.front().map_or(0, |(first, _)| first.0);
        let guess = id.0.wrapping_sub(first) as usize;
        match self.0.get(guess) {
            Some((found, _)) if *found == id => guess,
            _ => self
                .0
                .binary_search_by_key(&id, |(found, _)| *found)
                .expect("a named segment is part of the log"),
        }
    }
}
