//! Strings of bytes that no client should send: random ones, and sessions with something wrong in them.

use crate::random::Random;
use crate::session;
use crate::wire::{BODY, FRAME_OVERHEAD, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, Payload, joined};

/// A way to make a string, and its weight among all.
type Kind = (&'static str, usize, fn(&Base, &mut Random) -> Vec<u8>);

/// The ways to make a string. The last two make strings of up to a frame's full size, hence their weights.
pub const KINDS: [Kind; 14] = [
    ("random bytes", 20, random_bytes),
    ("random bytes after the header", 10, random_after_header),
    ("random frames after the handshake", 20, random_frames),
    ("random arguments of real methods", 20, random_arguments),
    ("flipped bits", 40, flipped_bits),
    ("truncated", 20, truncated),
    ("wrong frame size", 20, wrong_frame_size),
    ("wrong frame type or channel", 20, wrong_frame_head),
    ("wrong length within a frame", 40, wrong_inner_length),
    ("payload grown or shrunk", 30, resized_payload),
    ("frames dropped, doubled, swapped", 20, shuffled_frames),
    ("wrong content size", 10, wrong_content_size),
    ("table of many fields", 1, table_bomb),
    ("deeply nested table", 3, deep_nesting),
];

/// The payload of the largest frame that the sessions agree on.
const PAYLOAD_BYTES_MAX: usize = 131_072 - FRAME_OVERHEAD;

/// The numbers at which length checks go wrong.
const LENGTHS: [u32; 12] = [
    0,
    1,
    2,
    4,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff7,
    0xffff_ffff,
];

/// The session that is mutated, built once.
pub struct Base {
    /// The only kind to make, as its place in [`KINDS`].
    kind: Option<usize>,
    handshake: Vec<Vec<u8>>,
    session: Vec<Vec<u8>>,
}

/// The place of a kind in [`KINDS`].
pub fn kind_named(name: &str) -> Option<usize> {
    KINDS.iter().position(|(kind, ..)| *kind == name)
}

impl Base {
    pub fn new(kind: Option<usize>) -> Base {
        Base {
            kind,
            handshake: session::handshake(),
            session: session::frames_to_mutate(),
        }
    }

    /// Makes string number `index`; returns its kind's place in [`KINDS`] as well.
    pub fn string(&self, seed: u64, index: u64) -> (usize, Vec<u8>) {
        let mut random = Random::of(seed, index);
        if let Some(kind) = self.kind {
            return (kind, KINDS[kind].2(self, &mut random));
        }
        let total: usize = KINDS.iter().map(|(_, weight, _)| weight).sum();
        let mut left = random.below(total);
        for (kind, (_, weight, make)) in KINDS.iter().enumerate() {
            if left < *weight {
                return (kind, make(self, &mut random));
            }
            left -= weight;
        }
        unreachable!("a number below the sum of the weights falls to one of them")
    }

    /// A session of valid frames, and the index of one of them. A third of them begins like the whole session; the
    /// others take a few of its frames out of context, which costs the broker less.
    fn frames(&self, random: &mut Random) -> (Vec<Vec<u8>>, usize) {
        let opened = self.handshake.len();
        if random.below(3) == 0 {
            let target = random.below(self.session.len());
            let end = (target + 4).min(self.session.len());
            return (self.session[..end].to_vec(), target);
        }
        let begin = opened + random.below(self.session.len() - opened);
        let end = (begin + 3).min(self.session.len());
        let frames = [&self.handshake[..], &self.session[begin..end]].concat();
        let target = random.below(frames.len());
        (frames, target)
    }

    /// Like `frames`, with a target that has a payload and may be given any content.
    fn malleable_frames(&self, random: &mut Random) -> (Vec<Vec<u8>>, usize) {
        loop {
            let (frames, target) = self.frames(random);
            if target > 0 && frames[target].len() > FRAME_OVERHEAD && !session::is_lasting(&frames[target]) {
                return (frames, target);
            }
        }
    }
}

fn random_bytes(_: &Base, random: &mut Random) -> Vec<u8> {
    let count = 1 + random.below(512);
    random.bytes(count)
}

fn random_after_header(base: &Base, random: &mut Random) -> Vec<u8> {
    let mut bytes = PROTOCOL_HEADER.to_vec();
    if random.below(4) == 0 {
        let flipped = 4 + random.below(4);
        bytes[flipped] = random.octet();
    }
    bytes.extend(random_bytes(base, random));
    bytes
}

fn random_frames(base: &Base, random: &mut Random) -> Vec<u8> {
    let mut frames = base.handshake.clone();
    for _ in 0..1 + random.below(3) {
        let count = random.below(200);
        let payload = Payload::new().bytes(&random.bytes(count));
        let kind = *random.pick(&[METHOD, HEADER, BODY, HEARTBEAT]);
        frames.push(payload.frame(kind, random.below(3) as u16));
    }
    joined(&frames)
}

/// Class and method as the tables have them, with arguments that are noise.
fn random_arguments(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.malleable_frames(random);
    let kept = &frames[target][..FRAME_OVERHEAD + 3];
    let (kind, channel) = (kept[0], u16::from_be_bytes([kept[1], kept[2]]));
    let noise = random.below(64);
    let payload = Payload::new().bytes(&kept[7..]).bytes(&random.bytes(noise));
    frames[target] = payload.frame(kind, channel);
    joined(&kept_exclusive(frames))
}

fn flipped_bits(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.frames(random);
    for _ in 0..1 + random.below(4) {
        let frame = if session::is_lasting(&frames[target]) {
            &mut frames[0]
        } else {
            &mut frames[target]
        };
        let at = random.below(frame.len());
        frame[at] ^= 1 << random.below(8);
    }
    joined(&kept_exclusive(frames))
}

fn truncated(base: &Base, random: &mut Random) -> Vec<u8> {
    let (frames, _) = base.frames(random);
    let mut bytes = joined(&frames);
    let end = 1 + random.below(bytes.len());
    bytes.truncate(end);
    bytes
}

fn wrong_frame_size(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.malleable_frames(random);
    let size = (frames[target].len() - FRAME_OVERHEAD) as u32;
    let near = [
        size.wrapping_sub(1),
        size + 1,
        PAYLOAD_BYTES_MAX as u32,
        PAYLOAD_BYTES_MAX as u32 + 1,
    ];
    let lie = if random.below(2) == 0 {
        *random.pick(&near)
    } else {
        *random.pick(&LENGTHS)
    };
    frames[target][3..7].copy_from_slice(&lie.to_be_bytes());
    joined(&frames)
}

fn wrong_frame_head(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.malleable_frames(random);
    match random.below(3) {
        0 => frames[target][0] = random.octet(),
        1 => frames[target][1..3].copy_from_slice(&(random.next() as u16).to_be_bytes()),
        _ => *frames[target].last_mut().expect("a frame ends with an octet") = random.octet(),
    }
    joined(&frames)
}

/// Writes a length of one, two, four or eight bytes over some place of the payload.
fn wrong_inner_length(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.malleable_frames(random);
    let frame = &mut frames[target];
    let payload_end = frame.len() - 1;
    let at = 7 + random.below(payload_end - 7);
    let lie = (u64::from(*random.pick(&LENGTHS)) << 32 | u64::from(*random.pick(&LENGTHS))).to_be_bytes();
    let width = (*random.pick(&[1, 2, 4, 8])).min(payload_end - at);
    frame[at..at + width].copy_from_slice(&lie[8 - width..]);
    joined(&kept_exclusive(frames))
}

/// Inserts bytes into a payload, or removes some, and gives the frame the right size again.
fn resized_payload(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.malleable_frames(random);
    let frame = &frames[target];
    let mut payload = frame[7..frame.len() - 1].to_vec();
    let at = random.below(payload.len());
    let count = 1 + random.below(16);
    if random.below(2) == 0 {
        payload.drain(at..(at + count).min(payload.len()));
    } else {
        payload.splice(at..at, random.bytes(count));
    }
    let (kind, channel) = (frame[0], u16::from_be_bytes([frame[1], frame[2]]));
    frames[target] = Payload::new().bytes(&payload).frame(kind, channel);
    joined(&kept_exclusive(frames))
}

fn shuffled_frames(base: &Base, random: &mut Random) -> Vec<u8> {
    let (mut frames, target) = base.frames(random);
    let other = random.below(frames.len());
    match random.below(4) {
        0 => drop(frames.remove(target)),
        1 => frames.insert(target, frames[target].clone()),
        2 => frames.insert(target, base.session[random.below(base.session.len())].clone()),
        _ => frames.swap(target, other),
    }
    joined(&frames)
}

/// A content header whose body size is not that of the body that follows.
fn wrong_content_size(base: &Base, random: &mut Random) -> Vec<u8> {
    let mut frames = session::before_body();
    let header = frames.last_mut().expect("a session has frames");
    let lies = [0, 1, 5, 7, 131_072, 1 << 31, 1 << 32, 1 << 40, 1 << 63, u64::MAX];
    header[11..19].copy_from_slice(&random.pick(&lies).to_be_bytes());
    for _ in 0..random.below(3) {
        let count = random.below(64);
        frames.push(Payload::new().bytes(&random.bytes(count)).frame(BODY, 1));
    }
    frames.push(random.pick(&base.session).clone());
    joined(&frames)
}

/// A table with as many fields as a frame can hold, of the smallest or of equal names.
fn table_bomb(base: &Base, random: &mut Random) -> Vec<u8> {
    let room = 1 + random.below(PAYLOAD_BYTES_MAX - 64);
    let mut table = Vec::with_capacity(room);
    let (name_bytes, is_same) = (random.below(4), random.below(2) == 0);
    while table.len() + name_bytes + 2 <= room {
        table.push(name_bytes as u8);
        let name = if is_same {
            vec![b'a'; name_bytes]
        } else {
            random.bytes(name_bytes)
        };
        table.extend(name);
        table.push(b'V');
    }
    with_table(base, random, &table)
}

/// Tables within tables, or arrays within arrays, each of which holds nothing but the next.
fn deep_nesting(base: &Base, random: &mut Random) -> Vec<u8> {
    let is_table = random.below(2) == 0;
    let level_bytes = if is_table { 7 } else { 5 };
    let depth_max = *random.pick(&[16, 64, 128, 256, 1024, (PAYLOAD_BYTES_MAX - 64) / level_bytes]);
    let depth = 1 + random.below(depth_max);
    let mut table = Payload::new();
    if !is_table {
        table = table.short_string("a");
    }
    for level in (0..depth).rev() {
        table = if is_table {
            table.short_string("a").octet(b'F')
        } else {
            table.octet(b'A')
        };
        table = table.long((level * level_bytes) as u32);
    }
    with_table(base, random, &table.into_bytes())
}

/// Sets the exclusive flag of queue.declare again: a queue that outlives its connection is memory in use, not lost.
fn kept_exclusive(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    const EXCLUSIVE: u8 = 0b100;
    const NAME_LENGTH_AT: usize = 13;
    for frame in frames.iter_mut().filter(|frame| frame.len() > NAME_LENGTH_AT) {
        let flags_at = NAME_LENGTH_AT + 1 + usize::from(frame[NAME_LENGTH_AT]);
        if frame[7..11] == session::QUEUE_DECLARE && flags_at < frame.len() - 1 {
            frame[flags_at] |= EXCLUSIVE;
        }
    }
    frames
}

/// Puts a table into one of the places that take any.
fn with_table(base: &Base, random: &mut Random, table: &[u8]) -> Vec<u8> {
    let mut frames = base.handshake.clone();
    match random.below(3) {
        0 => frames[1] = session::start_ok_with(table),
        1 => frames.push(session::queue_declare_with(table)),
        _ => frames.extend(session::publish_with(table)),
    }
    joined(&frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    #[test]
    fn same_seed_and_index_make_the_same_string() {
        for index in 0..1000 {
            assert_eq!(Base::new(None).string(7, index), Base::new(None).string(7, index));
        }
    }

    #[test]
    fn every_kind_is_made_and_no_string_is_empty() {
        let base = Base::new(None);
        let mut counts = [0; KINDS.len()];
        for index in 0..10_000 {
            let (kind, bytes) = base.string(7, index);
            counts[kind] += 1;
            assert!(!bytes.is_empty());
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn nested_tables_have_the_lengths_they_claim() {
        let base = Base::new(None);
        for index in 0..200 {
            let bytes = deep_nesting(&base, &mut Random::of(7, index));
            let mut rest = &bytes[PROTOCOL_HEADER.len()..];
            while !rest.is_empty() {
                Frame::read(&mut rest).expect("each frame ends where its size says");
            }
        }
    }
}
