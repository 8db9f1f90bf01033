//! Content properties: flags that tell which values follow, then those values (AMQP 0-9-1 §4.2.6.1).
//!
//! ```text
//!  15                                  2   1   0
//!  ┌──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬──┬───┬───┐
//!  │ct│ce│hd│dm│pr│ci│rt│ex│mi│ts│ty│ui│ai│ci│ b │ c │   c: another word of flags follows this one
//!  └──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴──┴───┴───┘
//! ```
//!
//! AMQP gives `b` no meaning; this broker marks properties so that have [blind copies](super::blind_copies).
//!
//! Properties stay as the publisher sent them, from the receive buffer to the log and to the consumer. A value is
//! found by skipping the ones before it, which is quicker than reading all fourteen for the one that is wanted.

use thiserror::Error;

use crate::model::field_table::FieldTableError;
use crate::model::{FieldTableRef, Refusal, ReplyCode};
use crate::protocol::field_reader::{FieldFault, FieldReader};
use crate::protocol::field_writer::cut_short;

/// Checked properties: flags and values, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

/// The delivery mode of a message that a restart must not lose.
pub const PERSISTENT: u8 = 2;

/// Why bytes are not properties. Closes the connection with 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PropertiesError {
    /// The flags run past the end.
    #[error("the property flags run past the end")]
    FlagsTruncated,
    /// A flag in a further word of flags, where nothing is defined.
    #[error("unknown property flags {0:#06x}")]
    UnknownFlags(u16),
    /// A value cannot be read.
    #[error("property {property} {fault}")]
    Value {
        /// Name of the property.
        property: &'static str,
        /// What is wrong with it.
        fault: FieldFault,
    },
    /// There are bytes after the last value.
    #[error("{0} bytes after the properties")]
    Trailing(usize),
}

impl PropertiesError {
    /// The refusal. RabbitMQ closes the connection here with 541 and no text, as for a fault of its own.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(
            ReplyCode::SyntaxError,
            format!("malformed content header: {self}"),
        )
    }
}

/// The properties, each its place in the row; its flag is the bit that far from the top.
#[derive(Clone, Copy)]
enum Property {
    ContentType,
    ContentEncoding,
    Headers,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Form {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

/// Form and name of each property; the last two flags belong to none.
const PROPERTIES: [(Form, &str); 14] = [
    (Form::ShortString, "content-type"),
    (Form::ShortString, "content-encoding"),
    (Form::Table, "headers"),
    (Form::Octet, "delivery-mode"),
    (Form::Octet, "priority"),
    (Form::ShortString, "correlation-id"),
    (Form::ShortString, "reply-to"),
    (Form::ShortString, "expiration"),
    (Form::ShortString, "message-id"),
    (Form::Timestamp, "timestamp"),
    (Form::ShortString, "type"),
    (Form::ShortString, "user-id"),
    (Form::ShortString, "app-id"),
    (Form::ShortString, "cluster-id"),
];

/// The flag that says that another word of flags follows.
const CONTINUATION: u16 = 1;
/// The flag without a meaning, which marks properties with blind copies.
const BLIND: u16 = 2;

impl Property {
    const fn flag(self) -> u16 {
        0x8000 >> self as u16
    }
}

impl<'a> Properties<'a> {
    /// Properties of which nothing is known yet: every value is checked, the table of headers to its depths.
    ///
    /// Of the two lowest flags, one has no meaning and is ignored, as in RabbitMQ. The other announces more flags,
    /// which must be zero.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let (flags, values) = split_flags(bytes)?;
        let mut reader = FieldReader::new(values, false);
        for (form, name) in present(flags) {
            check_value(form, &mut reader).map_err(|fault| PropertiesError::Value {
                property: name,
                fault,
            })?;
        }
        match reader.rest().len() {
            0 => Ok(Self(bytes)),
            count => Err(PropertiesError::Trailing(count)),
        }
    }

    /// Properties that were checked when they came in. Malformed ones would read as absent.
    #[inline]
    pub fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Flags and values, as on the wire.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether the broker has marked them: their headers hold blind copies.
    #[inline]
    pub fn is_marked_blind(self) -> bool {
        self.0.get(1).is_some_and(|flags| u16::from(*flags) & BLIND != 0)
    }

    /// MIME type of the body.
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.short_string(Property::ContentType)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(self) -> Option<&'a [u8]> {
        self.short_string(Property::ContentEncoding)
    }

