//! `Consumer`: takes messages from one queue and settles them in every way there is.

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::MessageId;
use super::catalogue::{QUEUES, QueueIndex, declare_queue};
use super::copies::{Receipt, SessionId};
use super::letter::Letter;
use crate::model::FieldTableRef;
use crate::protocol::method::*;
use std::collections::{BTreeMap, VecDeque};

/// A consumer of one queue.
#[derive(Debug)]
pub struct Consumer {
    queue: QueueIndex,
    replies: Replies,
    session: SessionId,
    /// Whether deliveries need no ack; chosen anew with each subscription.
    no_ack: bool,
    prefetch_count: u16,
    /// The consumer tag in use, and how many were used.
    tag: Option<Vec<u8>>,
    subscriptions: u32,
    /// Unacked deliveries by tag, with the subscription they came for.
    held: BTreeMap<u64, (MessageId, u32)>,
    settled: Vec<MessageId>,
    /// What was settled before each question that is not answered.
    questions: VecDeque<Vec<MessageId>>,
    /// basic.recover not answered yet: what comes before the answer goes back.
    recovering: u32,
    is_leaving: bool,
}

impl Consumer {
    /// A consumer of `queue`.
    pub fn new(queue: QueueIndex) -> Self {
        Self {
            queue,
            replies: Replies::default(),
            session: 0,
            no_ack: false,
            prefetch_count: 0,
            tag: None,
            subscriptions: 0,
            held: BTreeMap::new(),
            settled: Vec::new(),
            questions: VecDeque::new(),
            recovering: 0,
            is_leaving: false,
        }
    }

    fn subscribe(&mut self, talk: &mut Talk<'_>) {
        self.subscriptions += 1;
        self.no_ack = QUEUES[self.queue].is_lossy && talk.dice.chance(60);
        self.prefetch_count = *talk.dice.pick(&[0, 1, 2, 5, 50]);
        let is_global = self.held.is_empty() && talk.dice.chance(10);
        talk.say(BasicQos {
            prefetch_size: 0,
            prefetch_count: if is_global { 7 } else { self.prefetch_count },
            global: is_global,
        });
        self.replies.expect(BasicQosOk::IDS);
        if is_global {
            self.prefetch_count = 0;
        }
        let tag = format!("c{}", self.subscriptions).into_bytes();
        talk.say(BasicConsume {
            queue: QUEUES[self.queue].name.as_bytes(),
            consumer_tag: &tag,
            no_local: false,
            no_ack: self.no_ack,
            exclusive: false,
            nowait: false,
            arguments: FieldTableRef::default(),
        });
        self.replies.expect(BasicConsumeOk::IDS);
        self.tag = Some(tag);
    }

    fn cancel(&mut self, talk: &mut Talk<'_>) {
        if let Some(tag) = &self.tag {
            talk.say(BasicCancel {
                consumer_tag: tag,
                nowait: false,
            });
            self.replies.expect(BasicCancelOk::IDS);
        }
    }

