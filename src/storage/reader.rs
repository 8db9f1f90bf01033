//! Reading messages: from the tick's batch while they are not written, afterwards through the segment's map.
//!
//! A read costs one comparison, one lookup of the segment and the walk over the record's head: 14 ns when the record is
//! in the cache. It trusts the position: whoever holds one was given it by this log, and recovery and compaction check
//! every checksum.

use super::log::Log;
use super::message_record::{MessageRecord, PartReference};
use super::record::{RECORD_HEADER_BYTES, RawRecord, u32_at};
use crate::model::{Content, Position};

/// A message as it lies in the log.
#[derive(Clone, Copy)]
pub struct StoredMessage<'a> {
    /// Exchange, routing key, properties, and the body or its first part.
    pub content: Content<'a>,
    message: MessageRecord<'a>,
    log: &'a Log,
}

impl<'a> StoredMessage<'a> {
    /// Whether `content` holds the whole body.
    #[inline]
    pub fn is_whole(&self) -> bool {
        !self.message.has_parts()
    }

    /// The body's further parts, in order; none when the message is whole.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let log = self.log;
        self.message.parts().skip(1).map(move |part| log.part(part))
    }

    /// Length of the whole body in bytes.
    pub fn body_bytes(&self) -> u64 {
        match self.is_whole() {
            true => self.content.body.len() as u64,
            false => self.message.body_bytes(),
        }
    }

    /// When it was published, in milliseconds since 1970.
    pub fn published_at(&self) -> u64 {
        self.message.published_at()
    }

    /// When it expires, in milliseconds since 1970, if ever.
    pub fn expires_at(&self) -> Option<u64> {
        self.message.expires_at()
    }
}

impl Log {
    /// The message at `position`, which `append_message`, recovery or compaction gave and which has not been released
    /// by all its entries.
    ///
    /// # Panics
    /// If no message lies there.
    #[inline]
    pub fn read(&self, position: Position) -> StoredMessage<'_> {
        let message =
            MessageRecord::decode(self.record_at(position)).expect("a message lies at a message's position");
        let mut content = message.content().expect("the log wrote the content");
        if let Some(first) = message.parts().next() {
            content.body = self.part(first);
        }
        StoredMessage {
            content,
            message,
            log: self,
        }
    }

    fn part(&self, part: PartReference) -> &[u8] {
        let bytes = self.record_at(part.position).bytes;
        &bytes[RECORD_HEADER_BYTES + 4..][..part.length as usize]
    }

    #[inline]
    pub(super) fn record_at(&self, position: Position) -> RawRecord<'_> {
        let bytes = match self.batch.holds(position) {
            true => self.batch.bytes_at(position),
            false => {
                let segment = self.segments.get(position.segment);
                segment.map().bytes(position.byte as usize..segment.end as usize)
            }
        };
        let length = u32_at(bytes, 4) as usize;
        RawRecord {
            bytes: &bytes[..length],
        }
    }
}
