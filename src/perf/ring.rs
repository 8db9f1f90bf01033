//! `Ring`: a publisher's messages, encoded once; only their stamps change.
//!
//! ```text
//!   slot 0        slot 1        slot 2        …        slot n-1
//!  ┌─────────────┬─────────────┬─────────────┬────────┬─────────────┐
//!  │ frames      │ frames      │ frames      │        │ frames      │
//!  └─────────────┴─────────────┴─────────────┴────────┴─────────────┘
//!          written ▲      stamped ▲                    at the end both start again at 0
//! ```
//!
//! Message n lies in slot n modulo n_slots. A slot is stamped again only after its bytes have gone to the socket.

use super::body::{Pattern, Stamp};
use super::connection::CHANNEL;
use super::plan::{Plan, PublisherPlan};
use super::topology::route_headers;
use super::workload::ExchangeKind;
use crate::model::FieldTable;
use crate::protocol::content::encode_content;
use crate::protocol::frame::{FRAME_HEADER_LENGTH, payload_length_max};
use crate::protocol::method::{BasicPublish, Method};
use crate::protocol::properties::PropertiesBuilder;

/// Encoded messages and how far they are stamped and written.
#[derive(Clone, Debug)]
pub struct Ring {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// First slot not stamped.
    stamped: usize,
    /// First byte not written.
    written: usize,
    publisher: u32,
    seed: u64,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    end: usize,
    stamp_start: usize,
    stamp_end: usize,
}

impl Ring {
    /// Encodes all messages of `publisher`, in frames of at most `frame_max` bytes.
    pub fn new(plan: &Plan, publisher: &PublisherPlan, pattern: &Pattern, frame_max: u32) -> Self {
        let mut ring = Self {
            bytes: Vec::new(),
            slots: Vec::with_capacity(publisher.slots),
            stamped: 0,
            written: 0,
            publisher: publisher.number,
            seed: plan.seed,
            number: 0,
        };
        for slot in 0..publisher.slots {
            let size = publisher.sizes[slot % publisher.sizes.len()] as usize;
            let route = publisher.routes[slot % publisher.routes.len()];
            ring.push_slot(plan, publisher, route, pattern.slice(slot, 0, size), frame_max);
        }
        ring
    }

    /// Messages that can be stamped now.
    #[inline]
    pub fn room(&self) -> usize {
        self.slots.len() - self.stamped
    }

    /// Stamps the next message as meant to be sent at `intended`; there must be room.
    #[inline]
    pub fn stamp(&mut self, intended: u64) {
        let slot = self.slots[self.stamped];
        let stamp = Stamp {
            publisher: self.publisher,
            number: self.number,
            intended,
        };
        stamp.write(self.seed, &mut self.bytes[slot.stamp_start..slot.stamp_end]);
        self.stamped += 1;
        self.number += 1;
    }

    /// Messages stamped since the beginning.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes that are stamped and not written.
    #[inline]
    pub fn pending(&self) -> &[u8] {
        let end = if self.stamped == 0 {
            0
        } else {
            self.slots[self.stamped - 1].end
        };
        &self.bytes[self.written..end]
    }

    /// Notes that the first `count` of the pending bytes are written.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.written = 0;
            self.stamped = 0;
        }
    }

    fn push_slot(
        &mut self,
        plan: &Plan,
        publisher: &PublisherPlan,
        route: usize,
        body: &[u8],
        frame_max: u32,
    ) {
        let publish = BasicPublish {
            exchange: plan.exchange.as_bytes(),
            routing_key: plan.routes[route].key.as_bytes(),
            mandatory: publisher.mandatory,
            immediate: false,
        };
        Method::from(publish).encode(CHANNEL, &mut self.bytes);
        let properties = properties(plan.kind, publisher.persistent, route);
        let content_start = self.bytes.len();
        encode_content(CHANNEL, &properties, &[body], frame_max, &mut self.bytes);
        let header_length = FRAME_HEADER_LENGTH + CONTENT_HEADER_LENGTH + properties.len() + 1;
        let stamp_start = (content_start + header_length + FRAME_HEADER_LENGTH).min(self.bytes.len());
        let in_first_frame = body.len().min(payload_length_max(frame_max) as usize);
        self.slots.push(Slot {
            end: self.bytes.len(),
            stamp_start,
            stamp_end: stamp_start + in_first_frame,
        });
    }
}

fn properties(kind: ExchangeKind, persistent: bool, route: usize) -> Vec<u8> {
    let headers: Option<FieldTable> = (kind == ExchangeKind::Headers).then(|| route_headers(route));
    let mut out = Vec::new();
    PropertiesBuilder {
        delivery_mode: persistent.then_some(2),
        headers: headers.as_ref().map(FieldTable::as_ref),
        ..PropertiesBuilder::default()
    }
    .encode(&mut out);
    out
}

/// Class, weight and body size.
const CONTENT_HEADER_LENGTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::workload::Workload;
    use super::*;
    use crate::protocol::frame::{FrameKind, decode_frame};

    fn ring(body_bytes: &str, frame_max: u32) -> (Ring, Plan) {
        let text = format!(
            "name = \"r\"\n[[queue]]\ncount = 3\n[[publisher]]\nbody_bytes = {body_bytes}\npersistent = true\n"
        );
        let workload = Workload::parse(&text, "test", &[]).expect("the text is a workload");
        let plan = Plan::new(&workload, 1, 5);
        let pattern = Pattern::new(plan.seed, plan.body_bytes_max(), plan.slots_max());
        (Ring::new(&plan, &plan.publishers[0], &pattern, frame_max), plan)
    }

    fn bodies(mut bytes: &[u8], frame_max: u32) -> Vec<Vec<u8>> {
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        while let Some((frame, used)) = decode_frame(bytes, frame_max).expect("our own frames are valid") {
            match frame.kind {
                FrameKind::Header => bodies.push(Vec::new()),
                FrameKind::Body => bodies.last_mut().expect("after a header").extend(frame.payload),
                _ => {}
            }
            bytes = &bytes[used..];
        }
        bodies
    }

    #[test]
    fn stamps_lie_at_the_beginning_of_each_body() {
        let (mut ring, plan) = ring("[16, 40, 5000]", 4096);
        (0..6).for_each(|number| ring.stamp(100 + number));
        for (number, body) in bodies(ring.pending(), 4096).iter().enumerate() {
            assert_eq!(body.len(), [16, 40, 5000][number % 3]);
            let stamp = Stamp::read(plan.seed, body).expect("the body is stamped");
            assert_eq!((stamp.number, stamp.publisher), (number as u64, 0));
            assert_eq!(
                stamp.intended,
                if body.len() == 16 { 0 } else { 100 + number as u64 }
            );
        }
    }

    #[test]
    fn a_slot_is_used_again_only_when_all_is_written() {
        let (mut ring, _) = ring("1000", 131_072);
        let slots = ring.room();
        (0..slots).for_each(|_| ring.stamp(1));
        assert_eq!(ring.room(), 0);
        let length = ring.pending().len();
        ring.advance(length - 1);
        assert_eq!((ring.room(), ring.pending().len()), (0, 1));
        ring.advance(1);
        assert_eq!((ring.room(), ring.pending().len()), (slots, 0));
        assert_eq!(ring.number(), slots as u64);
    }
}
