//! `Recogniser`: deliveries that differ from the one before only in tag, flag and body, found without parsing.
//!
//! ```text
//!   basic.deliver frame                                  header frame       body frame
//!  ┌──────────────────────┬─────┬──────┬─────────────────┬─────────────────┬───────────┬───────────┬────┐
//!  │ head, consumer tag   │ tag │ flag │ exchange, key … │ size, props …   │ head      │ body      │ CE │
//!  └──────────────────────┴─────┴──────┴─────────────────┴─────────────────┴───────────┴───────────┴────┘
//!  ├─ `head`, constant ───┤            ├─ `tail`, constant ────────────────────────────┤
//! ```
//!
//! Whatever does not fit (another consumer, another size, a body in several frames, half a message at the end of the
//! buffer) takes the general way through `protocol`, which also teaches the recogniser the next message's form.

use super::error::PerfError;
use crate::protocol::content::{BASIC_CLASS, ContentHeader};
use crate::protocol::frame::{FRAME_END, FRAME_HEADER_LENGTH, FrameKind, decode_frame};
use crate::protocol::method::{BasicDeliver, Method};

/// A whole delivery at the head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Its delivery tag.
    pub tag: u64,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// Its body.
    pub body: &'a [u8],
    /// Bytes that its frames take.
    pub length: usize,
}

/// The form of the last delivery of a connection.
#[derive(Clone, Debug, Default)]
pub struct Recogniser {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Where the body begins; 0 as long as nothing was learned.
    body_at: usize,
    length: usize,
}

impl Recogniser {
    /// The delivery at the head of `input`, if it is whole and has the form that was learned.
    #[inline]
    pub fn recognise<'a>(&self, input: &'a [u8]) -> Option<Delivery<'a>> {
        if self.body_at == 0 {
            return None;
        }
        let message = input.get(..self.length)?;
        let (head, rest) = message.split_at(self.head.len());
        let (tag, rest) = rest.split_first_chunk::<8>()?;
        let (&flag, rest) = rest.split_first()?;
        let (tail, body) = rest.split_at(self.tail.len());
        let (&end, body) = body.split_last()?;
        if head != self.head || tail != self.tail || end != FRAME_END {
            return None;
        }
        Some(Delivery {
            tag: u64::from_be_bytes(*tag),
            redelivered: flag & 1 == 1,
            body,
            length: self.length,
        })
    }

    /// Takes the form of the delivery at the head of `input`, and returns its consumer tag. `None`, and nothing
    /// learned, if it is not whole or its body has not exactly one frame.
    pub fn learn<'a>(&mut self, input: &'a [u8], frame_max: u32) -> Result<Option<&'a [u8]>, PerfError> {
        let Some(form) = whole_delivery(input, frame_max)? else {
            return Ok(None);
        };
        let tag_at = FRAME_HEADER_LENGTH + IDS_LENGTH + 1 + form.consumer_tag.len();
        self.head.clear();
        self.head.extend_from_slice(&input[..tag_at]);
        self.tail.clear();
        self.tail
            .extend_from_slice(&input[tag_at + TAG_AND_FLAG_LENGTH..form.body_at]);
        self.body_at = form.body_at;
        self.length = form.length;
        Ok(Some(form.consumer_tag))
    }
}

struct Form<'a> {
    consumer_tag: &'a [u8],
    body_at: usize,
    length: usize,
}

fn whole_delivery(input: &[u8], frame_max: u32) -> Result<Option<Form<'_>>, PerfError> {
    let Some((method, used)) = decode_frame(input, frame_max)? else {
        return Ok(None);
    };
    let Some((header, header_used)) = decode_frame(&input[used..], frame_max)? else {
        return Ok(None);
    };
    let body_at = used + header_used;
    let Some((body, body_used)) = decode_frame(&input[body_at..], frame_max)? else {
        return Ok(None);
    };
    let kinds = (method.kind, header.kind, body.kind);
    if kinds != (FrameKind::Method, FrameKind::Header, FrameKind::Body) {
        return Ok(None);
    }
    let Method::BasicDeliver(BasicDeliver { consumer_tag, .. }) = Method::decode(method.payload)? else {
        return Ok(None);
    };
    let is_one_frame = content_length(header.payload)? == body.payload.len() as u64;
    let form = Form {
        consumer_tag,
        body_at: body_at + FRAME_HEADER_LENGTH,
        length: body_at + body_used,
    };
    Ok(is_one_frame.then_some(form))
}

