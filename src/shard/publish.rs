//! The story of a publish: its [`route`](super::route), then the gates of alarms and [`credit`](super::credit), then to the
//! queues of this core ([`enqueue`](super::enqueue)) and of others ([`forward`](super::forward)), then the promise of a
//! confirm. What finds no queue is [`unroutable`](super::unroutable).
//!
//! A run is up to 256 publishes of one channel to one target, all in the receive buffer: the route is found once, the
//! queue is looked up once, and each message costs a comparison of its properties and one copy, to the consumer's
//! output or to where it is stored.

use super::Shard;
use super::connect::Next;
use super::mailbox::{Place, Publisher};
use super::route::Single;
use crate::channel::reply_to::ReplyAddress;
use crate::channel::{ChannelState, Destination, PublishTarget};
use crate::connection::ConnectionState;
use crate::model::{ChannelNumber, ConnectionId, Content, PublishSequence, Refusal, ReplyCode};
use crate::protocol::publish::RecognisedPublish;
use bytes::Bytes;
use std::rc::Rc;

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
    /// Who waits for a confirm of its messages, if anyone.
    pub publisher: Option<Publisher>,
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

    /// Whether its message has a time to live of its own. Such a message comes alone.
    #[inline]
    pub(super) fn has_expiring(&self) -> bool {
        matches!(self.places, [only] if only.expires)
    }

    /// A part of the run.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> Run<'a> {
        Run {
            publisher: self.publisher_of(range.end.wrapping_sub(1)),
            places: &self.places[range],
            ..*self
        }
    }

    /// Who waits for a confirm of the message at `index`, if anyone.
    #[inline]
    pub(super) fn publisher_of(&self, index: usize) -> Option<Publisher> {
        let behind = (self.places.len() - 1).wrapping_sub(index) as u64;
        self.publisher.map(|publisher| Publisher {
            last: PublishSequence(publisher.last.0.wrapping_sub(behind)),
            ..publisher
        })
    }
}

