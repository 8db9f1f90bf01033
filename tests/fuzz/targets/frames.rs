//! Whole streams: frames are read until one is refused, and what was read is written again, byte for byte.

#![no_main]

use lanemq::protocol::content::{ContentHeader, encode_body_frames, encode_content_header};
use lanemq::protocol::frame::{Frame, FrameKind, decode_frame, encode_heartbeat, judge_protocol_header};
use lanemq::protocol::method::{Method, method_ids};
use lanemq::protocol::publish::recognise_publish;
use libfuzzer_sys::fuzz_target;

const FRAME_MAX: u32 = 4096;

fuzz_target!(|input: &[u8]| {
    let _ = judge_protocol_header(input);
    let mut rest = input;
    let mut last_publish = None;
    loop {
        if let Some(method_frame) = last_publish {
            check_recognised(rest, method_frame);
        }
        let (frame, length) = match decode_frame(rest, FRAME_MAX) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return,
            Err(error) => return drop(error.refusal()),
        };
        assert_eq!(
            decode_frame(&rest[..length - 1], FRAME_MAX),
            Ok(None),
            "a frame needs its last byte"
        );
        check_written_again(frame, &rest[..length]);
        if method_ids(frame.payload) == Some((60, 40)) && Method::decode(frame.payload).is_ok() {
            last_publish = Some(&rest[..length]);
        }
        rest = &rest[length..];
    }
});

fn check_written_again(frame: Frame<'_>, bytes: &[u8]) {
    let mut written = Vec::new();
    match frame.kind {
        FrameKind::Heartbeat => {
            encode_heartbeat(&mut written);
            assert_eq!(written[3..], bytes[3..]);
        }
        FrameKind::Body if !frame.payload.is_empty() => {
            encode_body_frames(frame.channel, frame.payload, 0, &mut written);
            assert_eq!(written, bytes);
        }
        FrameKind::Header => {
            let Ok(header) = ContentHeader::decode(frame.payload) else {
                return;
            };
            encode_content_header(frame.channel, header.properties, header.body_size, &mut written);
            assert_eq!(written.len(), bytes.len());
            assert_eq!(written[11..], bytes[11..], "only class and weight are fixed");
        }
        FrameKind::Body | FrameKind::Method => {}
    }
}

/// What the hot path takes for a publish is three frames, or two, to the general path.
fn check_recognised(input: &[u8], method_frame: &[u8]) {
    let Some(publish) = recognise_publish(input, method_frame, FRAME_MAX) else {
        return;
    };
    let mut read = 0;
    let mut body = Vec::new();
    while read < publish.length as usize {
        let (frame, length) = decode_frame(&input[read..], FRAME_MAX)
            .expect("valid")
            .expect("complete");
        if frame.kind == FrameKind::Body {
            body.extend_from_slice(frame.payload);
        }
        read += length;
    }
    assert_eq!(read, publish.length as usize);
    assert_eq!(
        body,
        input[publish.body.start as usize..publish.body.end as usize]
    );
}
