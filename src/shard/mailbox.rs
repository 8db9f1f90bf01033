//! All that cores say to each other.
//!
//! One ring leads from each core to each other core. A tick gathers what it has to say to a core in one [`Batch`],
//! which is one slot of the ring, so the cost of crossing is paid once a tick and not once a message. Within a
//! lane everything keeps its order: a cancel's answer follows the deliveries before it, a connection's loss its
//! settles.
//!
//! ```text
//!   core A                                   core C
//!   publishes  ── PublishRun ──────────────▶ queues, log
//!   confirms   ◀───────────── Confirmed ───  after C's sync, a watermark a channel
//!   consumers  ◀──────────── DeliverRun ───
//!   acks       ── Settle ──────────────────▶
//! ```
//!
//! **Credit.** Publishes and deliveries are counted in bytes until the receiver says it has taken them
//! ([`Credit::accepted_bytes`], which rides on whatever goes the other way). At the limit a core stops reading the
//! sockets that want the other core, and stops delivering from queues whose next consumer is there; settles, cancels,
//! answers and confirms need no credit, being bounded by what was granted before. Batches that find
//! their ring full wait in [`core_loop`](super::core_loop): nothing is dropped.
//!
//! What a core asks of itself takes the same path without the ring, so a story has one form wherever its queue is; only
//! what a message of its own queues needs (publish, deliver, settle, pause) is called at once.

use crate::channel::reply_to::ReplyAddress;
pub use crate::channel::{Place, Settlement};
use crate::model::{
    ChannelNumber, ConnectionId, ConsumerId, PublishSequence, QueueId, QueueSequence, Refusal, ShardId,
    ShortString,
};
use crate::queue::{Pause, Pauses};
use crate::shard::alarm::Shortage;
use crate::shard::control::{ControlAnswer, ControlRequest};
use crate::shard::control_change::ControlChange;
use crate::shard::dispatch::Dispatch;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Contents from this size on cross as counted bytes, smaller ones are copied into the batch.
pub const SHARED_CONTENT_BYTES: usize = 16 * 1024;

/// Who is told when a publish is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The publishing connection.
    pub connection: ConnectionId,
    /// Its channel, in confirm mode.
    pub channel: ChannelNumber,
    /// Sequence of the last publish of the run.
    pub last: PublishSequence,
}

/// A consumer to be added to a queue.
#[derive(Clone, Debug)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: QueueId,
    /// The consumer.
    pub consumer: ConsumerId,
    /// Whether deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Most unacked deliveries, 0 for no bound.
    pub prefetch_count: u16,
    /// Whether it wants to be the only one.
    pub exclusive: bool,
    /// Its priority, higher first.
    pub priority: i64,
    /// What its connection and channel hold it back for.
    pub pauses: Pauses,
    /// Deliveries to be settled that its channel has room for, `u32::MAX` for any number.
    pub grant: u32,
}

/// A message got by basic.get.
#[derive(Debug)]
pub struct Got {
    /// The queue it came from.
    pub queue: QueueId,
    /// Slot of the queue at its owner.
    pub queue_slot: u32,
    /// Its place in the queue.
    pub sequence: QueueSequence,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether the client must settle it.
    pub needs_ack: bool,
    /// Messages left ready.
    pub remaining: u32,
    /// The content, as `Content` encodes it.
    pub content: Bytes,
}

/// An owner's answer to a connection that waits for it.
#[derive(Debug)]
pub enum QueueAnswer {
    /// Ready messages and consumers.
    Status {
        /// Messages ready.
        message_count: u32,
        /// Consumers.
        consumer_count: u32,
    },
    /// The consumer was added; deliveries follow.
    Consuming {
        /// Slot of the queue at its owner.
        queue_slot: u32,
        /// What it was said to be held back for when it was made.
        pauses: Pauses,
    },
    /// The consumer is gone; no delivery follows.
    Cancelled,
    /// A message for basic.get.
    Got(Box<Got>),
    /// Nothing is ready.
    Empty,
    /// Messages purged.
    Purged(u32),
    /// The queue went between being found and being asked.
    Gone,
}

