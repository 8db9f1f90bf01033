//! The story of a reply: basic.consume of `amq.rabbitmq.reply-to`, and publishes to the address that requests carry
//! ([`ReplyAddress`]). A reply meets no queue: it goes to the requester's core, if it is not here, and into the requester's
//! output.
//!
//! ```text
//!   server's core                            requester's core
//!     publish to an address ── Reply ──────▶ deliver_reply ──▶ basic.deliver
//!     basic.return, if mandatory ◀─ Unroutable ── nobody there
//! ```
//!
//! Nothing is kept for a requester: without one the reply is dropped, or returned when it is mandatory (RabbitMQ 3 returns
//! it in any case), and one that does not read its replies gets no more at `REPLY_OUTPUTS` times the output that pauses
//! consumers. A reply that also names queues or requesters by `CC` is never returned for one of them.

use super::Shard;
use super::connect::Next;
use super::connections::AwaitedRequest;
use super::declare::short;
use super::forward::counted;
use super::mailbox::{Publisher, QueueAnswer, ShardMessage};
use super::obey::At;
use super::publish::Run;
use crate::channel::reply_to::{self, ReplyAddress, ReplyConsumer};
use crate::channel::{Consumers, Destination, PublishTarget};
use crate::model::{
    ChannelNumber, ConnectionId, ConsumerId, Content, PublishSequence, Refusal, ReplyCode, ShortString,
};
use crate::protocol::blind_copies::visible;
use crate::protocol::content::encode_content;
use crate::protocol::method::*;
use bytes::Bytes;

/// A requester's output above this many times `limits.output_bytes_max` takes no more replies.
const REPLY_OUTPUTS: usize = 16;

impl Shard {
    // ---- the requester

    /// basic.consume of the pseudo-queue.
    pub(super) fn consume_replies(&mut self, at: At, consume: &BasicConsume<'_>) -> Result<Next, Refusal> {
        let tag = match consume.consumer_tag.is_empty() {
            true => Consumers::tag_for(self.random.next_u128()),
            false => short(consume.consumer_tag),
        };
        let (connection, secrets) = (self.id_at(at.slot), self.secrets);
        let channel = self.channel_of(at);
        channel.check_tag_is_free(tag.as_bytes())?;
        ReplyConsumer::check(channel.reply_consumer.as_ref(), consume.no_ack)?;
        let consumer = ConsumerId {
            connection,
            channel: at.channel,
            number: channel.consumers.next_number(),
        };
        let secret = secrets.of(reply_to::place_of(consumer));
        channel.reply_consumer = Some(ReplyConsumer {
            tag: tag.clone(),
            number: consumer.number,
            address: ReplyAddress { consumer, secret }.encode(),
        });
        match consume.nowait {
            true => Ok(Next::Pull),
            false => self.answer_at(
                at,
                Method::BasicConsumeOk(BasicConsumeOk {
                    consumer_tag: tag.as_bytes(),
                }),
            ),
        }
    }

    /// queue.declare of the pseudo-queue, which is always there, or of an address: is its requester there?
    pub(super) fn declare_reply_queue(
        &mut self,
        at: At,
        nowait: bool,
        name: ShortString,
    ) -> Result<Next, Refusal> {
        let connection = self.id_at(at.slot);
        if reply_to::is_reply_queue(name.as_bytes()) {
            let status = QueueAnswer::Status {
                message_count: 0,
                consumer_count: 1,
            };
            let answer = Ok(status);
            self.say(self.id, ShardMessage::Answer { connection, answer });
        } else if let Some(address) = self.reply_address(name.as_bytes()) {
            let owner = address.consumer.connection.shard;
            self.say(owner, ShardMessage::InspectReply { address, connection });
        } else {
            let vhost = self.vhost_at(at.slot);
            let text = format!("no queue '{name}' in vhost '{vhost}'");
            return Err(Refusal::new(ReplyCode::NotFound, text));
        }
        self.wait(at, nowait, name, AwaitedRequest::QueueDeclare { anew: None });
        Ok(Next::Wait)
    }

    /// Tells a connection whether a requester is there.
    pub(super) fn inspect_reply(&mut self, address: &ReplyAddress, connection: ConnectionId) {
        let answer = match self.is_there(address) {
            true => QueueAnswer::Status {
                message_count: 0,
                consumer_count: 1,
            },
            false => QueueAnswer::Gone,
        };
        let answer = Ok(answer);
        self.say(connection.shard, ShardMessage::Answer { connection, answer });
    }

    // ---- the reply

    /// The address that a routing key stands for, if there is such a core.
    pub(super) fn reply_address(&self, routing_key: &[u8]) -> Option<ReplyAddress> {
        let address = ReplyAddress::decode(routing_key)?;
        (address.consumer.connection.shard.0 < self.shards).then_some(address)
    }

