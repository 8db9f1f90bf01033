//! The story of a transaction: tx.select, tx.commit, tx.rollback. The channel keeps publishes, with the names of the queues
//! that they led to when they came, and settles ([`Transaction`](crate::channel::Transaction)); the commit publishes the ones, waits until every owner has them
//! as durably as it must, then settles the others, waits until that is durable as well, and answers.
//!
//! ```text
//!   tx.commit ──▶ publish_kept ──no credit, or enough for a tick──▶ carried on later
//!                     │
//!                     ▼  numbered like publishes of a confirming channel; basic.return goes out here
//!                  advance ◀──── answer_confirms: owners have answered
//!                     │
//!                     ├── Settle ──▶ settle_kept ──▶ owners answer ──┘
//!                     └── Complete ──▶ tx.commit-ok        Refused ──▶ 406 partial tx completion
//! ```
//!
//! Until its commit is answered the connection waits. It takes effect queue by queue, not at one moment for all; a power cut
//! during a commit may leave a part of it, and messages may then be delivered twice, but none that was consumed is lost. What
//! a transaction keeps counts as unfinished messages do ([`alarm`](super::alarm)). A commit that is under way when its
//! connection ends is published to its last message; who ends earlier has committed nothing.

use super::Shard;
use super::connect::Next;
use super::connections::Hold;
use super::mailbox::{Publisher, ShardMessage};
use super::obey::At;
use super::publish::Run;
use crate::channel::reply_to::ReplyAddress;
use crate::channel::{Destination, KeptRun, KeptSettle, Progress, PublishTarget, Settlement};
use crate::model::{
    ChannelNumber, ConnectionId, DeliveryTag, PublishSequence, Refusal, ReplyCode, ShardId, ShortString,
};
use crate::protocol::method::*;

/// Class and method of tx.commit.
const TX_COMMIT: (u16, u16) = (90, 20);
/// Bytes of a commit that one tick publishes, at least one run.
const COMMIT_BYTES_A_TICK: u64 = 1 << 20;

impl Shard {
    /// tx.select.
    pub(super) fn select_transaction(&mut self, at: At) -> Result<Next, Refusal> {
        self.channel_of(at).select_transaction()?;
        self.answer_at(at, Method::TxSelectOk(TxSelectOk {}))
    }

    /// tx.rollback: publishes are thrown away, and what was settled is unacked again.
    pub(super) fn roll_back(&mut self, at: At) -> Result<Next, Refusal> {
        self.channel_of(at).transaction()?;
        self.unfinished_bytes -= self.channel_of(at).roll_back();
        self.answer_at(at, Method::TxRollbackOk(TxRollbackOk {}))
    }

    /// tx.commit.
    pub(super) fn commit(&mut self, at: At) -> Result<Next, Refusal> {
        self.channel_of(at).transaction()?.begin_commit();
        let connection = self.connections.get_mut(at.slot).expect("a method came on it");
        connection.hold = Some(Hold::Commit { channel: at.channel });
        let id = connection.id;
        self.carry_commit(id, at.channel);
        Ok(Next::Wait)
    }

    /// Keeps a run for the commit.
    ///
    /// # Errors
    /// 406 when the transaction grows too large.
    pub(super) fn keep_run(
        &mut self,
        (slot, number): (u32, ChannelNumber),
        target: &PublishTarget,
        run: &Run<'_>,
        (destinations, replies): (&[Destination], &[ReplyAddress]),
    ) -> Result<(), Refusal> {
        let held_max = self.settings.transaction_bytes_max;
        let queues = self.names_of(target, destinations);
        let kept = kept_copy(target, run, queues, replies);
        let held = kept.held();
        let channel = self.channel_at(slot, number).expect("it publishes");
        channel.transaction()?.keep(kept, held_max)?;
        self.unfinished_bytes += held;
        self.bound_unfinished();
        Ok(())
    }

