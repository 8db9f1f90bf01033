//! The story of a publish: find its queues, then hand it to a waiting consumer, store it, or forward it; then promise
//! a confirm.
//!
//! A run is up to 256 publishes of one channel to one target, all in the receive buffer: the route is found once, the
//! queue is looked up once, and each message costs a comparison of its properties and one copy, to the consumer's
//! output or to where it is stored.

use super::Shard;
use super::connect::Next;
use super::mailbox::{Place, Publisher, SHARED_CONTENT_BYTES, ShardMessage};
use super::queues::NO_SLOT;
use crate::channel::{Channel, ChannelState, Destination, PublishTarget};
use crate::connection::ConnectionState;
use crate::model::{
    ChannelNumber, ConnectionId, Content, PublishSequence, QueueId, Refusal, ReplyCode, ShardId,
};
use crate::protocol::content::encode_content;
use crate::protocol::method::{BasicReturn, Method};
use crate::protocol::properties::Properties;
use crate::protocol::publish::RecognisedPublish;
use crate::queue::Locator;
use crate::storage::{ENTRIES_MAX, EntryHeader};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

/// Class and method of basic.publish.
pub(super) const BASIC_PUBLISH: (u16, u16) = (60, 40);

/// Messages of one channel to one target, wherever their bytes lie.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// The exchange published to.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// The bytes that `places` refer to.
    pub bytes: &'a [u8],
    /// The messages, in order.
    pub places: &'a [Place],
    /// Where the content of a run of one large message lies counted, if it does.
    pub shared: Option<u32>,
}

impl<'a> Run<'a> {
    /// The message at `index`.
    #[inline]
    pub(super) fn content(&self, index: usize) -> Content<'a> {
        let place = &self.places[index];
        Content {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: &self.bytes[place.properties.0 as usize..place.properties.1 as usize],
            body: &self.bytes[place.body.0 as usize..place.body.1 as usize],
        }
    }

    /// A part of the run.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> Run<'a> {
        Run {
            places: &self.places[range],
            ..*self
        }
    }
}

impl Shard {
    /// Publishes a run whose bytes lie in `bytes`.
    pub(super) fn publish_run(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
    ) -> Next {
        if publishes.len() > 1 && self.headers_decide(slot, number) {
            return self.publish_by_headers(slot, number, bytes, publishes);
        }
        let destinations = match self.route(slot, number, bytes, &publishes[0]) {
            Ok(destinations) => destinations,
            Err(refusal) => return self.refuse_at(slot, number, &refusal),
        };
        if self.alarms.is_raised() {
            return self.wait_for_resources(slot, None);
        }
        if !self.has_credit_for(&destinations) {
            return self.wait_for_credit(slot, None);
        }
        self.publish_to(slot, number, bytes, publishes, &destinations)
    }

