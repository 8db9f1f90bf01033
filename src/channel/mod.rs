//! One channel: what a client has in flight on it, decided without I/O.
//!
//! ```text
//!            channel.open                     channel.close-ok
//!   (none) ───────────────▶ Open ──refusal──▶ Closing ───────────▶ (none)
//!                            │  ▲                  every other frame is discarded
//!     basic.publish, header, │  │ body complete
//!                            ▼  │
//!                         Assembly
//! ```
//!
//! A channel numbers deliveries and remembers which are unacked ([`unacked`](Unacked)), numbers publishes and
//! knows which are safe ([`Confirms`]), keeps what waits for a commit ([`Transaction`]), puts published content together from its frames ([`Assembly`]), and keeps
//! its consumers. It knows nothing of queues but their ids, of sockets, of other channels or of other cores'
//! state: the owner of a queue is only a number here, by which settles find their way.

mod assembly;
mod calls;
mod confirms;
mod consumers;
mod delivery_times;
mod examination;
mod place;
pub mod reply_to;
mod route_cache;
mod transaction;

pub use assembly::{Assembly, AssemblyError, Known, PublishTarget};
pub use calls::Calls;
pub use confirms::{ConfirmFrames, Confirms};
pub use consumers::{ChannelConsumer, Consumers};
pub use examination::{Examined, Publisher, copy_keys, examine, must_be_examined};
pub use place::Place;
pub use route_cache::{Destination, RouteCache};
pub use transaction::{KeptRun, KeptSettle, Progress, Transaction};

use crate::model::{
    ChannelNumber, DeliveryTag, Moment, OrderedSlots, PublishSequence, QueueId, QueueSequence, Refusal,
    ReplyCode, ShardId, ShortString,
};
use delivery_times::DeliveryTimes;
use std::collections::BTreeSet;

/// Where a delivered message came from, kept until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacked {
    /// Its queue.
    pub queue: QueueId,
    /// The core that owns the queue.
    pub owner: ShardId,
    /// Slot in the owner's table of queues; a hint, checked against `queue` by the owner.
    pub queue_slot: u32,
    /// Its place in the queue.
    pub sequence: QueueSequence,
}

/// What becomes of an unacked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It was taken care of.
    Acknowledge,
    /// It is not wanted.
    Reject,
    /// Back to its place in the queue.
    Requeue,
}

/// Whether the channel takes part in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Methods are carried out.
    Open,
    /// The server sent channel.close; all but close and close-ok is discarded (AMQP 0-9-1 §1.5.2.5).
    Closing,
}

/// The numbers that channels of a connection have used. Other cores may still speak of them when a channel is gone, so
/// one that is opened later goes on above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedNumbers {
    /// The highest number of a consumer.
    pub consumer: u32,
    /// The highest sequence of a publish.
    pub sequence: PublishSequence,
}

/// One channel of a connection.
pub struct Channel {
    number: ChannelNumber,
    state: ChannelState,
    /// The publish being put together, and the last one seen.
    pub assembly: Assembly,
    /// Where the last publish of this channel went.
    pub route: RouteCache,
    /// Publisher confirms, once confirm.select was seen; a transaction counts its publishes in them.
    pub confirms: Option<Confirms>,
    /// What waits for tx.commit, once tx.select was seen.
    pub transaction: Option<Box<Transaction>>,
    /// The channel's consumers.
    pub consumers: Consumers,
    /// The consumer of replies, if it has one.
    pub reply_consumer: Option<reply_to::ReplyConsumer>,
    /// Name of the queue last declared here, which an empty queue name stands for.
    pub last_queue: Option<ShortString>,
    /// Prefetch that consumers made from now on get, 0 for none (basic.qos with global=false).
    pub consumer_prefetch: u16,
    /// Most unacked deliveries over all consumers of the channel, 0 for none (basic.qos with global=true).
    pub channel_prefetch: u16,
    /// Whether its consumers are paused because it holds as many unacked deliveries as it may.
    pub is_paused: bool,
    /// Consumers that are still to hear that it has room again.
    pub calls: Calls,
    unacked: OrderedSlots<Unacked>,
    /// Those of `unacked` that basic.get fetched: no prefetch counts them.
    fetched: BTreeSet<u64>,
    delivered: u64,
    delivery_times: DeliveryTimes,
    used_before: UsedNumbers,
}

