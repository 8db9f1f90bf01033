//! `Seat`: one channel of a client's session, with the actor that uses it.

use super::actor::{Actor, Talk, Wish};
use super::auditor::Auditor;
use super::copies::SessionId;
use super::dice::Dice;
use super::letter::Letter;
use crate::protocol::content::ContentHeader;
use crate::protocol::method::{
    BasicDeliver, BasicGetOk, BasicReturn, ChannelClose, ChannelCloseOk, ChannelOpen, Method, QueueDeclare,
    QueueDelete,
};

/// What a client does with its time, besides its actor.
pub struct Surroundings<'a> {
    /// The largest frame.
    pub frame_max: u32,
    /// Where frames go.
    pub out: &'a mut Vec<u8>,
    /// Choices.
    pub dice: &'a mut Dice,
    /// The auditor.
    pub auditor: &'a mut Auditor,
    /// Whether the run comes to its end.
    pub is_winding_down: bool,
    /// Whether the broker shuts down.
    pub is_draining: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Opening,
    Open,
    Closing,
}

/// A channel and its actor.
pub struct Seat {
    channel: u16,
    session: SessionId,
    state: State,
    actor: Box<dyn Actor>,
    arriving: Option<Arriving>,
}

struct Arriving {
    letter: Letter,
    body_size: Option<u64>,
}

impl Seat {
    /// An actor on a channel that is not open yet.
    pub fn new(channel: u16, actor: Box<dyn Actor>) -> Self {
        Self {
            channel,
            session: 0,
            state: State::Closed,
            actor,
            arriving: None,
        }
    }

    /// Opens the channel.
    pub fn open(&mut self, around: &mut Surroundings<'_>) {
        self.session = around.auditor.open_session();
        self.state = State::Opening;
        Method::from(ChannelOpen { out_of_band: b"" }).encode(self.channel, around.out);
    }

    /// Whether its actor has nothing more to do.
    pub fn is_at_rest(&self) -> bool {
        self.state == State::Open && self.actor.is_at_rest()
    }

    /// Whether its actor reads what comes.
    pub fn is_listening(&self) -> bool {
        self.state != State::Open || self.actor.is_listening()
    }

    /// What its actor is and waits for.
    pub fn describe(&self) -> String {
        format!(
            "channel {} {:?}: {}",
            self.channel,
            self.state,
            self.actor.describe()
        )
    }

    /// The connection has broken.
    pub fn break_off(&mut self, auditor: &mut Auditor) {
        if self.state != State::Closed {
            auditor.break_session(self.session);
        }
    }

    /// The client begins to close its connection.
    pub fn begin_end(&mut self, auditor: &mut Auditor) {
        if self.state != State::Closed {
            auditor.begin_end_of_session(self.session);
        }
    }

    /// The connection was closed in order.
    pub fn end(&mut self, auditor: &mut Auditor) {
        if self.state != State::Closed {
            auditor.end_session(self.session);
        }
    }

    /// Its turn. Returns whether it wants to begin anew.
    pub fn act(&mut self, around: &mut Surroundings<'_>) {
        if self.state != State::Open {
            return;
        }
        let wish = self.actor.act(&mut talk(self.channel, self.session, around));
        if wish == Wish::Reopen {
            self.state = State::Closing;
            around.auditor.begin_end_of_session(self.session);
            let close = ChannelClose {
                reply_code: 200,
                reply_text: b"enough",
                class_id: 0,
                method_id: 0,
            };
            Method::from(close).encode(self.channel, around.out);
        }
    }

    /// A method came. Returns whether the channel is closed: another actor may open it again.
    pub fn hear(&mut self, method: &Method<'_>, around: &mut Surroundings<'_>) -> bool {
        match method {
            Method::ChannelOpenOk(_) if self.state == State::Opening => {
                self.state = State::Open;
                self.actor.open(&mut talk(self.channel, self.session, around));
            }
            Method::ChannelCloseOk(_) if self.state == State::Closing => {
                around.auditor.end_session(self.session);
                return true;
            }
            Method::ChannelClose(close) => return self.be_closed(close, around),
            Method::BasicDeliver(deliver) => self.begin(delivered(deliver)),
            Method::BasicGetOk(got) => self.begin(got_letter(got)),
            Method::BasicReturn(returned) => self.begin(returned_letter(returned)),
            method => self
                .actor
                .hear(method, &mut talk(self.channel, self.session, around)),
        }
        false
    }

