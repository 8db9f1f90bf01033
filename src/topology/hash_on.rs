//! `HashOn`: by what of a message a consistent-hash exchange chooses, and how many shares a binding asks for (RabbitMQ's
//! plugin rabbitmq_consistent_hash_exchange).

use crate::model::{FieldTableRef, Refusal, ReplyCode};

use super::erlang_term::binary;
use super::refusal::{Entity, invalid_type};

const HASH_HEADER: &str = "hash-header";
const HASH_PROPERTY: &str = "hash-property";

/// What of a message is hashed. Messages that lack it all go to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The routing key, without those of `CC` and `BCC`.
    RoutingKey,
    /// The header of this name, with its type.
    Header(Box<[u8]>),
    /// The property correlation-id.
    CorrelationId,
    /// The property message-id.
    MessageId,
    /// The property timestamp.
    Timestamp,
}

impl HashOn {
    /// What an exchange declared with these `arguments`, which were checked, hashes.
    pub fn of(arguments: FieldTableRef<'_>) -> Self {
        let text = |key: &str| arguments.get(key.as_bytes()).and_then(|value| value.as_string());
        match (text(HASH_HEADER), text(HASH_PROPERTY)) {
            (Some(name), _) => HashOn::Header(name.into()),
            (None, Some(property)) => HashOn::property(property).unwrap_or(HashOn::RoutingKey),
            (None, None) => HashOn::RoutingKey,
        }
    }

    /// 406 when the arguments name two things to hash, an unknown property, or no string. For the last RabbitMQ ends
    /// the connection with an internal error.
    pub(super) fn check(entity: Entity<'_>, arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
        let text = |key: &str| match arguments.get(key.as_bytes()) {
            None => Ok(None),
            Some(value) => match value.as_string() {
                Some(text) => Ok(Some(text)),
                None => Err(invalid_type(key, entity, value)),
            },
        };
        let found = match (text(HASH_HEADER)?, text(HASH_PROPERTY)?) {
            (Some(_), Some(_)) => "hash-header and hash-property are mutually exclusive".to_owned(),
            (None, Some(property)) if HashOn::property(property).is_none() => {
                format!("Unsupported property: {}", String::from_utf8_lossy(property))
            }
            _ => return Ok(()),
        };
        Err(Refusal::new(ReplyCode::PreconditionFailed, found))
    }

    fn property(name: &[u8]) -> Option<Self> {
        match name {
            b"correlation_id" => Some(HashOn::CorrelationId),
            b"message_id" => Some(HashOn::MessageId),
            b"timestamp" => Some(HashOn::Timestamp),
            _ => None,
        }
    }
}

/// The shares of the messages that a binding of this routing key asks for, 1 or more. The key is a whole number in
/// decimal digits, of any size, which may have a sign.
///
/// 406 when it is none, or below 1.
pub fn binding_weight(routing_key: &[u8]) -> Result<f64, Refusal> {
    let (is_negative, digits) = match routing_key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        let text = format!("The binding key must be an integer: {}", binary(routing_key));
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    }
    let weight = digits
        .iter()
        .fold(0.0, |weight, digit| 10.0 * weight + f64::from(digit - b'0'));
    if is_negative || weight < 1.0 {
        let text = "The binding key must be greater than 0";
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    }
    Ok(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, FieldValue};

    fn verdict(arguments: &FieldTable) -> Result<(), String> {
        let exchange = Entity::exchange(b"/", b"x");
        HashOn::check(exchange, arguments.as_ref()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_header_or_a_property_is_hashed_and_else_the_routing_key() {
        let on = |arguments: FieldTable| {
            assert_eq!(verdict(&arguments), Ok(()));
            HashOn::of(arguments.as_ref())
        };
        let table = FieldTable::builder;
        assert_eq!(on(table().build()), HashOn::RoutingKey);
        let header = table().string("hash-header", "h").build();
        assert_eq!(on(header), HashOn::Header(b"h"[..].into()));
        let property = |name| table().string("hash-property", name).build();
        assert_eq!(on(property("correlation_id")), HashOn::CorrelationId);
        assert_eq!(on(property("message_id")), HashOn::MessageId);
        assert_eq!(on(property("timestamp")), HashOn::Timestamp);
    }

    #[test]
    fn what_cannot_be_hashed_is_refused_as_rabbitmq_refuses_it() {
        let head = "406 PRECONDITION_FAILED - ";
        let text = |arguments: FieldTable| {
            let text = verdict(&arguments).expect_err("it is refused");
            text.strip_prefix(head).expect("a 406").to_owned()
        };
        let table = FieldTable::builder;
        assert_eq!(
            text(table().string("hash-property", "foo").build()),
            "Unsupported property: foo"
        );
        assert_eq!(
            text(
                table()
                    .string("hash-property", "foo")
                    .string("hash-header", "h")
                    .build()
            ),
            "hash-header and hash-property are mutually exclusive"
        );
        assert_eq!(
            text(table().value("hash-header", FieldValue::Int32(5)).build()),
            "invalid type 'signedint' for arg 'hash-header' in exchange 'x' in vhost '/'"
        );
    }

    #[test]
    fn a_weight_is_a_whole_number_above_zero() {
        assert_eq!(binding_weight(b"1"), Ok(1.0));
        assert_eq!(binding_weight(b"+07"), Ok(7.0));
        let long = [b'9'; 255];
        assert!(binding_weight(&long).is_ok_and(f64::is_finite));
        let text = |key: &[u8]| binding_weight(key).expect_err("it is refused").explanation;
        for key in ["0", "-1", "-0"] {
            assert_eq!(text(key.as_bytes()), "The binding key must be greater than 0");
        }
        for (key, term) in [
            ("", "<<>>"),
            ("a", "<<\"a\">>"),
            ("1.5", "<<\"1.5\">>"),
            ("1\n", "<<\"1\\n\">>"),
            ("+", "<<\"+\">>"),
        ] {
            assert_eq!(
                text(key.as_bytes()),
                format!("The binding key must be an integer: {term}")
            );
        }
    }
}