/// What is known of a run besides where its messages lie.
struct Placed {
    connection: ConnectionId,
    target: PublishTarget,
    /// Whether one of its messages asks for more than its target.
    must_be_examined: bool,
    /// Whether it waits for tx.commit.
    is_transactional: bool,
    /// Where the content lies counted, of a run of one large message.
    shared: Option<u32>,
    /// What ended it early.
    malformed: Option<Refusal>,
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
        let mut places = std::mem::take(&mut self.scratch.places);
        let placed = self.place_run(slot, number, bytes, publishes, &mut places);
        let next = if placed.must_be_examined {
            self.publish_singly(slot, number, bytes, publishes)
        } else {
            self.publish_together(slot, number, (bytes, publishes), &placed, &places)
        };
        self.scratch.places = places;
        next
    }

    /// Publishes a run of which all messages go to the same queues, unless routing the first shows that each has a route
    /// of its own.
    #[inline]
    fn publish_together(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        (bytes, publishes): (&[u8], &[RecognisedPublish]),
        placed: &Placed,
        places: &[Place],
    ) -> Next {
        let route = match self.route(slot, number, bytes, &publishes[0]) {
            Ok(route) => route,
            Err(refusal) => return self.refuse_at(slot, number, &refusal),
        };
        if route.is_for_message_alone && publishes.len() > 1 {
            return self.publish_singly(slot, number, bytes, publishes);
        }
        let destinations = route.destinations;
        if self.alarms.is_raised() {
            return self.wait_for_resources(slot, None);
        }
        if !self.has_credit_for(&destinations) {
            return self.wait_for_credit(slot, None);
        }
        self.publish_placed(slot, number, (bytes, places), placed, (&destinations, &[]))
    }

    /// Publishes a run of which each message has its own route. All routes are found before any is used, because a run
    /// that must wait is pulled again as a whole.
    fn publish_singly(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
    ) -> Next {
        let (mut singles, mut refused) = (Vec::with_capacity(publishes.len()), None);
        for publish in publishes {
            match self.route_single(slot, number, bytes, publish) {
                Ok(single) => singles.push(single),
                Err(refusal) => {
                    refused = Some(refusal);
                    break;
                }
            }
        }
        if self.alarms.is_raised() {
            return self.wait_for_resources(slot, None);
        }
        if !singles
            .iter()
            .all(|single| self.has_credit_for_all(&single.destinations, &single.replies))
        {
            return self.wait_for_credit(slot, None);
        }
        for (publish, single) in publishes.iter().zip(&singles) {
            let next = self.publish_single(slot, number, (bytes, None), publish, single);
            if next != Next::Pull || !self.is_publishing(slot, number) {
                return next;
            }
        }
        match refused {
            Some(refusal) => self.refuse_at(slot, number, &refusal),
            None => Next::Pull,
        }
    }

    /// Publishes one message that was routed, whose bytes may lie counted as well.
    fn publish_single(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        (bytes, shared): (&[u8], Option<u32>),
        publish: &RecognisedPublish,
        single: &Single,
    ) -> Next {
        let (bytes, publish, shared) = match &single.rewritten {
            Some((bytes, publish)) => (bytes.as_slice(), publish, None),
            None => (bytes, publish, shared),
        };
        let mut places = std::mem::take(&mut self.scratch.places);
        let placed = Placed {
            shared,
            ..self.place_run(slot, number, bytes, std::slice::from_ref(publish), &mut places)
        };
        let routed = (&single.destinations, single.replies.as_slice());
        let next = self.publish_placed(slot, number, (bytes, &places), &placed, routed);
        self.scratch.places = places;
        next
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
        let single = match self.route_single(slot, number, &bytes, &publish) {
            Ok(single) => single,
            Err(refusal) => return self.refuse_at(slot, number, &refusal),
        };
        let is_short = self.alarms.is_raised();
        if is_short || !self.has_credit_for_all(&single.destinations, &single.replies) {
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
        if publish.properties.start > 0 {
            return self.publish_stretch(slot, number, Bytes::from(bytes), &publish, &single);
        }
        let next = self.publish_single(slot, number, (&bytes, None), &publish, &single);
        if let Some(channel) = self.channel_at(slot, number) {
            channel.assembly.recycle(bytes);
        }
        next
    }

    /// Publishes a large message that lies in the stretch which queues may keep.
    fn publish_stretch(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        stretch: Bytes,
        publish: &RecognisedPublish,
        single: &Single,
    ) -> Next {
        let shared = self.shared.add(stretch.clone());
        let next = self.publish_single(slot, number, (&stretch, Some(shared)), publish, single);
        self.shared.remove(shared);
        next
    }

    fn publish_placed(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        (bytes, places): (&[u8], &[Place]),
        placed: &Placed,
        (destinations, replies): (&Rc<[Destination]>, &[ReplyAddress]),
    ) -> Next {
        let target = &placed.target;
        let run = Run {
            exchange: target.exchange.as_bytes(),
            routing_key: target.routing_key.as_bytes(),
            bytes,
            places,
            shared: placed.shared,
            publisher: None,
        };
        let next = if target.immediate {
            self.refuse_at(
                slot,
                number,
                &Refusal::new(ReplyCode::NotImplemented, "immediate=true"),
            )
        } else if placed.is_transactional {
            match self.keep_run((slot, number), target, &run, (destinations, replies)) {
                Ok(()) => Next::Pull,
                Err(refusal) => self.refuse_at(slot, number, &refusal),
            }
        } else {
            self.give_out((placed.connection, number), target, &run, (destinations, replies));
            Next::Pull
        };
        match &placed.malformed {
            None => next,
            Some(refusal) => self.refuse_connection(slot, refusal, BASIC_PUBLISH),
        }
    }

    /// Gives the run to its queues, or back to its publisher when there are none and it is mandatory.
    #[inline]
    pub(super) fn give_out(
        &mut self,
        (connection, number): (ConnectionId, ChannelNumber),
        target: &PublishTarget,
        run: &Run<'_>,
        (destinations, replies): (&[Destination], &[ReplyAddress]),
    ) {
        self.counters.messages_published += run.places.len() as u64;
        if !replies.is_empty() {
            return self.give_out_reply((connection, number), target, run, (destinations, replies));
        }
        if destinations.is_empty() {
            self.drop_unroutable(connection.slot, number, target, run);
        } else if target.mandatory
            && let [only] = destinations
        {
            self.return_remembered(connection.slot, number, only.queue, target, run);
        }
        self.distribute(connection, number, run, destinations);
    }

    /// Gives the run to each destination and notes who will confirm it.
    pub(super) fn distribute(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        run: &Run<'_>,
        destinations: &[Destination],
    ) {
        self.refused.clear();
        let last = self.number_publishes(connection, number, run.places.len());
        let publisher = last.map(|last| Publisher {
            connection,
            channel: number,
            last,
        });
        let run = &Run { publisher, ..*run };
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
                self.forward(run, destinations);
            }
        }
        if let Some(last) = last {
            self.note_own_refused(connection, number, run.places.len(), last);
            self.tell_passed_on();
            self.promise(connection, number, last, must_sync);
        }
    }

    /// Notes which of the run's messages queues of this core refused.
    #[inline]
    fn note_own_refused(
        &mut self,
        connection: ConnectionId,
        number: ChannelNumber,
        count: usize,
        last: PublishSequence,
    ) {
        if self.refused.is_empty() {
            return;
        }
        let first = last.0 + 1 - count as u64;
        let refused = std::mem::take(&mut self.refused);
        let sequences = refused.iter().map(|&at| PublishSequence(first + u64::from(at)));
        self.note_refused(connection, number, &sequences.collect::<Vec<_>>());
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

    /// Lists where the run's messages lie and which are persistent. A message with malformed properties ends the run.
    #[inline]
    fn place_run(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        bytes: &[u8],
        publishes: &[RecognisedPublish],
        places: &mut Vec<Place>,
    ) -> Placed {
        places.clear();
        let connection = self.connections.get_mut(slot).expect("it publishes");
        let id = connection.id;
        let channel = connection.connection.channel_mut(number).expect("it publishes");
        let mut placed = Placed {
            connection: id,
            target: channel.assembly.target().clone(),
            must_be_examined: channel.assembly.target().is_reply,
            is_transactional: channel.transaction.is_some(),
            shared: None,
            malformed: None,
        };
        for publish in publishes {
            let (properties, body) = (&publish.properties, &publish.body);
            match channel
                .assembly
                .check_properties(&bytes[properties.start as usize..properties.end as usize])
            {
                Ok(known) => {
                    placed.must_be_examined |= known.must_be_examined;
                    places.push(Place {
                        properties: (properties.start, properties.end),
                        body: (body.start, body.end),
                        is_persistent: known.is_persistent,
                        expires: known.expires,
                    });
                }
                Err(error) => {
                    placed.malformed = Some(error.refusal());
                    break;
                }
            }
        }
        placed
    }

    /// Closes the channel, or the connection if the code says so, for a publish.
    fn refuse_at(&mut self, slot: u32, number: ChannelNumber, refusal: &Refusal) -> Next {
        self.refuse_method(slot, number, refusal, BASIC_PUBLISH)
    }
}
