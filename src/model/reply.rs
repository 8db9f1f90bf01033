//! Reply codes, and refusals that know whether they close a channel or a connection.

use std::fmt;

/// A reply code of AMQP 0-9-1 §1.2, with RabbitMQ's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// Success.
    Success = 200,
    /// The content is larger than the peer takes.
    ContentTooLarge = 311,
    /// A mandatory message found no queue.
    NoRoute = 312,
    /// An immediate message found no consumer.
    NoConsumers = 313,
    /// An operator closed the connection.
    ConnectionForced = 320,
    /// An unknown virtual host, in the specification's sense.
    InvalidPath = 402,
    /// Not permitted.
    AccessRefused = 403,
    /// No such entity.
    NotFound = 404,
    /// Held by another connection.
    ResourceLocked = 405,
    /// A condition of the request does not hold.
    PreconditionFailed = 406,
    /// A frame could not be decoded.
    FrameError = 501,
    /// A field of a method could not be decoded.
    SyntaxError = 502,
    /// A method that is not valid here.
    CommandInvalid = 503,
    /// A channel that is not open, or open already.
    ChannelError = 504,
    /// A frame out of order.
    UnexpectedFrame = 505,
    /// A limit of the server was met.
    ResourceError = 506,
    /// Forbidden by the server's rules.
    NotAllowed = 530,
    /// Not offered by this server.
    NotImplemented = 540,
    /// A fault of the server.
    InternalError = 541,
}

/// What a refusal closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    /// The channel alone; the connection goes on.
    Channel,
    /// The whole connection.
    Connection,
}

impl ReplyCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// RabbitMQ's name, the first word of a reply text.
    pub fn name(self) -> &'static str {
        match self {
            ReplyCode::Success => "OK",
            ReplyCode::ContentTooLarge => "CONTENT_TOO_LARGE",
            ReplyCode::NoRoute => "NO_ROUTE",
            ReplyCode::NoConsumers => "NO_CONSUMERS",
            ReplyCode::ConnectionForced => "CONNECTION_FORCED",
            ReplyCode::InvalidPath => "INVALID_PATH",
            ReplyCode::AccessRefused => "ACCESS_REFUSED",
            ReplyCode::NotFound => "NOT_FOUND",
            ReplyCode::ResourceLocked => "RESOURCE_LOCKED",
            ReplyCode::PreconditionFailed => "PRECONDITION_FAILED",
            ReplyCode::FrameError => "FRAME_ERROR",
            ReplyCode::SyntaxError => "SYNTAX_ERROR",
            ReplyCode::CommandInvalid => "COMMAND_INVALID",
            ReplyCode::ChannelError => "CHANNEL_ERROR",
            ReplyCode::UnexpectedFrame => "UNEXPECTED_FRAME",
            ReplyCode::ResourceError => "RESOURCE_ERROR",
            ReplyCode::NotAllowed => "NOT_ALLOWED",
            ReplyCode::NotImplemented => "NOT_IMPLEMENTED",
            ReplyCode::InternalError => "INTERNAL_ERROR",
        }
    }

    /// What an error of this code closes: soft errors the channel, hard ones the connection.
    pub fn closes(self) -> Closes {
        match self {
            ReplyCode::ContentTooLarge
            | ReplyCode::NoRoute
            | ReplyCode::NoConsumers
            | ReplyCode::AccessRefused
            | ReplyCode::NotFound
            | ReplyCode::ResourceLocked
            | ReplyCode::PreconditionFailed => Closes::Channel,
            _ => Closes::Connection,
        }
    }
}

/// Most bytes of a shortstr.
const REPLY_TEXT_BYTES_MAX: usize = 255;
const ELLIPSIS: &str = "...";

/// A request refused: the code and RabbitMQ's explanation, the part of the reply text after ` - `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply code, which decides what closes.
    pub code: ReplyCode,
    /// The explanation, of any length; the reply text is cut to a shortstr.
    pub explanation: String,
}

impl Refusal {
    /// A refusal with `code` and `explanation`.
    pub fn new(code: ReplyCode, explanation: impl Into<String>) -> Self {
        Self {
            code,
            explanation: explanation.into(),
        }
    }

    /// The whole reply text, `NOT_FOUND - no queue 'q' in vhost '/'`. One that is no shortstr is cut and ends in `...`, as
    /// in RabbitMQ, but not within a character.
    pub fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        if text.len() > REPLY_TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(REPLY_TEXT_BYTES_MAX - ELLIPSIS.len()));
            text.push_str(ELLIPSIS);
        }
        text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.number(), self.reply_text())
    }
}

impl std::error::Error for Refusal {}
