//! The texts of refusals, RabbitMQ's to the letter.

use std::fmt;

use crate::model::{FieldValue, Refusal, ReplyCode};

use super::erlang_term::value_text;

/// What a refusal speaks of, printed as RabbitMQ does: `queue 'q' in vhost '/'`.
#[derive(Clone, Copy, Debug)]
pub struct Entity<'a> {
    /// `queue` or `exchange`.
    pub noun: &'static str,
    /// The vhost it lives in.
    pub vhost: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Entity<'a> {
    /// An exchange.
    pub fn exchange(vhost: &'a [u8], name: &'a [u8]) -> Self {
        Self {
            noun: "exchange",
            vhost,
            name,
        }
    }

    /// A queue.
    pub fn queue(vhost: &'a [u8], name: &'a [u8]) -> Self {
        Self {
            noun: "queue",
            vhost,
            name,
        }
    }
}

impl fmt::Display for Entity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, vhost) = (
            String::from_utf8_lossy(self.name),
            String::from_utf8_lossy(self.vhost),
        );
        write!(f, "{} '{name}' in vhost '{vhost}'", self.noun)
    }
}

/// 404: there is no such queue or exchange.
pub fn not_found(entity: Entity<'_>) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no {entity}"))
}

/// 530: there is no such vhost (any more).
pub fn no_vhost(vhost: &[u8]) -> Refusal {
    Refusal::new(
        ReplyCode::NotAllowed,
        format!("vhost {} not found", String::from_utf8_lossy(vhost)),
    )
}

/// 405: the queue is another connection's, or is not exclusive and was asked for as such.
pub fn locked(queue: Entity<'_>) -> Refusal {
    let text = format!(
        "cannot obtain exclusive access to locked {queue}. It could be originally declared on another connection \
         or the exclusive property value does not match that of the original declaration."
    );
    Refusal::new(ReplyCode::ResourceLocked, text)
}

/// 403: the default exchange cannot be declared, deleted or bound.
pub(super) fn default_exchange() -> Refusal {
    Refusal::new(
        ReplyCode::AccessRefused,
        "operation not permitted on the default exchange",
    )
}

/// 403: new names do not begin with `amq.`.
pub(super) fn reserved_name(entity: Entity<'_>) -> Refusal {
    let name = String::from_utf8_lossy(entity.name);
    let text = format!("{} name '{name}' contains reserved prefix 'amq.*'", entity.noun);
    Refusal::new(ReplyCode::AccessRefused, text)
}

/// 406: an argument's value is not allowed; `reason` is an Erlang term.
pub(super) fn invalid_argument(key: &str, queue: Entity<'_>, reason: impl fmt::Display) -> Refusal {
    Refusal::new(
        ReplyCode::PreconditionFailed,
        format!("invalid arg '{key}' for {queue}: {reason}"),
    )
}

/// 406: an argument that names an exchange is no string.
pub(super) fn invalid_type(key: &str, entity: Entity<'_>, found: FieldValue<'_>) -> Refusal {
    let text = format!(
        "invalid type '{}' for arg '{key}' in {entity}",
        found.rabbit_type_name()
    );
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

/// 406: a property differs from that of the existing entity.
pub(super) fn inequivalent_property(
    key: &str,
    entity: Entity<'_>,
    received: impl fmt::Display,
    current: impl fmt::Display,
) -> Refusal {
    let text =
        format!("inequivalent arg '{key}' for {entity}: received '{received}' but current is '{current}'");
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

/// 406: an argument differs from that of the existing entity, or only one of the two has it.
pub(super) fn inequivalent_argument(
    key: &str,
    entity: Entity<'_>,
    received: Option<FieldValue<'_>>,
    current: Option<FieldValue<'_>>,
) -> Refusal {
    let word = if received.is_some() && current.is_some() {
        present
    } else {
        alone
    };
    let (received, current) = (word(received), word(current));
    let text = format!("inequivalent arg '{key}' for {entity}: received {received} but current is {current}");
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

fn present(value: Option<FieldValue<'_>>) -> String {
    match value {
        None | Some(FieldValue::Void) => "none".to_owned(),
        Some(value) => format!("'{}'", value_text(value)),
    }
}

fn alone(value: Option<FieldValue<'_>>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            value_text(value),
            value.rabbit_type_name()
        ),
    }
}