    /// Asks the owner something whose answer says that it has taken what was settled before.
    fn ask(&mut self, talk: &mut Talk<'_>) {
        let declare = QueueDeclare {
            queue: QUEUES[self.queue].name.as_bytes(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTableRef::default(),
        };
        talk.say(declare);
        self.replies.expect(QueueDeclareOk::IDS);
        self.questions.push_back(std::mem::take(&mut self.settled));
    }

    fn answered(&mut self, talk: &mut Talk<'_>) {
        if let Some(settled) = self.questions.pop_front() {
            talk.auditor.take_settles(self.queue, &settled);
        }
    }

    /// Takes one held delivery, or all up to it.
    fn choose(&mut self, talk: &mut Talk<'_>) -> Option<(u64, bool, Vec<MessageId>)> {
        let tags: Vec<u64> = self.held.keys().copied().collect();
        if tags.is_empty() {
            return None;
        }
        let tag = *talk.dice.pick(&tags);
        let multiple = talk.dice.chance(50);
        if !multiple {
            let (id, _) = self.held.remove(&tag).expect("it is among the tags");
            return Some((tag, false, vec![id]));
        }
        let rest = self.held.split_off(&(tag + 1));
        let taken = std::mem::replace(&mut self.held, rest);
        Some((tag, true, taken.into_values().map(|(id, _)| id).collect()))
    }

    fn acknowledge(&mut self, talk: &mut Talk<'_>) {
        if let Some((delivery_tag, multiple, ids)) = self.choose(talk) {
            talk.say(BasicAck {
                delivery_tag,
                multiple,
            });
            self.note_settled(&ids, talk);
        }
    }

    fn reject(&mut self, talk: &mut Talk<'_>) {
        if let Some((delivery_tag, multiple, ids)) = self.choose(talk) {
            match multiple {
                true => talk.say(BasicNack {
                    delivery_tag,
                    multiple,
                    requeue: false,
                }),
                false => talk.say(BasicReject {
                    delivery_tag,
                    requeue: false,
                }),
            }
            ids.iter()
                .for_each(|&id| talk.auditor.reject(talk.session, self.queue, id));
            self.settled.extend_from_slice(&ids);
        }
    }

    fn requeue(&mut self, talk: &mut Talk<'_>) {
        if let Some((delivery_tag, multiple, ids)) = self.choose(talk) {
            talk.say(BasicNack {
                delivery_tag,
                multiple,
                requeue: true,
            });
            ids.iter().for_each(|&id| talk.auditor.give_back(self.queue, id));
        }
    }

    fn recover(&mut self, talk: &mut Talk<'_>) {
        talk.say(BasicRecover { requeue: true });
        self.replies.expect(BasicRecoverOk::IDS);
        self.recovering += 1;
        for (id, _) in std::mem::take(&mut self.held).into_values() {
            talk.auditor.give_back(self.queue, id);
        }
    }

    fn settle_all(&mut self, talk: &mut Talk<'_>) {
        let Some((&delivery_tag, _)) = self.held.last_key_value() else {
            return;
        };
        talk.say(BasicAck {
            delivery_tag,
            multiple: true,
        });
        let ids: Vec<MessageId> = std::mem::take(&mut self.held)
            .into_values()
            .map(|(id, _)| id)
            .collect();
        self.note_settled(&ids, talk);
    }

    fn note_settled(&mut self, ids: &[MessageId], talk: &mut Talk<'_>) {
        ids.iter()
            .for_each(|&id| talk.auditor.settle(talk.session, self.queue, id));
        self.settled.extend_from_slice(ids);
    }

    fn check_prefetch(&self, talk: &mut Talk<'_>) {
        let of_this = self.held.values().filter(|(_, of)| *of == self.subscriptions);
        let count = of_this.count();
        if self.prefetch_count > 0 && count > usize::from(self.prefetch_count) {
            let (queue, prefetch) = (QUEUES[self.queue].name, self.prefetch_count);
            talk.auditor.accuse(format!(
                "a consumer of {queue} holds {count} messages with prefetch {prefetch}"
            ));
        }
    }

    fn leave(&mut self, talk: &mut Talk<'_>) {
        self.is_leaving = true;
        self.cancel(talk);
        if talk.dice.chance(60) {
            self.settle_all(talk);
            self.ask(talk);
        }
    }
}

impl Actor for Consumer {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.session = talk.session;
        let replies = declare_queue(talk.channel, self.queue, talk.out);
        self.replies.expect(QueueDeclareOk::IDS);
        self.questions.push_back(Vec::new());
        if replies > 1 {
            self.replies.expect(QueueBindOk::IDS);
        }
        self.subscribe(talk);
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
        match method {
            Method::QueueDeclareOk(_) => self.answered(talk),
            Method::BasicRecoverOk(_) => self.recovering -= 1,
            Method::BasicCancelOk(_) => self.tag = None,
            _ => {}
        }
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        if self.tag.as_ref() != Some(&letter.consumer_tag) {
            let queue = QUEUES[self.queue].name;
            talk.auditor.accuse(format!(
                "a delivery from {queue} for a consumer that was cancelled: {letter:?}"
            ));
        }
        let receipt = match (self.no_ack, is_void || self.recovering > 0) {
            (true, _) => Receipt::Automatic,
            (false, true) => Receipt::Void,
            (false, false) => Receipt::ToSettle,
        };
        let id = talk
            .auditor
            .deliver(talk.session, Some(self.queue), &letter, receipt);
        if let Some(id) = id.filter(|_| receipt == Receipt::ToSettle) {
            self.held.insert(letter.tag, (id, self.subscriptions));
            self.check_prefetch(talk);
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if self.is_leaving {
            return Wish::GoOn;
        }
        if talk.is_winding_down {
            if self.replies.is_empty() {
                self.leave(talk);
            }
            return Wish::GoOn;
        }
        match talk.dice.below(100) {
            0..50 => self.acknowledge(talk),
            50..54 => self.settle_all(talk),
            54..58 => self.requeue(talk),
            58..62 => self.reject(talk),
            62..64 if self.recovering == 0 => self.recover(talk),
            64..74 if self.replies.is_empty() => self.ask(talk),
            74..77 if self.replies.is_empty() && self.tag.is_some() => self.cancel(talk),
            77..85 if self.replies.is_empty() && self.tag.is_none() => self.subscribe(talk),
            85 if self.replies.is_empty() => return Wish::Reopen,
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.is_leaving && self.replies.is_empty()
    }

    fn describe(&self) -> String {
        let (queue, held) = (QUEUES[self.queue].name, self.held.len());
        format!(
            "consumer of {queue} in session {}, {held} held, waits for {:?}",
            self.session, self.replies
        )
    }
}
