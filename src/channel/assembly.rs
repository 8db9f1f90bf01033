//! `Assembly`: puts a published message together from its method, header and body frames (AMQP 0-9-1 §4.2.6).
//!
//! The usual publish, complete in the receive buffer and to the same place as the one before, never comes here:
//! the connection recognises it by [`Assembly::method_frame`]. What is left is the first publish of a target,
//! a message cut by the end of a read, and a body of several frames.

use super::examination::must_be_examined;
use super::reply_to::ReplyAddress;
use crate::model::{Content, Refusal, ReplyCode, ShortString};
use crate::protocol::content::ContentHeader;
use crate::protocol::method::BasicPublish;
use crate::protocol::properties::Properties;
use crate::protocol::publish::RecognisedPublish;
use std::ops::Range;

const BASIC_CLASS: u16 = 60;
/// Room is made in advance for bodies up to this; larger ones grow as their frames come, so that a lie about the size costs
/// its teller.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// A message with a body of so many bytes is put together in the stretch that a queue keeps, so that it need not be copied.
const STRETCH_BYTES_MIN: u64 = 16 * 1024;

/// Largest body that any configuration allows, as in RabbitMQ.
const BODY_BYTES_MAX: u64 = 512 << 20;

/// Longer properties are checked each time they come: a channel keeps little while it is idle.
const KNOWN_PROPERTIES_BYTES_MAX: usize = 1024;

/// Where a publish goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishTarget {
    /// The exchange; empty for the default one.
    pub exchange: ShortString,
    /// The routing key.
    pub routing_key: ShortString,
    /// Whether an unroutable message comes back.
    pub mandatory: bool,
    /// Whether a message without a ready consumer comes back; not offered.
    pub immediate: bool,
    /// Whether the routing key is the address of a requester, not a queue's name.
    pub is_reply: bool,
}

/// What is known of a message by its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it is to survive a restart.
    pub is_persistent: bool,
    /// Whether it has a time to live (`expiration`).
    pub expires: bool,
    /// Whether it asks for more, which [`examine`](super::examine) judges.
    pub must_be_examined: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    AwaitHeader,
    AwaitBody {
        remaining: u64,
    },
}

/// A content frame that does not fit what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// A header or body frame without a publish.
    #[error("expected method frame, got non method frame instead")]
    ExpectedMethod,
    /// Something else where the header belongs.
    #[error("expected content header for class 60, got non content header frame instead")]
    ExpectedHeader,
    /// A header of another class.
    #[error("expected content header for class 60, got one for class {0} instead")]
    OtherClass(u16),
    /// Something else where the body belongs.
    #[error("expected content body, got non content body frame instead")]
    ExpectedBody,
    /// More body than the header announced.
    #[error("expected content body, got non content body frame instead")]
    BodyTooLong,
    /// The properties cannot be decoded.
    #[error("malformed content properties")]
    Properties,
    /// A message above the configured limit.
    #[error("message size {size} is larger than configured max size {limit}")]
    TooLarge {
        /// Bytes announced.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A body that no broker may be configured to take.
    #[error("content body size {size} exceeds maximum allowed size {BODY_BYTES_MAX}")]
    Enormous {
        /// Bytes announced.
        size: u64,
    },
}

impl AssemblyError {
    /// The refusal: a message that is too large closes its channel (406), all else the connection (501, 502, 505).
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            AssemblyError::TooLarge { .. } => ReplyCode::PreconditionFailed,
            AssemblyError::Enormous { .. } => ReplyCode::FrameError,
            AssemblyError::Properties => ReplyCode::SyntaxError,
            _ => ReplyCode::UnexpectedFrame,
        };
        Refusal::new(code, self.to_string())
    }
}

/// The publish in progress on a channel.
#[derive(Debug, Default)]
pub struct Assembly {
    state: State,
    method_frame: Vec<u8>,
    target: PublishTarget,
    content: Vec<u8>,
    /// Where in `content` the properties lie; before them is what a [`Content`] begins with, if the body is large.
    properties: Range<usize>,
    known_properties: Vec<u8>,
    known: Known,
    held: u64,
}

impl Assembly {
    /// Bytes of the last basic.publish method frame, empty before the first: a publish that begins with these goes
    /// where [`Assembly::target`] says.
    #[inline]
    pub fn method_frame(&self) -> &[u8] {
        &self.method_frame
    }

    /// Where the last publish goes.
    pub fn target(&self) -> &PublishTarget {
        &self.target
    }

    /// Whether a publish waits for its header or for the rest of its body.
    #[inline]
    pub fn is_in_content(&self) -> bool {
        self.state != State::Idle
    }