/// The body size in a header frame's payload.
pub fn content_length(payload: &[u8]) -> Result<u64, PerfError> {
    match ContentHeader::decode(payload) {
        Ok(header) if header.class_id == BASIC_CLASS => Ok(header.body_size),
        _ => Err(PerfError::Unexpected {
            found: "a content header that is none".to_owned(),
            doing: "receiving deliveries".to_owned(),
        }),
    }
}

/// Class and method id.
const IDS_LENGTH: usize = 4;
const TAG_AND_FLAG_LENGTH: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::content::encode_content;

    #[derive(Clone, Debug)]
    struct Sent {
        consumer_tag: Vec<u8>,
        tag: u64,
        redelivered: bool,
        body: Vec<u8>,
    }

    fn encode(sent: &Sent, out: &mut Vec<u8>) {
        let deliver = BasicDeliver {
            consumer_tag: &sent.consumer_tag,
            delivery_tag: sent.tag,
            redelivered: sent.redelivered,
            exchange: b"",
            routing_key: b"some.queue",
        };
        Method::from(deliver).encode(1, out);
        encode_content(1, &[0, 0], &[&sent.body], 4096, out);
    }

    /// What the general decoder finds in whole frames.
    fn decode(mut input: &[u8]) -> Vec<Sent> {
        let mut found: Vec<Sent> = Vec::new();
        while let Some((frame, used)) = decode_frame(input, 4096).expect("our own frames are valid") {
            match frame.kind {
                FrameKind::Method => {
                    let Ok(Method::BasicDeliver(deliver)) = Method::decode(frame.payload) else {
                        panic!("no deliver")
                    };
                    found.push(Sent {
                        consumer_tag: deliver.consumer_tag.to_vec(),
                        tag: deliver.delivery_tag,
                        redelivered: deliver.redelivered,
                        body: Vec::new(),
                    });
                }
                FrameKind::Body => found
                    .last_mut()
                    .expect("a body follows a method")
                    .body
                    .extend(frame.payload),
                _ => {}
            }
            input = &input[used..];
        }
        found
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let tag = prop_oneof![Just(b"a".to_vec()), Just(b"bb".to_vec())];
        let body = prop_oneof![Just(16usize), Just(16), Just(17), Just(0), Just(5000)];
        (tag, any::<u64>(), any::<bool>(), body, any::<u8>()).prop_map(
            |(consumer_tag, tag, redelivered, size, byte)| Sent {
                consumer_tag,
                tag,
                redelivered,
                body: vec![byte; size],
            },
        )
    }

    proptest! {
        #[test]
        fn the_recogniser_agrees_with_the_general_decoder(
            messages in prop::collection::vec(sent(), 1..40), cut in any::<prop::sample::Index>()
        ) {
            let mut bytes = Vec::new();
            messages.iter().for_each(|message| encode(message, &mut bytes));
            let input = &bytes[..cut.index(bytes.len() + 1)];
            let mut recogniser = Recogniser::default();
            let mut at = 0;
            for expected in decode(&bytes) {
                if recogniser.recognise(&input[at..]).is_none() {
                    let learned = recogniser.learn(&input[at..], 4096).expect("our own frames are valid");
                    if learned.is_none() {
                        let mut skipped = Vec::new();
                        encode(&expected, &mut skipped);
                        let is_whole = at + skipped.len() <= input.len();
                        prop_assert!(!is_whole || expected.body.is_empty() || expected.body.len() > 4088);
                        at = (at + skipped.len()).min(input.len());
                        continue;
                    }
                    prop_assert_eq!(learned.expect("it was learned"), &expected.consumer_tag[..]);
                }
                let found = recogniser.recognise(&input[at..]).expect("what was learned is recognised");
                prop_assert_eq!((found.tag, found.redelivered, found.body), (expected.tag, expected.redelivered, &expected.body[..]));
                at += found.length;
            }
        }
    }
}
