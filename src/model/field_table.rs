//! Field tables: the named values of arguments, client properties and message headers, kept in their byte form.
//!
//! ```text
//!  table:  ┌──────────┬─────────────┬──────────────┬────────────┬──── ...      entry after entry, up to the length
//!          │ u32 BE n │ length u8 k │ name (k)     │ type u8    │ value
//!          └──────────┴─────────────┴──────────────┴────────────┴──── ...      array: the same without names
//!
//!  t u8 != 0    b i8   B u8   s i16   u u16   I i32   i u32   l, L i64   T u64 seconds   f f32   d f64
//!  D scale u8, value u32      S, x: u32 length, bytes         A: array   F: table        V: nothing
//! ```
//!
//! The type codes are RabbitMQ's (<https://www.rabbitmq.com/docs/amqp-0-9-1-errata>), which differ from those of AMQP
//! 0-9-1 §4.2.5.5 in `s`, `l` and `L`. All numbers are big-endian. A table is checked to its depths once, when it
//! enters, and its entries are decoded when somebody asks for one: most tables are passed on unread.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// Tables and arrays a value may lie in; deeper ones are refused, so that no table can exhaust the stack.
pub const NESTING_MAX: usize = 128;

/// Why bytes are not a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldTableError {
    /// A name or a value runs past the end of its table or array.
    #[error("an entry runs past the end of its table")]
    Truncated,
    /// A type code that RabbitMQ does not know.
    #[error("unknown field type {0}")]
    UnknownType(u8),
    /// Tables and arrays lie in each other more than [`NESTING_MAX`] deep.
    #[error("tables nested more than {NESTING_MAX} deep")]
    TooDeep,
}

/// An owned table whose entries are known to be well formed. Cheap to clone.
///
/// Two tables are equal when their bytes are; the order of entries counts, as in RabbitMQ.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldTable(Bytes);

impl FieldTable {
    /// The table of these entries, given without the length before them.
    pub fn from_encoded(entries: impl Into<Bytes>) -> Result<Self, FieldTableError> {
        let entries = entries.into();
        FieldTableRef(&entries).validate()?;
        Ok(Self(entries))
    }

    /// A table to be filled entry by entry.
    pub fn builder() -> FieldTableBuilder {
        FieldTableBuilder { entries: Vec::new() }
    }

    /// The table, borrowed.
    #[inline]
    #[allow(
        clippy::should_implement_trait,
        reason = "the borrowed table is a value, not a reference"
    )]
    pub fn as_ref(&self) -> FieldTableRef<'_> {
        FieldTableRef(&self.0)
    }

    /// The entries' bytes, without the length before them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// A table borrowed from the bytes it lies in, possibly not yet checked.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldTableRef<'a>(pub &'a [u8]);

impl<'a> FieldTableRef<'a> {
    /// Name and value of each entry, in order; ends after the first error, which a checked table does not have.
    pub fn iter(self) -> impl Iterator<Item = Result<(&'a [u8], FieldValue<'a>), FieldTableError>> {
        Entries {
            rest: self.0,
            take: take_entry,
        }
    }

    /// The value of the first entry of this name; `None` as well when an error comes before it.
    pub fn get(self, key: &[u8]) -> Option<FieldValue<'a>> {
        self.iter()
            .map_while(Result::ok)
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The entries' bytes, without the length before them.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Checks every entry, in nested tables and arrays as well.
    #[inline]
    pub fn validate(self) -> Result<(), FieldTableError> {
        validate_table(self, NESTING_MAX)
    }

    /// An owned copy, which must have been checked (asserted in debug builds).
    #[allow(clippy::wrong_self_convention, reason = "a borrowed table is Copy")]
    pub fn to_owned(self) -> FieldTable {
        debug_assert!(self.validate().is_ok(), "an owned table is well formed");
        FieldTable(Bytes::copy_from_slice(self.0))
    }
}

impl fmt::Debug for FieldTableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map_while(Result::ok);
        f.debug_map()
            .entries(entries.map(|(name, value)| (String::from_utf8_lossy(name), value)))
            .finish()
    }
}

/// An array borrowed from the bytes it lies in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldArrayRef<'a>(pub &'a [u8]);

impl<'a> FieldArrayRef<'a> {
    /// Each value, in order; ends after the first error, which a checked array does not have.
    pub fn iter(self) -> impl Iterator<Item = Result<FieldValue<'a>, FieldTableError>> {
        Entries {
            rest: self.0,
            take: take_value,
        }
    }

    /// Whether there is no value.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The values' bytes, without the length before them.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for FieldArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map_while(Result::ok)).finish()
    }
}