    /// A basic.publish came; `frame` are all its bytes. Returns whether the target changed.
    ///
    /// # Errors
    /// 505 when a publish is in progress.
    pub fn begin(&mut self, frame: &[u8], publish: &BasicPublish<'_>) -> Result<bool, AssemblyError> {
        self.expect_no_content()?;
        self.state = State::AwaitHeader;
        if self.method_frame == frame {
            return Ok(false);
        }
        self.method_frame.clear();
        self.method_frame.extend_from_slice(frame);
        self.target = PublishTarget {
            exchange: ShortString::new(publish.exchange).expect("the decoder bounds a shortstr"),
            routing_key: ShortString::new(publish.routing_key).expect("the decoder bounds a shortstr"),
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            is_reply: publish.exchange.is_empty() && ReplyAddress::decode(publish.routing_key).is_some(),
        };
        Ok(true)
    }

    /// A content header came. Returns whether the message is complete.
    ///
    /// # Errors
    /// 505 when none was expected, 501 when its body is above 512 MiB, 406 when it is above `size_max`, 502 when its
    /// properties are malformed.
    pub fn header(&mut self, header: &ContentHeader<'_>, size_max: u64) -> Result<bool, AssemblyError> {
        match self.state {
            State::AwaitHeader if header.class_id == BASIC_CLASS => {}
            State::AwaitHeader => return Err(AssemblyError::OtherClass(header.class_id)),
            State::AwaitBody { .. } => return Err(AssemblyError::ExpectedBody),
            State::Idle => return Err(AssemblyError::ExpectedMethod),
        }
        if header.body_size > BODY_BYTES_MAX {
            return Err(AssemblyError::Enormous {
                size: header.body_size,
            });
        }
        if header.body_size > size_max {
            return Err(AssemblyError::TooLarge {
                size: header.body_size,
                limit: size_max,
            });
        }
        self.check_properties(header.properties)?;
        let stretch = Content {
            exchange: self.target.exchange.as_bytes(),
            routing_key: self.target.routing_key.as_bytes(),
            properties: header.properties,
            body: b"",
        };
        self.content.clear();
        let in_advance = RESERVE_BYTES_MAX.min(header.body_size as usize);
        self.content.reserve_exact(stretch.prefix_length() + in_advance);
        match header.body_size {
            ..STRETCH_BYTES_MIN => self.content.extend_from_slice(header.properties),
            _ => stretch.encode_prefix(&mut self.content),
        }
        self.properties = self.content.len() - header.properties.len()..self.content.len();
        Ok(self.await_body(header.body_size))
    }

    /// A body frame came. Returns whether the message is complete.
    ///
    /// # Errors
    /// 505 when none was expected, or it is longer than what is missing.
    pub fn body(&mut self, payload: &[u8]) -> Result<bool, AssemblyError> {
        let State::AwaitBody { remaining } = self.state else {
            return Err(match self.state {
                State::AwaitHeader => AssemblyError::ExpectedHeader,
                _ => AssemblyError::ExpectedMethod,
            });
        };
        let remaining = remaining
            .checked_sub(payload.len() as u64)
            .ok_or(AssemblyError::BodyTooLong)?;
        self.make_room(payload.len(), remaining);
        self.content.extend_from_slice(payload);
        Ok(self.await_body(remaining))
    }

    /// A method came on the channel.
    ///
    /// # Errors
    /// 505 when a publish is in progress.
    #[inline]
    pub fn expect_no_content(&self) -> Result<(), AssemblyError> {
        match self.state {
            State::Idle => Ok(()),
            State::AwaitHeader => Err(AssemblyError::ExpectedHeader),
            State::AwaitBody { .. } => Err(AssemblyError::ExpectedBody),
        }
    }

    /// Grows the content for `more` bytes, twofold, but never beyond what its header announced.
    fn make_room(&mut self, more: usize, remaining: u64) {
        if self.content.capacity() - self.content.len() < more {
            let ahead = self.content.len().min(remaining as usize);
            self.content.reserve_exact(more + ahead);
        }
    }

    /// Takes the complete message: a buffer, and where in it properties and body lie. If the properties do not begin it, the
    /// whole buffer is a [`Content`]'s stretch. Give the buffer back with [`Assembly::recycle`].
    pub fn take_complete(&mut self) -> (Vec<u8>, RecognisedPublish) {
        debug_assert!(self.state == State::Idle, "the message is complete");
        let content = std::mem::take(&mut self.content);
        let properties = self.properties.start as u32..self.properties.end as u32;
        let length = content.len() as u32;
        (
            content,
            RecognisedPublish {
                body: properties.end..length,
                properties,
                length,
            },
        )
    }

    /// Puts a taken message back: it cannot be published yet.
    pub fn put_back(&mut self, content: Vec<u8>) {
        debug_assert!(self.state == State::Idle, "nothing came behind it");
        self.content = content;
    }

