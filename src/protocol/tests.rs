//! Properties of whole messages: what is written is read, in pieces or at once, by the general path or the hot one.

use proptest::prelude::*;

use crate::model::FieldTableRef;
use crate::protocol::blind_copies::visible;
use crate::protocol::content::{ContentHeader, encode_body_frames, encode_content, encode_content_header};
use crate::protocol::deliver::DeliverTemplate;
use crate::protocol::frame::{FRAME_END, FrameKind, decode_frame, encode_heartbeat, judge_protocol_header};
use crate::protocol::method::{BasicDeliver, BasicPublish, Method};
use crate::protocol::properties::{Properties, PropertiesBuilder};
use crate::protocol::publish::{RecognisedPublish, recognise_publish};

fn bytes(length_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=length_max)
}

fn publish_frame(channel: u16, exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
    let publish = BasicPublish {
        exchange,
        routing_key,
        mandatory: false,
        immediate: false,
    };
    let mut frame = Vec::new();
    Method::BasicPublish(publish).encode(channel, &mut frame);
    frame
}

fn content(channel: u16, properties: &[u8], body: &[u8], frame_max: u32) -> Vec<u8> {
    let mut frames = Vec::new();
    encode_content(channel, properties, &[body], frame_max, &mut frames);
    frames
}

/// `recognise_publish` by the general decoder.
fn recognise_slowly(input: &[u8], method_frame: &[u8], frame_max: u32) -> Option<RecognisedPublish> {
    let mut at = 0;
    let mut next = |kind: FrameKind| {
        let (frame, length) = decode_frame(&input[at..], frame_max).ok()??;
        at += length;
        (frame.kind == kind).then_some((frame, at - 1))
    };
    let (method, method_end) = next(FrameKind::Method)?;
    if input[..=method_end] != *method_frame {
        return None;
    }
    let (header, header_end) = next(FrameKind::Header)?;
    let decoded = ContentHeader::decode(header.payload).ok()?;
    if header.channel != method.channel || decoded.class_id != 60 || decoded.properties.len() < 2 {
        return None;
    }
    let properties = (header_end - decoded.properties.len()) as u32..header_end as u32;
    if decoded.body_size == 0 {
        let end = header_end as u32 + 1;
        return Some(RecognisedPublish {
            properties,
            body: end..end,
            length: end,
        });
    }
    let (body, body_end) = next(FrameKind::Body)?;
    if body.channel != method.channel || body.payload.len() as u64 != decoded.body_size {
        return None;
    }
    let body = (body_end - body.payload.len()) as u32..body_end as u32;
    Some(RecognisedPublish {
        properties,
        body,
        length: body_end as u32 + 1,
    })
}

