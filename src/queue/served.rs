//! `Served`: whether a message that comes back to its place was overtaken meanwhile.

use crate::model::ConsumerId;

/// Who was served last, and how far: what comes back to its place is out of order if others have got later ones.
#[derive(Debug, Default)]
pub(super) struct Served {
    consumer: Option<ConsumerId>,
    /// The highest sequence handed out since the consumer changed.
    highest: u64,
    /// The highest handed out before that.
    highest_before: u64,
}

impl Served {
    #[inline]
    pub(super) fn note(&mut self, consumer: ConsumerId, sequence: u64) {
        if self.consumer == Some(consumer) {
            self.highest = self.highest.max(sequence);
        } else {
            self.highest_before = self.highest_before.max(self.highest);
            self.consumer = Some(consumer);
            self.highest = sequence;
        }
    }

    /// Whether somebody else than `consumer` may have got a message behind `sequence`.
    pub(super) fn has_overtaken(&self, consumer: ConsumerId, sequence: u64) -> bool {
        sequence < self.highest_before || (self.consumer != Some(consumer) && sequence < self.highest)
    }
}
