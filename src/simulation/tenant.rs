//! `Tenant`: lives in an auto-delete queue: declares it, fills it, consumes all and cancels, so that the queue goes; and
//! at once declares it again, or leaves its name to another tenant.
//!
//! ```text
//!   Away ── declare, publish ─▶ Filling ── all confirmed: consume ─▶ Emptying ── all received: ack, cancel ─┐
//!     ▲                            ▲                                                                        │
//!     └── cancel-ok: leave ────────┴──────────────── declare again, in the same breath ─────────────────────┘
//! ```

use super::actor::{Actor, Replies, Talk, Wish};
use super::letter::Letter;
use super::tenancies::House;
use crate::model::{FieldTable, FieldTableRef};
use crate::protocol::content::encode_content;
use crate::protocol::method::*;
use crate::protocol::properties::{PERSISTENT, PropertiesBuilder};
use std::collections::VecDeque;

/// Most messages of a stay.
const MESSAGES_MAX: u64 = 5;
/// Turns, some tenths of a millisecond each, after which a message that was confirmed is lost.
const PATIENCE: u64 = 5_000;
const TAG: &[u8] = b"tenant";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Away,
    Filling,
    Emptying,
}

/// A client of an auto-delete queue.
#[derive(Debug, Default)]
pub struct Tenant {
    replies: Replies,
    stage: Stage,
    house: Option<House>,
    /// How often it moved in.
    stays: u64,
    published: u64,
    confirmed: u64,
    /// Bodies that must still be delivered, in order.
    awaited: VecDeque<Vec<u8>>,
    last_tag: u64,
    turns_waited: u64,
}

impl Tenant {
    fn move_in(&mut self, talk: &mut Talk<'_>) {
        let Some(house) = self.house else { return };
        self.stays += 1;
        self.stage = Stage::Filling;
        self.declare(house, talk);
        for number in 0..talk.dice.between(1..=MESSAGES_MAX) {
            let body = format!("{} {} {} {number}", house.name(), talk.session, self.stays);
            self.publish(house, body.into_bytes(), talk);
        }
    }

    fn declare(&mut self, house: House, talk: &mut Talk<'_>) {
        talk.say(QueueDeclare {
            queue: house.name().as_bytes(),
            passive: false,
            durable: house.is_durable(),
            exclusive: false,
            auto_delete: true,
            nowait: false,
            arguments: FieldTable::builder().int("x-lane", house.lane()).build().as_ref(),
        });
        self.replies.expect(QueueDeclareOk::IDS);
    }

    fn publish(&mut self, house: House, body: Vec<u8>, talk: &mut Talk<'_>) {
        let mut properties = Vec::new();
        PropertiesBuilder {
            delivery_mode: talk.dice.chance(50).then_some(PERSISTENT),
            ..PropertiesBuilder::default()
        }
        .encode(&mut properties);
        talk.say(BasicPublish {
            exchange: b"",
            routing_key: house.name().as_bytes(),
            mandatory: false,
            immediate: false,
        });
        encode_content(talk.channel, &properties, &[&body], talk.frame_max, talk.out);
        self.published += 1;
        self.awaited.push_back(body);
    }

    fn consume(&mut self, house: House, talk: &mut Talk<'_>) {
        self.stage = Stage::Emptying;
        self.turns_waited = 0;
        talk.say(BasicConsume {
            queue: house.name().as_bytes(),
            consumer_tag: TAG,
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTableRef::default(),
        });
        self.replies.expect(BasicConsumeOk::IDS);
    }

    /// The stay ends with the last consumer's cancel. Sometimes the next begins before the cancel is answered.
    fn move_out(&mut self, talk: &mut Talk<'_>) {
        talk.say(BasicAck {
            delivery_tag: self.last_tag,
            multiple: true,
        });
        talk.say(BasicCancel {
            consumer_tag: TAG,
            nowait: false,
        });
        self.replies.expect(BasicCancelOk::IDS);
        self.stage = Stage::Away;
        if talk.dice.chance(50) && !talk.is_winding_down {
            self.move_in(talk);
        }
    }

    /// Waits for what was confirmed. A house that the tenant before was still leaving may have gone with it.
    fn wait(&mut self, house: House, talk: &mut Talk<'_>) -> Wish {
        self.turns_waited += 1;
        if self.turns_waited < PATIENCE {
            return Wish::GoOn;
        }
        if !house.is_certain {
            return Wish::Reopen;
        }
        let (name, count) = (house.name(), self.awaited.len());
        talk.auditor.accuse(format!(
            "{count} messages were confirmed for the auto-delete queue {name}, and do not come"
        ));
        Wish::GoOn
    }
}

impl Actor for Tenant {
    fn open(&mut self, talk: &mut Talk<'_>) {
        talk.say(ConfirmSelect { nowait: false });
        self.replies.expect(ConfirmSelectOk::IDS);
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        match method {
            Method::BasicAck(ack) => self.confirmed = ack.delivery_tag,
            // Only a queue that goes against its tenant's will says so.
            Method::BasicCancel(_) if self.house.is_some_and(|house| !house.is_certain) => {}
            method => self.replies.take(method, talk),
        }
        if let Method::BasicCancelOk(_) = method
            && self.stage == Stage::Away
        {
            talk.auditor.tenancies.leave(talk.session);
            self.house = None;
        }
    }

    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>) {
        self.last_tag = letter.tag;
        if is_void || self.awaited.front() == Some(&letter.body) {
            self.awaited.pop_front();
            return;
        }
        if self.house.is_some_and(|house| house.is_certain) {
            let (body, awaited) = (letter.body.escape_ascii(), self.awaited.front());
            let awaited = awaited.map(|body| body.escape_ascii().to_string());
            talk.auditor.accuse(format!(
                "a tenant awaits {awaited:?} and gets '{body}' of an auto-delete queue"
            ));
        }
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        match (self.stage, self.house) {
            (Stage::Away, None) if self.replies.is_empty() && !talk.is_winding_down => {
                self.house = talk.auditor.tenancies.take(talk.session);
                self.move_in(talk);
            }
            (Stage::Filling, Some(house)) if self.replies.is_empty() && self.confirmed == self.published => {
                self.consume(house, talk);
            }
            (Stage::Emptying, Some(_)) if self.awaited.is_empty() && self.replies.is_empty() => {
                self.move_out(talk);
            }
            (Stage::Emptying, Some(house)) if self.replies.is_empty() => return self.wait(house, talk),
            _ => {}
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty() && self.stage == Stage::Away
    }

    /// Consuming from a house that the tenant before was still leaving.
    fn may_be_refused(&self) -> bool {
        self.stage == Stage::Emptying && self.house.is_some_and(|house| !house.is_certain)
    }

    fn describe(&self) -> String {
        let (stage, awaited) = (self.stage, self.awaited.len());
        let house = self.house.map(House::name);
        format!(
            "tenant of {house:?}, {stage:?}, {awaited} messages to come, {} of {} confirmed, waits for {:?}",
            self.confirmed, self.published, self.replies
        )
    }
}
