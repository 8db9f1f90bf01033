//! The story of a publish to queues of other cores: small messages are copied into the batch, large ones cross counted. Over
//! there they go on as if they had come in on that core.

use super::Shard;
use super::mailbox::{Place, Publisher, SHARED_CONTENT_BYTES, ShardMessage};
use super::publish::Run;
use crate::channel::Destination;
use crate::model::{Content, QueueId, ShardId, ShortString};
use bytes::Bytes;
use std::sync::Arc;

impl Shard {
    /// Sends the run to the other cores that own some of its destinations.
    pub(super) fn forward(&mut self, run: &Run<'_>, destinations: &[Destination]) {
        let id = self.id;
        for owner in (0..self.shards).map(ShardId).filter(|&owner| owner != id) {
            let queues: Arc<[QueueId]> = destinations
                .iter()
                .filter(|d| d.owner == owner)
                .map(|d| d.queue)
                .collect();
            if queues.is_empty() {
                continue;
            }
            if let Some(publisher) = run.publisher
                && let Some(confirms) = self.confirms_of(publisher.connection, publisher.channel)
            {
                confirms.sent_to(owner, publisher.last);
            }
            self.counters.messages_forwarded_out += run.places.len() as u64;
            self.forward_to(owner, queues, run);
        }
    }

    fn forward_to(&mut self, owner: ShardId, queues: Arc<[QueueId]>, run: &Run<'_>) {
        if !run.places.iter().any(is_large) {
            return self.forward_copied(owner, queues, run);
        }
        for at in 0..run.places.len() {
            // Each has a number of its own, since each may be the one that waits for the owner's log.
            if !is_large(&run.places[at]) {
                self.forward_copied(owner, queues.clone(), &run.part(at..at + 1));
                continue;
            }
            let content = match run.shared {
                Some(slot) => self.shared.get(slot).clone(),
                None => counted(&run.content(at)),
            };
            self.mailbox.spend_credit(owner, content.len() as u64);
            let Place {
                is_persistent,
                expires,
                ..
            } = run.places[at];
            self.say(
                owner,
                ShardMessage::PublishShared {
                    queues: queues.clone(),
                    publisher: run.publisher_of(at),
                    is_persistent,
                    expires,
                    content,
                },
            );
        }
    }

    fn forward_copied(&mut self, owner: ShardId, queues: Arc<[QueueId]>, run: &Run<'_>) {
        let target = (run.exchange, run.routing_key);
        let batch = self.mailbox.batch_for(owner);
        let (first, begin) = (batch.places.len() as u32, batch.bytes.len());
        for at in 0..run.places.len() {
            let content = run.content(at);
            let properties = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(content.properties);
            let body = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(content.body);
            let end = batch.bytes.len() as u32;
            batch.places.push(Place {
                properties: (properties, body),
                body: (body, end),
                ..run.places[at]
            });
        }
        let places = first..batch.places.len() as u32;
        let spent = batch.bytes.len() - begin + size_of::<Place>() * places.len();
        batch.messages.push(ShardMessage::PublishRun {
            queues,
            publisher: run.publisher,
            exchange: short(target.0),
            routing_key: short(target.1),
            places,
        });
        self.mailbox.spend_credit(owner, spent as u64);
    }

    pub(super) fn take_forwarded(&mut self, queues: &[QueueId], run: &Run<'_>) {
        self.counters.messages_forwarded_in += run.places.len() as u64;
        self.refused.clear();
        let slots: Vec<u32> = queues
            .iter()
            .filter_map(|&queue| self.queues.slot_of(queue))
            .collect();
        let must_sync = match slots[..] {
            [only] => self.enqueue(only, run),
            _ => self.enqueue_to_all(&slots, run),
        };
        let refused = std::mem::take(&mut self.refused);
        if let Some(publisher) = run.publisher {
            self.tell_refused(publisher, run.places.len(), &refused);
            self.tell_passed_on();
            self.promise_forwarded(publisher, must_sync);
        }
    }

    pub(super) fn take_forwarded_shared(
        &mut self,
        queues: &Arc<[QueueId]>,
        publisher: Option<Publisher>,
        (is_persistent, expires): (bool, bool),
        bytes: &Bytes,
    ) {
        let content = Content::decode(bytes).expect("a peer sends whole contents");
        let properties_begin = content.prefix_length() - content.properties.len();
        let body_begin = content.prefix_length();
        let place = super::mailbox::Place {
            properties: (properties_begin as u32, body_begin as u32),
            body: (body_begin as u32, bytes.len() as u32),
            is_persistent,
            expires,
        };
        let run = Run {
            exchange: content.exchange,
            routing_key: content.routing_key,
            bytes,
            places: std::slice::from_ref(&place),
            shared: Some(self.shared.add(bytes.clone())),
            publisher,
        };
        self.take_forwarded(queues, &run);
        run.shared.into_iter().for_each(|slot| self.shared.remove(slot));
    }
}

pub(super) fn is_large(place: &Place) -> bool {
    (place.body.1 - place.body.0) as usize >= SHARED_CONTENT_BYTES
}

/// A content in one counted stretch.
pub(super) fn counted(content: &Content<'_>) -> Bytes {
    let mut bytes = Vec::with_capacity(content.encoded_length());
    content.encode(&mut bytes);
    Bytes::from(bytes)
}

fn short(bytes: &[u8]) -> ShortString {
    ShortString::new(bytes).expect("a target's names are short strings")
}
