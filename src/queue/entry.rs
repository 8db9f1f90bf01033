//! What a queue knows of a message: an `Entry` of 24 bytes, whatever the message's size.

use super::arena::ArenaSlot;
use crate::model::Position;

/// A message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its content lies.
    pub locator: Locator,
    /// Length of its body in bytes, `u32::MAX` if it is longer.
    pub body_bytes: u32,
    /// Times it was returned to the queue, saturating.
    pub delivery_count: u16,
    /// Its priority, 0 in a queue without priorities.
    pub priority: u8,
    /// Whether it may have been delivered before: set when it is returned (AMQP 0-9-1 §1.8.3.13, `redelivered`).
    pub redelivered: bool,
}

/// Where a message's content lies. The queue carries it and never looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locator {
    /// In this core's log.
    Log {
        /// Where its record begins.
        position: Position,
        /// Length of the content in bytes.
        length: u32,
    },
    /// In the queue's own memory for small messages.
    Arena(ArenaSlot),
    /// In the core's table of messages that several queues hold, or that are too large for an arena: its slot.
    Shared(u32),
}

const _: () = assert!(size_of::<Locator>() == 16, "a locator fits two words");
const _: () = assert!(size_of::<Entry>() == 24, "an entry fits three words");

impl Entry {
    /// Whether it survives a restart: it was published so (delivery mode 2), to a queue that does.
    #[inline]
    pub fn is_logged(&self) -> bool {
        matches!(self.locator, Locator::Log { .. })
    }

    /// Notes that the message was handed out and came back.
    #[inline]
    pub(super) fn return_once(&mut self) {
        self.redelivered = true;
        self.delivery_count = self.delivery_count.saturating_add(1);
    }
}
