//! `Transaction`: what a channel in transaction mode keeps until tx.commit (AMQP 0-9-1 §1.9): its publishes, each with the
//! queues it was routed to, and what its settles name.
//!
//! ```text
//!              tx.commit                all published, and safe             settles are noted
//!   Gathering ───────────▶ Publishing ─────────────────────────▶ Settling ────────────────────▶ Gathering: tx.commit-ok
//!     ▲    │                   └─── a queue refused a message ─▶ the channel closes (406)
//!     └────┘ tx.rollback: publishes are thrown away, settled deliveries are unacked again
//! ```
//!
//! A settle must not outlive the messages that were published with it: it is noted when all of them are as durable as they
//! must be. Where both lie in one log they go there in one go, the settles behind the messages. When a queue has refused a
//! message, nothing is settled, so that what the client consumed comes back to it; RabbitMQ settles it all the same.

use super::reply_to::ReplyAddress;
use super::{Confirms, Destination, Place, PublishTarget, Settlement, Unacked};
use crate::channel::ConfirmFrames;
use crate::model::{DeliveryTag, Refusal, ReplyCode, ShardId, ShortString};
use std::collections::VecDeque;

/// Messages of one target that wait for the commit.
#[derive(Debug)]
pub struct KeptRun {
    /// Where they go.
    pub target: PublishTarget,
    /// Names of the queues this led to when they were published: those that are called so at the commit get them.
    pub queues: Vec<ShortString>,
    /// The requesters it goes to; then it is of one message.
    pub replies: Vec<ReplyAddress>,
    /// What `places` refer to.
    pub bytes: Vec<u8>,
    /// The messages, in order.
    pub places: Vec<Place>,
}

impl KeptRun {
    /// Bytes of memory it takes.
    pub fn held(&self) -> u64 {
        let places = self.places.capacity() * size_of::<Place>();
        let names = self
            .queues
            .iter()
            .map(|name| name.as_bytes().len())
            .sum::<usize>()
            + self.target.exchange.as_bytes().len()
            + self.target.routing_key.as_bytes().len();
        let queues = self.queues.capacity() * size_of::<ShortString>() + names;
        let replies = self.replies.capacity() * size_of::<ReplyAddress>();
        (size_of::<Self>() + self.bytes.capacity() + places + queues + replies) as u64
    }
}

/// A delivery that will be settled by the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSettle {
    /// Its tag.
    pub tag: DeliveryTag,
    /// Where it came from.
    pub message: Unacked,
    /// What will become of it.
    pub settlement: Settlement,
    /// Whether basic.get fetched it: no prefetch counts it.
    pub was_fetched: bool,
}

/// What is to be done next for a commit.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing, until owners have answered.
    Waits,
    /// Settle these, in this order, and number that as one more publish.
    Settle(Vec<KeptSettle>),
    /// Answer tx.commit-ok.
    Complete,
    /// Close the channel: a queue refused a message.
    Refused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Gathering,
    Publishing,
    Settling,
}

/// The transaction of one channel; another begins where one ends.
#[derive(Debug, Default)]
pub struct Transaction {
    stage: Stage,
    runs: VecDeque<KeptRun>,
    settles: Vec<KeptSettle>,
    delivered: usize,
    held: u64,
    /// Whether a queue refused one of its messages.
    is_refused: bool,
    /// Whether it has sent messages to another core.
    has_crossed: bool,
}

impl Transaction {
    /// Keeps messages for the commit.
    ///
    /// # Errors
    /// 406 `transaction size N is larger than configured max size M` when it would take more than `held_max` bytes of
    /// memory. The first run is always kept, so that a message of the largest size can be published.
    pub fn keep(&mut self, run: KeptRun, held_max: u64) -> Result<(), Refusal> {
        let held = self.held + run.held();
        if held > held_max && !self.runs.is_empty() {
            let text = format!("transaction size {held} is larger than configured max size {held_max}");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
        }
        self.held = held;
        self.runs.push_back(run);
        Ok(())
    }

    /// Keeps a settled delivery for the commit.
    pub fn keep_settle(&mut self, settle: KeptSettle) {
        self.delivered += usize::from(!settle.was_fetched);
        self.settles.push(settle);
    }

