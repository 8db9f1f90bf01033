//! Contents: a header frame, then the body in as many frames as it takes (AMQP 0-9-1 §4.2.6).
//!
//! ```text
//!  header:  0           2           4             12
//!           ┌───────────┬───────────┬─────────────┬───────────────────────────┐
//!           │ class     │ weight 0  │ body size   │ property flags and values │
//!           │ u16 BE    │ u16 BE    │ u64 BE      │ see `properties`          │
//!           └───────────┴───────────┴─────────────┴───────────────────────────┘
//! ```
//!
//! An empty body has no frame.

use thiserror::Error;

use crate::model::{Refusal, ReplyCode};
use crate::protocol::frame::{
    FRAME_END, FRAME_HEADER_LENGTH, FRAME_OVERHEAD, FrameKind, Snippet, frame_head, payload_length_max,
};

/// The class whose methods have contents.
pub const BASIC_CLASS: u16 = 60;

/// Bytes of a content header before the property flags.
pub(super) const CONTENT_HEADER_LENGTH: usize = 12;

/// The payload of a header frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method before it, 60 for all there are.
    pub class_id: u16,
    /// Bytes of the body in all its frames.
    pub body_size: u64,
    /// Property flags and values, not yet checked.
    pub properties: &'a [u8],
}

/// A header frame whose payload is shorter than the fixed fields.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a content header of less than {CONTENT_HEADER_LENGTH} bytes")]
pub struct ContentHeaderError {
    payload: Snippet,
}

impl ContentHeaderError {
    /// The refusal: 501, with RabbitMQ's text.
    pub fn refusal(&self) -> Refusal {
        let number = FrameKind::Header.number();
        Refusal::new(
            ReplyCode::FrameError,
            format!("type {number}, {}: unknown_frame", self.payload.display()),
        )
    }
}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload. The weight is ignored, as nothing was ever defined for it.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, ContentHeaderError> {
        let Some((&[c0, c1, _, _, s0, s1, s2, s3, s4, s5, s6, s7], properties)) = payload.split_first_chunk()
        else {
            return Err(ContentHeaderError {
                payload: Snippet::of(payload),
            });
        };
        let body_size = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        Ok(Self {
            class_id: u16::from_be_bytes([c0, c1]),
            body_size,
            properties,
        })
    }
}

/// Appends a content: its header frame, and the body, given in parts, in frames of at most `frame_max` bytes. A frame
/// holds bytes of several parts where they fit.
pub fn encode_content(
    channel: u16,
    properties: &[u8],
    body_parts: &[&[u8]],
    frame_max: u32,
    out: &mut Vec<u8>,
) {
    let body_size = body_parts.iter().map(|part| part.len()).sum::<usize>();
    encode_content_header(channel, properties, body_size as u64, out);
    encode_body(channel, body_parts, frame_max, out);
}

/// Appends a body, given in parts, in frames of at most `frame_max` bytes, none when it is empty. A frame holds bytes of
/// several parts where they fit. `frame_max` 0 is no limit.
pub fn encode_body(channel: u16, parts: &[&[u8]], frame_max: u32, out: &mut Vec<u8>) {
    let mut body = BodyFrames {
        channel,
        body_left: parts.iter().map(|part| part.len()).sum(),
        frame_left: 0,
        payload_max: body_payload_max(frame_max),
    };
    out.reserve(body.encoded_length());
    for part in parts {
        body.encode(part, out);
    }
}

/// Appends a header frame; the body, of `body_size` bytes, is the caller's matter.
#[inline]
pub fn encode_content_header(channel: u16, properties: &[u8], body_size: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&content_header_head(channel, properties.len(), body_size));
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a body in frames of at most `frame_max` bytes, none when it is empty. `frame_max` 0 is no limit.
#[inline]
pub fn encode_body_frames(channel: u16, body: &[u8], frame_max: u32, out: &mut Vec<u8>) {
    let payload_max = body_payload_max(frame_max);
    for payload in body.chunks(payload_max) {
        out.reserve(payload.len() + FRAME_OVERHEAD);
        out.extend_from_slice(&frame_head(FrameKind::Body, channel, payload.len() as u32));
        out.extend_from_slice(payload);
        out.push(FRAME_END);
    }
}

/// Bytes of a header frame before its properties.
pub(super) const HEADER_FRAME_HEAD_LENGTH: usize = FRAME_HEADER_LENGTH + CONTENT_HEADER_LENGTH;

/// The bytes of a header frame before its properties.
#[inline]
pub(super) fn content_header_head(
    channel: u16,
    properties_length: usize,
    body_size: u64,
) -> [u8; HEADER_FRAME_HEAD_LENGTH] {
    let mut head = [0; HEADER_FRAME_HEAD_LENGTH];
    let length = (CONTENT_HEADER_LENGTH + properties_length) as u32;
    head[..FRAME_HEADER_LENGTH].copy_from_slice(&frame_head(FrameKind::Header, channel, length));
    head[FRAME_HEADER_LENGTH..FRAME_HEADER_LENGTH + 2].copy_from_slice(&BASIC_CLASS.to_be_bytes());
    head[HEADER_FRAME_HEAD_LENGTH - 8..].copy_from_slice(&body_size.to_be_bytes());
    head
}

/// Longest payload of a body frame, at least one byte so that a body gets through.
#[inline]
pub fn body_payload_max(frame_max: u32) -> usize {
    payload_length_max(frame_max).max(1) as usize
}

/// Where the next byte of a body goes.
struct BodyFrames {
    channel: u16,
    /// Bytes of the body that are not written.
    body_left: usize,
    /// Bytes that the frame begun last still takes.
    frame_left: usize,
    payload_max: usize,
}

impl BodyFrames {
    fn encoded_length(&self) -> usize {
        self.body_left + self.body_left.div_ceil(self.payload_max) * FRAME_OVERHEAD
    }

    fn encode(&mut self, mut part: &[u8], out: &mut Vec<u8>) {
        while !part.is_empty() {
            if self.frame_left == 0 {
                self.frame_left = self.body_left.min(self.payload_max);
                out.extend_from_slice(&frame_head(FrameKind::Body, self.channel, self.frame_left as u32));
            }
            let (payload, rest) = part.split_at(part.len().min(self.frame_left));
            out.extend_from_slice(payload);
            part = rest;
            self.body_left -= payload.len();
            self.frame_left -= payload.len();
            if self.frame_left == 0 {
                out.push(FRAME_END);
            }
        }
    }
}