    /// A content's header came.
    pub fn take_header(&mut self, header: &ContentHeader<'_>, around: &mut Surroundings<'_>) {
        let Some(arriving) = self.arriving.as_mut() else {
            return around
                .auditor
                .accuse("a content header without its method".to_owned());
        };
        arriving.letter.properties = header.properties.to_vec();
        arriving.body_size = Some(header.body_size);
        self.complete(around);
    }

    /// A piece of a body came.
    pub fn take_body(&mut self, payload: &[u8], around: &mut Surroundings<'_>) {
        let Some(arriving) = self
            .arriving
            .as_mut()
            .filter(|arriving| arriving.body_size.is_some())
        else {
            return around.auditor.accuse("a body without its header".to_owned());
        };
        arriving.letter.body.extend_from_slice(payload);
        self.complete(around);
    }

    fn begin(&mut self, letter: Letter) {
        self.arriving = Some(Arriving {
            letter,
            body_size: None,
        });
    }

    fn complete(&mut self, around: &mut Surroundings<'_>) {
        let is_whole = |arriving: &Arriving| arriving.body_size == Some(arriving.letter.body.len() as u64);
        if self.arriving.as_ref().is_some_and(is_whole) {
            let letter = self.arriving.take().expect("looked at just above").letter;
            let is_void = self.state == State::Closing || around.is_draining;
            self.actor
                .receive(letter, is_void, &mut talk(self.channel, self.session, around));
        }
    }

    fn be_closed(&mut self, close: &ChannelClose<'_>, around: &mut Surroundings<'_>) -> bool {
        let is_race = matches!(close.reply_code, 404..=406) && self.actor.may_be_refused();
        if !is_race || is_never_missing(close) {
            let (code, text) = (close.reply_code, close.reply_text.escape_ascii());
            let who = self.actor.describe();
            around
                .auditor
                .accuse(format!("the broker closed the channel of {who}: {code} {text}"));
        }
        around.auditor.break_session(self.session);
        Method::from(ChannelCloseOk {}).encode(self.channel, around.out);
        true
    }
}

/// What is declared need not be there before, and what is deleted need not be there any more. (Whoever may be refused
/// declares nothing passively.)
fn is_never_missing(close: &ChannelClose<'_>) -> bool {
    close.reply_code == 404
        && matches!(
            (close.class_id, close.method_id),
            QueueDeclare::IDS | QueueDelete::IDS
        )
}

fn talk<'t>(channel: u16, session: SessionId, around: &'t mut Surroundings<'_>) -> Talk<'t> {
    Talk {
        channel,
        session,
        frame_max: around.frame_max,
        out: around.out,
        dice: around.dice,
        auditor: around.auditor,
        is_winding_down: around.is_winding_down,
    }
}

fn delivered(deliver: &BasicDeliver<'_>) -> Letter {
    Letter {
        tag: deliver.delivery_tag,
        redelivered: deliver.redelivered,
        consumer_tag: deliver.consumer_tag.to_vec(),
        exchange: deliver.exchange.to_vec(),
        routing_key: deliver.routing_key.to_vec(),
        ..Letter::default()
    }
}

fn got_letter(got: &BasicGetOk<'_>) -> Letter {
    Letter {
        tag: got.delivery_tag,
        redelivered: got.redelivered,
        exchange: got.exchange.to_vec(),
        routing_key: got.routing_key.to_vec(),
        ..Letter::default()
    }
}

fn returned_letter(returned: &BasicReturn<'_>) -> Letter {
    Letter {
        exchange: returned.exchange.to_vec(),
        routing_key: returned.routing_key.to_vec(),
        ..Letter::default()
    }
}