impl Channel {
    /// A channel just opened on a connection whose channels before have used these numbers.
    pub fn new(number: ChannelNumber, used_before: UsedNumbers) -> Self {
        Self {
            number,
            state: ChannelState::Open,
            assembly: Assembly::default(),
            route: RouteCache::default(),
            confirms: None,
            transaction: None,
            consumers: Consumers::after(used_before.consumer),
            reply_consumer: None,
            last_queue: None,
            consumer_prefetch: 0,
            channel_prefetch: 0,
            is_paused: false,
            calls: Calls::default(),
            unacked: OrderedSlots::default(),
            fetched: BTreeSet::new(),
            delivered: 0,
            delivery_times: DeliveryTimes::default(),
            used_before,
        }
    }

    /// confirm.select came: publishes are numbered from now on.
    ///
    /// # Errors
    /// 406 `cannot switch from tx to confirm mode`.
    pub fn select_confirms(&mut self) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            return Err(precondition_failed("cannot switch from tx to confirm mode"));
        }
        self.number_publishes();
        Ok(())
    }

    /// tx.select came: publishes and settles wait for tx.commit from now on.
    ///
    /// # Errors
    /// 406 `cannot switch from confirm to tx mode`.
    pub fn select_transaction(&mut self) -> Result<(), Refusal> {
        if self.transaction.is_none() && self.confirms.is_some() {
            return Err(precondition_failed("cannot switch from confirm to tx mode"));
        }
        self.number_publishes();
        self.transaction.get_or_insert_default();
        Ok(())
    }

    fn number_publishes(&mut self) {
        let base = self.used_before.sequence;
        self.confirms.get_or_insert_with(|| Confirms::after(base));
    }

    /// The transaction that tx.commit or tx.rollback ends.
    ///
    /// # Errors
    /// 406 `channel is not transactional`.
    pub fn transaction(&mut self) -> Result<&mut Transaction, Refusal> {
        let transaction = self.transaction.as_deref_mut();
        transaction.ok_or_else(|| precondition_failed("channel is not transactional"))
    }

    /// Throws away what waits for tx.commit: what was settled is unacked again. Returns the bytes of memory that were held.
    pub fn roll_back(&mut self) -> u64 {
        let Some(transaction) = self.transaction.as_deref_mut() else {
            return 0;
        };
        let held = transaction.held();
        for settle in transaction.roll_back() {
            self.unacked.insert(settle.tag.0, settle.message);
            if settle.was_fetched {
                self.fetched.insert(settle.tag.0);
            }
        }
        held
    }

    /// Bytes of memory held by publishes that no queue has yet.
    pub fn held(&self) -> u64 {
        self.assembly.held()
            + self
                .transaction
                .as_ref()
                .map_or(0, |transaction| transaction.held())
    }

    /// Checks that no consumer of the channel has `tag`.
    ///
    /// # Errors
    /// 530 `attempt to reuse consumer tag 't'`, which closes the connection.
    pub fn check_tag_is_free(&self, tag: &[u8]) -> Result<(), Refusal> {
        let of_replies = self.reply_consumer.as_ref().map(|consumer| &consumer.tag);
        self.consumers.check_tag_is_free(tag, of_replies)
    }

    /// The highest numbers used by this channel and those before it.
    pub fn used_numbers(&self) -> UsedNumbers {
        let sequence = self.confirms.as_ref().map(Confirms::last);
        UsedNumbers {
            consumer: self.consumers.last_number(),
            sequence: sequence.unwrap_or(self.used_before.sequence),
        }
    }

    /// Its number on the connection.
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// Its state.
    pub fn state(&self) -> ChannelState {
        self.state
    }

    /// The server has sent channel.close.
    pub fn begin_closing(&mut self) {
        self.state = ChannelState::Closing;
        self.assembly.abandon();
    }

    /// Takes `count` tags for deliveries that need no acknowledgement; returns the first.
    #[inline]
    pub fn deliver_settled_run(&mut self, count: u32) -> DeliveryTag {
        let first = self.delivered + 1;
        self.delivered += u64::from(count);
        DeliveryTag(first)
    }

    /// The tag of a message that basic.get fetches, which the client must settle if it `needs_ack`. No prefetch counts it.
    pub fn fetch(&mut self, message: Unacked, needs_ack: bool) -> DeliveryTag {
        self.delivered += 1;
        if needs_ack {
            self.unacked.insert(self.delivered, message);
            self.fetched.insert(self.delivered);
        }
        DeliveryTag(self.delivered)
    }

    /// The tag of a delivery to the consumer with `number`, and that consumer. `None` when it has gone, or the channel's
    /// prefetch is used up, or deliveries before this one have gone back and their owner has not heard of it.
    #[inline]
    pub fn deliver_to(
        &mut self,
        number: u32,
        message: Unacked,
        needs_ack: bool,
    ) -> Option<(DeliveryTag, &mut ChannelConsumer)> {
        let is_full = self.is_full();
        let consumer = self.consumers.get_mut(number)?;
        if needs_ack && (is_full || consumer.returning > 0) {
            return None;
        }
        self.delivered += 1;
        if needs_ack {
            self.unacked.insert(self.delivered, message);
        }
        Some((DeliveryTag(self.delivered), consumer))
    }

    /// Deliveries not settled yet.
    pub fn unacked_count(&self) -> usize {
        self.unacked.len()
    }

    /// Notes once a beat how far deliveries have come. Tells the oldest that is not settled, and since when it waits: to a
    /// beat, and never too early.
    pub fn mark_deliveries(&mut self, now: Moment) -> Option<(Unacked, Moment)> {
        let Some((tag, &oldest)) = self.unacked.first() else {
            self.delivery_times.clear();
            return None;
        };
        Some((oldest, self.delivery_times.mark(tag, self.delivered, now)))
    }

    /// Whether the channel's own prefetch leaves no room for another delivery.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.channel_prefetch != 0 && self.unsettled() >= usize::from(self.channel_prefetch)
    }

    /// Deliveries that the channel's own prefetch leaves room for, `u32::MAX` without one.
    pub fn room(&self) -> u32 {
        match self.channel_prefetch {
            0 => u32::MAX,
            most => u32::from(most).saturating_sub(self.unsettled() as u32),
        }
    }

    /// Deliveries to consumers that their queues have not heard of again.
    fn unsettled(&self) -> usize {
        let kept = self.transaction.as_ref().map_or(0, |t| t.delivered_count());
        self.unacked.len() - self.fetched.len() + kept
    }

    /// Begins to call its consumers, as it has room again. Whose returns are under way is called when they are answered.
    pub fn begin_calls(&mut self) {
        let waits = |consumer: &&ChannelConsumer| !consumer.no_ack && consumer.returning == 0;
        let waiting = self.consumers.iter().filter(waits);
        self.calls.begin(waiting.map(|consumer| consumer.number));
    }

    /// Takes the deliveries that a settle with `tag` and `multiple` names, in the order of their tags.
    ///
    /// Tag 0 with `multiple` names all, and none is no error (AMQP 0-9-1 §1.8.3.13).
    ///
    /// # Errors
    /// 406 `unknown delivery tag N` when `tag` is not unacked, even if lower ones are.
    pub fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        settled: &mut Vec<Unacked>,
    ) -> Result<(), Refusal> {
        let fetched = &mut self.fetched;
        take_unacked(&mut self.unacked, tag, multiple, |tag, message| {
            take_fetched(fetched, tag);
            settled.push(message)
        })
    }

    /// The same in a transaction, which keeps what it names.
    ///
    /// # Errors
    /// As [`Channel::settle`].
    pub fn settle_at_commit(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), Refusal> {
        let Some(transaction) = self.transaction.as_deref_mut() else {
            return Ok(());
        };
        let fetched = &mut self.fetched;
        take_unacked(&mut self.unacked, tag, multiple, |tag, message| {
            transaction.keep_settle(KeptSettle {
                tag: DeliveryTag(tag),
                message,
                settlement,
                was_fetched: take_fetched(fetched, tag),
            });
        })
    }

    /// Takes every unacked delivery, in the order of their tags: the channel closes, or recovers.
    pub fn settle_all(&mut self, settled: &mut Vec<Unacked>) {
        self.unacked
            .drain_up_to(u64::MAX, |_, message| settled.push(message));
        self.fetched.clear();
    }

    /// The queue that `name` means here: itself, or the last declared one when it is empty.
    ///
    /// # Errors
    /// 404 `no previously declared queue`.
    pub fn queue_named(&self, name: &[u8]) -> Result<ShortString, Refusal> {
        if name.is_empty() {
            let none = || Refusal::new(ReplyCode::NotFound, "no previously declared queue");
            return self.last_queue.clone().ok_or_else(none);
        }
        Ok(ShortString::new(name).expect("the decoder bounds a shortstr to 255 bytes"))
    }
}

