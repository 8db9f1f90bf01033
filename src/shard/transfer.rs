//! The story of a message that a queue gives up: dropped, or published again by the broker itself, as a dead letter
//! ([`dead_letter`](super::dead_letter)) or because its delay is over ([`delay`](super::delay)).
//!
//! ```text
//!   ready, unacked ──give_up──▶ leaving ──carry_transfers──▶ routed ──▶ queues here ────────────────▶ settled
//!                                                              └──────▶ queues of other cores ──confirmed──▶ settled
//! ```
//!
//! The source settles a logged message only once every target has it as durably as it must be: here that is so when both
//! records lie in one log, the new one first; another core tells with its watermark, as it tells a publisher. A crash on
//! the way leaves the message in both, never in none.
//!
//! A client may wait for a message's arrival ([`pass_on`](super::pass_on)); it is told then, in the order in which
//! such messages set out, and whether a queue has refused it.
//!
//! A tick carries a bounded number, and none while another core gives no credit.

use super::Shard;
use super::forward::counted;
use super::mailbox::{Place, Publisher};
use super::publish::Run;
use super::queues::NO_SLOT;
use crate::channel::{Confirms, Destination};
use crate::metrics::ShardCounters;
use crate::model::{ChannelNumber, ConnectionId, Content, PublishSequence, QueueId, QueueSequence, ShardId};
use crate::protocol::properties::{PERSISTENT, PropertiesBuilder};
use crate::queue::dead_letter::DeathReason;
use crate::queue::{Entry, Locator};
use crate::storage::SettleKind;
use std::collections::VecDeque;

/// Messages that one tick carries.
const TRANSFERS_A_TICK: usize = 1024;
/// Bytes of messages that one tick carries.
const TRANSFER_BYTES_A_TICK: usize = 4 << 20;
/// Slot that stands for the broker itself where a publisher's connection is named.
const NO_CONNECTION: u32 = u32::MAX;

/// Why a message leaves its queue without having been delivered for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It died: to the dead letter exchange.
    Death(DeathReason),
    /// Its delay is over: on through its exchange.
    Due,
}

/// A message that is to be carried.
#[derive(Debug)]
struct Departure {
    queue: QueueId,
    what: Leaving,
    /// The client that waits for its arrival, if one does.
    publisher: Option<Publisher>,
}

#[derive(Debug)]
enum Leaving {
    /// A message that its queue holds until it has arrived.
    Held { sequence: QueueSequence, cause: Cause },
    /// The content of a message that its queue refused.
    Refused(Vec<u8>),
}

/// A message that was carried and has not arrived everywhere.
struct Carried {
    number: PublishSequence,
    queue: QueueId,
    sequence: QueueSequence,
    publisher: Option<Publisher>,
    is_refused: bool,
}

/// What a message met where it was carried.
pub(super) struct Met {
    /// Its number.
    number: PublishSequence,
    /// Whether queues of other cores get it.
    is_elsewhere: bool,
    /// Whether this core's log has it for a queue.
    must_sync: bool,
    /// Whether a queue of this core refused it.
    is_refused: bool,
}

/// What a core publishes itself.
#[derive(Default)]
pub(super) struct Transfers {
    departures: VecDeque<Departure>,
    /// Bytes of refused messages among them.
    refused_bytes: u64,
    /// Which cores have what was carried to them.
    confirms: Confirms,
    /// What waits for that, ascending by number.
    unconfirmed: VecDeque<Carried>,
}

impl Transfers {
    /// Whether something is to be carried.
    pub(super) fn has_departures(&self) -> bool {
        !self.departures.is_empty()
    }

    /// The client that waits for the arrival of what was given up last.
    pub(super) fn name_publisher_of_last(&mut self, publisher: Publisher) {
        let last = self.departures.back_mut().expect("something was given up");
        last.publisher = Some(publisher);
    }

    /// Bytes of memory that messages take which no queue holds.
    pub(super) fn refused_bytes(&self) -> u64 {
        self.refused_bytes
    }
}

impl Shard {
    /// Whether a message that was given up has not arrived yet, or is about to be given up by the first tick.
    pub fn has_transfers(&self) -> bool {
        self.is_just_recovered || self.transfers.has_departures() || !self.transfers.unconfirmed.is_empty()
    }

    /// The broker as a publisher.
    fn itself(&self) -> ConnectionId {
        ConnectionId {
            shard: self.id,
            slot: NO_CONNECTION,
            generation: 0,
        }
    }

    /// Whether the publisher is this broker, not one of its clients.
    pub(super) fn is_itself(&self, connection: ConnectionId) -> bool {
        connection.slot == NO_CONNECTION
    }

    /// Whose confirms a publish counts in: a channel's, or those of this core itself.
    pub(super) fn confirms_of(
        &mut self,
        connection: ConnectionId,
        channel: ChannelNumber,
    ) -> Option<&mut Confirms> {
        match connection.slot {
            NO_CONNECTION => Some(&mut self.transfers.confirms),
            _ => self.connections.channel(connection, channel)?.confirms.as_mut(),
        }
    }