    /// The publisher's headers.
    pub fn headers(self) -> Option<FieldTableRef<'a>> {
        let length = self.value::<4>(Property::Headers)?;
        let (length, rest) = (u32::from_be_bytes(*length.0) as usize, length.1);
        rest.get(..length).map(FieldTableRef)
    }

    /// 2 where a restart must not lose the message.
    #[inline]
    pub fn delivery_mode(self) -> Option<u8> {
        self.octet(Property::DeliveryMode)
    }

    /// Whether a restart must not lose the message: its delivery mode is 2.
    #[inline]
    pub fn is_persistent(self) -> bool {
        self.delivery_mode() == Some(PERSISTENT)
    }

    /// The priority, 0 lowest.
    pub fn priority(self) -> Option<u8> {
        self.octet(Property::Priority)
    }

    /// What ties a reply to its request.
    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::CorrelationId)
    }

    /// Where to reply to.
    pub fn reply_to(self) -> Option<&'a [u8]> {
        self.short_string(Property::ReplyTo)
    }

    /// Time to live, the decimal digits of milliseconds.
    pub fn expiration(self) -> Option<&'a [u8]> {
        self.short_string(Property::Expiration)
    }

    /// The publisher's id of the message.
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::MessageId)
    }

    /// The publisher's time, in seconds since 1970.
    pub fn timestamp(self) -> Option<u64> {
        self.value(Property::Timestamp)
            .map(|(bytes, _)| u64::from_be_bytes(*bytes))
    }

    /// The publisher's type of the message, the property `type`.
    pub fn kind(self) -> Option<&'a [u8]> {
        self.short_string(Property::Type)
    }

    /// The publishing user.
    pub fn user_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::UserId)
    }

    /// The publishing application.
    pub fn app_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::AppId)
    }

    /// Deprecated by the specification, and passed on.
    pub fn cluster_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::ClusterId)
    }

    fn short_string(self, property: Property) -> Option<&'a [u8]> {
        let (&[length], rest) = self.value(property)?;
        rest.get(..usize::from(length))
    }

    fn octet(self, property: Property) -> Option<u8> {
        self.value(property).map(|(&[octet], _)| octet)
    }

    /// The first bytes of a value, and those behind them.
    fn value<const N: usize>(self, wanted: Property) -> Option<(&'a [u8; N], &'a [u8])> {
        let (&first, _) = self.0.split_first_chunk()?;
        if u16::from_be_bytes(first) & wanted.flag() == 0 {
            return None;
        }
        let (flags, values) = split_flags(self.0).ok()?;
        let before = flags & !(wanted.flag() | (wanted.flag() - 1));
        let rest = present(before)
            .map(|(form, _)| form)
            .try_fold(values, skip_value)?;
        rest.split_first_chunk()
    }
}

/// Form and name of each property whose flag is set, in their order.
#[inline]
fn present(mut flags: u16) -> impl Iterator<Item = (Form, &'static str)> {
    std::iter::from_fn(move || {
        let index = flags.leading_zeros();
        flags &= !(0x8000_u16.checked_shr(index)?);
        PROPERTIES.get(index as usize).copied()
    })
}

/// The first word of flags, and the values; further words of flags must be zero.
fn split_flags(bytes: &[u8]) -> Result<(u16, &[u8]), PropertiesError> {
    let (first, mut rest) = take_flags(bytes)?;
    let mut flags = first;
    while flags & CONTINUATION != 0 {
        (flags, rest) = take_flags(rest)?;
        if flags & !CONTINUATION != 0 {
            return Err(PropertiesError::UnknownFlags(flags));
        }
    }
    Ok((first, rest))
}

#[inline]
fn take_flags(bytes: &[u8]) -> Result<(u16, &[u8]), PropertiesError> {
    let (flags, rest) = bytes.split_first_chunk().ok_or(PropertiesError::FlagsTruncated)?;
    Ok((u16::from_be_bytes(*flags), rest))
}

fn check_value(form: Form, reader: &mut FieldReader<'_>) -> Result<(), FieldFault> {
    match form {
        Form::ShortString => reader.shortstr().map(drop),
        Form::Table => reader.table().map(drop),
        Form::Octet => reader.octet().map(drop),
        Form::Timestamp => reader.longlong().map(drop),
    }
}

fn skip_value(values: &[u8], form: Form) -> Option<&[u8]> {
    match form {
        Form::ShortString => values.get(1 + usize::from(*values.first()?)..),
        Form::Table => values.get(4 + u32::from_be_bytes(*values.first_chunk()?) as usize..),
        Form::Octet => values.get(1..),
        Form::Timestamp => values.get(8..),
    }
}

/// Properties that this broker writes itself, or changes: those of a dead letter, of a report, of a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertiesBuilder<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// Headers.
    pub headers: Option<FieldTableRef<'a>>,
    /// 2 where a restart must not lose the message.
    pub delivery_mode: Option<u8>,
    /// The priority, 0 lowest.
    pub priority: Option<u8>,
    /// What ties a reply to its request.
    pub correlation_id: Option<&'a [u8]>,
    /// Where to reply to.
    pub reply_to: Option<&'a [u8]>,
    /// Time to live, the decimal digits of milliseconds.
    pub expiration: Option<&'a [u8]>,
    /// Id of the message.
    pub message_id: Option<&'a [u8]>,
    /// Time, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// Type of the message, the property `type`.
    pub kind: Option<&'a [u8]>,
    /// The publishing user.
    pub user_id: Option<&'a [u8]>,
    /// The publishing application.
    pub app_id: Option<&'a [u8]>,
    /// Deprecated by the specification, and passed on.
    pub cluster_id: Option<&'a [u8]>,
    /// Whether they are marked: the headers hold blind copies.
    pub is_marked_blind: bool,
}

