//! The hot path of receiving: one more message like the last one.
//!
//! A publisher sends the same basic.publish again and again, and only header and body differ. So the caller keeps the
//! bytes of a channel's last method frame, which was decoded and checked once, and a message whose bytes begin with
//! them needs no decoding:
//!
//! ```text
//!  ┌──────────────────────┬───────────────────────────────────┬────────────────────────┐
//!  │ method frame         │ header frame                      │ one body frame         │
//!  │ equal to the last    │ class 60, body size, properties   │ as long as announced   │
//!  └──────────────────────┴───────────────────────────────────┴────────────────────────┘
//! ```
//!
//! Whatever looks otherwise takes the general path, which decides what is wrong with it, if anything.

use std::ops::Range;

use crate::protocol::content::{BASIC_CLASS, CONTENT_HEADER_LENGTH};
use crate::protocol::frame::{FRAME_END, FRAME_HEADER_LENGTH, FrameKind, payload_length_accepted};

/// A complete publish at the head of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecognisedPublish {
    /// Where the property flags and values lie, which were not looked at.
    pub properties: Range<u32>,
    /// Where the body lies, empty if there is none.
    pub body: Range<u32>,
    /// Bytes of all its frames.
    pub length: u32,
}

/// A publish at the head of `input` that consists of exactly `method_frame`, a header frame, and one body frame, or
/// none for an empty body; `None` for anything else, above all for frames that have not arrived entirely.
///
/// `method_frame` is a whole basic.publish frame, end byte included.
#[inline]
pub fn recognise_publish(input: &[u8], method_frame: &[u8], frame_max: u32) -> Option<RecognisedPublish> {
    let length_max = payload_length_accepted(frame_max);
    let channel = *method_frame.get(1..)?.first_chunk()?;
    if !input.starts_with(method_frame) {
        return None;
    }
    let header = frame_at(input, method_frame.len(), FrameKind::Header, channel, length_max)?;
    let body_size = body_size_of(&input[header.clone()])?;
    let properties = header.start + CONTENT_HEADER_LENGTH..header.end;
    if body_size == 0 {
        let end = header.end + 1;
        return recognised(properties, end..end, end);
    }
    let body = frame_at(input, header.end + 1, FrameKind::Body, channel, length_max)?;
    if body.len() as u64 != body_size {
        return None;
    }
    let end = body.end + 1;
    recognised(properties, body, end)
}

/// Where the payload lies of a complete frame that begins at `start` and is of this kind and channel.
#[inline]
fn frame_at(
    input: &[u8],
    start: usize,
    kind: FrameKind,
    channel: [u8; 2],
    length_max: u32,
) -> Option<Range<usize>> {
    let &[number, c0, c1, l0, l1, l2, l3] = input.get(start..)?.first_chunk::<FRAME_HEADER_LENGTH>()?;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if number != kind.number() || [c0, c1] != channel || length > length_max {
        return None;
    }
    let payload_start = start + FRAME_HEADER_LENGTH;
    let payload = payload_start..payload_start + length as usize;
    (*input.get(payload.end)? == FRAME_END).then_some(payload)
}

/// The body size that a content header announces, if it is of the class basic and long enough for property flags.
#[inline]
fn body_size_of(header: &[u8]) -> Option<u64> {
    let &[c0, c1, _, _, s0, s1, s2, s3, s4, s5, s6, s7, _, _] = header.first_chunk()?;
    let is_basic = u16::from_be_bytes([c0, c1]) == BASIC_CLASS;
    is_basic.then_some(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]))
}

#[inline]
fn recognised(properties: Range<usize>, body: Range<usize>, end: usize) -> Option<RecognisedPublish> {
    let length = u32::try_from(end).ok()?;
    let properties = properties.start as u32..properties.end as u32;
    Some(RecognisedPublish {
        properties,
        body: body.start as u32..body.end as u32,
        length,
    })
}
