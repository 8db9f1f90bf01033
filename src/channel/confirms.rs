//! `Confirms`: publisher confirms as cumulative watermarks, one for each core that owns a queue published to.
//!
//! A publish is *safe* once every owner it went to has it as durably as it must be. Owners answer with watermarks:
//! all that this channel sent me up to sequence n is safe. The confirm point is the lowest watermark among the
//! owners that still owe an answer, so the state is one entry an owner and none a message:
//!
//! ```text
//!   sequence   1  2  3  4  5  6  7  8  9
//!   owner A    ●  ●     ●     ○     ○        sent 8, safe 4
//!   owner B          ●     ●     ○           sent 7, safe 5
//!   confirm point = min(4, 5) = 4: basic.ack 4 multiple
//! ```
//!
//! A sequence between a watermark and the next publish to that owner is confirmed a little later than it could be;
//! an owner that owes nothing never holds others back.
//!
//! A message that an exchange's memory passes on is answered for twice: for its place in the memory, by the owner, and for
//! its arrival, by the same core as the one which passes it on. Its two watermarks are two entries.
//!
//! Owners know a channel by its number, and a word for a channel that was closed may reach the next one of the same
//! number. So sequences go on where those of the channel before ended, and what a late watermark says of them is true;
//! only the tags that the publisher sees begin at 1 again. Nacks are rare and kept one by one
//! (RabbitMQ, "Publisher Confirms"; basic.ack of the server, AMQP 0-9-1 extension).

use crate::model::{ChannelNumber, PublishSequence, ShardId};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
struct Owner {
    shard: ShardId,
    /// Whether it answers for what arrives where it passes it on, not for what it has.
    passes_on: bool,
    sent: u64,
    safe: u64,
}

/// An answer for the publisher, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmFrames {
    /// basic.ack.
    Ack {
        /// The sequence named.
        sequence: PublishSequence,
        /// Whether all below it are meant as well.
        multiple: bool,
    },
    /// basic.nack of one message.
    Nack(PublishSequence),
}

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub struct Confirms {
    /// The last sequence of channels before this one; tags count from it.
    base: u64,
    published: u64,
    answered: u64,
    owners: Vec<Owner>,
    nacked: BTreeSet<u64>,
    /// Whether the core's list of channels that wait for the next sync names this channel.
    pub awaits_sync: bool,
    /// Whether the core's list of channels with answers to write names this channel.
    pub has_answers: bool,
}

impl Confirms {
    /// Confirms of a channel whose predecessors used sequences up to `base`.
    pub fn after(base: PublishSequence) -> Self {
        Self {
            base: base.0,
            published: base.0,
            answered: base.0,
            ..Self::default()
        }
    }

    /// The last sequence given out.
    pub fn last(&self) -> PublishSequence {
        PublishSequence(self.published)
    }

    /// Numbers `count` publishes; returns the first one's sequence.
    #[inline]
    pub fn publish(&mut self, count: u32) -> PublishSequence {
        let first = self.published + 1;
        self.published += u64::from(count);
        PublishSequence(first)
    }

    /// The publish with `sequence` went to `owner`, which will answer.
    #[inline]
    pub fn sent_to(&mut self, owner: ShardId, sequence: PublishSequence) {
        let progress = self.owner(owner, false);
        debug_assert!(progress.sent <= sequence.0, "sequences are sent in order");
        progress.sent = sequence.0;
    }

    /// `owner` passes the publish with `sequence` on, and will tell when it has arrived.
    pub fn passed_on_by(&mut self, owner: ShardId, sequence: PublishSequence) {
        // A late word for the channel before may name what that one published.
        if sequence.0 > self.base {
            self.owner(owner, true).sent = sequence.0;
        }
    }

    /// All that `owner` passes on up to `through` has arrived.
    pub fn arrived_from(&mut self, owner: ShardId, through: PublishSequence) {
        if through.0 > self.base {
            let progress = self.owner(owner, true);
            progress.safe = progress.safe.max(through.0);
        }
    }