/// A word from one core to another.
#[derive(Debug)]
pub enum ShardMessage {
    /// Messages of one channel to queues of the receiver; places and bytes lie in the batch. Needs credit.
    PublishRun {
        /// The queues.
        queues: Arc<[QueueId]>,
        /// Who waits for a confirm, if anyone.
        publisher: Option<Publisher>,
        /// The exchange published to.
        exchange: ShortString,
        /// The routing key.
        routing_key: ShortString,
        /// Which of the batch's places.
        places: Range<u32>,
    },
    /// One large message to queues of the receiver. Needs credit.
    PublishShared {
        /// The queues.
        queues: Arc<[QueueId]>,
        /// Who waits for a confirm, if anyone.
        publisher: Option<Publisher>,
        /// Whether it is persistent.
        is_persistent: bool,
        /// Whether it has a time to live of its own.
        expires: bool,
        /// The content, as `Content` encodes it.
        content: Bytes,
    },
    /// A reply for a requester of the receiver. Needs credit.
    Reply {
        /// The requester.
        address: ReplyAddress,
        /// Who gets it back when nobody is there, if anyone, and hears then that it was taken care of.
        publisher: Option<Publisher>,
        /// The content, as `Content` encodes it.
        content: Bytes,
    },
    /// A mandatory reply found nobody; `Confirmed` follows. Counted as credit, of which it needs none.
    Unroutable {
        /// The publishing connection.
        connection: ConnectionId,
        /// Its channel.
        channel: ChannelNumber,
        /// The content, as `Content` encodes it.
        content: Bytes,
    },
    /// Whether a requester is there, for queue.declare-ok.
    InspectReply {
        /// The requester.
        address: ReplyAddress,
        /// Who asks.
        connection: ConnectionId,
    },
    /// All that the channel sent to the receiver up to here is as durable as it must be.
    Confirmed {
        /// The publishing connection.
        connection: ConnectionId,
        /// Its channel.
        channel: ChannelNumber,
        /// The watermark.
        through: PublishSequence,
    },
    /// The memory of a deduplicating exchange passes publishes of the channel on, up to this one; `Arrived` follows for each.
    PassedOn {
        /// The publishing connection.
        connection: ConnectionId,
        /// Its channel, in confirm mode.
        channel: ChannelNumber,
        /// The last of them.
        last: PublishSequence,
    },
    /// All that the sender passes on for the channel up to here is where it went, as durable as it must be.
    Arrived {
        /// The publishing connection.
        connection: ConnectionId,
        /// Its channel.
        channel: ChannelNumber,
        /// The watermark.
        through: PublishSequence,
    },
    /// Queues refused these publishes of the channel; `Confirmed` or `Arrived` follows.
    Refused {
        /// The publishing connection.
        connection: ConnectionId,
        /// Its channel, in confirm mode.
        channel: ChannelNumber,
        /// Which, ascending.
        sequences: Vec<PublishSequence>,
    },
    /// Deliveries of one queue to one consumer; their bytes lie in the batch, each as `DeliveryHead` and content. Needs credit.
    DeliverRun {
        /// What they have in common: all but the sequence and the flag of each, which are in its `DeliveryHead`.
        first: Dispatch,
        /// How many.
        count: u32,
        /// Where in the batch's bytes.
        bytes: Range<u32>,
    },
    /// One large delivery. Needs credit.
    DeliverShared {
        /// What it tells of its message.
        dispatch: Dispatch,
        /// The content, as `Content` encodes it.
        content: Bytes,
    },
    /// Deliveries that did not get to the client go back to their places without a trace, and the consumer gets none until
    /// it is granted some; answered with `Returned`.
    Return {
        /// The first of them.
        first: Dispatch,
        /// All of their sequences.
        sequences: Vec<QueueSequence>,
    },
    /// All that was delivered to this consumer before a `Return` was taken has been sent before this.
    Returned {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Unacked messages of one queue are settled.
    Settle {
        /// The queue.
        queue: QueueId,
        /// Its slot at the owner.
        queue_slot: u32,
        /// What becomes of them.
        settlement: Settlement,
        /// Their sequences.
        sequences: Vec<QueueSequence>,
    },
    /// All that was settled before this for the publisher's channel is to be as durable as it must be; answered with
    /// `Confirmed`.
    KeepSettles(Publisher),
    /// Add a consumer; answered with `Consuming` or a refusal.
    Consume(ConsumeRequest),
    /// Remove a consumer; answered with `Cancelled` when `answer` is set.
    Cancel {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerId,
        /// Whether the connection waits.
        answer: bool,
    },
    /// The consumer's channel has room again for so many deliveries to be settled. Answered with `Granted`, and behind the
    /// last of them with `Spent`.
    Grant {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerId,
        /// How many, `u32::MAX` for any number.
        most: u32,
    },
    /// The consumer has heard of its grant: what its queue has at once comes behind this.
    Granted {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// The consumer got all it was granted, and gets no more.
    Spent {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Hold back deliveries to a consumer, or let them go on: its connection's output is full, or its channel's prefetch.
    Pause {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerId,
        /// Why.
        reason: Pause,
        /// Whether to hold back.
        paused: bool,
    },
    /// basic.get; answered with `Got` or `Empty`.
    Get {
        /// The queue.
        queue: QueueId,
        /// Connection and channel that ask.
        getter: ConsumerId,
        /// Whether it need not be settled.
        no_ack: bool,
    },
    /// Ready messages and consumers, for queue.declare-ok.
    Inspect {
        /// The queue.
        queue: QueueId,
        /// Who asks.
        connection: ConnectionId,
    },
    /// queue.purge.
    Purge {
        /// The queue.
        queue: QueueId,
        /// Who asks.
        connection: ConnectionId,
    },
    /// queue.delete: the owner judges the conditions, freezes the queue, and asks control to delete it.
    Delete {
        /// The queue.
        queue: QueueId,
        /// Who asks.
        connection: ConnectionId,
        /// Only without consumers.
        if_unused: bool,
        /// Only without ready messages.
        if_empty: bool,
    },
    /// An owner's answer for a connection of the receiver.
    Answer {
        /// The connection that waits.
        connection: ConnectionId,
        /// The answer.
        answer: Result<QueueAnswer, Refusal>,
    },
    /// The queue of this consumer was deleted.
    ConsumerGone {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// What the sender is short of has changed.
    Shortage(Shortage),
    /// To control: decide this.
    Request(Box<ControlRequest>),
    /// From control: apply these changes, then say so.
    Apply {
        /// Number of the last one.
        number: u64,
        /// The changes, in order.
        changes: Arc<[ControlChange]>,
    },
    /// To control: all changes up to this number are applied here.
    Applied {
        /// The number.
        number: u64,
    },
    /// From control: the answer for a connection of the receiver.
    ControlAnswer {
        /// The connection that waits.
        connection: ConnectionId,
        /// The answer.
        answer: Result<ControlAnswer, Refusal>,
    },
}

/// What one tick has to say to one core.
#[derive(Debug, Default)]
pub struct Batch {
    /// Words, in order.
    pub messages: Vec<ShardMessage>,
    /// Bytes they refer to.
    pub bytes: Vec<u8>,
    /// Places they refer to.
    pub places: Vec<Place>,
    /// What it says of credit.
    pub credit: Credit,
}

/// What a batch says of credit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit {
    /// Bytes of publishes and deliveries that the sender has taken from the receiver since it last said so.
    pub accepted_bytes: u64,
    /// Bytes of publishes and deliveries in this batch.
    pub credited_bytes: u64,
}

impl Batch {
    /// Whether there is anything to say.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.credit.accepted_bytes == 0
    }
}

/// The lane to one core.
#[derive(Debug, Default)]
struct Lane {
    batch: Batch,
    unaccepted_bytes: u64,
}

/// The lanes of one core to all, and what it says to itself.
#[derive(Debug)]
pub struct Mailbox {
    id: ShardId,
    lanes: Vec<Lane>,
    credit_bytes: u64,
    to_self: VecDeque<ShardMessage>,
}

impl Mailbox {
    /// The mailbox of core `id` among `shards`; at most about `credit_bytes` of publishes and deliveries are under way to each.
    pub fn new(id: ShardId, shards: u16, credit_bytes: u64) -> Self {
        let lanes = (0..shards).map(|_| Lane::default()).collect();
        Self {
            id,
            lanes,
            credit_bytes,
            to_self: VecDeque::new(),
        }
    }

    /// Says `message` to `to`.
    pub fn send(&mut self, to: ShardId, message: ShardMessage) {
        if to == self.id {
            self.to_self.push_back(message);
        } else {
            self.lanes[usize::from(to.0)].batch.messages.push(message);
        }
    }

    /// The next word of this core to itself.
    pub fn take_own(&mut self) -> Option<ShardMessage> {
        self.to_self.pop_front()
    }

    /// The batch for another core, to append a run to.
    #[inline]
    pub fn batch_for(&mut self, to: ShardId) -> &mut Batch {
        debug_assert!(to != self.id, "runs cross cores");
        &mut self.lanes[usize::from(to.0)].batch
    }

    /// Whether publishes or deliveries may go to `to` now; the last one may overshoot.
    #[inline]
    pub fn has_credit(&self, to: ShardId) -> bool {
        to == self.id || self.lane(to).unaccepted_bytes < self.credit_bytes
    }

    /// Counts `bytes` of publishes or deliveries to `to` against its credit.
    #[inline]
    pub fn spend_credit(&mut self, to: ShardId, bytes: u64) {
        let lane = &mut self.lanes[usize::from(to.0)];
        lane.unaccepted_bytes += bytes;
        lane.batch.credit.credited_bytes += bytes;
    }

    /// A batch came from `from`: its credit comes back, and what it carries will be accepted when this tick ends.
    /// Returns whether `from` has credit again that had none.
    pub fn receive(&mut self, from: ShardId, credit: Credit) -> bool {
        let limit = self.credit_bytes;
        let lane = &mut self.lanes[usize::from(from.0)];
        let was_out = lane.unaccepted_bytes >= limit;
        debug_assert!(
            lane.unaccepted_bytes >= credit.accepted_bytes,
            "only what was sent is accepted"
        );
        lane.unaccepted_bytes -= credit.accepted_bytes;
        lane.batch.credit.accepted_bytes += credit.credited_bytes;
        was_out && lane.unaccepted_bytes < limit
    }

    /// Takes the batches that have something to say, with their receivers.
    pub fn take_batches(&mut self, out: &mut Vec<(ShardId, Batch)>) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.batch.is_empty() {
                out.push((ShardId(index as u16), std::mem::take(&mut lane.batch)));
            }
        }
    }

