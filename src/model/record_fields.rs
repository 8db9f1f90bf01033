//! The fields of records about what is declared and who may do what: numbers big-endian, names and texts behind their
//! lengths.

use super::field_table::FieldTableError;
use super::{FieldTable, ShortString};

/// Why bytes are not the fields they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A table is none.
    #[error("arguments that are no table: {0}")]
    Table(#[from] FieldTableError),
}

/// The bytes of a record that are not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], FieldsError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FieldsError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldsError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(FieldsError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A u8.
    pub fn byte(&mut self) -> Result<u8, FieldsError> {
        self.array().map(u8::from_be_bytes)
    }

    /// A u16.
    pub fn u16(&mut self) -> Result<u16, FieldsError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A u32.
    pub fn u32(&mut self) -> Result<u32, FieldsError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A u64.
    pub fn u64(&mut self) -> Result<u64, FieldsError> {
        self.array().map(u64::from_be_bytes)
    }

    /// An i64.
    pub fn i64(&mut self) -> Result<i64, FieldsError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A name: length u8, bytes.
    pub fn name(&mut self) -> Result<ShortString, FieldsError> {
        let length = usize::from(self.byte()?);
        Ok(ShortString::new(self.take(length)?).expect("a length of one byte fits a shortstr"))
    }

    /// Names: count u16, each.
    pub fn names(&mut self) -> Result<Vec<ShortString>, FieldsError> {
        (0..self.u16()?).map(|_| self.name()).collect()
    }

    /// Bytes behind their length u32.
    pub fn bytes(&mut self) -> Result<&'a [u8], FieldsError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A text behind its length u32.
    pub fn text(&mut self) -> Result<&'a str, FieldsError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| FieldsError::Text)
    }

    /// A table behind its length u32.
    pub fn table(&mut self) -> Result<FieldTable, FieldsError> {
        Ok(FieldTable::from_encoded(self.bytes()?.to_vec())?)
    }

    /// A limit: an i64, -1 for none.
    pub fn limit(&mut self) -> Result<Option<u64>, FieldsError> {
        Ok(u64::try_from(self.i64()?).ok())
    }
}

/// Appends a name, as [`Fields::name`] reads it.
pub fn put_name(out: &mut Vec<u8>, name: &ShortString) {
    out.push(name.as_bytes().len() as u8);
    out.extend_from_slice(name.as_bytes());
}

/// Appends names, as [`Fields::names`] reads them; at most 65,535.
pub fn put_names(out: &mut Vec<u8>, names: &[ShortString]) {
    let names = &names[..names.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(names.len() as u16).to_be_bytes());
    names.iter().for_each(|name| put_name(out, name));
}

/// Appends bytes, as [`Fields::bytes`], [`Fields::text`] and [`Fields::table`] read them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a limit, as [`Fields::limit`] reads it.
pub fn put_limit(out: &mut Vec<u8>, limit: Option<u64>) {
    let limit = limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
    out.extend_from_slice(&limit.to_be_bytes());
}