    /// Takes a buffer back for the next message, unless it has grown large.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 16 * 1024 {
            buffer.clear();
            self.content = buffer;
        }
    }

    /// Checks a message's properties and says what matters of them; the same bytes as last time cost a comparison.
    ///
    /// # Errors
    /// 502 when they are malformed.
    #[inline]
    pub fn check_properties(&mut self, properties: &[u8]) -> Result<Known, AssemblyError> {
        if properties == self.known_properties.as_slice() && !properties.is_empty() {
            return Ok(self.known);
        }
        self.learn_properties(properties)
    }

    fn learn_properties(&mut self, properties: &[u8]) -> Result<Known, AssemblyError> {
        let checked = Properties::new_checked(properties).map_err(|_| AssemblyError::Properties)?;
        let known = Known {
            is_persistent: checked.is_persistent(),
            expires: checked.expiration().is_some(),
            must_be_examined: must_be_examined(checked),
        };
        if properties.len() <= KNOWN_PROPERTIES_BYTES_MAX {
            self.known = known;
            self.known_properties.clear();
            self.known_properties.extend_from_slice(properties);
        }
        Ok(known)
    }

    /// Gives up the publish in progress: the channel closes.
    pub fn abandon(&mut self) {
        self.state = State::Idle;
        self.content = Vec::new();
    }

    /// Bytes of memory that the message in progress has come to take since this was last asked: to be counted until
    /// [`Assembly::take_held`].
    pub fn growth(&mut self) -> u64 {
        let grown = (self.content.capacity() as u64).saturating_sub(self.held);
        self.held += grown;
        grown
    }

    /// Bytes counted for the message in progress.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Ends the counting: the message was published or given up.
    pub fn take_held(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }

    fn await_body(&mut self, remaining: u64) -> bool {
        self.state = if remaining == 0 {
            State::Idle
        } else {
            State::AwaitBody { remaining }
        };
        remaining == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish() -> BasicPublish<'static> {
        BasicPublish {
            exchange: b"x",
            routing_key: b"key",
            mandatory: false,
            immediate: false,
        }
    }

    fn header(body_size: u64) -> ContentHeader<'static> {
        ContentHeader {
            class_id: 60,
            body_size,
            properties: &[0x10, 0, 2],
        }
    }

    #[test]
    fn a_body_of_several_frames_is_put_together() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.begin(b"frame", &publish()), Ok(true));
        assert_eq!(assembly.header(&header(5), 100), Ok(false));
        assert_eq!(assembly.body(b"he"), Ok(false));
        assert_eq!(assembly.body(b""), Ok(false));
        assert_eq!(assembly.body(b"llo"), Ok(true));
        let (content, place) = assembly.take_complete();
        assert_eq!(
            &content[place.body.start as usize..place.body.end as usize],
            b"hello"
        );
        assert_eq!(&content[..place.properties.end as usize], &[0x10, 0, 2]);
        assert_eq!(
            assembly.begin(b"frame", &publish()),
            Ok(false),
            "the same frame goes to the same place"
        );
    }

    #[test]
    fn frames_out_of_order_are_refused_with_rabbitmqs_words() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.body(b"x"), Err(AssemblyError::ExpectedMethod));
        assert_eq!(assembly.header(&header(1), 9), Err(AssemblyError::ExpectedMethod));
        assembly.begin(b"frame", &publish()).expect("nothing in progress");
        assert_eq!(assembly.body(b"x"), Err(AssemblyError::ExpectedHeader));
        assert_eq!(assembly.expect_no_content(), Err(AssemblyError::ExpectedHeader));
        assembly.header(&header(1), 9).expect("a header is due");
        assert_eq!(assembly.header(&header(1), 9), Err(AssemblyError::ExpectedBody));
        assert_eq!(assembly.body(b"xy"), Err(AssemblyError::BodyTooLong));
        assert_eq!(
            AssemblyError::ExpectedBody.refusal().code,
            ReplyCode::UnexpectedFrame
        );
    }

    #[test]
    fn a_message_above_the_limit_closes_only_the_channel() {
        let mut assembly = Assembly::default();
        assembly.begin(b"frame", &publish()).expect("nothing in progress");
        let refusal = assembly
            .header(&header(10), 9)
            .expect_err("ten are more than nine")
            .refusal();
        assert_eq!(
            refusal.reply_text(),
            "PRECONDITION_FAILED - message size 10 is larger than configured max size 9"
        );
    }

    #[test]
    fn a_message_above_512_mib_closes_the_connection() {
        let mut assembly = Assembly::default();
        assembly.begin(b"frame", &publish()).expect("nothing in progress");
        let refusal = assembly
            .header(&header((512 << 20) + 1), 9)
            .expect_err("no body may be so long")
            .refusal();
        assert_eq!(
            refusal.reply_text(),
            "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912"
        );
    }
}
