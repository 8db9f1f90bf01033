//! `Sharer`: consumes from queues of both cores on one channel, whose prefetch all its consumers share
//! (basic.qos with global).

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::MessageId;
use super::catalogue::{QUEUES, QueueIndex, queue_named};
use super::copies::Receipt;
use super::letter::Letter;
use crate::model::FieldTableRef;
use crate::protocol::method::*;
use std::collections::BTreeMap;

/// Consumers of several queues that share a prefetch count.
#[derive(Debug, Default)]
pub struct Sharer {
    replies: Replies,
    prefetch_count: u16,
    held: BTreeMap<u64, (QueueIndex, MessageId)>,
}

/// What a settle names.
struct Choice {
    delivery_tag: u64,
    multiple: bool,
    taken: Vec<(QueueIndex, MessageId)>,
}

impl Sharer {
    fn consume(&mut self, queue: QueueIndex, talk: &mut Talk<'_>) {
        let name = QUEUES[queue].name.as_bytes();
        talk.say(BasicConsume {
            queue: name,
            consumer_tag: name,
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTableRef::default(),
        });
        self.replies.expect(BasicConsumeOk::IDS);
    }

    /// Takes one held delivery, or all up to it.
    fn choose(&mut self, talk: &mut Talk<'_>) -> Option<Choice> {
        let tags: Vec<u64> = self.held.keys().copied().collect();
        if tags.is_empty() {
            return None;
        }
        let tag = *talk.dice.pick(&tags);
        if talk.dice.chance(60) {
            let taken = self.held.remove(&tag).expect("it is among the tags");
            return Some(Choice {
                delivery_tag: tag,
                multiple: false,
                taken: vec![taken],
            });
        }
        let rest = self.held.split_off(&(tag + 1));
        let taken = std::mem::replace(&mut self.held, rest);
        Some(Choice {
            delivery_tag: tag,
            multiple: true,
            taken: taken.into_values().collect(),
        })
    }

    fn acknowledge(&mut self, talk: &mut Talk<'_>) {
        if let Some(choice) = self.choose(talk) {
            let Choice {
                delivery_tag,
                multiple,
                taken,
            } = choice;
            talk.say(BasicAck {
                delivery_tag,
                multiple,
            });
            for (queue, id) in taken {
                talk.auditor.settle(talk.session, queue, id);
            }
        }
    }

    fn requeue(&mut self, talk: &mut Talk<'_>) {
        if let Some(choice) = self.choose(talk) {
            let Choice {
                delivery_tag,
                multiple,
                taken,
            } = choice;
            talk.say(BasicNack {
                delivery_tag,
                multiple,
                requeue: true,
            });
            for (queue, id) in taken {
                talk.auditor.give_back(queue, id);
            }
        }
    }

    fn check_prefetch(&self, talk: &mut Talk<'_>) {
        let (count, prefetch) = (self.held.len(), self.prefetch_count);
        if count > usize::from(prefetch) {
            talk.auditor.accuse(format!(
                "a channel holds {count} messages with a prefetch of {prefetch} for all its consumers"
            ));
        }
    }
}

impl Actor for Sharer {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.prefetch_count = *talk.dice.pick(&[1, 2, 5, 20]);
        talk.say(BasicQos {
            prefetch_size: 0,
            prefetch_count: self.prefetch_count,
            global: true,
        });
        self.replies.expect(BasicQosOk::IDS);
        for queue in (0..QUEUES.len()).filter(|&queue| QUEUES[queue].is_durable) {
            if talk.dice.chance(70) {
                self.consume(queue, talk);
            }
        }
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        let receipt = if is_void { Receipt::Void } else { Receipt::ToSettle };
        let Some(queue) = queue_named(&letter.consumer_tag) else {
            return talk
                .auditor
                .accuse(format!("a delivery for a consumer that is not there: {letter:?}"));
        };
        let id = talk.auditor.deliver(talk.session, Some(queue), &letter, receipt);
        if let Some(id) = id.filter(|_| !is_void) {
            self.held.insert(letter.tag, (queue, id));
            self.check_prefetch(talk);
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if talk.is_winding_down {
            return Wish::GoOn;
        }
        match talk.dice.below(100) {
            0..40 => self.acknowledge(talk),
            40..46 => self.requeue(talk),
            46 if self.replies.is_empty() => return Wish::Reopen,
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty()
    }

    fn describe(&self) -> String {
        let (held, prefetch) = (self.held.len(), self.prefetch_count);
        format!(
            "sharer of prefetch {prefetch}, {held} held, waits for {:?}",
            self.replies
        )
    }
}
