//! The story of a route: the queues that a publish goes to, from the channel's cache as long as nothing has changed.

use super::Shard;
use super::queues::NO_SLOT;
use crate::auth::Access;
use crate::channel::reply_to::ReplyAddress;
use crate::channel::{Destination, PublishTarget, Publisher, examine};
use crate::model::{ChannelNumber, QueueId, Refusal};
use crate::protocol::properties::Properties;
use crate::protocol::publish::RecognisedPublish;
use crate::routing::{Envelope, RouteError};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

/// Where a message goes.
pub(super) struct Route {
    /// The queues.
    pub destinations: Rc<[Destination]>,
    /// Whether the channel's next message to the same target may go elsewhere.
    pub is_for_message_alone: bool,
}

/// Where one message goes that is not routed with others.
pub(super) struct Single {
    /// The queues.
    pub destinations: Rc<[Destination]>,
    /// The requesters.
    pub replies: Vec<ReplyAddress>,
    /// The message as its receivers see it, if that is not as it came.
    pub rewritten: Option<(Vec<u8>, RecognisedPublish)>,
}

impl Shard {
    /// The queues that the channel's target leads to, from the channel's cache when nothing has changed. `first` is the
    /// message they are found for if not; they are its alone if so it says.
    #[inline]
    pub(super) fn route(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        first: &RecognisedPublish,
    ) -> Result<Route, Refusal> {
        let epoch = self.route_epoch();
        let channel = self.channel_at(slot, number).expect("it publishes");
        match channel.route.at(epoch) {
            Some(destinations) => Ok(Route {
                destinations,
                is_for_message_alone: false,
            }),
            None => self.find_route(slot, number, part(bytes, &first.properties), &[]),
        }
    }

    /// The queues of one message, which may name further routing keys. What it asks for is judged once its exchange was
    /// found, as in RabbitMQ.
    pub(super) fn route_single(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publish: &RecognisedPublish,
    ) -> Result<Single, Refusal> {
        let properties = part(bytes, &publish.properties);
        let channel = self.channel_at(slot, number).expect("it publishes");
        let known = channel.assembly.check_properties(properties).unwrap_or_default();
        let target = channel.assembly.target().clone();
        let reply_consumer = channel.reply_consumer.clone();
        let destinations = self.route(slot, number, bytes, publish)?.destinations;
        if !known.must_be_examined {
            return Ok(Single {
                destinations,
                replies: self.requesters(&target, &[]),
                rewritten: None,
            });
        }
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let user = connection.connection.user().clone();
        let publisher = Publisher {
            user: user.as_bytes(),
            is_impersonator: self.users.is_impersonator(&user),
            reply_address: reply_consumer
                .as_ref()
                .map(|consumer| consumer.address.as_bytes()),
        };
        let examined = examine(Properties::trusted(properties), publisher)?;
        let replies = self.requesters(&target, &examined.further_keys);
        let destinations = match examined.further_keys[..] {
            [] => destinations,
            _ => {
                let route = self.find_route(slot, number, properties, &examined.further_keys)?;
                route.destinations
            }
        };
        let rewritten = examined
            .rewritten
            .map(|properties| with_properties(properties, part(bytes, &publish.body)));
        Ok(Single {
            destinations,
            replies,
            rewritten,
        })
    }

    /// The requesters that a publish to the default exchange names, each once.
    fn requesters(&self, target: &PublishTarget, further_keys: &[&[u8]]) -> Vec<ReplyAddress> {
        if !target.is_reply && (further_keys.is_empty() || !target.exchange.is_empty()) {
            return Vec::new();
        }
        let keys = std::iter::once(target.routing_key.as_bytes()).chain(further_keys.iter().copied());
        let mut requesters: Vec<_> = keys.filter_map(|key| self.reply_address(key)).collect();
        requesters.sort_unstable();
        requesters.dedup();
        requesters
    }

    /// Grows with every change of what routes depend on: of what is declared, and of who may publish.
    #[inline]
    fn route_epoch(&self) -> u64 {
        self.topology.epoch() + self.users.revision()
    }

