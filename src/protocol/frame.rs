//! Frames (AMQP 0-9-1 §4.2.3).
//!
//! ```text
//!  0       1             3            7                 7+n     8+n
//!  ┌───────┬─────────────┬────────────┬─────────────────┬────────┐
//!  │ kind  │ channel     │ length n   │ payload (n)     │ end    │
//!  │ u8    │ u16 BE      │ u32 BE     │                 │ 206    │
//!  └───────┴─────────────┴────────────┴─────────────────┴────────┘
//! ```
//!
//! `frame_max`, negotiated with connection.tune, counts the eight bytes around the payload as well. RabbitMQ lets a
//! payload be eight bytes longer than that, for the sake of clients which count otherwise, and so does this broker.

use thiserror::Error;

use crate::model::{Refusal, ReplyCode};
use crate::protocol::erlang::{PayloadSnippet, SNIPPET_LENGTH_MAX};

pub use crate::protocol::header::{HeaderVerdict, PROTOCOL_HEADER, judge_protocol_header};

/// The byte that ends every frame.
pub const FRAME_END: u8 = 206;
/// Bytes before a frame's payload.
pub const FRAME_HEADER_LENGTH: usize = 7;
/// Bytes around a frame's payload.
pub const FRAME_OVERHEAD: usize = 8;

/// Bytes by which a payload may exceed what `frame_max` leaves for it.
const LENGTH_TOLERANCE: u32 = 8;
/// Longest payload where no limit was negotiated.
const PAYLOAD_LENGTH_MAX: u32 = 1 << 31;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method.
    Method = 1,
    /// A content's header.
    Header = 2,
    /// A part of a content's body.
    Body = 3,
    /// A sign of life, without payload.
    Heartbeat = 8,
}

impl FrameKind {
    /// The kind of this number, if there is one.
    #[inline]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(FrameKind::Method),
            2 => Some(FrameKind::Header),
            3 => Some(FrameKind::Body),
            8 => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }

    /// The number on the wire.
    #[inline]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// One frame, its payload borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to, 0 for the connection.
    pub channel: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// A few bytes of a payload, kept to be named in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet(Vec<u8>);

impl Snippet {
    /// The first bytes of `payload`, one more than a text names.
    pub fn of(payload: &[u8]) -> Self {
        Self(payload[..payload.len().min(SNIPPET_LENGTH_MAX + 1)].to_vec())
    }

    /// The form in which a text names them.
    pub fn display(&self) -> PayloadSnippet<'_> {
        PayloadSnippet(&self.0)
    }
}

/// Why bytes are not a frame. Each closes the connection with 501.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No kind has this number, or a heartbeat has a payload.
    #[error("type {number}, {}: unknown_frame", payload.display())]
    Unknown {
        /// The number on the wire.
        number: u8,
        /// What had arrived of the payload.
        payload: Snippet,
    },
    /// The payload is longer than was negotiated.
    #[error("type {number}, all octets = <<>>: {{frame_too_large,{length},{length_max}}}")]
    TooLarge {
        /// The number on the wire.
        number: u8,
        /// Bytes of payload announced.
        length: u32,
        /// Bytes of payload that were negotiated.
        length_max: u32,
    },
    /// The byte after the payload is another than 206.
    #[error("type {number}, {}: {{invalid_frame_end_marker,{end}}}", payload.display())]
    BadEnd {
        /// The number on the wire.
        number: u8,
        /// The byte found.
        end: u8,
        /// The payload before it.
        payload: Snippet,
    },
}

impl FrameError {
    /// The refusal with RabbitMQ's text.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(ReplyCode::FrameError, self.to_string())
    }
}

/// Longest payload that is sent under `frame_max`, of which 0 says that there is no limit.
#[inline]
pub fn payload_length_max(frame_max: u32) -> u32 {
    match frame_max {
        0 => PAYLOAD_LENGTH_MAX,
        limit => limit.saturating_sub(FRAME_OVERHEAD as u32),
    }
}

/// Longest payload that is accepted under `frame_max`.
#[inline]
pub(super) fn payload_length_accepted(frame_max: u32) -> u32 {
    payload_length_max(frame_max).saturating_add(if frame_max == 0 { 0 } else { LENGTH_TOLERANCE })
}

