//! `Rival`: declares and deletes the same few queues as other rivals on other cores, all at the same time. Whatever the
//! others do, queue.declare finds the queue or makes it, and queue.delete finds it gone or lets it go.

use super::actor::{Actor, Replies, Talk, Wish};
use super::letter::Letter;
use crate::model::FieldTable;
use crate::protocol::method::*;

/// Queues they fight for.
const QUEUES_FOUGHT_FOR: u64 = 4;
/// Most requests of a turn.
const REQUESTS_MAX: u64 = 3;

/// A client that declares and deletes queues that others declare and delete.
#[derive(Debug, Default)]
pub struct Rival {
    replies: Replies,
    requested: &'static str,
}

impl Rival {
    fn declare(&mut self, number: u64, talk: &mut Talk<'_>) {
        self.requested = "declare";
        let lane = (number / 2) as i32;
        talk.say(QueueDeclare {
            queue: name(number).as_bytes(),
            passive: false,
            durable: number.is_multiple_of(2),
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::builder().int("x-lane", lane).build().as_ref(),
        });
        self.replies.expect(QueueDeclareOk::IDS);
    }

    fn delete(&mut self, number: u64, talk: &mut Talk<'_>) {
        self.requested = "delete";
        talk.say(QueueDelete {
            queue: name(number).as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: false,
        });
        self.replies.expect(QueueDeleteOk::IDS);
    }
}

impl Actor for Rival {
    fn open(&mut self, _talk: &mut Talk<'_>) {}

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        talk.auditor.accuse(format!(
            "a message came to a client that has no consumer: {letter:?}"
        ));
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if talk.is_winding_down || !self.replies.is_empty() {
            return Wish::GoOn;
        }
        for _ in 0..talk.dice.between(1..=REQUESTS_MAX) {
            let number = talk.dice.below(QUEUES_FOUGHT_FOR);
            match talk.dice.chance(50) {
                true => self.declare(number, talk),
                false => self.delete(number, talk),
            }
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty()
    }

    fn describe(&self) -> String {
        let (requested, replies) = (self.requested, &self.replies);
        format!("rival, asked last to {requested}, waits for {replies:?}")
    }
}

/// The number tells whether the queue is durable and where it lives, so that all agree on that.
fn name(number: u64) -> String {
    format!("rival-{number}")
}