    /// Asks the router, and keeps what it says in the channel's cache when it holds for the next message as well.
    fn find_route(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        properties: &[u8],
        further_keys: &[&[u8]],
    ) -> Result<Route, Refusal> {
        self.permit_publish(slot, number)?;
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let vhost = connection.connection.vhost().clone();
        let channel = connection.connection.channel_mut(number).expect("it publishes");
        let target = channel.assembly.target().clone();
        let (exchange, key) = (target.exchange.as_bytes(), target.routing_key.as_bytes());
        let mut keys = [&[key], further_keys].concat();
        if keys.len() > 1 {
            let mut seen = BTreeSet::new();
            keys.retain(|key| seen.insert(*key));
        }
        let found = self
            .router
            .check_published_to(vhost.as_bytes(), exchange)
            .and_then(|()| self.route_of(vhost.as_bytes(), exchange, &keys, properties, None));
        let mut route = found.map_err(|error| error.refusal(vhost.as_bytes(), exchange))?;
        self.permit_topics(slot, Access::Write, exchange, &keys)?;
        route.is_for_message_alone |= !further_keys.is_empty();
        if !route.is_for_message_alone {
            let epoch = self.route_epoch();
            let channel = self.channel_at(slot, number).expect("it publishes");
            channel.route.remember(epoch, route.destinations.clone());
        }
        Ok(route)
    }

    fn envelope<'a>(&mut self, routing_keys: &'a [&'a [u8]], properties: &'a [u8]) -> Envelope<'a> {
        let properties = Properties::new_checked(properties).ok();
        Envelope {
            routing_keys,
            headers: properties.and_then(Properties::headers),
            correlation_id: properties.and_then(Properties::correlation_id),
            message_id: properties.and_then(Properties::message_id),
            timestamp: properties.and_then(Properties::timestamp),
            from_memory: None,
            home: self.id,
            chance: self.chances.next_u64(),
        }
    }

    /// The queues that an exchange leads to by any of `keys`, each once.
    pub(super) fn destinations_of(
        &mut self,
        vhost: &[u8],
        exchange: &[u8],
        keys: &[&[u8]],
        properties: &[u8],
    ) -> Result<Vec<Destination>, RouteError> {
        let route = self.route_of(vhost, exchange, keys, properties, None)?;
        Ok(route.destinations.to_vec())
    }

    /// The same for a message that comes from the exchange's memory, the queue `memory`.
    pub(super) fn destinations_from(
        &mut self,
        memory: QueueId,
        (vhost, exchange): (&[u8], &[u8]),
        keys: &[&[u8]],
        properties: &[u8],
    ) -> Result<Vec<Destination>, RouteError> {
        let route = self.route_of(vhost, exchange, keys, properties, Some(memory))?;
        Ok(route.destinations.to_vec())
    }

    fn route_of(
        &mut self,
        vhost: &[u8],
        exchange: &[u8],
        keys: &[&[u8]],
        properties: &[u8],
        from_memory: Option<QueueId>,
    ) -> Result<Route, RouteError> {
        let envelope = Envelope {
            from_memory,
            ..self.envelope(keys, properties)
        };
        let mut routed = std::mem::take(&mut self.scratch.routed);
        let found = self
            .router
            .route(&self.topology, vhost, exchange, &envelope, &mut routed);
        let queues = routed.queues.iter();
        let route = Route {
            destinations: queues.filter_map(|&id| self.destination(id)).collect(),
            is_for_message_alone: routed.is_for_message_alone,
        };
        self.scratch.routed = routed;
        found.map(|()| route)
    }

    /// The queue as a destination, if it is there.
    pub(super) fn destination(&self, queue: QueueId) -> Option<Destination> {
        let owner = self.topology.queue_by_id(queue)?.owner;
        let slot = if owner == self.id {
            self.queues.slot_of(queue)?
        } else {
            NO_SLOT
        };
        Some(Destination { owner, queue, slot })
    }
}

fn part<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

/// A message of these properties and this body, in one stretch.
fn with_properties(properties: Vec<u8>, body: &[u8]) -> (Vec<u8>, RecognisedPublish) {
    let mut bytes = properties;
    let body_begin = bytes.len() as u32;
    bytes.extend_from_slice(body);
    let length = bytes.len() as u32;
    let publish = RecognisedPublish {
        properties: 0..body_begin,
        body: body_begin..length,
        length,
    };
    (bytes, publish)
}
