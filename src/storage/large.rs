//! `LargeMessages`: which parts belong to which message, for messages whose body lies in parts.
//!
//! Parts may lie in older segments than their message. As long as one entry of the message is wanted, so are they.

use super::message_record::PartReference;
use crate::model::Position;
use std::collections::BTreeMap;

/// Live messages with parts; some hundred bytes for each, which is little beside a body above a part's size.
#[derive(Default)]
pub(super) struct LargeMessages {
    messages: BTreeMap<Position, Large>,
    message_of_part: BTreeMap<Position, Position>,
}

struct Large {
    live_entries: u64,
    parts: Vec<PartReference>,
}

impl LargeMessages {
    /// Adds the message at `message`, wanted by `live_entries` entries.
    pub(super) fn insert(&mut self, message: Position, live_entries: u64, parts: Vec<PartReference>) {
        self.message_of_part
            .extend(parts.iter().map(|part| (part.position, message)));
        self.messages.insert(message, Large { live_entries, parts });
    }

    /// Notes that one entry of the message at `message` is no longer wanted. Returns its parts if that was the last;
    /// `None` also if it has no parts.
    #[inline]
    pub(super) fn release(&mut self, message: Position) -> Option<Vec<PartReference>> {
        if self.messages.is_empty() {
            return None;
        }
        let large = self.messages.get_mut(&message)?;
        large.live_entries -= 1;
        if large.live_entries > 0 {
            return None;
        }
        self.remove(message)
    }

    /// Forgets the message at `message`; its parts, if it has any.
    pub(super) fn remove(&mut self, message: Position) -> Option<Vec<PartReference>> {
        let large = self.messages.remove(&message)?;
        for part in &large.parts {
            self.message_of_part.remove(&part.position);
        }
        Some(large.parts)
    }

    /// The parts of the message at `message`, none if it has none.
    pub(super) fn parts(&self, message: Position) -> &[PartReference] {
        self.messages.get(&message).map_or(&[], |large| &large.parts)
    }

    /// The message that the part at `part` belongs to.
    pub(super) fn message_of(&self, part: Position) -> Option<Position> {
        self.message_of_part.get(&part).copied()
    }

    /// Every part of every message.
    pub(super) fn all_parts(&self) -> impl Iterator<Item = &PartReference> {
        self.messages.values().flat_map(|large| &large.parts)
    }
}