    /// Bytes of publishes and deliveries to `to` that it has not said it has taken.
    pub fn unaccepted_bytes(&self, to: ShardId) -> u64 {
        self.lane(to).unaccepted_bytes
    }

    /// Whether there is something to say that no tick has taken yet.
    pub fn has_news(&self) -> bool {
        !self.to_self.is_empty() || self.lanes.iter().any(|lane| !lane.batch.is_empty())
    }

    fn lane(&self, to: ShardId) -> &Lane {
        &self.lanes[usize::from(to.0)]
    }
}

/// What stands before each content in a `DeliverRun`: sequence u64, redelivered u8, length u32, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryHead {
    /// The message's place in the queue.
    pub sequence: QueueSequence,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Bytes of content that follow.
    pub length: u32,
}

impl DeliveryHead {
    /// Bytes of an encoded head.
    pub const LENGTH: usize = 13;

    /// Appends the head.
    #[inline]
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sequence.0.to_le_bytes());
        out.push(u8::from(self.redelivered));
        out.extend_from_slice(&self.length.to_le_bytes());
    }

    /// Takes a head and its content from the front of `bytes`, which this core's peer wrote.
    #[inline]
    pub fn split(bytes: &[u8]) -> (Self, &[u8], &[u8]) {
        let (head, rest) = bytes
            .split_first_chunk::<{ Self::LENGTH }>()
            .expect("a peer writes whole heads");
        let sequence = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let length = u32::from_le_bytes(head[9..].try_into().expect("four bytes"));
        let (content, rest) = rest.split_at(length as usize);
        (
            Self {
                sequence: QueueSequence(sequence),
                redelivered: head[8] != 0,
                length,
            },
            content,
            rest,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_when_the_receiver_has_taken_the_bytes() {
        let (a, b) = (ShardId(0), ShardId(1));
        let mut mailbox_a = Mailbox::new(a, 2, 100);
        let mut mailbox_b = Mailbox::new(b, 2, 100);
        mailbox_a.spend_credit(b, 150);
        assert!(!mailbox_a.has_credit(b) && mailbox_a.has_credit(a));
        let mut batches = Vec::new();
        mailbox_a.send(b, ShardMessage::Applied { number: 1 });
        mailbox_a.take_batches(&mut batches);
        assert!(!mailbox_b.receive(a, batches[0].1.credit));
        batches.clear();
        mailbox_b.take_batches(&mut batches);
        assert!(mailbox_a.receive(b, batches[0].1.credit), "credit is back");
        assert!(mailbox_a.has_credit(b));
    }

    #[test]
    fn a_delivery_head_is_read_as_written() {
        let head = DeliveryHead {
            sequence: QueueSequence(7),
            redelivered: true,
            length: 3,
        };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        bytes.extend_from_slice(b"abcrest");
        assert_eq!(DeliveryHead::split(&bytes), (head, &b"abc"[..], &b"rest"[..]));
    }
}
