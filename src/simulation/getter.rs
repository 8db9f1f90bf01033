//! `Getter`: takes single messages with basic.get.

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::MessageId;
use super::catalogue::{QUEUES, QueueIndex};
use super::copies::Receipt;
use super::letter::Letter;
use crate::protocol::method::*;
use std::collections::BTreeMap;

/// A client of basic.get on all durable queues.
#[derive(Debug, Default)]
pub struct Getter {
    replies: Replies,
    /// The queue asked, and whether without ack.
    asked: Option<(QueueIndex, bool)>,
    held: BTreeMap<u64, (QueueIndex, MessageId)>,
}

impl Getter {
    fn get(&mut self, talk: &mut Talk<'_>) {
        let durable: Vec<QueueIndex> = (0..QUEUES.len())
            .filter(|&queue| QUEUES[queue].is_durable)
            .collect();
        let queue = *talk.dice.pick(&durable);
        let no_ack = QUEUES[queue].is_lossy && talk.dice.chance(50);
        talk.say(BasicGet {
            queue: QUEUES[queue].name.as_bytes(),
            no_ack,
        });
        self.asked = Some((queue, no_ack));
    }

    fn settle(&mut self, talk: &mut Talk<'_>) {
        let Some((delivery_tag, (queue, id))) = self.held.pop_first() else {
            return;
        };
        match talk.dice.below(4) {
            0 => {
                talk.say(BasicReject {
                    delivery_tag,
                    requeue: true,
                });
                talk.auditor.give_back(queue, id);
            }
            1 => {
                talk.say(BasicReject {
                    delivery_tag,
                    requeue: false,
                });
                talk.auditor.reject(talk.session, queue, id);
            }
            _ => {
                talk.say(BasicAck {
                    delivery_tag,
                    multiple: false,
                });
                talk.auditor.settle(talk.session, queue, id);
            }
        }
    }
}

impl Actor for Getter {
    fn open(&mut self, _talk: &mut Talk<'_>) {}

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        match method {
            Method::BasicGetEmpty(_) if self.asked.is_some() => self.asked = None,
            method => self.replies.take(method, talk),
        }
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        let Some((queue, no_ack)) = self.asked.take() else {
            return talk
                .auditor
                .accuse(format!("a message was got that nobody asked for: {letter:?}"));
        };
        let receipt = match (no_ack, is_void) {
            (true, _) => Receipt::Automatic,
            (false, true) => Receipt::Void,
            (false, false) => Receipt::ToSettle,
        };
        let id = talk.auditor.deliver(talk.session, Some(queue), &letter, receipt);
        if let Some(id) = id.filter(|_| receipt == Receipt::ToSettle) {
            self.held.insert(letter.tag, (queue, id));
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if self.asked.is_some() || talk.is_winding_down {
            return Wish::GoOn;
        }
        match talk.dice.below(10) {
            0..3 => self.get(talk),
            3..8 => self.settle(talk),
            8 if talk.dice.chance(5) => return Wish::Reopen,
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.asked.is_none()
    }

    fn describe(&self) -> String {
        format!("getter, {} held, asked {:?}", self.held.len(), self.asked)
    }
}
