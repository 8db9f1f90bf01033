//! `Founder`: declares the catalogue before anybody uses it.

use super::actor::{Actor, Replies, Talk, Wish};
use super::catalogue::{QUEUES, declare_exchanges, declare_queue};
use super::letter::Letter;
use crate::protocol::method::{ExchangeDeclareOk, Method, QueueBindOk, QueueDeclareOk};

/// Declares every exchange, queue and binding, and rests.
#[derive(Debug, Default)]
pub struct Founder {
    replies: Replies,
    has_begun: bool,
}

impl Actor for Founder {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.has_begun = true;
        for _ in 0..declare_exchanges(talk.channel, talk.out) {
            self.replies.expect(ExchangeDeclareOk::IDS);
        }
        for queue in 0..QUEUES.len() {
            let replies = declare_queue(talk.channel, queue, talk.out);
            self.replies.expect(QueueDeclareOk::IDS);
            if replies > 1 {
                self.replies.expect(QueueBindOk::IDS);
            }
        }
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        self.replies.take(method, talk);
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        talk.auditor.accuse(format!(
            "a message came to a client that has no consumer: {letter:?}"
        ));
    }

    fn act(&mut self, _talk: &mut Talk<'_>) -> Wish {
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.has_begun && self.replies.is_empty()
    }

    fn describe(&self) -> String {
        format!("founder, waits for {:?}", self.replies)
    }
}