proptest! {
    #[test]
    fn no_decoder_panics_on_any_bytes(input in bytes(200), frame_max in any::<u32>()) {
        let _ = decode_frame(&input, frame_max);
        let _ = judge_protocol_header(&input);
        let _ = Method::decode(&input).map_err(|error| error.refusal());
        let _ = ContentHeader::decode(&input).map_err(|error| error.refusal());
        let _ = Properties::new_checked(&input).map_err(|error| error.refusal());
        let _ = PropertiesBuilder::from(Properties::trusted(&input));
        let _ = FieldTableRef(&input).validate();
        let _ = recognise_publish(&input, &input[..input.len() / 2], frame_max);
    }

    #[test]
    fn no_method_panics_on_any_fields(class in 1..10_u16, method in 0..13_u16, low in 0..2_u16, fields in bytes(80)) {
        let payload = [&(class * 10).to_be_bytes()[..], &(method * 10 + low).to_be_bytes(), &fields].concat();
        if let Ok(method) = Method::decode(&payload) {
            let mut frame = Vec::new();
            method.encode(1, &mut frame);
            prop_assert_eq!(Method::decode(&frame[7..frame.len() - 1]), Ok(method));
        }
    }

    #[test]
    fn a_frame_is_read_once_its_last_byte_has_arrived(
        channel in any::<u16>(), key in bytes(40), properties in bytes(20), body in bytes(100), frame_max in 64..200_u32,
    ) {
        let mut stream = publish_frame(channel, b"amq.topic", &key);
        stream.extend(content(channel, &properties, &body, frame_max));
        encode_heartbeat(&mut stream);
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (frame, length) = decode_frame(rest, frame_max).unwrap().expect("the whole stream is there");
            prop_assert_eq!(frame.payload.len() + 8, length);
            for end in 0..length {
                prop_assert_eq!(decode_frame(&rest[..end], frame_max), Ok(None));
            }
            prop_assert_eq!(decode_frame(&rest[..length], frame_max), Ok(Some((frame, length))));
            rest = &rest[length..];
        }
    }

    #[test]
    fn a_publish_is_recognised_where_the_general_path_would_read_it(
        channel in 1..3_u16, other_channel in 1..3_u16, key in bytes(3), other_key in bytes(3),
        properties in bytes(6), body in bytes(60), frame_max in prop_oneof![Just(0), 40..100_u32],
        cut in 0..300_usize, spoiled in prop::option::of((0..200_usize, any::<u8>())),
    ) {
        let last = publish_frame(channel, b"x", &key);
        let mut input = publish_frame(channel, b"x", if cut % 2 == 0 { &key } else { &other_key });
        input.extend(content(if cut % 3 == 0 { other_channel } else { channel }, &properties, &body, frame_max));
        input.extend_from_slice(&last);
        input.truncate(if cut < 60 { cut + 40 } else { input.len() });
        if let Some((index, byte)) = spoiled.filter(|(index, _)| *index < input.len()) {
            input[index] = byte;
        }
        let recognised = recognise_publish(&input, &last, frame_max);
        prop_assert_eq!(recognised, recognise_slowly(&input, &last, frame_max));
    }

    #[test]
    fn a_recognised_publish_points_at_properties_and_body(properties in bytes(30), body in bytes(90)) {
        let last = publish_frame(9, b"", b"queue");
        let properties = [&[0x10, 0][..], &properties].concat();
        let input = [&last[..], &content(9, &properties, &body, 0), b"more"].concat();
        let recognised = recognise_publish(&input, &last, 0).expect("the publish is complete");
        let part = |range: std::ops::Range<u32>| &input[range.start as usize..range.end as usize];
        prop_assert_eq!(part(recognised.properties), &properties[..]);
        prop_assert_eq!(part(recognised.body), &body[..]);
        prop_assert_eq!(recognised.length as usize, input.len() - 4);
    }

    #[test]
    fn a_template_writes_what_the_general_encoder_writes(
        channel in any::<u16>(), names in [bytes(255), bytes(255), bytes(255)], delivery_tag in any::<u64>(),
        redelivered in any::<bool>(), properties in bytes(40), body in bytes(300), frame_max in prop_oneof![Just(0), 9..400_u32],
    ) {
        let [consumer_tag, exchange, routing_key] = &names;
        let deliver = BasicDeliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
        let mut expected = vec![1, 2, 3];
        Method::BasicDeliver(deliver).encode(channel, &mut expected);
        encode_content_header(channel, &visible(&properties), body.len() as u64, &mut expected);

        let template = DeliverTemplate::new(channel, consumer_tag, exchange, routing_key);
        let mut head = vec![1, 2, 3];
        template.encode_head(delivery_tag, redelivered, &properties, body.len() as u64, &mut head);
        prop_assert_eq!(&head, &expected);

        encode_body_frames(channel, &body, frame_max, &mut expected);
        let mut whole = vec![1, 2, 3];
        template.encode(delivery_tag, redelivered, &properties, &body, frame_max, &mut whole);
        prop_assert_eq!(whole, expected);
    }

    #[test]
    fn a_template_fits_its_own_exchange_and_key_only(
        exchange in "[ab]{0,3}", key in "[ab]{0,3}", other_exchange in "[ab]{0,3}", other_key in "[ab]{0,3}",
    ) {
        let template = DeliverTemplate::new(1, b"tag", exchange.as_bytes(), key.as_bytes());
        prop_assert!(template.matches(exchange.as_bytes(), key.as_bytes()));
        let is_same = (&exchange, &key) == (&other_exchange, &other_key);
        prop_assert_eq!(template.matches(other_exchange.as_bytes(), other_key.as_bytes()), is_same);
    }

    #[test]
    fn a_body_in_parts_is_written_as_one(parts in prop::collection::vec(bytes(70), 0..6), frame_max in 9..90_u32) {
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut in_parts = Vec::new();
        encode_content(5, &[0, 0], &slices, frame_max, &mut in_parts);
        let body = parts.concat();
        let mut at_once = Vec::new();
        encode_content_header(5, &[0, 0], body.len() as u64, &mut at_once);
        encode_body_frames(5, &body, frame_max, &mut at_once);
        prop_assert_eq!(in_parts, at_once);
    }
}

#[test]
fn an_empty_body_has_no_frame() {
    let frames = content(1, &[0, 0], b"", 4096);
    assert_eq!(frames.len(), 7 + 14 + 1);
    assert_eq!(frames.last(), Some(&FRAME_END));
}

#[test]
fn a_publish_in_two_body_frames_takes_the_general_path() {
    let last = publish_frame(1, b"", b"q");
    let input = [&last[..], &content(1, &[0, 0], &[7; 100], 68)].concat();
    assert_eq!(recognise_publish(&input, &last, 68), None);
    let input = [&last[..], &content(1, &[0, 0], &[7; 100], 108)].concat();
    assert!(recognise_publish(&input, &last, 108).is_some());
}