    /// basic.ack, basic.nack and basic.reject in a transaction.
    pub(super) fn settle_at_commit(
        &mut self,
        (slot, number): (u32, ChannelNumber),
        (tag, multiple): (DeliveryTag, bool),
        settlement: Settlement,
        method: (u16, u16),
    ) -> Next {
        let channel = self.channel_at(slot, number).expect("the method came on it");
        match channel.settle_at_commit(tag, multiple, settlement) {
            Ok(()) => Next::Pull,
            Err(refusal) => self.refuse_channel(slot, number, &refusal, method),
        }
    }

    /// Lists a commit to be carried on by the next tick.
    pub(super) fn list_committing(&mut self, connection: ConnectionId, number: ChannelNumber) {
        self.committing.push((connection, number));
    }

    /// Carries on with commits that were listed.
    pub(super) fn carry_commits(&mut self) {
        let mut listed = std::mem::take(&mut self.committing);
        listed.sort_unstable();
        listed.dedup();
        for (connection, number) in listed {
            self.carry_commit(connection, number);
        }
    }

    /// The connection ends while it commits: what is left of its messages goes to its queues all the same, at once, so that
    /// none of them has a part. What the commit was to settle is unacked still.
    pub(super) fn finish_commit(&mut self, id: ConnectionId, number: ChannelNumber) {
        while let Some(next) = self
            .transaction_of(id, number)
            .and_then(|transaction| transaction.next_run())
        {
            let queues = next.queues.clone();
            let destinations = self.queues_called(id.slot, &queues);
            self.publish_next_kept(id, number, &destinations);
        }
    }

    /// Carries a commit on as far as it can go now. One that has ended meanwhile is passed over.
    pub(super) fn carry_commit(&mut self, id: ConnectionId, number: ChannelNumber) {
        let Some(connection) = self.connections.find(id) else {
            return;
        };
        let is_committing = |hold: &Hold| matches!(hold, Hold::Commit { channel } if *channel == number);
        if !connection.hold.as_ref().is_some_and(is_committing) {
            return;
        }
        let before = connection.outbound.len();
        if self.publish_kept(id, number) {
            self.advance_commit(id, number);
        }
        if let Some(connection) = self.connections.find(id) {
            connection.replied_bytes += connection.outbound.len().saturating_sub(before);
            self.connections.note_output(id.slot);
        }
    }

    /// Publishes what the channel has kept. Returns whether nothing is left.
    fn publish_kept(&mut self, id: ConnectionId, number: ChannelNumber) -> bool {
        let mut published_bytes = 0;
        loop {
            let Some(transaction) = self.transaction_of(id, number) else {
                return false;
            };
            let Some(next) = transaction.next_run() else {
                return true;
            };
            let (queues, replies) = (next.queues.clone(), next.replies.clone());
            if published_bytes >= COMMIT_BYTES_A_TICK {
                self.list_committing(id, number);
                return false;
            }
            let destinations = self.queues_called(id.slot, &queues);
            if !self.has_credit_for_all(&destinations, &replies) {
                self.waiting_for_credit.push(id.slot);
                self.counters.credit_pauses += 1;
                return false;
            }
            published_bytes += self.publish_next_kept(id, number, &destinations);
        }
    }

    /// Publishes the run that is next to these queues. Returns the bytes of memory it took.
    fn publish_next_kept(
        &mut self,
        id: ConnectionId,
        number: ChannelNumber,
        destinations: &[Destination],
    ) -> u64 {
        let here = self.id;
        let transaction = self.transaction_of(id, number).expect("it commits");
        let kept = transaction.take_run(destinations, here).expect("one is next");
        self.unfinished_bytes -= kept.held();
        let run = Run {
            exchange: kept.target.exchange.as_bytes(),
            routing_key: kept.target.routing_key.as_bytes(),
            bytes: &kept.bytes,
            places: &kept.places,
            shared: None,
            publisher: None,
        };
        self.give_out((id, number), &kept.target, &run, (destinations, &kept.replies));
        kept.held()
    }

    /// Names of queues that a publish goes to. The default exchange names one whether it is there yet or not.
    fn names_of(&self, target: &PublishTarget, destinations: &[Destination]) -> Vec<ShortString> {
        let definitions = destinations
            .iter()
            .filter_map(|destination| self.topology.queue_by_id(destination.queue));
        let mut names: Vec<ShortString> = definitions.map(|queue| queue.name.clone()).collect();
        if target.exchange.is_empty() && !names.contains(&target.routing_key) {
            names.push(target.routing_key.clone());
        }
        names
    }

