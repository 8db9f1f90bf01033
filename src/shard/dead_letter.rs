//! The story of a dead letter: what becomes of a dead message on its way to its queue's dead letter exchange, and where it
//! goes from there. What it says of its deaths is in [`queue::dead_letter`](crate::queue::dead_letter); how it gets there
//! without being lost, in [`transfer`](super::transfer).

use super::Shard;
use super::mailbox::Place;
use super::publish::Run;
use super::transfer::{Met, rewritten};
use crate::channel::Destination;
use crate::model::{Content, FieldTable, ShortString};
use crate::protocol::properties::{Properties, PropertiesBuilder};
use crate::queue::dead_letter::{Death, DeathReason, headers_after, is_cycle};

/// A message for a dead letter exchange, in one stretch.
struct DeadLetter {
    exchange: ShortString,
    routing_key: ShortString,
    /// Keys of its `CC` and `BCC`, unless it got a new key.
    further_keys: Vec<Vec<u8>>,
    headers: FieldTable,
    bytes: Vec<u8>,
    place: Place,
}

impl Shard {
    /// Publishes a dead message to its queue's dead letter exchange. Returns what it met there, `None` if
    /// there is none any more.
    pub(super) fn publish_dead_letter(
        &mut self,
        queue_slot: u32,
        content: Content<'_>,
        reason: DeathReason,
    ) -> Option<Met> {
        let (vhost, letter) = self.dead_letter(queue_slot, content, reason)?;
        let destinations = self.dead_letter_destinations(&vhost, &letter, reason);
        let run = Run {
            exchange: letter.exchange.as_bytes(),
            routing_key: letter.routing_key.as_bytes(),
            bytes: &letter.bytes,
            places: std::slice::from_ref(&letter.place),
            shared: None,
            publisher: None,
        };
        Some(self.distribute_itself(&run, &destinations))
    }

    /// The message as it goes on, and the vhost it is in; `None` if its queue has no dead letter exchange any more.
    fn dead_letter(
        &mut self,
        queue_slot: u32,
        content: Content<'_>,
        reason: DeathReason,
    ) -> Option<(ShortString, DeadLetter)> {
        let seconds = self.unix_milliseconds / 1000;
        let queue = self.queues.get_mut(queue_slot)?;
        self.counters.messages_dead_lettered += 1;
        let target = queue.settings.dead_letter.as_ref()?;
        let properties = Properties::trusted(content.properties);
        let headers = headers_after(
            properties.headers(),
            &Death {
                reason,
                queue: queue.name.as_bytes(),
                exchange: content.exchange,
                routing_key: content.routing_key,
                expiration: properties.expiration(),
                seconds,
                is_rekeyed: target.routing_key.is_some(),
            },
        );
        let further_keys = match target.routing_key {
            Some(_) => Vec::new(),
            None => crate::channel::copy_keys(properties),
        };
        let routing_key = match &target.routing_key {
            Some(key) => key.clone(),
            None => ShortString::new(content.routing_key)?,
        };
        let builder = PropertiesBuilder {
            headers: Some(headers.as_ref()),
            expiration: None,
            is_marked_blind: properties.is_marked_blind() && target.routing_key.is_none(),
            ..PropertiesBuilder::from(properties)
        };
        let (bytes, place) = rewritten(&builder, content.body);
        let letter = DeadLetter {
            exchange: target.exchange.clone(),
            routing_key,
            further_keys,
            headers,
            bytes,
            place,
        };
        Some((queue.vhost.clone(), letter))
    }

    /// The queues a dead letter goes to: none of those where it would run in circles. An exchange that is not there drops
    /// it, as in RabbitMQ.
    fn dead_letter_destinations(
        &mut self,
        vhost: &ShortString,
        letter: &DeadLetter,
        reason: DeathReason,
    ) -> Vec<Destination> {
        let keys: Vec<&[u8]> = std::iter::once(letter.routing_key.as_bytes())
            .chain(letter.further_keys.iter().map(Vec::as_slice))
            .collect();
        let properties = &letter.bytes[..letter.place.properties.1 as usize];
        let exchange = letter.exchange.as_bytes();
        let found = self.destinations_of(vhost.as_bytes(), exchange, &keys, properties);
        let Ok(mut destinations) = found else {
            return Vec::new();
        };
        if reason != DeathReason::Rejected {
            destinations.retain(|destination| {
                let queue = self.topology.queue_by_id(destination.queue);
                !queue.is_some_and(|queue| is_cycle(letter.headers.as_ref(), queue.name.as_bytes()))
            });
        }
        destinations
    }
}