    /// Deliveries to consumers, settled and not committed: they use up prefetch still.
    pub fn delivered_count(&self) -> usize {
        self.delivered
    }

    /// Bytes of memory that its messages take.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// tx.commit came.
    pub fn begin_commit(&mut self) {
        debug_assert!(self.stage == Stage::Gathering, "one commit at a time");
        self.stage = Stage::Publishing;
    }

    /// The messages that are to be published next, while it commits.
    pub fn next_run(&self) -> Option<&KeptRun> {
        debug_assert!(
            self.stage != Stage::Gathering || self.runs.is_empty(),
            "it commits"
        );
        self.runs.front()
    }

    /// Takes the messages that are to be published next, from the core `here` to these queues.
    pub fn take_run(&mut self, destinations: &[Destination], here: ShardId) -> Option<KeptRun> {
        let run = self.runs.pop_front()?;
        self.held -= run.held();
        self.has_crossed |= destinations.iter().any(|destination| destination.owner != here);
        Some(run)
    }

    /// How the commit goes on, all messages being published; `confirms` counts those, and `here` is this core.
    pub fn advance(&mut self, confirms: &mut Confirms, here: ShardId) -> Progress {
        debug_assert!(self.runs.is_empty(), "settles come behind publishes");
        self.is_refused |= confirms.has_refused();
        while let Some(answer) = confirms.next_answer() {
            self.is_refused |= matches!(answer, ConfirmFrames::Nack(_));
        }
        let is_safe = confirms.outstanding() == 0;
        match self.stage {
            Stage::Gathering => Progress::Waits,
            Stage::Publishing if self.is_refused && is_safe => Progress::Refused,
            Stage::Publishing if self.is_refused => Progress::Waits,
            Stage::Publishing if self.may_settle(confirms, here) => {
                self.stage = Stage::Settling;
                Progress::Settle(self.take_settles())
            }
            Stage::Publishing | Stage::Settling if is_safe => {
                *self = Self::default();
                Progress::Complete
            }
            Stage::Publishing | Stage::Settling => Progress::Waits,
        }
    }

    /// Throws its messages away, and returns what it has settled.
    pub fn roll_back(&mut self) -> Vec<KeptSettle> {
        std::mem::take(self).settles
    }

    /// Whether there is something to settle that need wait no longer: where all is in one log, the publishes lie before it.
    fn may_settle(&self, confirms: &Confirms, here: ShardId) -> bool {
        let is_safe = confirms.outstanding() == 0;
        !self.settles.is_empty() && (is_safe || (self.is_of_one_log(here) && !confirms.awaits_arrival()))
    }

    fn is_of_one_log(&self, here: ShardId) -> bool {
        let mut settles = self.settles.iter();
        !self.has_crossed && settles.all(|settle| settle.message.owner == here)
    }

    /// What is settled, in the order of the client's words; what one word or several of a kind named, by their tags.
    fn take_settles(&mut self) -> Vec<KeptSettle> {
        self.delivered = 0;
        let mut settles = std::mem::take(&mut self.settles);
        settles
            .chunk_by_mut(|a, b| a.settlement == b.settlement)
            .for_each(|of_a_kind| of_a_kind.sort_unstable_by_key(|settle| settle.tag));
        settles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PublishSequence, QueueId, QueueSequence};

    const HERE: ShardId = ShardId(0);
    const FAR: ShardId = ShardId(1);

    fn run(length: usize) -> KeptRun {
        KeptRun {
            target: PublishTarget::default(),
            queues: Vec::new(),
            replies: Vec::new(),
            bytes: vec![0; length],
            places: Vec::new(),
        }
    }

    fn settle(tag: u64, owner: ShardId, settlement: Settlement) -> KeptSettle {
        let message = Unacked {
            queue: QueueId(1),
            owner,
            queue_slot: 0,
            sequence: QueueSequence(tag),
        };
        KeptSettle {
            tag: DeliveryTag(tag),
            message,
            settlement,
            was_fetched: false,
        }
    }

