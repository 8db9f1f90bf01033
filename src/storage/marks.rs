//! `Marks`: what durable marks were written, and which of them are durable themselves.

use super::record::DurableMark;
use crate::model::{Lsn, SegmentId};
use std::collections::VecDeque;

/// A segment may be recycled once a mark that no longer needs it is durable: recovery then misses nothing.
pub(super) struct Marks {
    written: DurableMark,
    awaiting: VecDeque<(Lsn, SegmentId)>,
    free_below: SegmentId,
}

impl Marks {
    /// As recovery found them: `last` is durable.
    pub(super) fn new(last: DurableMark) -> Self {
        Self {
            written: last,
            awaiting: VecDeque::new(),
            free_below: last.oldest,
        }
    }

    /// The last mark written.
    pub(super) fn written(&self) -> DurableMark {
        self.written
    }

    /// Notes that `mark` was appended as record `lsn`.
    pub(super) fn append(&mut self, lsn: Lsn, mark: DurableMark) {
        debug_assert!(
            mark.durable >= self.written.durable && mark.oldest >= self.written.oldest,
            "marks ascend"
        );
        if mark.oldest > self.written.oldest {
            self.awaiting.push_back((lsn, mark.oldest));
        }
        self.written = mark;
    }

    /// Notes that the log is durable up to `durable`.
    pub(super) fn become_durable(&mut self, durable: Lsn) {
        while let Some(&(lsn, oldest)) = self.awaiting.front()
            && lsn <= durable
        {
            self.free_below = oldest;
            self.awaiting.pop_front();
        }
    }

    /// Segments below this one may be recycled.
    pub(super) fn free_below(&self) -> SegmentId {
        self.free_below
    }
}
