//! `FieldReader`: the fields of a method, one after the other (AMQP 0-9-1 §4.2.5).

use thiserror::Error;

use crate::model::FieldTableRef;
use crate::model::field_table::FieldTableError;

/// Why a field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldFault {
    /// It runs past the end.
    #[error("runs past the end")]
    Truncated,
    /// A short string is not UTF-8. RabbitMQ looks at the methods without content only, for speed.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A table is malformed.
    #[error("has {0}")]
    Table(#[from] FieldTableError),
}

/// Reads fields from the front of some bytes.
#[derive(Debug)]
pub struct FieldReader<'a> {
    rest: &'a [u8],
    /// The bits of the last byte of bits that have not been read, the next one lowest.
    bits: u8,
    bits_left: u8,
    has_utf8_names: bool,
}

impl<'a> FieldReader<'a> {
    /// Reads `fields`; short strings must be UTF-8 where `has_utf8_names`.
    #[inline]
    pub fn new(fields: &'a [u8], has_utf8_names: bool) -> Self {
        Self {
            rest: fields,
            bits: 0,
            bits_left: 0,
            has_utf8_names,
        }
    }

    /// The bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Eight bits.
    #[inline]
    pub fn octet(&mut self) -> Result<u8, FieldFault> {
        self.chunk().map(u8::from_be_bytes)
    }

    /// Sixteen bits.
    #[inline]
    pub fn short(&mut self) -> Result<u16, FieldFault> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// Thirty-two bits.
    #[inline]
    pub fn long(&mut self) -> Result<u32, FieldFault> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// Sixty-four bits.
    #[inline]
    pub fn longlong(&mut self) -> Result<u64, FieldFault> {
        self.chunk().map(u64::from_be_bytes)
    }

    /// One bit; up to eight that follow each other share a byte, the first one lowest.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, FieldFault> {
        if self.bits_left == 0 {
            self.bits = self.octet()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    /// Up to 255 bytes.
    #[inline]
    pub fn shortstr(&mut self) -> Result<&'a [u8], FieldFault> {
        let length = self.octet()?;
        let bytes = self.bytes(usize::from(length))?;
        if self.has_utf8_names && std::str::from_utf8(bytes).is_err() {
            return Err(FieldFault::NotUtf8);
        }
        Ok(bytes)
    }

    /// Any number of bytes.
    #[inline]
    pub fn longstr(&mut self) -> Result<&'a [u8], FieldFault> {
        let length = self.long()?;
        self.bytes(length as usize)
    }

    /// A table, checked to its depths.
    #[inline]
    pub fn table(&mut self) -> Result<FieldTableRef<'a>, FieldFault> {
        let table = FieldTableRef(self.longstr()?);
        table.validate()?;
        Ok(table)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], FieldFault> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(FieldFault::Truncated)?;
        self.rest = rest;
        self.bits_left = 0;
        Ok(*chunk)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], FieldFault> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(FieldFault::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}