    /// Publishes all that is kept, a run to each owner; returns the sequence of the last.
    fn publish(
        transaction: &mut Transaction,
        confirms: &mut Confirms,
        owners: &[ShardId],
    ) -> PublishSequence {
        for &owner in owners {
            let destination = Destination {
                owner,
                queue: QueueId(1),
                slot: 0,
            };
            transaction.take_run(&[destination], HERE).expect("there is one");
            let sequence = confirms.publish(1);
            confirms.sent_to(owner, sequence);
        }
        assert!(transaction.next_run().is_none());
        confirms.last()
    }

    fn committing(owners: &[ShardId], settles: &[KeptSettle]) -> (Transaction, Confirms, PublishSequence) {
        let (mut transaction, mut confirms) = (Transaction::default(), Confirms::default());
        for _ in owners {
            transaction.keep(run(10), u64::MAX).expect("there is room");
        }
        settles.iter().for_each(|&settle| transaction.keep_settle(settle));
        transaction.begin_commit();
        let last = publish(&mut transaction, &mut confirms, owners);
        (transaction, confirms, last)
    }

    #[test]
    fn a_commit_is_complete_when_every_owner_has_its_messages() {
        let (mut transaction, mut confirms, last) = committing(&[FAR, HERE], &[]);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
        confirms.safe_at(HERE, last);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
        confirms.safe_at(FAR, confirms.sent(FAR));
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Complete);
        assert_eq!(transaction.held(), 0);
    }

    #[test]
    fn an_empty_transaction_is_complete_at_once() {
        let (mut transaction, mut confirms, _) = committing(&[], &[]);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Complete);
    }

    #[test]
    fn deliveries_are_settled_when_the_messages_of_other_logs_are_safe() {
        let ack = settle(1, HERE, Settlement::Acknowledge);
        let (mut transaction, mut confirms, last) = committing(&[FAR], &[ack]);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
        confirms.safe_at(FAR, last);
        assert_eq!(
            transaction.advance(&mut confirms, HERE),
            Progress::Settle(vec![ack])
        );
        let noted = confirms.publish(1);
        confirms.sent_to(HERE, noted);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
        confirms.safe_at(HERE, noted);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Complete);
    }

    #[test]
    fn what_goes_to_one_log_is_settled_in_the_same_go() {
        let ack = settle(1, HERE, Settlement::Acknowledge);
        let (mut transaction, mut confirms, _) = committing(&[HERE], &[ack]);
        assert_eq!(
            transaction.advance(&mut confirms, HERE),
            Progress::Settle(vec![ack])
        );
        let far = settle(1, FAR, Settlement::Acknowledge);
        let (mut transaction, mut confirms, _) = committing(&[HERE], &[far]);
        assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
    }

    #[test]
    fn a_refused_message_fails_the_commit_and_settles_nothing() {
        for owner in [HERE, FAR] {
            let ack = settle(1, HERE, Settlement::Acknowledge);
            let (mut transaction, mut confirms, last) = committing(&[owner, owner], &[ack]);
            confirms.refuse(last);
            assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Waits);
            confirms.safe_at(owner, last);
            assert_eq!(transaction.advance(&mut confirms, HERE), Progress::Refused);
            assert_eq!(transaction.roll_back(), [ack]);
        }
    }

    #[test]
    fn a_transaction_takes_no_more_than_it_may_but_always_one_message() {
        let mut transaction = Transaction::default();
        transaction
            .keep(run(5000), 100)
            .expect("the first is let through");
        let refusal = transaction.keep(run(1), 100).expect_err("there is no room");
        let held = 2 * run(0).held() + 5001;
        assert_eq!(
            refusal.reply_text(),
            format!("PRECONDITION_FAILED - transaction size {held} is larger than configured max size 100")
        );
        transaction.roll_back();
        assert_eq!(transaction.held(), 0);
    }

    #[test]
    fn settles_keep_the_order_of_the_clients_words() {
        use Settlement::{Acknowledge, Requeue};
        let said = [
            settle(5, HERE, Acknowledge),
            settle(2, HERE, Acknowledge),
            settle(9, HERE, Requeue),
            settle(1, HERE, Acknowledge),
        ];
        let (mut transaction, mut confirms, _) = committing(&[], &said);
        let [five, two, nine, one] = said;
        assert_eq!(
            transaction.advance(&mut confirms, HERE),
            Progress::Settle(vec![two, five, nine, one])
        );
    }
}