    /// Whether something that is passed on has not arrived yet.
    pub fn awaits_arrival(&self) -> bool {
        let mut passing = self.owners.iter().filter(|owner| owner.passes_on);
        passing.any(|owner| owner.safe < owner.sent)
    }

    /// Highest sequence that went to `owner`.
    pub fn sent(&self, owner: ShardId) -> PublishSequence {
        PublishSequence(self.find(owner).map_or(0, |o| o.sent))
    }

    /// Whether `owner` owes an answer for what it has.
    pub fn owes(&self, owner: ShardId) -> bool {
        self.find(owner).is_some_and(|o| o.safe < o.sent)
    }

    /// All that went to `owner` up to `through` is safe there.
    #[inline]
    pub fn safe_at(&mut self, owner: ShardId, through: PublishSequence) {
        let base = self.base;
        let progress = self.owner(owner, false);
        progress.safe = progress.safe.max(through.0);
        debug_assert!(
            progress.safe <= progress.sent.max(base),
            "an owner answers for what it was sent"
        );
    }

    /// A queue refused the message: it will be nacked when the confirm point passes it.
    pub fn refuse(&mut self, sequence: PublishSequence) {
        // A late word for the channel before may name what that one published.
        if sequence.0 > self.answered {
            self.nacked.insert(sequence.0);
        }
    }

    /// Whether a refused message has not been answered yet.
    pub fn has_refused(&self) -> bool {
        !self.nacked.is_empty()
    }

    /// Sequences published and not answered.
    pub fn outstanding(&self) -> u64 {
        self.published - self.answered
    }

    /// The next answer to write, if any, with the publisher's tags; call until `None`.
    pub fn next_answer(&mut self) -> Option<ConfirmFrames> {
        let point = self.confirm_point();
        if self.answered >= point {
            return None;
        }
        let first_nacked = self.nacked.first().copied().filter(|&nacked| nacked <= point);
        let answer = match first_nacked {
            Some(nacked) if nacked == self.answered + 1 => {
                self.nacked.remove(&nacked);
                ConfirmFrames::Nack(PublishSequence(nacked))
            }
            Some(nacked) => self.ack_through(nacked - 1),
            None => self.ack_through(point),
        };
        self.answered = match answer {
            ConfirmFrames::Ack { sequence, .. } | ConfirmFrames::Nack(sequence) => sequence.0,
        };
        Some(answer.counted_from(self.base))
    }

    fn ack_through(&self, sequence: u64) -> ConfirmFrames {
        ConfirmFrames::Ack {
            sequence: PublishSequence(sequence),
            multiple: sequence > self.answered + 1,
        }
    }

    fn confirm_point(&self) -> u64 {
        let owing = self.owners.iter().filter(|owner| owner.safe < owner.sent);
        owing.map(|owner| owner.safe).min().unwrap_or(self.published)
    }

    fn find(&self, shard: ShardId) -> Option<&Owner> {
        let mut owners = self.owners.iter();
        owners.find(|owner| owner.shard == shard && !owner.passes_on)
    }

    #[inline]
    fn owner(&mut self, shard: ShardId, passes_on: bool) -> &mut Owner {
        let is_it = |owner: &Owner| owner.shard == shard && owner.passes_on == passes_on;
        let index = match self.owners.iter().position(is_it) {
            Some(index) => index,
            None => {
                self.owners.push(Owner {
                    shard,
                    passes_on,
                    sent: 0,
                    safe: 0,
                });
                self.owners.len() - 1
            }
        };
        &mut self.owners[index]
    }
}

impl ConfirmFrames {
    fn counted_from(self, base: u64) -> Self {
        match self {
            ConfirmFrames::Ack { sequence, multiple } => ConfirmFrames::Ack {
                sequence: PublishSequence(sequence.0 - base),
                multiple,
            },
            ConfirmFrames::Nack(sequence) => ConfirmFrames::Nack(PublishSequence(sequence.0 - base)),
        }
    }

