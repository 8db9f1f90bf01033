//! `Batch`: the records of a tick, before they are written.
//!
//! ```text
//!   bytes   [ stretch of segment 41 ......... | stretch of segment 42: header, records ... ]
//!             ▲ file byte 9000                  ▲ file byte 0
//! ```
//!
//! A stretch goes to its segment with one positioned write. Most batches have one; a roll begins the next.

use crate::model::{Position, SegmentId};

/// Records that have their places in the log and are not written yet.
pub(super) struct Batch {
    bytes: Vec<u8>,
    stretches: Vec<Stretch>,
}

/// Bytes that go to one segment.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub segment: SegmentId,
    /// Where in the segment's file they go.
    pub byte: u32,
    /// Where in the batch they begin.
    begin: usize,
}

/// Memory that an empty batch keeps.
const KEPT_BYTES: usize = 4 << 20;

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            stretches: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Begins a stretch for `segment`, at `byte` of its file.
    pub(super) fn begin_stretch(&mut self, segment: SegmentId, byte: u32) {
        self.stretches.push(Stretch {
            segment,
            byte,
            begin: self.bytes.len(),
        });
    }

    /// Where records are appended.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes of all stretches.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the batch holds what lies at `position`; if not, it was written before.
    #[inline]
    pub(super) fn holds(&self, position: Position) -> bool {
        let first = self.stretches.first();
        first.is_some_and(|first| {
            position
                >= Position {
                    segment: first.segment,
                    byte: first.byte,
                }
        })
    }

    /// The bytes from `position` to the end of its stretch.
    ///
    /// # Panics
    /// If the batch does not hold the position.
    pub(super) fn bytes_at(&self, position: Position) -> &[u8] {
        let index = self
            .stretches
            .iter()
            .rposition(|stretch| stretch.segment == position.segment);
        let index = index.expect("the batch holds the position");
        let stretch = self.stretches[index];
        &self.bytes_of(index)[(position.byte - stretch.byte) as usize..]
    }

    /// The stretches in the order of the log, each with its bytes.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (Stretch, &[u8])> {
        self.stretches
            .iter()
            .enumerate()
            .map(|(index, &stretch)| (stretch, self.bytes_of(index)))
    }

    fn bytes_of(&self, index: usize) -> &[u8] {
        let end = self
            .stretches
            .get(index + 1)
            .map_or(self.bytes.len(), |next| next.begin);
        &self.bytes[self.stretches[index].begin..end]
    }

    /// Empties the batch and keeps its memory, unless it was uncommonly large.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.stretches.clear();
    }
}