    /// A message that was taken from its queue is given up: it goes where the queue says, or nowhere.
    pub(super) fn give_up(&mut self, queue_slot: u32, sequence: QueueSequence, entry: Entry, cause: Cause) {
        let queue = self
            .queues
            .get_mut(queue_slot)
            .expect("the message was taken from it");
        if let Cause::Death(reason) = cause {
            count_death(&mut self.counters, reason);
            if queue.settings.dead_letter.is_none() {
                let kind = settle_kind(reason);
                queue.release(sequence, entry, kind, &mut self.log, &mut self.shared);
                return self.list_settling(queue_slot);
            }
        }
        queue.queue.hold_leaving(sequence, entry);
        self.transfers.departures.push_back(Departure {
            queue: queue.id,
            what: Leaving::Held { sequence, cause },
            publisher: None,
        });
    }

    /// Carries messages that were given up, as many as a tick may. Returns whether more could be carried.
    pub(super) fn carry_transfers(&mut self) -> bool {
        let (mut count, mut bytes) = (0, 0);
        while self.can_carry() {
            if count == TRANSFERS_A_TICK || bytes >= TRANSFER_BYTES_A_TICK {
                return true;
            }
            let departure = self.transfers.departures.pop_front().expect("there is one");
            bytes += self.carry(departure);
            count += 1;
        }
        false
    }

    /// Carries all that leaves a queue, which is about to go.
    pub(super) fn carry_all_of(&mut self, queue: QueueId) {
        if !self.transfers.has_departures() {
            return;
        }
        let (theirs, others) = std::mem::take(&mut self.transfers.departures)
            .into_iter()
            .partition(|departure| departure.queue == queue);
        self.transfers.departures = others;
        let theirs: VecDeque<Departure> = theirs;
        for departure in theirs {
            self.carry(departure);
        }
    }

    /// Whether something is to be carried, and every core may be sent more.
    pub(super) fn can_carry(&self) -> bool {
        self.transfers.has_departures() && self.has_credit_everywhere()
    }

    fn has_credit_everywhere(&self) -> bool {
        (0..self.shards).all(|shard| self.mailbox.has_credit(ShardId(shard)))
    }

    /// Carries one message; returns its length.
    fn carry(&mut self, departure: Departure) -> usize {
        match departure.what {
            Leaving::Held { sequence, cause } => {
                self.carry_held(departure.queue, sequence, cause, departure.publisher)
            }
            Leaving::Refused(bytes) => {
                self.transfers.refused_bytes -= bytes.len() as u64;
                if let Some(slot) = self.queues.slot_of(departure.queue) {
                    let content = super::dispatch::whole(&bytes);
                    self.publish_dead_letter(slot, content, DeathReason::MaxLength);
                }
                bytes.len()
            }
        }
    }

    fn carry_held(
        &mut self,
        id: QueueId,
        sequence: QueueSequence,
        cause: Cause,
        publisher: Option<Publisher>,
    ) -> usize {
        let found = self.queues.find(id, NO_SLOT);
        let found = found.and_then(|(slot, queue)| Some((slot, *queue.queue.leaving(sequence)?)));
        let Some((slot, entry)) = found else {
            self.await_arrival(id, sequence, publisher, None);
            return 0;
        };
        let bytes = self.stored_bytes(slot, &entry);
        let content = super::dispatch::whole(&bytes);
        let met = match cause {
            Cause::Death(reason) => self.publish_dead_letter(slot, content, reason),
            Cause::Due => self.publish_due(slot, content),
        };
        let must_wait = entry.is_logged() && met.as_ref().is_some_and(|met| met.is_elsewhere);
        match publisher.is_some() || must_wait {
            true => self.await_arrival(id, sequence, publisher, met),
            false => self.finish_leaving(id, sequence),
        }
        bytes.len()
    }

    /// A message was carried, and is let go when it has arrived. What a client waits for is as durable by then as it must be.
    fn await_arrival(
        &mut self,
        queue: QueueId,
        sequence: QueueSequence,
        publisher: Option<Publisher>,
        met: Option<Met>,
    ) {
        let number = match &met {
            Some(met) => met.number,
            None => self.transfers.confirms.publish(1),
        };
        if publisher.is_some() && met.as_ref().is_some_and(|met| met.must_sync) {
            self.promise(self.itself(), ChannelNumber(0), number, true);
        }
        self.transfers.unconfirmed.push_back(Carried {
            number,
            queue,
            sequence,
            publisher,
            is_refused: met.is_some_and(|met| met.is_refused),
        });
        self.let_go_of_arrived();
    }

    /// A queue refuses a new message, which is carried to its dead letter exchange with the others: the next queue may
    /// refuse it as well, and so on.
    pub(super) fn dead_letter_refused(&mut self, queue_slot: u32, content: Content<'_>) {
        count_death(&mut self.counters, DeathReason::MaxLength);
        let queue = self.queues.get_mut(queue_slot).expect("it refuses");
        if queue.settings.dead_letter.is_none() {
            return;
        }
        let mut bytes = Vec::with_capacity(content.encoded_length());
        content.encode(&mut bytes);
        self.transfers.refused_bytes += bytes.len() as u64;
        self.transfers.departures.push_back(Departure {
            queue: queue.id,
            what: Leaving::Refused(bytes),
            publisher: None,
        });
    }

