//! The story of a route: the queues that a publish goes to, from the channel's cache as long as nothing has changed.

use super::Shard;
use super::queues::NO_SLOT;
use crate::channel::Destination;
use crate::model::{ChannelNumber, QueueId, Refusal};
use crate::protocol::properties::Properties;
use crate::protocol::publish::RecognisedPublish;
use std::rc::Rc;

impl Shard {
    /// Whether each publish to the channel's target has a route of its own.
    #[inline]
    pub(super) fn headers_decide(&mut self, slot: u32, number: ChannelNumber) -> bool {
        let epoch = self.topology.epoch();
        let connection = &self.connections.get_mut(slot).expect("it publishes").connection;
        let channel = connection.channel(number).expect("it publishes");
        if channel.route.at(epoch).is_some() {
            return false;
        }
        let (vhost, target) = (connection.vhost(), channel.assembly.target());
        self.router
            .route_depends_on_headers(vhost.as_bytes(), target.exchange.as_bytes())
    }

    /// The queues that the channel's target leads to, from the channel's cache when nothing has changed.
    #[inline]
    pub(super) fn route(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        first: &RecognisedPublish,
    ) -> Result<Rc<[Destination]>, Refusal> {
        let epoch = self.topology.epoch();
        let channel = self.channel_at(slot, number).expect("it publishes");
        match channel.route.at(epoch) {
            Some(destinations) => Ok(destinations),
            None => self.find_route(
                slot,
                number,
                &bytes[first.properties.start as usize..first.properties.end as usize],
            ),
        }
    }

    fn find_route(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        properties: &[u8],
    ) -> Result<Rc<[Destination]>, Refusal> {
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let vhost = connection.connection.vhost().clone();
        let channel = connection.connection.channel_mut(number).expect("it publishes");
        let target = channel.assembly.target().clone();
        let (exchange, key) = (target.exchange.as_bytes(), target.routing_key.as_bytes());
        let headers = Properties::new_checked(properties)
            .ok()
            .and_then(|properties| properties.headers());
        let mut routed = std::mem::take(&mut self.scratch.routed);
        let found = self.router.route(
            &self.topology,
            vhost.as_bytes(),
            exchange,
            key,
            headers,
            &mut routed,
        );
        let destinations: Rc<[Destination]> = routed
            .queues
            .iter()
            .filter_map(|&id| self.destination(id))
            .collect();
        self.scratch.routed = routed;
        found.map_err(|error| error.refusal(vhost.as_bytes(), exchange))?;
        if !self.router.route_depends_on_headers(vhost.as_bytes(), exchange) {
            let epoch = self.topology.epoch();
            let channel = self.channel_at(slot, number).expect("it publishes");
            channel.route.remember(epoch, destinations.clone());
        }
        Ok(destinations)
    }

    fn destination(&self, queue: QueueId) -> Option<Destination> {
        let owner = self.topology.queue_by_id(queue)?.owner;
        let slot = if owner == self.id {
            self.queues.slot_of(queue)?
        } else {
            NO_SLOT
        };
        Some(Destination { owner, queue, slot })
    }
}
