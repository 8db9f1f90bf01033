//! The story of a delay that is over: a message leaves the memory of its delayed exchange, or passes on through that of one
//! that deduplicates, and goes on by the exchange's rules.
//!
//! ```text
//!   publish ──x-delay──▶ amq.delayed-NAME, with a deadline ──expire──▶ transfer ──▶ publish_due ──▶ where bindings lead
//! ```
//!
//! What a delayed exchange is, and how its memory is called, is in `topology::memory`; that a message is to wait, in
//! `routing::delayed`; when it falls due, in [`expire`](super::expire).

use super::Shard;
use super::publish::Run;
use super::transfer::{Met, rewritten};
use crate::model::{Content, FieldTable, FieldTableRef};
use crate::protocol::properties::{Properties, PropertiesBuilder};
use crate::routing::{DELAY, delay_of};
use crate::topology::MemoryKind;

impl Shard {
    /// Publishes a message whose delay is over, by the rules of its delayed exchange, under the names it came with. Its delay
    /// is negative from now on: it is over wherever the message goes.
    pub(super) fn publish_due(&mut self, queue_slot: u32, content: Content<'_>) -> Option<Met> {
        let queue = self.queues.get_mut(queue_slot)?;
        let (id, vhost, memory) = (queue.id, queue.vhost.clone(), queue.settings.memory.clone()?);
        let properties = Properties::trusted(content.properties);
        let headers = match memory.kind {
            MemoryKind::Delayed => properties.headers().map(without_delay),
            _ => properties.headers().map(FieldTableRef::to_owned),
        };
        let further_keys = crate::channel::copy_keys(properties);
        let keys: Vec<&[u8]> = std::iter::once(content.routing_key)
            .chain(further_keys.iter().map(Vec::as_slice))
            .collect();
        let exchange = memory.exchange.as_bytes();
        let builder = PropertiesBuilder {
            headers: headers.as_ref().map(FieldTable::as_ref),
            ..PropertiesBuilder::from(properties)
        };
        let (bytes, place) = rewritten(&builder, content.body);
        let properties = &bytes[..place.properties.1 as usize];
        let found = self.destinations_from(id, (vhost.as_bytes(), exchange), &keys, properties);
        let run = Run {
            exchange: content.exchange,
            routing_key: content.routing_key,
            bytes: &bytes,
            places: std::slice::from_ref(&place),
            shared: None,
            publisher: None,
        };
        Some(self.distribute_itself(&run, &found.unwrap_or_default()))
    }
}

/// The headers, with the delay made negative.
fn without_delay(headers: FieldTableRef<'_>) -> FieldTable {
    let delay = delay_of(Some(headers)).unwrap_or(0) as i64;
    headers
        .iter()
        .map_while(Result::ok)
        .fold(FieldTable::builder(), |table, (name, value)| match name {
            DELAY => table.long(name, -delay),
            _ => table.value(name, value),
        })
        .build()
}
