//! AMQP's bytes: frames and the values in them, written without regard to whether they make sense.
//!
//! ```text
//! | type u8 | channel u16 | size u32 | payload | 0xCE |
//! ```

use std::io::{self, Read};

pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: u8 = 8;
pub const FRAME_END: u8 = 0xCE;

/// What a frame has beside its payload: seven octets before it, one after.
pub const FRAME_OVERHEAD: usize = 8;

/// Class and method of connection.close.
pub const CONNECTION_CLOSE: (u16, u16) = (10, 50);

/// The largest frame that is read; what claims to be larger is none, but a protocol header, say.
const READ_BYTES_MAX: usize = 1 << 20;

pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// The payload of a frame, built value by value.
#[derive(Clone, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    pub fn new() -> Payload {
        Payload::default()
    }

    pub fn method(class: u16, method: u16) -> Payload {
        Payload::new().short(class).short(method)
    }

    pub fn octet(mut self, value: u8) -> Payload {
        self.0.push(value);
        self
    }

    pub fn short(mut self, value: u16) -> Payload {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: u32) -> Payload {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long_long(mut self, value: u64) -> Payload {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A text of up to 255 bytes.
    pub fn short_string(self, text: &str) -> Payload {
        self.octet(text.len() as u8).bytes(text.as_bytes())
    }

    /// Bytes behind a length of 32 bits; a field table and an array have the same form.
    pub fn long_string(self, bytes: &[u8]) -> Payload {
        self.long(bytes.len() as u32).bytes(bytes)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Payload {
        self.0.extend(bytes);
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The frame of this payload.
    pub fn frame(self, kind: u8, channel: u16) -> Vec<u8> {
        let size = self.0.len() as u32;
        Payload::new()
            .octet(kind)
            .short(channel)
            .long(size)
            .bytes(&self.0)
            .octet(FRAME_END)
            .into_bytes()
    }
}

/// A frame as it was read.
pub struct Frame {
    pub kind: u8,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Class and method of a method frame.
    pub fn method(&self) -> Option<(u16, u16)> {
        match self.payload[..] {
            [a, b, c, d, ..] if self.kind == METHOD => {
                Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
            }
            _ => None,
        }
    }

    /// Reads one frame.
    pub fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut head = [0; 7];
        from.read_exact(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if size > READ_BYTES_MAX {
            return Err(io::Error::other(format!(
                "expected a frame, found one of {size} bytes"
            )));
        }
        let mut payload = vec![0; size + 1];
        from.read_exact(&mut payload)?;
        match payload.pop() {
            Some(FRAME_END) => Ok(Frame {
                kind: head[0],
                channel: u16::from_be_bytes([head[1], head[2]]),
                payload,
            }),
            end => Err(io::Error::other(format!(
                "expected the end of a frame, found {end:?}"
            ))),
        }
    }
}

/// Joins frames into one string of bytes.
pub fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}