    /// The queues that are called so now.
    fn queues_called(&mut self, slot: u32, names: &[ShortString]) -> Vec<Destination> {
        let vhost = self.vhost_at(slot);
        let ids = names
            .iter()
            .filter_map(|name| self.topology.queue_id(vhost.as_bytes(), name.as_bytes()));
        ids.filter_map(|queue| self.destination(queue)).collect()
    }

    /// All is published: settles, answers, or waits for owners.
    fn advance_commit(&mut self, id: ConnectionId, number: ChannelNumber) {
        let here = self.id;
        let Some(channel) = self.connections.channel(id, number) else {
            return;
        };
        let (Some(transaction), Some(confirms)) =
            (channel.transaction.as_deref_mut(), channel.confirms.as_mut())
        else {
            return;
        };
        match transaction.advance(confirms, here) {
            Progress::Waits => {}
            Progress::Settle(settles) => {
                let noted = confirms.publish(1);
                self.settle_kept(id, number, &settles, noted);
            }
            Progress::Complete => {
                self.counters.transactions_committed += 1;
                self.reply(id.slot, number, &Method::TxCommitOk(TxCommitOk {}));
                self.resume(id.slot);
            }
            Progress::Refused => {
                let refusal = Refusal::new(ReplyCode::PreconditionFailed, "partial tx completion");
                self.refuse_channel(id.slot, number, &refusal, TX_COMMIT);
                self.resume(id.slot);
            }
        }
    }

    /// Settles what the commit names; the cores concerned tell when that is as durable as it must be, as they tell it of the
    /// publish with the sequence `noted`.
    fn settle_kept(
        &mut self,
        id: ConnectionId,
        number: ChannelNumber,
        settles: &[KeptSettle],
        noted: PublishSequence,
    ) {
        for of_a_kind in settles.chunk_by(|a, b| a.settlement == b.settlement) {
            let messages: Vec<_> = of_a_kind.iter().map(|settle| settle.message).collect();
            self.apply_settlement(&messages, of_a_kind[0].settlement);
        }
        let is_concerned = |owner: ShardId| settles.iter().any(|settle| settle.message.owner == owner);
        for owner in (0..self.shards).map(ShardId).filter(|&owner| is_concerned(owner)) {
            if owner == self.id {
                continue;
            }
            if let Some(confirms) = self.confirms_of(id, number) {
                confirms.sent_to(owner, noted);
            }
            self.say(
                owner,
                ShardMessage::KeepSettles(Publisher {
                    connection: id,
                    channel: number,
                    last: noted,
                }),
            );
        }
        self.promise(id, number, noted, is_concerned(self.id));
        self.unpause_channel(id.slot, number);
    }

    fn transaction_of(
        &mut self,
        id: ConnectionId,
        number: ChannelNumber,
    ) -> Option<&mut crate::channel::Transaction> {
        self.connections.channel(id, number)?.transaction.as_deref_mut()
    }
}

/// The run, copied out of the buffer it came in.
fn kept_copy(
    target: &PublishTarget,
    run: &Run<'_>,
    queues: Vec<ShortString>,
    replies: &[ReplyAddress],
) -> KeptRun {
    let contents = || (0..run.places.len()).map(|at| run.content(at));
    let length = contents().map(|content| content.properties.len() + content.body.len());
    let mut bytes = Vec::with_capacity(length.sum());
    let mut places = Vec::with_capacity(run.places.len());
    for (content, place) in contents().zip(run.places) {
        let properties = bytes.len() as u32;
        bytes.extend_from_slice(content.properties);
        let body = bytes.len() as u32;
        bytes.extend_from_slice(content.body);
        places.push(crate::channel::Place {
            properties: (properties, body),
            body: (body, bytes.len() as u32),
            ..*place
        });
    }
    KeptRun {
        target: target.clone(),
        queues,
        replies: replies.to_vec(),
        bytes,
        places,
    }
}
