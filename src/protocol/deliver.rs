//! The hot path of sending: one more delivery like the last one.
//!
//! What a consumer gets differs from delivery to delivery in few bytes, so the frames are prepared once for a consumer
//! tag, an exchange and a routing key, and copied with those bytes changed:
//!
//! ```text
//!  ┌── prepared ───────────────────────────────────────────┬── header ────────────────┬─────────────┬────────────┐
//!  │ basic.deliver   tag │ delivery tag │ redelivered │ … │ length │ 60 │ body size   │ properties  │ body frame │
//!  └─────────────────────┴──── * ───────┴──── * ──────┴────┴── * ───┴────┴──── * ──────┴─────────────┴────────────┘
//! ```

use crate::protocol::blind_copies::visible;
use crate::protocol::content::{
    CONTENT_HEADER_LENGTH, HEADER_FRAME_HEAD_LENGTH, body_payload_max, content_header_head,
    encode_body_frames,
};
use crate::protocol::field_writer::cut_short;
use crate::protocol::frame::{FRAME_END, FRAME_HEADER_LENGTH, FRAME_OVERHEAD, FrameKind, frame_head};
use crate::protocol::method::{BasicDeliver, Method};

/// Prepared frames of one channel, consumer tag, exchange and routing key.
#[derive(Clone, Debug)]
pub struct DeliverTemplate {
    /// The frame of basic.deliver, and a header frame up to its properties.
    frames: Box<[u8]>,
    /// Where the delivery tag lies in `frames`; the redelivered flag and the exchange follow it.
    delivery_tag_index: usize,
    channel: u16,
}

/// Bytes of a method frame before its fields.
const FIELDS_INDEX: usize = FRAME_HEADER_LENGTH + 4;

impl DeliverTemplate {
    /// Prepares the frames. Names longer than 255 bytes are cut.
    pub fn new(channel: u16, consumer_tag: &[u8], exchange: &[u8], routing_key: &[u8]) -> Self {
        let deliver = BasicDeliver {
            consumer_tag,
            delivery_tag: 0,
            redelivered: false,
            exchange,
            routing_key,
        };
        let mut frames = Vec::new();
        Method::BasicDeliver(deliver).encode(channel, &mut frames);
        frames.extend_from_slice(&content_header_head(channel, 0, 0));
        let delivery_tag_index = FIELDS_INDEX + 1 + cut_short(consumer_tag).len();
        Self {
            frames: frames.into(),
            delivery_tag_index,
            channel,
        }
    }

    /// Whether the frames are those for this exchange and routing key.
    #[inline]
    pub fn matches(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        let names =
            &self.frames[self.delivery_tag_index + 9..self.frames.len() - HEADER_FRAME_HEAD_LENGTH - 1];
        names.len() == exchange.len() + routing_key.len() + 2
            && usize::from(names[0]) == exchange.len()
            && names[1..].starts_with(exchange)
            && names.ends_with(routing_key)
    }

    /// Appends a whole delivery: method, header, and the body in frames of at most `frame_max` bytes. `frame_max` 0
    /// is no limit.
    #[inline]
    pub fn encode(
        &self,
        delivery_tag: u64,
        redelivered: bool,
        properties: &[u8],
        body: &[u8],
        frame_max: u32,
        out: &mut Vec<u8>,
    ) {
        let properties = &*visible(properties);
        let is_one_frame = !body.is_empty() && body.len() <= body_payload_max(frame_max);
        out.reserve(self.frames.len() + properties.len() + body.len() + FRAME_OVERHEAD + 1);
        self.encode_prepared(
            delivery_tag,
            redelivered,
            properties.len(),
            body.len() as u64,
            out,
        );
        out.extend_from_slice(properties);
        if !is_one_frame {
            out.push(FRAME_END);
            return encode_body_frames(self.channel, body, frame_max, out);
        }
        let [kind, c0, c1, l0, l1, l2, l3] = frame_head(FrameKind::Body, self.channel, body.len() as u32);
        out.extend_from_slice(&[FRAME_END, kind, c0, c1, l0, l1, l2, l3]);
        out.extend_from_slice(body);
        out.push(FRAME_END);
    }

    /// Appends method and header of a delivery whose body, of `body_size` bytes, is sent otherwise.
    #[inline]
    pub fn encode_head(
        &self,
        delivery_tag: u64,
        redelivered: bool,
        properties: &[u8],
        body_size: u64,
        out: &mut Vec<u8>,
    ) {
        let properties = &*visible(properties);
        out.reserve(self.frames.len() + properties.len() + 1);
        self.encode_prepared(delivery_tag, redelivered, properties.len(), body_size, out);
        out.extend_from_slice(properties);
        out.push(FRAME_END);
    }

    /// Appends the prepared bytes with what is particular to this delivery.
    #[inline]
    fn encode_prepared(
        &self,
        delivery_tag: u64,
        redelivered: bool,
        properties_length: usize,
        body_size: u64,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&self.frames);
        let frames = &mut out[start..];
        let header_index = frames.len() - HEADER_FRAME_HEAD_LENGTH;
        let (method, header) = frames.split_at_mut(header_index);
        let patched: &mut [u8; 9] = method[self.delivery_tag_index..]
            .first_chunk_mut()
            .expect("a tag and a flag are there");
        patched[..8].copy_from_slice(&delivery_tag.to_be_bytes());
        patched[8] = u8::from(redelivered);
        let header: &mut [u8; HEADER_FRAME_HEAD_LENGTH] =
            header.first_chunk_mut().expect("a header's head is there");
        let length = (CONTENT_HEADER_LENGTH + properties_length) as u32;
        header[3..FRAME_HEADER_LENGTH].copy_from_slice(&length.to_be_bytes());
        header[HEADER_FRAME_HEAD_LENGTH - 8..].copy_from_slice(&body_size.to_be_bytes());
    }
}
