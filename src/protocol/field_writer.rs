//! `FieldWriter`: the fields of a method, one after the other, into a frame (AMQP 0-9-1 §4.2.5).

use crate::model::FieldTableRef;
use crate::protocol::frame::{FRAME_END, FRAME_HEADER_LENGTH, FrameKind, frame_head};

/// Writes one method frame to the end of a buffer.
#[derive(Debug)]
pub struct FieldWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Where the frame begins in `out`.
    start: usize,
    /// The value that the next bit has in the byte at the end of `out`; 0 when it needs a new byte.
    next_bit: u8,
}

impl<'o> FieldWriter<'o> {
    /// Begins the frame of a method.
    #[inline]
    pub fn begin(channel: u16, class_id: u16, method_id: u16, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        let [c0, c1] = class_id.to_be_bytes();
        let [m0, m1] = method_id.to_be_bytes();
        out.extend_from_slice(&frame_head(FrameKind::Method, channel, 0));
        out.extend_from_slice(&[c0, c1, m0, m1]);
        Self {
            out,
            start,
            next_bit: 0,
        }
    }

    /// Ends the frame.
    #[inline]
    pub fn finish(self) {
        let length = (self.out.len() - self.start - FRAME_HEADER_LENGTH) as u32;
        self.out[self.start + 3..self.start + FRAME_HEADER_LENGTH].copy_from_slice(&length.to_be_bytes());
        self.out.push(FRAME_END);
    }

    /// Eight bits.
    #[inline]
    pub fn octet(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Sixteen bits.
    #[inline]
    pub fn short(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Thirty-two bits.
    #[inline]
    pub fn long(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Sixty-four bits.
    #[inline]
    pub fn longlong(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// One bit; up to eight that follow each other share a byte.
    #[inline]
    pub fn bit(&mut self, value: bool) {
        if self.next_bit == 0 {
            self.octet(0);
            self.next_bit = 1;
        }
        if value {
            *self.out.last_mut().expect("a byte of bits was pushed") |= self.next_bit;
        }
        self.next_bit <<= 1;
    }

    /// Up to 255 bytes; what is longer is cut there, which happens to reply texts only.
    #[inline]
    pub fn shortstr(&mut self, value: &[u8]) {
        let value = cut_short(value);
        self.octet(value.len() as u8);
        self.bytes(value);
    }

    /// Any number of bytes.
    #[inline]
    pub fn longstr(&mut self, value: &[u8]) {
        self.long(value.len() as u32);
        self.bytes(value);
    }

    /// A table.
    #[inline]
    pub fn table(&mut self, value: FieldTableRef<'_>) {
        self.longstr(value.as_bytes());
    }

    #[inline]
    fn bytes(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
        self.next_bit = 0;
    }
}

/// The bytes, or the first 255 of them, back to a character's beginning so that UTF-8 stays UTF-8.
#[inline]
pub(super) fn cut_short(value: &[u8]) -> &[u8] {
    const LENGTH_MAX: usize = u8::MAX as usize;
    if value.len() <= LENGTH_MAX {
        return value;
    }
    let is_inside_character = |index: &usize| value[*index] & 0xC0 == 0x80;
    let end = (LENGTH_MAX - 3..=LENGTH_MAX)
        .rev()
        .find(|index| !is_inside_character(index));
    &value[..end.unwrap_or(LENGTH_MAX)]
}
