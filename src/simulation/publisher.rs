//! `Publisher`: publishes to targets of the catalogue and waits for confirms.

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::Publishing;
use super::catalogue::TARGETS;
use super::copies::SessionId;
use super::letter::{Letter, encode_publish};
use crate::protocol::method::{ConfirmSelect, ConfirmSelectOk, Method};

/// Publishes without a confirm at which it waits.
const WINDOW: usize = 120;
/// Most publishes of a turn.
const BURST_MAX: u64 = 24;

/// A publisher in confirm mode.
#[derive(Debug, Default)]
pub struct Publisher {
    replies: Replies,
    session: SessionId,
    unconfirmed: usize,
    favourite: usize,
}

impl Publisher {
    /// A publisher that likes one target more than the others, so that runs form.
    pub fn new(favourite: usize) -> Self {
        Self {
            favourite: favourite % TARGETS.len(),
            ..Self::default()
        }
    }

    fn publish(&mut self, target: usize, talk: &mut Talk<'_>) {
        let publishing = Publishing {
            target,
            body_length: body_length(talk),
            is_persistent: talk.dice.chance(70),
            is_mandatory: is_mandatory(target, talk),
        };
        let id = talk.auditor.publish(talk.session, publishing);
        let Publishing {
            body_length,
            is_persistent,
            is_mandatory,
            ..
        } = publishing;
        encode_publish(
            (talk.channel, talk.frame_max),
            id,
            &TARGETS[target],
            is_mandatory,
            (body_length, is_persistent),
            talk.out,
        );
        self.unconfirmed += 1;
    }
}

impl Actor for Publisher {
    fn open(&mut self, talk: &mut Talk<'_>) {
        self.session = talk.session;
        talk.say(ConfirmSelect { nowait: false });
        self.replies.expect(ConfirmSelectOk::IDS);
    }

    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        match method {
            Method::BasicAck(ack) => {
                talk.auditor.confirm(talk.session, ack.delivery_tag, ack.multiple);
                self.unconfirmed = talk.auditor.unconfirmed(talk.session);
            }
            Method::BasicNack(nack) => {
                let tag = nack.delivery_tag;
                talk.auditor
                    .accuse(format!("publish {tag} was nacked though nothing had failed"));
            }
            method => self.replies.take(method, talk),
        }
    }

    fn receive(&mut self, letter: Letter, _is_void: bool, talk: &mut Talk<'_>) {
        talk.auditor.take_back(talk.session, &letter);
    }

    fn act(&mut self, talk: &mut Talk<'_>) -> Wish {
        if talk.is_winding_down || !self.replies.is_empty() || self.unconfirmed > WINDOW {
            return Wish::GoOn;
        }
        if talk.dice.chance(1) {
            return Wish::Reopen;
        }
        let target = match talk.dice.chance(50) {
            true => self.favourite,
            false => talk.dice.below(TARGETS.len() as u64) as usize,
        };
        for _ in 0..talk.dice.between(1..=BURST_MAX) {
            self.publish(target, talk);
        }
        Wish::GoOn
    }

    fn is_at_rest(&self) -> bool {
        self.replies.is_empty() && self.unconfirmed == 0
    }

    fn describe(&self) -> String {
        format!(
            "publisher in session {}, {} unconfirmed",
            self.session, self.unconfirmed
        )
    }
}

/// Mostly small; sometimes in several frames, above what crosses by copy, or in parts of the log.
fn body_length(talk: &mut Talk<'_>) -> usize {
    let dice = &mut *talk.dice;
    let length = match dice.below(200) {
        0 => dice.between(60_000..=200_000),
        1..4 => dice.between(15_000..=40_000),
        4..12 => dice.between(1_000..=9_000),
        12..16 => 0,
        _ => dice.between(1..=200),
    };
    length as usize
}

fn is_mandatory(target: usize, talk: &mut Talk<'_>) -> bool {
    let target = &TARGETS[target];
    (target.is_routable() || target.is_unroutable()) && talk.dice.chance(30)
}