    /// Whether each publish to the channel's target has a route of its own.
    #[inline]
    fn headers_decide(&mut self, slot: u32, number: ChannelNumber) -> bool {
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

    /// Publishes a run of which each message has its own route. All routes are found before any is used, because a run
    /// that must wait for credit is pulled again as a whole.
    fn publish_by_headers(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
    ) -> Next {
        let mut routes = Vec::with_capacity(publishes.len());
        for publish in publishes {
            match self.route(slot, number, bytes, publish) {
                Ok(destinations) => routes.push(destinations),
                Err(refusal) => return self.refuse_at(slot, number, &refusal),
            }
        }
        if self.alarms.is_raised() {
            return self.wait_for_resources(slot, None);
        }
        if !routes
            .iter()
            .all(|destinations| self.has_credit_for(destinations))
        {
            return self.wait_for_credit(slot, None);
        }
        for (publish, destinations) in publishes.iter().zip(&routes) {
            let publish = std::slice::from_ref(publish);
            let next = self.publish_to(slot, number, bytes, publish, destinations);
            if next != Next::Pull || !self.is_publishing(slot, number) {
                return next;
            }
        }
        Next::Pull
    }

    /// Whether the channel is still open: a refused publish closes it, or its connection.
    fn is_publishing(&mut self, slot: u32, number: ChannelNumber) -> bool {
        self.connections.get_mut(slot).is_some_and(|connection| {
            connection.connection.state() == ConnectionState::Running
                && connection
                    .connection
                    .channel(number)
                    .is_some_and(|channel| channel.state() == ChannelState::Open)
        })
    }

    /// Publishes the message that lies complete in the channel's assembly.
    pub(super) fn publish_assembled(&mut self, slot: u32, number: ChannelNumber) -> Next {
        let Some(connection) = self.connections.get_mut(slot) else {
            return Next::End;
        };
        let Some(channel) = connection.connection.channel_mut(number) else {
            return Next::Pull;
        };
        let (bytes, publish) = channel.assembly.take_complete();
        let destinations = match self.route(slot, number, &bytes, &publish) {
            Ok(destinations) => destinations,
            Err(refusal) => return self.refuse_at(slot, number, &refusal),
        };
        let is_short = self.alarms.is_raised();
        if is_short || !self.has_credit_for(&destinations) {
            let channel = self.channel_at(slot, number).expect("it publishes");
            channel.assembly.put_back(bytes);
            self.unfinished_bytes += channel.assembly.growth();
            return match is_short {
                true => self.wait_for_resources(slot, Some(number)),
                false => self.wait_for_credit(slot, Some(number)),
            };
        }
        let channel = self.channel_at(slot, number).expect("it publishes");
        self.unfinished_bytes -= channel.assembly.take_held();
        let next = self.publish_to(
            slot,
            number,
            &bytes,
            std::slice::from_ref(&publish),
            &destinations,
        );
        if let Some(channel) = self.channel_at(slot, number) {
            channel.assembly.recycle(bytes);
        }
        next
    }

    fn publish_to(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
        destinations: &Rc<[Destination]>,
    ) -> Next {
        let mut places = std::mem::take(&mut self.scratch.places);
        let (connection, target, well_formed) = self.place_run(slot, number, bytes, publishes, &mut places);
        let run = Run {
            exchange: target.exchange.as_bytes(),
            routing_key: target.routing_key.as_bytes(),
            bytes,
            places: &places,
            shared: None,
        };
        self.counters.messages_published += run.places.len() as u64;
        let next = if target.immediate {
            self.refuse_at(
                slot,
                number,
                &Refusal::new(ReplyCode::NotImplemented, "immediate=true"),
            )
        } else {
            if destinations.is_empty() {
                self.drop_unroutable(slot, number, &target, &run);
            }
            self.distribute(connection, number, &run, destinations);
            Next::Pull
        };
        self.scratch.places = places;
        match well_formed {
            Ok(()) => next,
            Err(refusal) => self.refuse_connection(slot, &refusal, BASIC_PUBLISH),
        }
    }

    /// Lists where the run's messages lie and which are persistent. A message with malformed properties ends the run.
    #[inline]
    fn place_run(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
        places: &mut Vec<Place>,
    ) -> (ConnectionId, PublishTarget, Result<(), Refusal>) {
        places.clear();
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let id = connection.id;
        let channel = connection.connection.channel_mut(number).expect("it publishes");
        let target = channel.assembly.target().clone();
        for publish in publishes {
            let (properties, body) = (&publish.properties, &publish.body);
            match channel
                .assembly
                .check_properties(&bytes[properties.start as usize..properties.end as usize])
            {
                Ok(is_persistent) => places.push(Place {
                    properties: (properties.start, properties.end),
                    body: (body.start, body.end),
                    is_persistent,
                }),
                Err(error) => return (id, target, Err(error.refusal())),
            }
        }
        (id, target, Ok(()))
    }

    /// The queues that the channel's target leads to, from the channel's cache when nothing has changed.
    #[inline]
    fn route(
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

    /// Gives the run to each destination and notes who will confirm it.
    fn distribute(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        run: &Run<'_>,
        destinations: &[Destination],
    ) {
        let last = self.number_publishes(connection, number, run.places.len());
        let mut must_sync = false;
        match destinations {
            [only] if only.owner == self.id => must_sync = self.enqueue(only.slot, run),
            _ => {
                let own: Vec<u32> = destinations
                    .iter()
                    .filter(|d| d.owner == self.id)
                    .map(|d| d.slot)
                    .collect();
                if !own.is_empty() {
                    must_sync = self.enqueue_to_all(&own, run);
                }
                self.forward(connection, number, run, destinations, last);
            }
        }
        if let Some(last) = last {
            self.promise(connection, number, last, must_sync);
        }
    }

    /// In confirm mode, numbers the run's publishes; returns the last number.
    #[inline]
    fn number_publishes(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        count: usize,
    ) -> Option<PublishSequence> {
        let confirms = self.connections.channel(connection, number)?.confirms.as_mut()?;
        let first = confirms.publish(count as u32);
        Some(PublishSequence(first.0 + count as u64 - 1))
    }

    /// Gives the run to one queue of this core. Returns whether a confirm must wait for the log.
    #[inline]
    pub(super) fn enqueue(&mut self, queue_slot: u32, run: &Run<'_>) -> bool {
        let Some(queue) = self.queues.get_mut(queue_slot).filter(|queue| !queue.is_frozen) else {
            return false;
        };
        let is_durable = queue.durable;
        let mut must_sync = false;
        let mut at = 0;
        while at < run.places.len() {
            if is_durable && run.places[at].is_persistent {
                must_sync = true;
                self.store_logged(&[queue_slot], run.content(at));
                at += 1;
            } else {
                at += self.hand_over_or_store(queue_slot, run, at);
            }
        }
        self.list_deliverable(queue_slot);
        must_sync
    }

    /// Gives the run to several queues of this core. A persistent message is logged once for all durable ones.
    pub(super) fn enqueue_to_all(&mut self, queue_slots: &[u32], run: &Run<'_>) -> bool {
        let is_durable = |shard: &mut Shard, slot| {
            shard
                .queues
                .get_mut(slot)
                .is_some_and(|queue| queue.durable && !queue.is_frozen)
        };
        let (durable, transient): (Vec<u32>, Vec<u32>) =
            queue_slots.iter().partition(|&&slot| is_durable(self, slot));
        if durable.len() < 2 || !run.places.iter().any(|place| place.is_persistent) {
            return self.enqueue_to_each(queue_slots, run);
        }
        for slot in transient {
            self.enqueue(slot, run);
        }
        for at in 0..run.places.len() {
            if run.places[at].is_persistent {
                self.store_logged(&durable, run.content(at));
            } else {
                durable
                    .iter()
                    .for_each(|&slot| self.store_transient(slot, run.content(at), None));
            }
        }
        durable.iter().for_each(|&slot| self.list_deliverable(slot));
        true
    }

    /// Gives the run to one queue after the other; a large message is held once for all.
    fn enqueue_to_each(&mut self, queue_slots: &[u32], run: &Run<'_>) -> bool {
        let mut must_sync = false;
        if !run.places.iter().any(is_large) {
            for &slot in queue_slots {
                must_sync |= self.enqueue(slot, run);
            }
            return must_sync;
        }
        for at in 0..run.places.len() {
            let mut one = run.part(at..at + 1);
            one.shared = is_large(&run.places[at]).then(|| self.shared.add(counted(&one.content(0))));
            for &slot in queue_slots {
                must_sync |= self.enqueue(slot, &one);
            }
            if let Some(held_meanwhile) = one.shared {
                self.shared.remove(held_meanwhile);
            }
        }
        must_sync
    }

    /// Hands messages from `at` on to a waiting consumer, or stores the one at `at`. Returns how many were taken care of.
    #[inline]
    fn hand_over_or_store(&mut self, queue_slot: u32, run: &Run<'_>, at: usize) -> usize {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        let is_durable = queue.durable;
        let transient = run.places[at..]
            .iter()
            .take_while(|place| !(is_durable && place.is_persistent))
            .count();
        // What crosses to a consumer of another core needs credit; without it the message waits in its queue.
        let next = queue.queue.next_consumer();
        let may_cross = next.is_some_and(|next| self.mailbox.has_credit(next.connection.shard));
        match queue.queue.hand_off(if may_cross { transient as u32 } else { 0 }) {
            Some(hand_off) => {
                let end = at + hand_off.count as usize;
                self.hand_over(
                    queue_slot,
                    hand_off.consumer,
                    hand_off.first_sequence,
                    &run.part(at..end),
                );
                hand_off.count as usize
            }
            None => {
                self.store_transient(queue_slot, run.content(at), run.shared);
                1
            }
        }
    }

    #[inline]
    fn store_transient(&mut self, queue_slot: u32, content: Content<'_>, shared: Option<u32>) {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        match shared {
            Some(slot) => queue.push_shared(slot, content.body.len(), &mut self.shared),
            None => queue.push_transient(content, &mut self.shared),
        }
    }

    /// Appends one record for all of `queue_slots`, more when they are very many, and makes the message ready in each.
    fn store_logged(&mut self, queue_slots: &[u32], content: Content<'_>) {
        for queue_slots in queue_slots.chunks(ENTRIES_MAX) {
            let appended = match queue_slots {
                [only] => {
                    let header = self
                        .queues
                        .get_mut(*only)
                        .expect("the caller found it")
                        .entry_header();
                    self.log.append_message(&[header], content)
                }
                _ => {
                    let header = |&slot| {
                        self.queues
                            .get_mut(slot)
                            .expect("the caller found it")
                            .entry_header()
                    };
                    let headers: Vec<EntryHeader> = queue_slots.iter().map(header).collect();
                    self.log.append_message(&headers, content)
                }
            };
            let locator = Locator::Log {
                position: appended.position,
                length: appended.length,
            };
            for &slot in queue_slots {
                let queue = self.queues.get_mut(slot).expect("the caller found it");
                queue.push_logged(locator, content.body.len());
            }
        }
    }

    /// Sends the run to the other cores that own some of its destinations.
    fn forward(
        &mut self,
        connection: ConnectionId,
        channel: ChannelNumber,
        run: &Run<'_>,
        destinations: &[Destination],
        last: Option<PublishSequence>,
    ) {
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
            if let Some(last) = last
                && let Some(confirms) = self
                    .connections
                    .channel(connection, channel)
                    .and_then(|c| c.confirms.as_mut())
            {
                confirms.sent_to(owner, last);
            }
            let publisher = last.map(|last| Publisher {
                connection,
                channel,
                last,
            });
            self.counters.messages_forwarded_out += run.places.len() as u64;
            self.forward_to(owner, queues, publisher, run);
        }
    }

