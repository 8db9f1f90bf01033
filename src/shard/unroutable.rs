//! The story of a message that finds no queue: dropped and counted, or given back to its publisher if it is mandatory
//! (basic.return, AMQP 0-9-1 §1.8.3.3), before its confirm.

use super::Shard;
use super::publish::Run;
use crate::channel::{PublishTarget, copy_keys};
use crate::model::{ChannelNumber, Content, QueueId, ReplyCode};
use crate::protocol::blind_copies::visible;
use crate::protocol::content::encode_content;
use crate::protocol::method::{BasicReturn, Method};
use crate::protocol::properties::Properties;
use crate::topology::{ExchangeMemory, MemoryKind};

impl Shard {
    /// Returns mandatory messages that found no queue; others are dropped and counted.
    pub(super) fn drop_unroutable(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        target: &PublishTarget,
        run: &Run<'_>,
    ) {
        if !target.mandatory {
            self.counters.messages_unroutable_dropped += run.places.len() as u64;
            return;
        }
        self.counters.messages_unroutable_returned += run.places.len() as u64;
        for at in 0..run.places.len() {
            self.return_message(slot, number, &run.content(at));
        }
    }

    /// Writes basic.return.
    pub(super) fn return_message(&mut self, slot: u32, number: ChannelNumber, content: &Content<'_>) {
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let frame_max = connection.connection.frame_max();
        let method = Method::BasicReturn(BasicReturn {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name().as_bytes(),
            exchange: content.exchange,
            routing_key: content.routing_key,
        });
        let out = connection.outbound.buffer();
        method.encode(number.0, out);
        encode_content(
            number.0,
            &visible(content.properties),
            &[content.body],
            frame_max,
            out,
        );
    }

    /// Gives back those mandatory messages that reach no queue of a client's, only the memory of their exchange: its history,
    /// or that of one which deduplicates and leads nowhere.
    pub(super) fn return_remembered(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        queue: QueueId,
        target: &PublishTarget,
        run: &Run<'_>,
    ) {
        let Some(definition) = self.topology.queue_by_id(queue) else {
            return;
        };
        let Some(memory) = ExchangeMemory::of_queue(definition.name.as_bytes()) else {
            return;
        };
        let vhost = definition.vhost.clone();
        for at in 0..run.places.len() {
            let leads_nowhere = match memory.kind {
                MemoryKind::RecentHistory => true,
                MemoryKind::Deduplication => {
                    let exchange = (vhost.as_bytes(), memory.exchange.as_bytes());
                    self.leads_nowhere(queue, exchange, run.content(at))
                }
                MemoryKind::Delayed => false,
            };
            if leads_nowhere {
                self.drop_unroutable(slot, number, target, &run.part(at..at + 1));
            }
        }
    }

    /// Whether an exchange passes a message of its memory, the queue `memory`, on to no queue.
    fn leads_nowhere(&mut self, memory: QueueId, exchange: (&[u8], &[u8]), content: Content<'_>) -> bool {
        let further_keys = copy_keys(Properties::trusted(content.properties));
        let keys: Vec<&[u8]> = std::iter::once(content.routing_key)
            .chain(further_keys.iter().map(Vec::as_slice))
            .collect();
        let found = self.destinations_from(memory, exchange, &keys, content.properties);
        found.is_ok_and(|destinations| destinations.is_empty())
    }
}
