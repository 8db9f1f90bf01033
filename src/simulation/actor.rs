//! `Actor`: what a client does on one channel; `Talk` is how it does it.

use super::auditor::Auditor;
use super::copies::SessionId;
use super::dice::Dice;
use super::letter::Letter;
use crate::protocol::method::Method;
use std::collections::VecDeque;

/// How an actor speaks and what it knows, for one moment.
pub struct Talk<'a> {
    /// Its channel.
    pub channel: u16,
    /// The channel's number for the auditor, from its opening to its end.
    pub session: SessionId,
    /// The largest frame.
    pub frame_max: u32,
    /// Where frames go.
    pub out: &'a mut Vec<u8>,
    /// Its choices.
    pub dice: &'a mut Dice,
    /// Who must be told of what it does and gets.
    pub auditor: &'a mut Auditor,
    /// Whether the run comes to its end: nothing new is begun.
    pub is_winding_down: bool,
}

impl<'a> Talk<'a> {
    /// Sends a method.
    pub fn say<'m>(&mut self, method: impl Into<Method<'m>>) {
        method.into().encode(self.channel, self.out);
    }
}

/// What an actor wants besides what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    GoOn,
    /// To close its channel and begin anew on another.
    Reopen,
}

/// What a client does on a channel.
pub trait Actor {
    /// The channel is open.
    fn open(&mut self, talk: &mut Talk<'_>);

    /// A method came that has no content.
    fn hear(&mut self, method: &Method<'_>, talk: &mut Talk<'_>);

    /// A message came: delivered, got, or returned when it has no delivery tag.
    fn receive(&mut self, letter: Letter, is_void: bool, talk: &mut Talk<'_>);

    /// It is its turn.
    fn act(&mut self, talk: &mut Talk<'_>) -> Wish;

    /// Whether it reads what comes.
    fn is_listening(&self) -> bool {
        true
    }

    /// Whether it has nothing more to do, once the run comes to its end.
    fn is_at_rest(&self) -> bool;

    /// Whether the broker may close its channel: with 404, 405 or 406, because others change what it uses.
    fn may_be_refused(&self) -> bool {
        false
    }

    /// What it is and waits for.
    fn describe(&self) -> String;
}

/// Replies that a channel waits for, in order.
#[derive(Debug, Default)]
pub struct Replies(VecDeque<(u16, u16)>);

impl Replies {
    /// A method was sent whose reply has these ids.
    pub fn expect(&mut self, ids: (u16, u16)) {
        self.0.push_back(ids);
    }

    /// The reply that comes is `method`.
    pub fn take(&mut self, method: &Method<'_>, talk: &mut Talk<'_>) {
        let ids = method.ids();
        self.take_ids(ids, talk);
    }

    /// The same, by its ids.
    pub fn take_ids(&mut self, ids: (u16, u16), talk: &mut Talk<'_>) {
        let expected = self.0.pop_front();
        if expected != Some(ids) {
            let channel = talk.session;
            talk.auditor.accuse(format!(
                "channel session {channel} expects the reply {expected:?} and gets {ids:?}"
            ));
        }
    }

    /// Whether none is awaited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