impl<'a> From<Properties<'a>> for PropertiesBuilder<'a> {
    fn from(properties: Properties<'a>) -> Self {
        Self {
            content_type: properties.content_type(),
            content_encoding: properties.content_encoding(),
            headers: properties.headers(),
            delivery_mode: properties.delivery_mode(),
            priority: properties.priority(),
            correlation_id: properties.correlation_id(),
            reply_to: properties.reply_to(),
            expiration: properties.expiration(),
            message_id: properties.message_id(),
            timestamp: properties.timestamp(),
            kind: properties.kind(),
            user_id: properties.user_id(),
            app_id: properties.app_id(),
            cluster_id: properties.cluster_id(),
            is_marked_blind: properties.is_marked_blind(),
        }
    }
}

impl PropertiesBuilder<'_> {
    /// Appends flags and values. Short strings are cut to 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut row = PropertyWriter { out, flags: 0 };
        row.short_string(Property::ContentType, self.content_type);
        row.short_string(Property::ContentEncoding, self.content_encoding);
        row.table(Property::Headers, self.headers);
        row.value(Property::DeliveryMode, self.delivery_mode.map(u8::to_be_bytes));
        row.value(Property::Priority, self.priority.map(u8::to_be_bytes));
        row.short_string(Property::CorrelationId, self.correlation_id);
        row.short_string(Property::ReplyTo, self.reply_to);
        row.short_string(Property::Expiration, self.expiration);
        row.short_string(Property::MessageId, self.message_id);
        row.value(Property::Timestamp, self.timestamp.map(u64::to_be_bytes));
        row.short_string(Property::Type, self.kind);
        row.short_string(Property::UserId, self.user_id);
        row.short_string(Property::AppId, self.app_id);
        row.short_string(Property::ClusterId, self.cluster_id);
        let flags = row.flags | if self.is_marked_blind { BLIND } else { 0 };
        out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
    }
}

/// Writes values in their order, and notes their flags.
struct PropertyWriter<'o> {
    out: &'o mut Vec<u8>,
    flags: u16,
}

impl PropertyWriter<'_> {
    fn value<const N: usize>(&mut self, property: Property, value: Option<[u8; N]>) {
        let Some(value) = value else { return };
        self.flags |= property.flag();
        self.out.extend_from_slice(&value);
    }

    fn short_string(&mut self, property: Property, value: Option<&[u8]>) {
        let Some(value) = value.map(cut_short) else { return };
        self.value(property, Some([value.len() as u8]));
        self.out.extend_from_slice(value);
    }

    fn table(&mut self, property: Property, value: Option<FieldTableRef<'_>>) {
        let Some(value) = value.map(FieldTableRef::as_bytes) else {
            return;
        };
        self.value(property, Some((value.len() as u32).to_be_bytes()));
        self.out.extend_from_slice(value);
    }
}

impl From<FieldTableError> for PropertiesError {
    fn from(error: FieldTableError) -> Self {
        PropertiesError::Value {
            property: "headers",
            fault: error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_behind_others() {
        let bytes = b"\xb0\x08\x04text\x00\x00\x00\x03\x01kV\x02\x03app";
        let properties = Properties::new_checked(bytes).unwrap();
        assert_eq!(properties.content_type(), Some(&b"text"[..]));
        assert_eq!(properties.content_encoding(), None);
        assert_eq!(
            properties.headers().map(FieldTableRef::as_bytes),
            Some(&b"\x01kV"[..])
        );
        assert!(properties.is_persistent());
        assert_eq!(properties.app_id(), Some(&b"app"[..]));
        assert_eq!(properties.cluster_id(), None);
    }

    #[test]
    fn malformed_properties_are_refused() {
        let refused = |bytes: &[u8]| Properties::new_checked(bytes).expect_err("the properties are refused");
        assert_eq!(refused(b"\0"), PropertiesError::FlagsTruncated);
        assert_eq!(refused(b"\0\0abc"), PropertiesError::Trailing(3));
        let truncated = PropertiesError::Value {
            property: "content-type",
            fault: FieldFault::Truncated,
        };
        assert_eq!(refused(b"\x80\0\x05a"), truncated);
        let text = "502 SYNTAX_ERROR - malformed content header: property headers has unknown field type 90";
        assert_eq!(refused(b"\x20\0\0\0\0\x03\x01aZ").refusal().to_string(), text);
    }

    #[test]
    fn further_flags_must_be_zero() {
        let continued = Properties::new_checked(b"\x10\x01\0\x01\0\0\x02").unwrap();
        assert!(continued.is_persistent());
        assert_eq!(
            Properties::new_checked(b"\0\x01\x80\0"),
            Err(PropertiesError::UnknownFlags(0x8000))
        );
        assert_eq!(
            Properties::new_checked(b"\0\x01"),
            Err(PropertiesError::FlagsTruncated)
        );
        assert!(Properties::new_checked(b"\0\x02").is_ok());
    }

    #[test]
    fn no_properties_are_two_zero_bytes() {
        let mut bytes = Vec::new();
        PropertiesBuilder::default().encode(&mut bytes);
        assert_eq!(bytes, [0, 0]);
    }
}