    fn forward_to(
        &mut self,
        owner: ShardId,
        queues: Arc<[QueueId]>,
        publisher: Option<Publisher>,
        run: &Run<'_>,
    ) {
        if !run.places.iter().any(is_large) {
            return self.forward_copied(owner, queues, publisher, run);
        }
        let count = run.places.len();
        for at in 0..count {
            // Each has a number of its own, since each may be the one that waits for the owner's log.
            let publisher = publisher.map(|publisher| Publisher {
                last: PublishSequence(publisher.last.0 - (count - 1 - at) as u64),
                ..publisher
            });
            if !is_large(&run.places[at]) {
                self.forward_copied(owner, queues.clone(), publisher, &run.part(at..at + 1));
                continue;
            }
            let content = counted(&run.content(at));
            self.mailbox.spend_credit(owner, content.len() as u64);
            let is_persistent = run.places[at].is_persistent;
            self.say(
                owner,
                ShardMessage::PublishShared {
                    queues: queues.clone(),
                    publisher,
                    is_persistent,
                    content,
                },
            );
        }
    }

    fn forward_copied(
        &mut self,
        owner: ShardId,
        queues: Arc<[QueueId]>,
        publisher: Option<Publisher>,
        run: &Run<'_>,
    ) {
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
            let is_persistent = run.places[at].is_persistent;
            batch.places.push(Place {
                properties: (properties, body),
                body: (body, end),
                is_persistent,
            });
        }
        let places = first..batch.places.len() as u32;
        let spent = batch.bytes.len() - begin + size_of::<Place>() * places.len();
        batch.messages.push(ShardMessage::PublishRun {
            queues,
            publisher,
            exchange: short(target.0),
            routing_key: short(target.1),
            places,
        });
        self.mailbox.spend_credit(owner, spent as u64);
    }

    /// Returns mandatory messages that found no queue; others are dropped and counted.
    fn drop_unroutable(&mut self, slot: u32, number: ChannelNumber, target: &PublishTarget, run: &Run<'_>) {
        if !target.mandatory {
            self.counters.messages_unroutable_dropped += run.places.len() as u64;
            return;
        }
        self.counters.messages_unroutable_returned += run.places.len() as u64;
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let frame_max = connection.connection.frame_max();
        let method = Method::BasicReturn(BasicReturn {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: ReplyCode::NoRoute.name().as_bytes(),
            exchange: run.exchange,
            routing_key: run.routing_key,
        });
        for at in 0..run.places.len() {
            let content = run.content(at);
            let out = connection.outbound.buffer();
            method.encode(number.0, out);
            encode_content(number.0, content.properties, &[content.body], frame_max, out);
        }
    }

    /// Closes the channel, or the connection if the code says so, for a publish.
    fn refuse_at(&mut self, slot: u32, number: ChannelNumber, refusal: &Refusal) -> Next {
        self.refuse_method(slot, number, refusal, BASIC_PUBLISH)
    }

    #[inline]
    pub(super) fn channel_at(&mut self, slot: u32, number: ChannelNumber) -> Option<&mut Channel> {
        self.connections.get_mut(slot)?.connection.channel_mut(number)
    }
}

fn is_large(place: &Place) -> bool {
    (place.body.1 - place.body.0) as usize >= SHARED_CONTENT_BYTES
}

/// A content in one counted stretch.
fn counted(content: &Content<'_>) -> Bytes {
    let mut bytes = Vec::with_capacity(content.encoded_length());
    content.encode(&mut bytes);
    Bytes::from(bytes)
}

fn short(bytes: &[u8]) -> crate::model::ShortString {
    crate::model::ShortString::new(bytes).expect("a target's names are short strings")
}