    /// Gives a message to requesters, and to queues if it names some.
    pub(super) fn give_out_reply(
        &mut self,
        (connection, number): (ConnectionId, ChannelNumber),
        target: &PublishTarget,
        run: &Run<'_>,
        (destinations, replies): (&[Destination], &[ReplyAddress]),
    ) {
        let id = self.id;
        let (own, far): (Vec<&ReplyAddress>, Vec<&ReplyAddress>) = replies
            .iter()
            .partition(|address| address.consumer.connection.shard == id);
        let content = run.content(0);
        let mut is_taken = !destinations.is_empty();
        for address in own {
            is_taken |= self.deliver_reply(address, &content);
        }
        if !is_taken && far.is_empty() {
            self.drop_unroutable(connection.slot, number, target, run);
        }
        self.distribute(connection, number, run, destinations);
        let comes_back = target.mandatory && !is_taken && far.len() == 1;
        let sender = comes_back.then_some((connection, number));
        self.forward_reply(&far, sender, &content);
    }

    /// Sends a reply to the requesters' cores, which share the one copy; from there it comes back to `sender`, if one is
    /// named, when nobody is there.
    fn forward_reply(
        &mut self,
        addresses: &[&ReplyAddress],
        sender: Option<(ConnectionId, ChannelNumber)>,
        content: &Content<'_>,
    ) {
        let Some(first) = addresses.first() else {
            return;
        };
        let to = first.consumer.connection.shard;
        let publisher = sender.map(|(connection, channel)| {
            // Its confirm waits, because basic.return goes before it.
            let last = match self.confirms_of(connection, channel) {
                Some(confirms) => {
                    confirms.sent_to(to, confirms.last());
                    confirms.last()
                }
                None => PublishSequence(0),
            };
            Publisher {
                connection,
                channel,
                last,
            }
        });
        let content = counted(content);
        for address in addresses {
            let to = address.consumer.connection.shard;
            self.counters.messages_forwarded_out += 1;
            self.mailbox.spend_credit(to, content.len() as u64);
            self.say(
                to,
                ShardMessage::Reply {
                    address: **address,
                    publisher,
                    content: content.clone(),
                },
            );
        }
    }

    /// A reply came from another core.
    pub(super) fn take_reply(&mut self, address: &ReplyAddress, publisher: Option<Publisher>, bytes: Bytes) {
        self.counters.messages_forwarded_in += 1;
        let is_taken = self.deliver_reply(address, &super::dispatch::whole(&bytes));
        let Some(publisher) = publisher else {
            return;
        };
        if !is_taken {
            let Publisher {
                connection, channel, ..
            } = publisher;
            self.mailbox.spend_credit(connection.shard, bytes.len() as u64);
            self.say(
                connection.shard,
                ShardMessage::Unroutable {
                    connection,
                    channel,
                    content: bytes,
                },
            );
        }
        self.promise_forwarded(publisher, false);
    }

    /// A mandatory reply found nobody on the core it was sent to.
    pub(super) fn take_unroutable(&mut self, id: ConnectionId, number: ChannelNumber, bytes: &Bytes) {
        let is_open = |slot: &mut super::connections::ConnectionSlot| {
            let channel = slot.connection.channel(number);
            channel.is_some_and(|channel| channel.state() == crate::channel::ChannelState::Open)
        };
        if !self.connections.find(id).is_some_and(is_open) {
            return;
        }
        self.counters.messages_unroutable_returned += 1;
        let before = self.output_bytes(id);
        self.return_message(id.slot, number, &super::dispatch::whole(bytes));
        let after = self.output_bytes(id);
        if let Some(connection) = self.connections.find(id) {
            connection.replied_bytes += after - before;
        }
        self.connections.note_output(id.slot);
    }

    fn output_bytes(&mut self, id: ConnectionId) -> usize {
        let connection = self.connections.find(id);
        connection.map_or(0, |connection| connection.outbound.len())
    }

    /// Writes a reply to its requester. Returns whether one is there that takes it.
    fn deliver_reply(&mut self, address: &ReplyAddress, content: &Content<'_>) -> bool {
        let consumer = address.consumer;
        let output_bytes_max = REPLY_OUTPUTS * self.settings.output_bytes_max;
        if !self.is_there(address) {
            return false;
        }
        let connection = self.connections.find(consumer.connection).expect("it is there");
        if connection.outbound.len() > output_bytes_max {
            self.counters.replies_dropped += 1;
            return false;
        }
        let frame_max = connection.connection.frame_max();
        let channel = connection
            .connection
            .channel_mut(consumer.channel)
            .expect("it is there");
        let tag = channel.deliver_settled_run(1);
        let to = channel.reply_consumer.as_ref().expect("it is there");
        let deliver = Method::BasicDeliver(BasicDeliver {
            consumer_tag: to.tag.as_bytes(),
            delivery_tag: tag.0,
            redelivered: false,
            exchange: content.exchange,
            routing_key: content.routing_key,
        });
        let out = connection.outbound.buffer();
        deliver.encode(consumer.channel.0, out);
        encode_content(
            consumer.channel.0,
            &visible(content.properties),
            &[content.body],
            frame_max,
            out,
        );
        self.counters.messages_delivered += 1;
        self.counters.delivered_bytes += content.body.len() as u64;
        self.restrain(consumer);
        true
    }

    /// Whether the requester of this core is there that has this address.
    fn is_there(&mut self, address: &ReplyAddress) -> bool {
        let consumer = address.consumer;
        if self.secrets.of(reply_to::place_of(consumer)) != address.secret {
            return false;
        }
        let channel = self.connections.channel(consumer.connection, consumer.channel);
        channel
            .and_then(|channel| channel.reply_consumer.as_ref())
            .is_some_and(|there| there.number == consumer.number)
    }
}