/// An owned array, to put into a table that is being built.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldArray(Vec<u8>);

impl FieldArray {
    /// An empty array.
    pub fn new() -> Self {
        Self::default()
    }

    /// The array with one more value.
    pub fn with(mut self, value: FieldValue<'_>) -> Self {
        value.encode(&mut self.0);
        self
    }

    /// The array, borrowed.
    #[allow(
        clippy::should_implement_trait,
        reason = "the borrowed array is a value, not a reference"
    )]
    pub fn as_ref(&self) -> FieldArrayRef<'_> {
        FieldArrayRef(&self.0)
    }
}

impl fmt::Debug for FieldArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// A value of a field table, its type code in the variant's doc.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue<'a> {
    /// `t`
    Boolean(bool),
    /// `b`
    Int8(i8),
    /// `B`
    Uint8(u8),
    /// `s`
    Int16(i16),
    /// `u`
    Uint16(u16),
    /// `I`
    Int32(i32),
    /// `i`
    Uint32(u32),
    /// `l`, read from `L` as well
    Int64(i64),
    /// `f`
    Float(f32),
    /// `d`
    Double(f64),
    /// `D`: `value` with a decimal point before its last `scale` digits.
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`, any bytes
    LongString(&'a [u8]),
    /// `x`
    ByteArray(&'a [u8]),
    /// `T`, seconds since 1970
    Timestamp(u64),
    /// `A`
    Array(FieldArrayRef<'a>),
    /// `F`
    Table(FieldTableRef<'a>),
    /// `V`
    Void,
}

impl<'a> FieldValue<'a> {
    /// The number, if it is an integer of any width; RabbitMQ takes them as equivalent.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            FieldValue::Int8(value) => Some(value.into()),
            FieldValue::Uint8(value) => Some(value.into()),
            FieldValue::Int16(value) => Some(value.into()),
            FieldValue::Uint16(value) => Some(value.into()),
            FieldValue::Int32(value) => Some(value.into()),
            FieldValue::Uint32(value) => Some(value.into()),
            FieldValue::Int64(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes of a long string.
    pub fn as_string(&self) -> Option<&'a [u8]> {
        match *self {
            FieldValue::LongString(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// RabbitMQ's name of the type, as it stands in the texts of refusals.
    pub fn rabbit_type_name(&self) -> &'static str {
        match self {
            FieldValue::Boolean(_) => "bool",
            FieldValue::Int8(_) => "byte",
            FieldValue::Uint8(_) => "unsignedbyte",
            FieldValue::Int16(_) => "short",
            FieldValue::Uint16(_) => "unsignedshort",
            FieldValue::Int32(_) => "signedint",
            FieldValue::Uint32(_) => "unsignedint",
            FieldValue::Int64(_) => "long",
            FieldValue::Float(_) => "float",
            FieldValue::Double(_) => "double",
            FieldValue::Decimal { .. } => "decimal",
            FieldValue::LongString(_) => "longstr",
            FieldValue::ByteArray(_) => "binary",
            FieldValue::Timestamp(_) => "timestamp",
            FieldValue::Array(_) => "array",
            FieldValue::Table(_) => "table",
            FieldValue::Void => "void",
        }
    }

    /// Appends the type code and the value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            FieldValue::Boolean(value) => put(out, b't', &[u8::from(value)]),
            FieldValue::Int8(value) => put(out, b'b', &value.to_be_bytes()),
            FieldValue::Uint8(value) => put(out, b'B', &[value]),
            FieldValue::Int16(value) => put(out, b's', &value.to_be_bytes()),
            FieldValue::Uint16(value) => put(out, b'u', &value.to_be_bytes()),
            FieldValue::Int32(value) => put(out, b'I', &value.to_be_bytes()),
            FieldValue::Uint32(value) => put(out, b'i', &value.to_be_bytes()),
            FieldValue::Int64(value) => put(out, b'l', &value.to_be_bytes()),
            FieldValue::Float(value) => put(out, b'f', &value.to_be_bytes()),
            FieldValue::Double(value) => put(out, b'd', &value.to_be_bytes()),
            FieldValue::Decimal { scale, value } => {
                put(out, b'D', &[scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            FieldValue::LongString(bytes) => put_long(out, b'S', bytes),
            FieldValue::ByteArray(bytes) => put_long(out, b'x', bytes),
            FieldValue::Timestamp(value) => put(out, b'T', &value.to_be_bytes()),
            FieldValue::Array(array) => put_long(out, b'A', array.0),
            FieldValue::Table(table) => put_long(out, b'F', table.0),
            FieldValue::Void => put(out, b'V', &[]),
        }
    }
}

/// Collects entries of a table that this broker writes itself. Names longer than 255 bytes are cut.
#[derive(Clone, Debug, Default)]
pub struct FieldTableBuilder {
    entries: Vec<u8>,
}

impl FieldTableBuilder {
    /// Adds a value of any type.
    pub fn value(mut self, key: impl AsRef<[u8]>, value: FieldValue<'_>) -> Self {
        let key = key.as_ref();
        let key = &key[..key.len().min(usize::from(u8::MAX))];
        put(&mut self.entries, key.len() as u8, key);
        value.encode(&mut self.entries);
        self
    }

    /// Adds a long string.
    pub fn string(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.value(key, FieldValue::LongString(value.as_ref()))
    }

    /// Adds a boolean.
    pub fn boolean(self, key: impl AsRef<[u8]>, value: bool) -> Self {
        self.value(key, FieldValue::Boolean(value))
    }

    /// Adds an integer of 32 bits.
    pub fn int(self, key: impl AsRef<[u8]>, value: i32) -> Self {
        self.value(key, FieldValue::Int32(value))
    }

    /// Adds an integer of 64 bits.
    pub fn long(self, key: impl AsRef<[u8]>, value: i64) -> Self {
        self.value(key, FieldValue::Int64(value))
    }

    /// Adds a table.
    pub fn table(self, key: impl AsRef<[u8]>, value: &FieldTable) -> Self {
        self.value(key, FieldValue::Table(value.as_ref()))
    }

    /// Adds an array.
    pub fn array(self, key: impl AsRef<[u8]>, value: &FieldArray) -> Self {
        self.value(key, FieldValue::Array(value.as_ref()))
    }

    /// Adds a time, in seconds since 1970.
    pub fn timestamp(self, key: impl AsRef<[u8]>, seconds: u64) -> Self {
        self.value(key, FieldValue::Timestamp(seconds))
    }

    /// Adds an entry without a value.
    pub fn void(self, key: impl AsRef<[u8]>) -> Self {
        self.value(key, FieldValue::Void)
    }

    /// The table of the entries added.
    pub fn build(self) -> FieldTable {
        FieldTable(self.entries.into())
    }
}

/// What is taken from the front of some bytes, and the bytes behind it.
type Taken<'a, T> = Result<(T, &'a [u8]), FieldTableError>;

struct Entries<'a, T> {
    rest: &'a [u8],
    take: fn(&'a [u8]) -> Taken<'a, T>,
}

impl<'a, T> Iterator for Entries<'a, T> {
    type Item = Result<T, FieldTableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match (self.take)(self.rest) {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

fn take_entry(bytes: &[u8]) -> Taken<'_, (&[u8], FieldValue<'_>)> {
    let (&length, rest) = bytes.split_first().ok_or(FieldTableError::Truncated)?;
    let (key, rest) = rest
        .split_at_checked(usize::from(length))
        .ok_or(FieldTableError::Truncated)?;
    let (value, rest) = take_value(rest)?;
    Ok(((key, value), rest))
}

fn take_value(bytes: &[u8]) -> Taken<'_, FieldValue<'_>> {
    let (&code, rest) = bytes.split_first().ok_or(FieldTableError::Truncated)?;
    Ok(match code {
        b't' => take(rest, |[value]| FieldValue::Boolean(value != 0))?,
        b'b' => take(rest, |value| FieldValue::Int8(i8::from_be_bytes(value)))?,
        b'B' => take(rest, |[value]| FieldValue::Uint8(value))?,
        b's' => take(rest, |value| FieldValue::Int16(i16::from_be_bytes(value)))?,
        b'u' => take(rest, |value| FieldValue::Uint16(u16::from_be_bytes(value)))?,
        b'I' => take(rest, |value| FieldValue::Int32(i32::from_be_bytes(value)))?,
        b'i' => take(rest, |value| FieldValue::Uint32(u32::from_be_bytes(value)))?,
        b'l' | b'L' => take(rest, |value| FieldValue::Int64(i64::from_be_bytes(value)))?,
        b'f' => take(rest, |value| FieldValue::Float(f32::from_be_bytes(value)))?,
        b'd' => take(rest, |value| FieldValue::Double(f64::from_be_bytes(value)))?,
        b'D' => take(rest, |[scale, a, b, c, d]| FieldValue::Decimal {
            scale,
            value: u32::from_be_bytes([a, b, c, d]),
        })?,
        b'T' => take(rest, |value| FieldValue::Timestamp(u64::from_be_bytes(value)))?,
        b'S' => take_long(rest, FieldValue::LongString)?,
        b'x' => take_long(rest, FieldValue::ByteArray)?,
        b'A' => take_long(rest, |values| FieldValue::Array(FieldArrayRef(values)))?,
        b'F' => take_long(rest, |entries| FieldValue::Table(FieldTableRef(entries)))?,
        b'V' => (FieldValue::Void, rest),
        unknown => return Err(FieldTableError::UnknownType(unknown)),
    })
}

fn take<const N: usize>(
    bytes: &[u8],
    value: impl FnOnce([u8; N]) -> FieldValue<'static>,
) -> Taken<'_, FieldValue<'_>> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(FieldTableError::Truncated)?;
    Ok((value(*taken), rest))
}

fn take_long<'a>(
    bytes: &'a [u8],
    value: impl FnOnce(&'a [u8]) -> FieldValue<'a>,
) -> Taken<'a, FieldValue<'a>> {
    let (length, rest) = bytes.split_first_chunk().ok_or(FieldTableError::Truncated)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (taken, rest) = rest.split_at_checked(length).ok_or(FieldTableError::Truncated)?;
    Ok((value(taken), rest))
}

fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    out.push(code);
    out.extend_from_slice(value);
}

fn put_long(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    put(out, code, &(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn validate_table(table: FieldTableRef<'_>, nesting_left: usize) -> Result<(), FieldTableError> {
    table
        .iter()
        .try_for_each(|entry| validate_value(entry?.1, nesting_left))
}

fn validate_value(value: FieldValue<'_>, nesting_left: usize) -> Result<(), FieldTableError> {
    let inner = || nesting_left.checked_sub(1).ok_or(FieldTableError::TooDeep);
    match value {
        FieldValue::Table(table) => validate_table(table, inner()?),
        FieldValue::Array(array) => {
            let nesting_left = inner()?;
            array
                .iter()
                .try_for_each(|value| validate_value(value?, nesting_left))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_name() {
        let inner = FieldTable::builder().boolean("basic.nack", true).build();
        let deaths = FieldArray::new()
            .with(FieldValue::Table(inner.as_ref()))
            .with(FieldValue::Int8(-1));
        let table = FieldTable::builder()
            .string("product", "x")
            .long("n", -5)
            .array("deaths", &deaths)
            .void("v")
            .build();
        let table = FieldTable::from_encoded(table.as_bytes().to_vec()).unwrap();
        assert_eq!(
            table.as_ref().get(b"product").and_then(|value| value.as_string()),
            Some(&b"x"[..])
        );
        assert_eq!(
            table.as_ref().get(b"n").and_then(|value| value.as_integer()),
            Some(-5)
        );
        assert_eq!(table.as_ref().get(b"v"), Some(FieldValue::Void));
        assert_eq!(table.as_ref().get(b"w"), None);
        let Some(FieldValue::Array(array)) = table.as_ref().get(b"deaths") else {
            panic!("the array is there")
        };
        let Some(Ok(FieldValue::Table(death))) = array.iter().next() else {
            panic!("the table is first")
        };
        assert_eq!(death.get(b"basic.nack"), Some(FieldValue::Boolean(true)));
    }

    #[test]
    fn a_cut_table_is_refused() {
        let table = FieldTable::builder()
            .int("n", 5)
            .table("t", &FieldTable::default())
            .build();
        let whole = table.as_bytes();
        for end in (1..whole.len()).filter(|end| *end != 7) {
            assert_eq!(
                FieldTableRef(&whole[..end]).validate(),
                Err(FieldTableError::Truncated),
                "cut at {end}"
            );
        }
        assert_eq!(
            FieldTableRef(b"\x01aU\0\0").validate(),
            Err(FieldTableError::UnknownType(b'U'))
        );
    }

    #[test]
    fn nesting_ends_at_a_limit() {
        let wrap = |table: FieldTable| FieldTable::builder().table("t", &table).build();
        let deepest = (0..NESTING_MAX).fold(FieldTable::default(), |table, _| wrap(table));
        assert_eq!(deepest.as_ref().validate(), Ok(()));
        assert_eq!(wrap(deepest).as_ref().validate(), Err(FieldTableError::TooDeep));
    }

    #[test]
    fn both_long_codes_and_any_true_byte_are_read() {
        let table = FieldTableRef(b"\x01aL\xff\xff\xff\xff\xff\xff\xff\xfe\x01bt\x07");
        assert_eq!(table.get(b"a"), Some(FieldValue::Int64(-2)));
        assert_eq!(table.get(b"b"), Some(FieldValue::Boolean(true)));
    }
}
