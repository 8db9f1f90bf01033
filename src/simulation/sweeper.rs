//! `Sweeper`: takes and settles everything there is while the others end their work, so that an alarm that holds their
//! publishes has no more cause.

use super::actor::{Actor, Replies, Talk, Wish};
use super::catalogue::{QUEUES, declare_queue, queue_named};
use super::copies::Receipt;
use super::letter::Letter;
use crate::model::FieldTableRef;
use crate::protocol::method::*;

/// A consumer of every queue.
#[derive(Debug, Default)]
pub struct Sweeper {
    replies: Replies,
}

impl Actor for Sweeper {
    fn open(&mut self, talk: &mut Talk<'_>) {
        for (queue, definition) in QUEUES.iter().enumerate() {
            let replies = declare_queue(talk.channel, queue, talk.out);
            self.replies.expect(QueueDeclareOk::IDS);
            if replies > 1 {
                self.replies.expect(QueueBindOk::IDS);
            }
            talk.say(BasicConsume {
                queue: definition.name.as_bytes(),
                consumer_tag: definition.name.as_bytes(),
                no_local: false,
                no_ack: false,
                exclusive: false,
                nowait: false,
                arguments: FieldTableRef::default(),
            });
            self.replies.expect(BasicConsumeOk::IDS);
        }
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        let receipt = if is_void { Receipt::Void } else { Receipt::ToSettle };
        let queue = queue_named(&letter.consumer_tag);
        let id = talk.auditor.deliver(talk.session, queue, &letter, receipt);
        if let (Some(id), Some(queue), false) = (id, queue, is_void) {
            talk.say(BasicAck {
                delivery_tag: letter.tag,
                multiple: false,
            });
            talk.auditor.settle(talk.session, queue, id);
        }
    }

    fn act(&mut self, _talk: &mut Talk<'_>) -> Wish {
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty()
    }

    fn describe(&self) -> String {
        format!("sweeper, waits for {:?}", self.replies)
    }
}
