//! The story of a settle: ack, nack, reject, recover; the message leaves its queue, or goes back to its place.

use super::Shard;
use super::connect::Next;
use super::mailbox::{Settlement, ShardMessage};
use super::queues::{QueueSlot, SharedContents};
use super::transfer::Cause;
use crate::channel::Unacked;
use crate::model::{ChannelNumber, DeliveryTag, QueueId, QueueSequence};
use crate::queue::dead_letter::DeathReason;
use crate::storage::{Log, SettleKind};

impl Shard {
    /// basic.ack, basic.nack and basic.reject.
    pub(super) fn settle(
        &mut self,
        slot: u32,
        number: ChannelNumber,
        (tag, multiple): (DeliveryTag, bool),
        settlement: Settlement,
        method: (u16, u16),
    ) -> Next {
        let mut settled = std::mem::take(&mut self.scratch.settled);
        settled.clear();
        let channel = self.channel_at(slot, number).expect("the method came on it");
        if channel.transaction.is_some() {
            self.scratch.settled = settled;
            return self.settle_at_commit((slot, number), (tag, multiple), settlement, method);
        }
        let known = channel.settle(tag, multiple, &mut settled);
        self.apply_settlement(&settled, settlement);
        self.scratch.settled = settled;
        self.unpause_channel(slot, number);
        match known {
            Ok(()) => Next::Pull,
            Err(refusal) => self.refuse_channel(slot, number, &refusal, method),
        }
    }

    /// basic.recover with requeue: every unacked message of the channel goes back.
    pub(super) fn requeue_unacked(&mut self, slot: u32, number: ChannelNumber) {
        let mut settled = Vec::new();
        if let Some(channel) = self.channel_at(slot, number) {
            channel.settle_all(&mut settled);
            self.apply_settlement(&settled, Settlement::Requeue);
            self.unpause_channel(slot, number);
        }
    }

    /// Settles messages at their queues, here or on other cores, neighbours of one queue together.
    pub(super) fn apply_settlement(&mut self, settled: &[Unacked], settlement: Settlement) {
        match settlement {
            Settlement::Acknowledge => self.counters.messages_acked += settled.len() as u64,
            Settlement::Reject => self.counters.messages_rejected += settled.len() as u64,
            Settlement::Requeue => self.counters.messages_requeued += settled.len() as u64,
        }
        for of_queue in settled.chunk_by(|a, b| a.queue == b.queue) {
            let Unacked {
                queue,
                queue_slot,
                owner,
                ..
            } = of_queue[0];
            let sequences = of_queue.iter().map(|message| message.sequence);
            if owner == self.id {
                self.settle_own(queue, queue_slot, settlement, sequences);
            } else {
                let sequences = sequences.collect();
                self.say(
                    owner,
                    ShardMessage::Settle {
                        queue,
                        queue_slot,
                        settlement,
                        sequences,
                    },
                );
            }
        }
    }

    /// Settles messages of a queue of this core. A queue or message that has gone since is passed over.
    pub(super) fn settle_own(
        &mut self,
        queue: QueueId,
        queue_slot: u32,
        settlement: Settlement,
        sequences: impl Iterator<Item = QueueSequence>,
    ) {
        let Shard {
            queues, log, shared, ..
        } = self;
        let Some((slot, queue)) = queues.find(queue, queue_slot) else {
            return;
        };
        match settlement {
            Settlement::Acknowledge => {
                settle_for_good(queue, SettleKind::Acknowledged, sequences, log, shared)
            }
            Settlement::Reject => self.reject(slot, sequences),
            Settlement::Requeue => self.requeue(slot, sequences),
        }
        self.list_settling(slot);
        self.list_deliverable(slot);
    }

    /// Messages that nobody wants go where the queue says.
    fn reject(&mut self, queue_slot: u32, sequences: impl Iterator<Item = QueueSequence>) {
        for sequence in sequences {
            let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
            if let Some(entry) = queue.queue.reject(sequence) {
                self.give_up(queue_slot, sequence, entry, Cause::Death(DeathReason::Rejected));
            }
        }
    }

    /// Puts messages back to their places; the delivery counts of logged ones are logged. What came back too often, ran out
    /// meanwhile or is too much leaves at once.
    fn requeue(&mut self, queue_slot: u32, sequences: impl Iterator<Item = QueueSequence>) {
        let (mut logged, mut leaving) = (Vec::new(), Vec::new());
        self.deliver_before_return(queue_slot);
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        let limit = queue.settings.delivery_limit;
        for sequence in sequences {
            let Some(entry) = queue.queue.requeue(sequence) else {
                continue;
            };
            if entry.is_logged() {
                logged.push((sequence, entry.delivery_count));
            }
            let is_over_limit = limit.is_some_and(|limit| u64::from(entry.delivery_count) > limit);
            if is_over_limit || queue.queue.deadline(sequence).is_some() {
                leaving.push((sequence, is_over_limit));
            }
        }
        if !logged.is_empty() {
            self.log.append_requeue(queue.id, queue.vshard, &logged);
        }
        for (sequence, is_over_limit) in leaving {
            match is_over_limit {
                true => self.give_up_returned(queue_slot, sequence),
                false => self.expire_if_due(queue_slot, sequence),
            }
        }
        self.drop_surplus(queue_slot);
    }

    fn give_up_returned(&mut self, queue_slot: u32, sequence: QueueSequence) {
        let queue = self.queues.get_mut(queue_slot).expect("the caller found it");
        if let Some(entry) = queue.queue.take_ready(sequence) {
            self.give_up(
                queue_slot,
                sequence,
                entry,
                Cause::Death(DeathReason::DeliveryLimit),
            );
        }
    }

    /// Notes that the queue has settles to log.
    #[inline]
    pub(super) fn list_settling(&mut self, queue_slot: u32) {
        let is_new = |queue: &mut QueueSlot| {
            !queue.settled.is_empty() && !std::mem::replace(&mut queue.is_settling, true)
        };
        if self.queues.get_mut(queue_slot).is_some_and(is_new) {
            self.settling.push(queue_slot);
        }
    }

    /// Appends what the tick has settled to the log, a record a queue and kind.
    pub(super) fn append_settles(&mut self) {
        for slot in std::mem::take(&mut self.settling) {
            let Some(queue) = self.queues.get_mut(slot) else {
                continue;
            };
            queue.is_settling = false;
            self.log.append_settles(queue.id, queue.vshard, &queue.settled);
            queue.settled.clear();
        }
    }
}

fn settle_for_good(
    queue: &mut QueueSlot,
    kind: SettleKind,
    sequences: impl Iterator<Item = QueueSequence>,
    log: &mut Log,
    shared: &mut SharedContents,
) {
    for sequence in sequences {
        if let Some(entry) = queue.queue.acknowledge(sequence) {
            queue.release(sequence, entry, kind, log, shared);
        }
    }
}