/// The frame at the head of `input` and the bytes it takes there, or `None` when it has not arrived entirely.
///
/// A frame that cannot become valid is refused as soon as that shows: its kind with the first byte, its length with
/// the seventh. `frame_max` 0 is no limit, except that a payload is at most 2³¹ bytes.
#[inline]
pub fn decode_frame(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(&number) = input.first() else {
        return Ok(None);
    };
    let Some(kind) = FrameKind::from_number(number) else {
        return Err(unknown_frame(number, input));
    };
    let Some(&[_, c0, c1, l0, l1, l2, l3]) = input.first_chunk::<FRAME_HEADER_LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    check_length(kind, length, frame_max)?;
    let end_index = FRAME_HEADER_LENGTH + length as usize;
    let Some(&end) = input.get(end_index) else {
        return Ok(None);
    };
    let payload = &input[FRAME_HEADER_LENGTH..end_index];
    if end != FRAME_END {
        return Err(FrameError::BadEnd {
            number,
            end,
            payload: Snippet::of(payload),
        });
    }
    if kind == FrameKind::Heartbeat && length > 0 {
        return Err(FrameError::Unknown {
            number,
            payload: Snippet::of(payload),
        });
    }
    let channel = u16::from_be_bytes([c0, c1]);
    Ok(Some((
        Frame {
            kind,
            channel,
            payload,
        },
        end_index + 1,
    )))
}

#[inline]
fn check_length(kind: FrameKind, length: u32, frame_max: u32) -> Result<(), FrameError> {
    if length <= payload_length_accepted(frame_max) {
        return Ok(());
    }
    Err(FrameError::TooLarge {
        number: kind.number(),
        length,
        length_max: payload_length_max(frame_max),
    })
}

/// The error for a kind that does not exist, with what has arrived of the payload.
#[cold]
fn unknown_frame(number: u8, input: &[u8]) -> FrameError {
    let length = input.get(3..FRAME_HEADER_LENGTH).map_or(0, |length| {
        u32::from_be_bytes(length.try_into().expect("the range is four bytes long")) as usize
    });
    let arrived = input.get(FRAME_HEADER_LENGTH..).unwrap_or_default();
    FrameError::Unknown {
        number,
        payload: Snippet::of(&arrived[..length.min(arrived.len())]),
    }
}

/// Appends a heartbeat, eight bytes.
pub fn encode_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FrameKind::Heartbeat.number(), 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// The bytes before a payload of `length` bytes.
#[inline]
pub fn frame_head(kind: FrameKind, channel: u16, length: u32) -> [u8; FRAME_HEADER_LENGTH] {
    let [c0, c1] = channel.to_be_bytes();
    let [l0, l1, l2, l3] = length.to_be_bytes();
    [kind.number(), c0, c1, l0, l1, l2, l3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&[kind], &channel.to_be_bytes()[..], &length, payload, &[end]].concat()
    }

    fn refused(input: &[u8], frame_max: u32) -> String {
        decode_frame(input, frame_max)
            .expect_err("the frame is refused")
            .refusal()
            .to_string()
    }

    #[test]
    fn a_payload_may_be_eight_bytes_too_long() {
        let tolerated = frame(3, 1, &[0; 8192], FRAME_END);
        assert!(decode_frame(&tolerated, 8192).unwrap().is_some());
        let too_large = frame(3, 1, &[0; 8193], FRAME_END);
        let text = "501 FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,8193,8184}";
        assert_eq!(refused(&too_large[..FRAME_HEADER_LENGTH], 8192), text);
    }

    #[test]
    fn without_a_limit_a_payload_may_be_two_gibibytes() {
        let longest = [3, 0, 1, 0x80, 0, 0, 0];
        assert_eq!(decode_frame(&longest, 0), Ok(None));
        assert!(decode_frame(&[3, 0, 1, 0x80, 0, 0, 1], 0).is_err());
    }

    #[test]
    fn an_unknown_kind_is_refused_at_its_first_byte() {
        assert_eq!(
            refused(&[99], 0),
            "501 FRAME_ERROR - type 99, all octets = <<>>: unknown_frame"
        );
        let whole = frame(99, 1, b"hello world", FRAME_END);
        assert_eq!(
            refused(&whole, 0),
            r#"501 FRAME_ERROR - type 99, all octets = <<"hello world">>: unknown_frame"#
        );
    }

    #[test]
    fn a_wrong_end_is_refused() {
        let text = r#"501 FRAME_ERROR - type 1, all octets = <<"abc">>: {invalid_frame_end_marker,7}"#;
        assert_eq!(refused(&frame(1, 1, b"abc", 7), 0), text);
    }

    #[test]
    fn a_heartbeat_has_no_payload() {
        let mut heartbeat = Vec::new();
        encode_heartbeat(&mut heartbeat);
        let read = Frame {
            kind: FrameKind::Heartbeat,
            channel: 0,
            payload: b"",
        };
        assert_eq!(decode_frame(&heartbeat, 4096), Ok(Some((read, 8))));
        let text = r#"501 FRAME_ERROR - type 8, all octets = <<"ab">>: unknown_frame"#;
        assert_eq!(refused(&frame(8, 0, b"ab", FRAME_END), 0), text);
    }
}