    /// Appends the answer's frame.
    pub fn encode(self, channel: ChannelNumber, out: &mut Vec<u8>) {
        use crate::protocol::method::{BasicAck, BasicNack, Method};
        let method = match self {
            ConfirmFrames::Ack { sequence, multiple } => Method::BasicAck(BasicAck {
                delivery_tag: sequence.0,
                multiple,
            }),
            ConfirmFrames::Nack(sequence) => Method::BasicNack(BasicNack {
                delivery_tag: sequence.0,
                multiple: false,
                requeue: false,
            }),
        };
        method.encode(channel.0, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn ack(sequence: u64, multiple: bool) -> Option<ConfirmFrames> {
        Some(ConfirmFrames::Ack {
            sequence: PublishSequence(sequence),
            multiple,
        })
    }

    #[test]
    fn the_confirm_point_is_the_lowest_watermark_of_the_owners_that_owe() {
        let mut confirms = Confirms::default();
        for sequence in 1..=8 {
            confirms.publish(1);
            confirms.sent_to(if sequence % 2 == 0 { A } else { B }, PublishSequence(sequence));
        }
        confirms.safe_at(A, PublishSequence(4));
        assert_eq!(confirms.next_answer(), None);
        confirms.safe_at(B, PublishSequence(5));
        assert_eq!(confirms.next_answer(), ack(4, true));
        confirms.safe_at(A, PublishSequence(8));
        assert_eq!(confirms.next_answer(), ack(5, false));
        confirms.safe_at(B, PublishSequence(7));
        assert_eq!(confirms.next_answer(), ack(8, true));
        assert_eq!(confirms.next_answer(), None);
    }

    #[test]
    fn a_multiple_ack_stops_below_a_nacked_message() {
        let mut confirms = Confirms::default();
        confirms.publish(5);
        confirms.sent_to(A, PublishSequence(5));
        confirms.refuse(PublishSequence(3));
        confirms.safe_at(A, PublishSequence(5));
        assert_eq!(confirms.next_answer(), ack(2, true));
        assert_eq!(
            confirms.next_answer(),
            Some(ConfirmFrames::Nack(PublishSequence(3)))
        );
        assert_eq!(confirms.next_answer(), ack(5, true));
        assert_eq!(confirms.outstanding(), 0);
    }

    #[test]
    fn what_is_passed_on_is_confirmed_when_it_has_arrived() {
        let mut confirms = Confirms::default();
        let sequence = confirms.publish(1);
        confirms.sent_to(A, sequence);
        confirms.passed_on_by(A, sequence);
        confirms.safe_at(A, sequence);
        assert!(!confirms.owes(A) && confirms.awaits_arrival());
        assert_eq!(confirms.next_answer(), None);
        confirms.arrived_from(A, sequence);
        assert!(!confirms.awaits_arrival());
        assert_eq!(confirms.next_answer(), ack(1, false));
    }

    #[test]
    fn a_late_word_for_the_channel_before_confirms_nothing_of_this_one() {
        let mut confirms = Confirms::after(PublishSequence(100));
        confirms.safe_at(A, PublishSequence(100));
        confirms.passed_on_by(A, PublishSequence(100));
        let sequence = confirms.publish(1);
        confirms.sent_to(A, sequence);
        assert_eq!(confirms.next_answer(), None, "its own publish is not safe yet");
        confirms.safe_at(A, sequence);
        assert_eq!(confirms.next_answer(), ack(1, false), "tags begin at 1");
    }

    #[test]
    fn what_goes_to_no_owner_is_safe_at_once() {
        let mut confirms = Confirms::default();
        confirms.publish(1);
        assert_eq!(confirms.next_answer(), ack(1, false));
    }
}