/// Whether basic.get fetched the message with this tag, which is settled.
#[inline]
fn take_fetched(fetched: &mut BTreeSet<u64>, tag: u64) -> bool {
    !fetched.is_empty() && fetched.remove(&tag)
}

#[inline]
fn take_unacked(
    unacked: &mut OrderedSlots<Unacked>,
    tag: DeliveryTag,
    multiple: bool,
    mut take: impl FnMut(u64, Unacked),
) -> Result<(), Refusal> {
    if multiple && tag.0 == 0 {
        unacked.drain_up_to(u64::MAX, take);
        return Ok(());
    }
    if multiple && unacked.contains(tag.0) {
        unacked.drain_up_to(tag.0, take);
        return Ok(());
    }
    match unacked.remove(tag.0) {
        Some(message) => {
            take(tag.0, message);
            Ok(())
        }
        None => Err(precondition_failed(format!("unknown delivery tag {tag}"))),
    }
}

fn precondition_failed(text: impl Into<String>) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64) -> Unacked {
        Unacked {
            queue: QueueId(1),
            owner: ShardId(0),
            queue_slot: 0,
            sequence: QueueSequence(sequence),
        }
    }

    fn channel_with_unacked(count: u64) -> Channel {
        let mut channel = Channel::new(ChannelNumber(1), UsedNumbers::default());
        for sequence in 1..=count {
            assert_eq!(channel.fetch(message(sequence), true), DeliveryTag(sequence));
        }
        channel
    }

    #[test]
    fn a_multiple_settle_takes_all_up_to_its_tag_in_order() {
        let mut channel = channel_with_unacked(5);
        let mut settled = Vec::new();
        channel
            .settle(DeliveryTag(2), false, &mut settled)
            .expect("tag 2 is unacked");
        channel
            .settle(DeliveryTag(4), true, &mut settled)
            .expect("tag 4 is unacked");
        assert_eq!(settled, [message(2), message(1), message(3), message(4)]);
        assert_eq!(channel.unacked_count(), 1);
    }

    #[test]
    fn an_unknown_tag_is_refused_with_rabbitmqs_text() {
        let mut channel = channel_with_unacked(1);
        channel
            .settle(DeliveryTag(1), false, &mut Vec::new())
            .expect("tag 1 is unacked");
        for multiple in [false, true] {
            let refusal = channel
                .settle(DeliveryTag(1), multiple, &mut Vec::new())
                .expect_err("settled before");
            assert_eq!(
                refusal.reply_text(),
                "PRECONDITION_FAILED - unknown delivery tag 1"
            );
        }
    }

    #[test]
    fn tag_zero_names_all_only_with_multiple() {
        let mut channel = channel_with_unacked(3);
        let mut settled = Vec::new();
        channel
            .settle(DeliveryTag(0), true, &mut settled)
            .expect("zero means all");
        assert_eq!(settled.len(), 3);
        channel
            .settle(DeliveryTag(0), true, &mut settled)
            .expect("none outstanding is no error");
        assert!(channel.settle(DeliveryTag(0), false, &mut settled).is_err());
    }

    #[test]
    fn a_rollback_makes_settled_deliveries_unacked_again() {
        let mut channel = channel_with_unacked(4);
        channel.select_transaction().expect("it is in no mode");
        let settle = |channel: &mut Channel, tag, multiple| {
            channel.settle_at_commit(DeliveryTag(tag), multiple, Settlement::Acknowledge)
        };
        settle(&mut channel, 3, false).expect("tag 3 is unacked");
        settle(&mut channel, 2, true).expect("tag 2 is unacked");
        assert!(settle(&mut channel, 3, false).is_err(), "it is settled already");
        assert_eq!(channel.unacked_count(), 1);
        channel.roll_back();
        let mut settled = Vec::new();
        channel.settle_all(&mut settled);
        assert_eq!(settled, [message(1), message(2), message(3), message(4)]);
    }

    #[test]
    fn what_a_transaction_has_settled_uses_up_prefetch_until_its_end() {
        let mut channel = channel_with_unacked(0);
        let number = channel.consumers.next_number();
        let (queue, owner) = (QueueId(1), ShardId(0));
        let tag = ShortString::truncated("tag");
        channel
            .consumers
            .add(ChannelConsumer::new(tag, number, queue, owner, 0, false));
        channel.channel_prefetch = 2;
        channel.select_transaction().expect("it is in no mode");
        for sequence in [1, 2] {
            assert!(channel.deliver_to(number, message(sequence), true).is_some());
            channel.fetch(message(sequence + 10), true);
        }
        channel
            .settle_at_commit(DeliveryTag(4), true, Settlement::Acknowledge)
            .expect("tag 4 is unacked");
        assert!(channel.is_full());
        assert_eq!(channel.room(), 0);
        channel.roll_back();
        assert_eq!(channel.room(), 0);
        let mut settled = Vec::new();
        channel
            .settle(DeliveryTag(2), true, &mut settled)
            .expect("tag 2 is unacked");
        assert_eq!(channel.room(), 1, "one delivered and one fetched are settled");
    }

    #[test]
    fn confirms_and_transactions_exclude_each_other() {
        let text = |refused: Result<(), Refusal>| refused.expect_err("it is in the other mode").explanation;
        let mut channel = channel_with_unacked(0);
        assert!(channel.transaction().is_err());
        channel.select_transaction().expect("it is in no mode");
        channel.select_transaction().expect("twice is once");
        assert_eq!(
            text(channel.select_confirms()),
            "cannot switch from tx to confirm mode"
        );
        let mut channel = channel_with_unacked(0);
        channel.select_confirms().expect("it is in no mode");
        assert_eq!(
            text(channel.select_transaction()),
            "cannot switch from confirm to tx mode"
        );
    }

    #[test]
    fn tags_are_shared_by_deliveries_with_and_without_acknowledgement() {
        let mut channel = channel_with_unacked(1);
        assert_eq!(channel.fetch(message(8), false), DeliveryTag(2));
        assert_eq!(channel.deliver_settled_run(3), DeliveryTag(3));
        assert_eq!(channel.fetch(message(9), true), DeliveryTag(6));
        assert!(channel.settle(DeliveryTag(2), false, &mut Vec::new()).is_err());
    }

    #[test]
    fn the_oldest_unsettled_delivery_waits_since_the_beat_after_it() {
        let mut channel = channel_with_unacked(2);
        assert_eq!(channel.mark_deliveries(Moment(1)), Some((message(1), Moment(1))));
        channel.fetch(message(3), true);
        assert_eq!(channel.mark_deliveries(Moment(2)), Some((message(1), Moment(1))));
        let settled = channel.settle(DeliveryTag(2), true, &mut Vec::new());
        settled.expect("tag 2 is unacked");
        assert_eq!(channel.mark_deliveries(Moment(3)), Some((message(3), Moment(2))));
        channel.settle_all(&mut Vec::new());
        assert_eq!(channel.mark_deliveries(Moment(4)), None);
    }

    #[test]
    fn an_empty_queue_name_means_the_last_declared_one() {
        let mut channel = Channel::new(ChannelNumber(1), UsedNumbers::default());
        assert_eq!(
            channel.queue_named(b"").expect_err("none yet").explanation,
            "no previously declared queue"
        );
        channel.last_queue = Some("q".into());
        assert_eq!(channel.queue_named(b"").expect("declared"), "q".into());
        assert_eq!(channel.queue_named(b"other").expect("named"), "other".into());
    }
}
