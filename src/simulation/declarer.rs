//! `Declarer`: makes, binds, fills, empties and deletes queues and exchanges that others know nothing of, or that
//! another declarer fights it for.

use super::actor::{Actor, Replies, Talk, Wish};
use super::copies::Receipt;
use super::letter::Letter;
use crate::model::FieldTable;
use crate::protocol::method::*;

/// Names that declarers fight for.
const SHARED_NAMES: u64 = 3;

/// A client that declares and deletes.
#[derive(Debug, Default)]
pub struct Declarer {
    replies: Replies,
    /// Number of the client, part of its queues' names.
    client: usize,
    made: u64,
    queues: Vec<Vec<u8>>,
    is_getting: bool,
    consumers: u64,
}

impl Declarer {
    /// The declarer of this client.
    pub fn new(client: usize) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }

    fn declare(&mut self, talk: &mut Talk<'_>) {
        self.made += 1;
        let kind = talk.dice.below(6);
        let number = talk.dice.below(SHARED_NAMES);
        // A name says whether the queue is durable, so that those who fight for it agree on that.
        let (name, durable) = match kind {
            0 => (String::new(), false),
            1 | 2 => (format!("shared-{number}"), number == 0),
            _ => (
                format!("scratch-{}-{}-{}", self.client, talk.session, self.made),
                talk.dice.chance(50),
            ),
        };
        let lane = talk.dice.below(3);
        let arguments = match lane {
            2 => FieldTable::default(),
            lane => FieldTable::builder().int("x-lane", lane as i32).build(),
        };
        talk.say(QueueDeclare {
            queue: name.as_bytes(),
            passive: false,
            durable,
            exclusive: kind == 0 || kind == 3,
            auto_delete: kind == 4,
            nowait: false,
            arguments: arguments.as_ref(),
        });
        self.replies.expect(QueueDeclareOk::IDS);
    }

    fn bind(&mut self, queue: &[u8], talk: &mut Talk<'_>) {
        let arguments = FieldTable::default();
        let (exchange, routing_key): (&[u8], &[u8]) = match talk.dice.chance(50) {
            true => (b"news", b""),
            false => (b"events", b"a.*"),
        };
        if talk.dice.chance(70) {
            talk.say(QueueBind {
                queue,
                exchange,
                routing_key,
                nowait: false,
                arguments: arguments.as_ref(),
            });
            self.replies.expect(QueueBindOk::IDS);
        } else {
            talk.say(QueueUnbind {
                queue,
                exchange,
                routing_key,
                arguments: arguments.as_ref(),
            });
            self.replies.expect(QueueUnbindOk::IDS);
        }
    }

    fn consume(&mut self, queue: &[u8], talk: &mut Talk<'_>) {
        self.consumers += 1;
        let consumer_tag = format!("d{}", self.consumers);
        let no_ack = talk.dice.chance(50);
        talk.say(BasicConsume {
            queue,
            consumer_tag: consumer_tag.as_bytes(),
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default().as_ref(),
        });
        self.replies.expect(BasicConsumeOk::IDS);
        if talk.dice.chance(60) {
            talk.say(BasicCancel {
                consumer_tag: consumer_tag.as_bytes(),
                nowait: false,
            });
            self.replies.expect(BasicCancelOk::IDS);
        }
    }

    fn delete(&mut self, queue: &[u8], talk: &mut Talk<'_>) {
        let if_unused = talk.dice.chance(10);
        talk.say(QueueDelete {
            queue,
            if_unused,
            if_empty: false,
            nowait: false,
        });
        self.replies.expect(QueueDeleteOk::IDS);
    }

    fn change_exchange(&mut self, talk: &mut Talk<'_>) {
        let exchange = format!("scratch-exchange-{}", talk.dice.below(3));
        let arguments = FieldTable::default();
        match talk.dice.below(3) {
            0 => {
                talk.say(ExchangeDelete {
                    exchange: exchange.as_bytes(),
                    if_unused: false,
                    nowait: false,
                });
                self.replies.expect(ExchangeDeleteOk::IDS);
            }
            choice => {
                talk.say(ExchangeDeclare {
                    exchange: exchange.as_bytes(),
                    kind: b"direct",
                    passive: false,
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    nowait: false,
                    arguments: arguments.as_ref(),
                });
                self.replies.expect(ExchangeDeclareOk::IDS);
                if choice == 2 {
                    talk.say(ExchangeBind {
                        destination: exchange.as_bytes(),
                        source: b"news",
                        routing_key: b"",
                        nowait: false,
                        arguments: arguments.as_ref(),
                    });
                    self.replies.expect(ExchangeBindOk::IDS);
                }
            }
        }
    }

    fn use_queue(&mut self, talk: &mut Talk<'_>) {
        let index = talk.dice.below(self.queues.len() as u64) as usize;
        let queue = self.queues[index].clone();
        match talk.dice.below(10) {
            0..3 => self.bind(&queue, talk),
            3..5 => {
                let no_ack = talk.dice.chance(50);
                talk.say(BasicGet {
                    queue: &queue,
                    no_ack,
                });
                self.is_getting = true;
            }
            5 => {
                talk.say(QueuePurge {
                    queue: &queue,
                    nowait: false,
                });
                self.replies.expect(QueuePurgeOk::IDS);
            }
            6 => self.consume(&queue, talk),
            _ => {
                self.queues.remove(index);
                self.delete(&queue, talk);
            }
        }
    }
}

impl Actor for Declarer {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.consumers = 0;
        if talk.dice.chance(30) {
            talk.say(BasicQos {
                prefetch_size: 0,
                prefetch_count: 3,
                global: false,
            });
            self.replies.expect(BasicQosOk::IDS);
        }
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        match method {
            Method::BasicGetEmpty(_) if self.is_getting => self.is_getting = false,
            Method::BasicCancel(_) => {}
            method => self.replies.take(method, talk),
        }
        if let Method::QueueDeclareOk(ok) = method {
            self.queues.push(ok.queue.to_vec());
        }
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        if letter.consumer_tag.is_empty() && !std::mem::take(&mut self.is_getting) {
            return talk
                .auditor
                .accuse(format!("a message was got that nobody asked for: {letter:?}"));
        }
        talk.auditor
            .deliver(talk.session, None, &letter, Receipt::Automatic);
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if talk.is_winding_down || !self.replies.is_empty() || self.is_getting {
            return Wish::GoOn;
        }
        match talk.dice.below(20) {
            0..2 => self.change_exchange(talk),
            2 => return Wish::Reopen,
            3..9 if !self.queues.is_empty() => self.use_queue(talk),
            9..13 => self.declare(talk),
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty() && !self.is_getting
    }

    fn may_be_refused(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!(
            "declarer, waits for {:?}, getting: {}",
            self.replies, self.is_getting
        )
    }
}
