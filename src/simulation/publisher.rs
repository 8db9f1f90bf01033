//! `Publisher`: publishes to targets of the catalogue and waits for confirms.

use super::actor::{Actor, Replies, Talk, Wish};
use super::auditor::Publishing;
use super::catalogue::TARGETS;
use super::copies::SessionId;
use super::letter::{Letter, encode_publish};
use super::manner::Manner;
use crate::protocol::method::{ConfirmSelect, ConfirmSelectOk, Method};

/// Publishes without a confirm at which it waits.
const WINDOW: usize = 120;

/// A publisher in confirm mode.
#[derive(Debug, Default)]
pub struct Publisher {
    replies: Replies,
    session: SessionId,
    unconfirmed: usize,
    manner: Manner,
    favourite: usize,
}

impl Publisher {
    /// A publisher in `manner` that likes one target more than the others, so that runs form.
    pub fn new(manner: Manner, favourite: usize) -> Self {
        Self {
            manner,
            favourite: favourite % TARGETS.len(),
            ..Self::default()
        }
    }

    fn publish(&mut self, publishing: Publishing, talk: &mut Talk<'_>) {
        let id = talk.auditor.publish(talk.session, publishing);
        let Publishing {
            target,
            body_length,
            is_persistent,
            is_mandatory,
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
        for publishing in self.manner.burst(self.favourite, talk.dice) {
            self.publish(publishing, talk);
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
