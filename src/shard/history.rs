//! The story of a recent history: whatever is bound to such an exchange gets what the exchange remembers, from the core that
//! owns its memory.

use super::Shard;
use super::admit::Wishes;
use super::mailbox::Place;
use super::publish::Run;
use crate::channel::Destination;
use crate::model::{Content, QueueSequence};
use crate::protocol::properties::Properties;
use crate::queue::Entry;
use crate::topology::{self, Binding, ExchangeKind, ExchangeMemory};

impl Shard {
    /// A binding was made: if its exchange remembers here, the other end gets the last messages, oldest first.
    pub(super) fn replay_history(&mut self, binding: &Binding) {
        let (vhost, source) = (binding.vhost.as_bytes(), binding.source.as_bytes());
        let Some(exchange) = self.topology.exchange(vhost, source) else {
            return;
        };
        if exchange.kind != ExchangeKind::RecentHistory {
            return;
        }
        let memory = ExchangeMemory::queue_of(vhost, exchange).ok().flatten();
        let id = memory.and_then(|(name, _)| self.topology.queue_id(vhost, name.as_bytes()));
        let Some(slot) = id.and_then(|id| self.queues.slot_of(id)) else {
            return;
        };
        let queue = self.queues.get_mut(slot).expect("just found");
        let mut remembered: Vec<(QueueSequence, Entry)> = queue
            .queue
            .live()
            .map(|(sequence, entry)| (sequence, *entry))
            .collect();
        remembered.sort_unstable_by_key(|(sequence, _)| *sequence);
        for (_, entry) in remembered {
            let bytes = self.stored_bytes(slot, &entry);
            self.replay(binding, super::dispatch::whole(&bytes));
        }
    }

    fn replay(&mut self, binding: &Binding, content: Content<'_>) {
        let properties = Properties::trusted(content.properties);
        let destinations: Vec<Destination> = match &binding.destination {
            topology::Destination::Queue(id) => self.destination(*id).into_iter().collect(),
            topology::Destination::Exchange(name) => {
                let (vhost, keys) = (binding.vhost.as_bytes(), [content.routing_key]);
                let found = self.destinations_of(vhost, name.as_bytes(), &keys, content.properties);
                found.unwrap_or_default()
            }
        };
        let body_begin = content.properties.len() as u32;
        let bytes = [content.properties, content.body].concat();
        let place = Place {
            properties: (0, body_begin),
            body: (body_begin, bytes.len() as u32),
            is_persistent: properties.is_persistent(),
            expires: Wishes::of(content.properties).expiration.is_some(),
        };
        let run = Run {
            exchange: content.exchange,
            routing_key: content.routing_key,
            bytes: &bytes,
            places: std::slice::from_ref(&place),
            shared: None,
            publisher: None,
        };
        self.distribute_itself(&run, &destinations);
    }
}