    /// Gives a message of the broker's own to its queues.
    pub(super) fn distribute_itself(&mut self, run: &Run<'_>, destinations: &[Destination]) -> Met {
        let number = self.transfers.confirms.publish(run.places.len() as u32);
        let publisher = Publisher {
            connection: self.itself(),
            channel: ChannelNumber(0),
            last: number,
        };
        let run = &Run {
            publisher: Some(publisher),
            ..*run
        };
        let (own, others): (Vec<&Destination>, Vec<&Destination>) = destinations
            .iter()
            .partition(|destination| destination.owner == self.id);
        let slots: Vec<u32> = own.iter().map(|destination| destination.slot).collect();
        self.refused.clear();
        let must_sync = match slots[..] {
            [] => false,
            [only] => self.enqueue(only, run),
            _ => self.enqueue_to_all(&slots, run),
        };
        let is_refused = !std::mem::take(&mut self.refused).is_empty();
        self.forward(run, destinations);
        Met {
            number,
            is_elsewhere: !others.is_empty(),
            must_sync,
            is_refused,
        }
    }

    /// A stored message in one stretch.
    pub(super) fn stored_bytes(&mut self, queue_slot: u32, entry: &Entry) -> Vec<u8> {
        match entry.locator {
            Locator::Arena(slot) => {
                let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
                queue.arena.read(slot).to_vec()
            }
            Locator::Shared(slot) => self.shared.get(slot).to_vec(),
            Locator::Log { position, .. } => {
                let stored = self.log.read(position);
                let parts: Vec<&[u8]> = stored.parts().collect();
                match parts[..] {
                    [] => counted(&stored.content).to_vec(),
                    _ => super::dispatch::in_one_stretch(&stored.content, &parts).to_vec(),
                }
            }
        }
    }

    /// Other cores have what was carried to them up to `through`.
    pub(super) fn confirm_transfers(&mut self, owner: ShardId, through: PublishSequence) {
        self.transfers.confirms.safe_at(owner, through);
        self.let_go_of_arrived();
    }

    /// Queues of other cores refused what was carried to them.
    pub(super) fn note_refused_transfers(&mut self, sequences: &[PublishSequence]) {
        let unconfirmed = &mut self.transfers.unconfirmed;
        for &number in sequences {
            if let Ok(place) = unconfirmed.binary_search_by_key(&number, |carried| carried.number) {
                unconfirmed[place].is_refused = true;
            }
        }
    }

    fn let_go_of_arrived(&mut self) {
        let transfers = &mut self.transfers;
        while transfers.confirms.next_answer().is_some() {}
        let answered = transfers.confirms.last().0 - transfers.confirms.outstanding();
        let is_safe = |carried: &mut Carried| carried.number.0 <= answered;
        while let Some(carried) = self.transfers.unconfirmed.pop_front_if(is_safe) {
            if let Some(publisher) = carried.publisher {
                self.tell_arrived(publisher, (carried.queue, carried.sequence), carried.is_refused);
            }
            self.finish_leaving(carried.queue, carried.sequence);
        }
    }

    fn finish_leaving(&mut self, queue: QueueId, sequence: QueueSequence) {
        let Shard {
            queues, log, shared, ..
        } = self;
        let Some((slot, queue)) = queues.find(queue, NO_SLOT) else {
            return;
        };
        if let Some(entry) = queue.queue.finish_leaving(sequence) {
            queue.release(sequence, entry, SettleKind::DeadLettered, log, shared);
            self.list_settling(slot);
        }
    }
}

/// A message with other properties, in one stretch.
pub(super) fn rewritten(properties: &PropertiesBuilder<'_>, body: &[u8]) -> (Vec<u8>, Place) {
    let headers_length = properties.headers.map_or(0, |headers| headers.as_bytes().len());
    let mut bytes = Vec::with_capacity(body.len() + headers_length + 64);
    properties.encode(&mut bytes);
    let body_begin = bytes.len() as u32;
    bytes.extend_from_slice(body);
    let place = Place {
        properties: (0, body_begin),
        body: (body_begin, bytes.len() as u32),
        is_persistent: properties.delivery_mode == Some(PERSISTENT),
        expires: properties.expiration.is_some(),
    };
    (bytes, place)
}

fn count_death(counters: &mut ShardCounters, reason: DeathReason) {
    match reason {
        DeathReason::Rejected => {}
        DeathReason::Expired => counters.messages_expired += 1,
        DeathReason::MaxLength => counters.messages_over_length += 1,
        DeathReason::DeliveryLimit => counters.messages_over_delivery_limit += 1,
    }
}

fn settle_kind(reason: DeathReason) -> SettleKind {
    match reason {
        DeathReason::Rejected | DeathReason::DeliveryLimit => SettleKind::Rejected,
        DeathReason::Expired => SettleKind::Expired,
        DeathReason::MaxLength => SettleKind::Dropped,
    }
}
