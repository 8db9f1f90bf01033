//! `Drainer`: empties every durable queue at the end of a run, one after another, and counts.

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::MessageId;
use super::catalogue::{QUEUES, QueueIndex, takes_dead_letters};
use super::copies::{Receipt, SessionId};
use super::letter::Letter;
use crate::model::FieldTableRef;
use crate::protocol::method::*;
use std::collections::BTreeMap;

/// Takes all messages of all durable queues, and settles them.
#[derive(Debug, Default)]
pub struct Drainer {
    queue: QueueIndex,
    replies: Replies,
    /// Messages the queue says it has, once it has said so.
    counted: Option<usize>,
    received: Vec<MessageId>,
    last_tag: u64,
    /// By publishing session, the last message: the queue must be in order, whatever happened to it before.
    last_of: BTreeMap<SessionId, MessageId>,
    is_settled: bool,
    is_done: bool,
}

impl Drainer {
    fn inspect(&mut self, talk: &mut Talk<'_>) {
        talk.say(QueueDeclare {
            queue: QUEUES[self.queue].name.as_bytes(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTableRef::default(),
        });
        self.replies.expect(QueueDeclareOk::IDS);
    }

    fn consume(&mut self, talk: &mut Talk<'_>) {
        talk.say(BasicConsume {
            queue: QUEUES[self.queue].name.as_bytes(),
            consumer_tag: QUEUES[self.queue].name.as_bytes(),
            no_local: false,
            no_ack: false,
            exclusive: true,
            nowait: false,
            arguments: FieldTableRef::default(),
        });
        self.replies.expect(BasicConsumeOk::IDS);
    }

    /// Settles all when the last message has come, cancels, and counts once more.
    fn finish_queue(&mut self, talk: &mut Talk<'_>) {
        if self.last_tag > 0 {
            talk.say(BasicAck {
                delivery_tag: self.last_tag,
                multiple: true,
            });
        }
        for &id in &self.received {
            talk.auditor.settle(talk.session, self.queue, id);
        }
        self.last_tag = 0;
        talk.say(BasicCancel {
            consumer_tag: QUEUES[self.queue].name.as_bytes(),
            nowait: false,
        });
        self.replies.expect(BasicCancelOk::IDS);
        self.is_settled = true;
        self.inspect(talk);
    }

    fn counted(&mut self, count: usize, consumers: u32, talk: &mut Talk<'_>) {
        if consumers > 0 {
            let name = QUEUES[self.queue].name;
            talk.auditor.accuse(format!(
                "{name} says it has {consumers} consumers when all have gone"
            ));
        }
        if !self.is_settled {
            talk.auditor.count(self.queue, count);
            self.counted = Some(count);
            self.consume(talk);
            return;
        }
        if count > 0 {
            let name = QUEUES[self.queue].name;
            talk.auditor.accuse(format!(
                "{name} says it has {count} messages after its last was settled"
            ));
        }
        talk.auditor.take_settles(self.queue, &self.received);
        self.go_to_next(talk);
    }

    fn go_to_next(&mut self, talk: &mut Talk<'_>) {
        let next = (self.queue + 1..QUEUES.len()).find(|&queue| QUEUES[queue].is_durable);
        let replies = std::mem::take(&mut self.replies);
        *self = Self {
            replies,
            is_done: next.is_none(),
            queue: next.unwrap_or(self.queue),
            ..Self::default()
        };
        if !self.is_done {
            self.inspect(talk);
        }
    }
}

impl Actor for Drainer {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.inspect(talk);
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
        if let Method::QueueDeclareOk(ok) = method {
            self.counted(ok.message_count as usize, ok.consumer_count, talk);
        }
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        let Some(id) = talk
            .auditor
            .deliver(talk.session, Some(self.queue), &letter, Receipt::ToSettle)
        else {
            return;
        };
        self.last_tag = letter.tag;
        self.received.push(id);
        let publisher = talk.auditor.publisher_of(id);
        let is_ordered = !takes_dead_letters(self.queue);
        let last = self.last_of.insert(publisher, id);
        if let Some(last) = last.filter(|&last| is_ordered && last > id) {
            let name = QUEUES[self.queue].name;
            talk.auditor.accuse(format!(
                "message {id} stood behind {last} of the same channel in {name}"
            ));
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        let has_all = self.counted.is_some_and(|count| self.received.len() >= count);
        if has_all && !self.is_settled && self.replies.is_empty() {
            self.finish_queue(talk);
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (name, received) = (QUEUES[self.queue].name, self.received.len());
        format!("drainer of {name}, {received} of {:?} received", self.counted)
    }
}
