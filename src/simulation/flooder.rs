//! `Flooder`: asks for much and does not read the answers: it publishes mandatory messages that come back, and
//! pipelines basic.get, while its socket is full. Then it reads for a while, and settles what it got.

use super::actor::{Actor, Talk, Wish};
use super::auditor::{MessageId, Publishing};
use super::catalogue::{QUEUES, QueueIndex, TARGETS};
use super::copies::Receipt;
use super::letter::{Letter, encode_publish};
use crate::protocol::method::*;
use std::collections::{BTreeMap, VecDeque};

/// Most turns for which it reads nothing.
const DEAF_TURNS_MAX: u64 = 200;
/// Bytes that it asks for meanwhile: several times what a connection's output may hold.
const FLOOD_BYTES_MAX: u64 = 3 << 20;
/// The target that leads nowhere.
const NOWHERE: usize = 5;

/// A client that does not listen.
#[derive(Debug, Default)]
pub struct Flooder {
    deaf_turns: u64,
    flood_bytes: u64,
    /// Queues of the gets that are not answered.
    asked: VecDeque<QueueIndex>,
    held: BTreeMap<u64, (QueueIndex, MessageId)>,
}

impl Flooder {
    fn flood(&mut self, talk: &mut Talk<'_>) {
        let count = talk.dice.between(5..=20);
        if talk.dice.chance(60) {
            (0..count).for_each(|_| self.publish(talk));
        } else {
            (0..count).for_each(|_| self.get(talk));
        }
    }

    fn publish(&mut self, talk: &mut Talk<'_>) {
        let publishing = Publishing {
            target: NOWHERE,
            body_length: talk.dice.between(1_000..=9_000) as usize,
            is_persistent: false,
            is_mandatory: true,
        };
        let id = talk.auditor.publish(talk.session, publishing);
        encode_publish(
            (talk.channel, talk.frame_max),
            id,
            &TARGETS[NOWHERE],
            true,
            (publishing.body_length, false),
            talk.out,
        );
        self.flood_bytes = self.flood_bytes.saturating_sub(publishing.body_length as u64);
    }

    fn get(&mut self, talk: &mut Talk<'_>) {
        let durable: Vec<QueueIndex> = (0..QUEUES.len())
            .filter(|&queue| QUEUES[queue].is_durable)
            .collect();
        let queue = *talk.dice.pick(&durable);
        talk.say(BasicGet {
            queue: QUEUES[queue].name.as_bytes(),
            no_ack: false,
        });
        self.asked.push_back(queue);
    }

    fn settle_all(&mut self, talk: &mut Talk<'_>) {
        let Some((&delivery_tag, _)) = self.held.last_key_value() else {
            return;
        };
        talk.say(BasicAck {
            delivery_tag,
            multiple: true,
        });
        for (queue, id) in std::mem::take(&mut self.held).into_values() {
            talk.auditor.settle(talk.session, queue, id);
        }
    }
}

impl Actor for Flooder {
    fn open(&mut self, _talk: &mut Talk<'_>) {}

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        match method {
            Method::BasicGetEmpty(_) if !self.asked.is_empty() => drop(self.asked.pop_front()),
            method => talk
                .auditor
                .accuse(format!("{} came to a flooder", method.name())),
        }
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        if letter.tag == 0 {
            return talk.auditor.take_back(talk.session, &letter);
        }
        let Some(queue) = self.asked.pop_front() else {
            return talk
                .auditor
                .accuse(format!("a message was got that nobody asked for: {letter:?}"));
        };
        let receipt = if is_void { Receipt::Void } else { Receipt::ToSettle };
        let id = talk.auditor.deliver(talk.session, Some(queue), &letter, receipt);
        if let Some(id) = id.filter(|_| !is_void) {
            self.held.insert(letter.tag, (queue, id));
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if talk.is_winding_down {
            self.deaf_turns = 0;
            return Wish::GoOn;
        }
        if self.deaf_turns > 0 {
            self.deaf_turns -= 1;
            if self.flood_bytes > 0 {
                self.flood(talk);
            }
            return Wish::GoOn;
        }
        self.settle_all(talk);
        if self.asked.is_empty() && talk.dice.chance(5) {
            self.deaf_turns = talk.dice.between(20..=DEAF_TURNS_MAX);
            self.flood_bytes = talk.dice.below(FLOOD_BYTES_MAX);
        }
        Wish::GoOn
    }

    fn is_listening(&self) -> bool {
        self.deaf_turns == 0
    }

    fn is_at_rest(&self) -> bool {
        self.asked.is_empty()
    }

    fn describe(&self) -> String {
        let (asked, held, deaf) = (self.asked.len(), self.held.len(), self.deaf_turns);
        format!("flooder, {asked} gets not answered, {held} held, deaf for {deaf} turns")
    }
}
