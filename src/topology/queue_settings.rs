//! `QueueSettings`: what a queue does besides keeping messages in order, read from what it was declared with and from the
//! policies in force for it.
//!
//! The arguments have been checked (`queue_arguments`), so reading them cannot fail; one of a wrong type would count as
//! absent. Times are milliseconds, lengths are messages, bytes are those of bodies.

use super::deduplication::Deduplicating;
use super::memory::ExchangeMemory;
use super::policy::Policies;
use super::queue::QueueDefinition;
use super::queue_arguments::queue_type_of;
use crate::model::{FieldTableRef, FieldValue, ShortString};

/// What a queue does when it is full (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The first message goes, so that the new one has room.
    #[default]
    DropHead,
    /// The new message is refused, and its publisher told (basic.nack).
    RejectPublish,
    /// The same, and the new message is dead-lettered.
    RejectPublishDlx,
}

/// What the argument `x-queue-type` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// `classic`, also when the argument is absent.
    #[default]
    Classic,
    /// `quorum`: durable with all that it holds, and counts deliveries.
    Quorum,
}

impl QueueType {
    /// RabbitMQ's module for it, as its refusals name it.
    pub(super) fn rabbit_module(self) -> &'static str {
        match self {
            QueueType::Classic => "rabbit_classic_queue",
            QueueType::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// Where messages go that a queue gives up (`x-dead-letter-exchange`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterTarget {
    /// The exchange; it need not exist.
    pub exchange: ShortString,
    /// The routing key; the message's own when absent (`x-dead-letter-routing-key`).
    pub routing_key: Option<ShortString>,
}

/// What is in force for a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a message may stay (`x-message-ttl`).
    pub message_ttl: Option<u64>,
    /// How long the queue may be unused (`x-expires`), above 0.
    pub expires: Option<u64>,
    /// Most ready messages (`x-max-length`).
    pub max_length: Option<u64>,
    /// Most bytes of ready messages' bodies (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens at either limit.
    pub overflow: Overflow,
    /// Where messages go that are rejected, expired or too many.
    pub dead_letter: Option<DeadLetterTarget>,
    /// Highest priority of a message (`x-max-priority`); 0 keeps publishing order.
    pub max_priority: u8,
    /// Whether one consumer is served at a time (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// What the queue promises.
    pub kind: QueueType,
    /// How often a message may come back before it is given up (`x-delivery-limit`).
    pub delivery_limit: Option<u64>,
    /// How long a delivery may stay unacknowledged (`x-consumer-timeout`), 0 for ever; the broker's settings say it when absent.
    pub consumer_timeout: Option<u64>,
    /// Whether and how it drops what it has seen (`x-message-deduplication`).
    pub deduplication: Option<Deduplicating>,
    /// Which exchange remembers in it, if one does.
    pub memory: Option<ExchangeMemory>,
}

impl QueueSettings {
    /// The settings that a queue was declared with.
    pub fn of(queue: &QueueDefinition) -> Self {
        Self {
            memory: ExchangeMemory::of_queue(queue.name.as_bytes()),
            ..Self::from_arguments(queue.arguments.as_ref())
        }
    }

    /// The settings that are in force: of arguments and policies the least number; the argument before the policies for all
    /// else, as RabbitMQ has it, where exchange and routing key of dead letters are settled apart.
    pub fn in_force(arguments: FieldTableRef<'_>, policies: Policies<'_>) -> Self {
        let declared = Self::from_arguments(arguments);
        let least = |argument: Option<u64>, key| argument.into_iter().chain(policies.least(key)).min();
        let has_overflow = arguments.get(b"x-overflow").is_some();
        let name = |argument: &str, key| {
            let argument = arguments
                .get(argument.as_bytes())
                .and_then(|value| value.as_string());
            argument.and_then(ShortString::new).or_else(|| policies.name(key))
        };
        let dead_letter_exchange = name("x-dead-letter-exchange", "dead-letter-exchange");
        Self {
            message_ttl: least(declared.message_ttl, "message-ttl"),
            expires: least(declared.expires, "expires"),
            max_length: least(declared.max_length, "max-length"),
            max_length_bytes: least(declared.max_length_bytes, "max-length-bytes"),
            delivery_limit: least(declared.delivery_limit, "delivery-limit"),
            consumer_timeout: least(declared.consumer_timeout, "consumer-timeout"),
            overflow: match has_overflow {
                true => declared.overflow,
                false => overflow(policies.text("overflow"), declared.kind),
            },
            dead_letter: dead_letter_exchange.map(|exchange| DeadLetterTarget {
                exchange,
                routing_key: name("x-dead-letter-routing-key", "dead-letter-routing-key"),
            }),
            ..declared
        }
    }

    /// The settings that checked arguments of queue.declare ask for.
    pub fn from_arguments(arguments: FieldTableRef<'_>) -> Self {
        let integer = |key: &str| {
            let value = arguments.get(key.as_bytes())?.as_integer()?;
            u64::try_from(value).ok()
        };
        let text = |key: &str| arguments.get(key.as_bytes())?.as_string();
        let name = |key: &str| text(key).and_then(ShortString::new);
        let kind = queue_type_of(arguments);
        let single_active = arguments.get(b"x-single-active-consumer");
        Self {
            message_ttl: integer("x-message-ttl"),
            expires: integer("x-expires"),
            max_length: integer("x-max-length"),
            max_length_bytes: integer("x-max-length-bytes"),
            overflow: overflow(text("x-overflow"), kind),
            dead_letter: name("x-dead-letter-exchange").map(|exchange| DeadLetterTarget {
                exchange,
                routing_key: name("x-dead-letter-routing-key"),
            }),
            max_priority: integer("x-max-priority").map_or(0, |most| most.min(255) as u8),
            single_active_consumer: single_active == Some(FieldValue::Boolean(true)),
            kind,
            delivery_limit: integer("x-delivery-limit"),
            consumer_timeout: integer("x-consumer-timeout"),
            deduplication: Deduplicating::of(arguments),
            memory: None,
        }
    }
}

/// A quorum queue cannot dead-letter what it refuses, and drops its first message instead, as in RabbitMQ.
fn overflow(text: Option<&[u8]>, kind: QueueType) -> Overflow {
    match (text, kind) {
        (Some(b"reject-publish"), _) => Overflow::RejectPublish,
        (Some(b"reject-publish-dlx"), QueueType::Classic) => Overflow::RejectPublishDlx,
        _ => Overflow::DropHead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;
    use crate::topology::policy::tests::policy;

    #[test]
    fn a_queue_without_arguments_has_no_settings() {
        let settings = QueueSettings::from_arguments(FieldTable::default().as_ref());
        assert_eq!(settings, QueueSettings::default());
    }

    #[test]
    fn policies_lower_numbers_and_say_what_arguments_leave_open() {
        let user = FieldTable::builder()
            .long("max-length", 5)
            .long("expires", 7)
            .string("overflow", "reject-publish")
            .string("dead-letter-exchange", "of policy")
            .string("dead-letter-routing-key", "key of policy");
        let operator = FieldTable::builder().long("max-length", 9).long("message-ttl", 8);
        let (user, operator) = (
            policy("u", "", 0, user.build()),
            policy("o", "", 0, operator.build()),
        );
        let policies = Policies {
            user: Some(&user),
            operator: Some(&operator),
        };
        let arguments = FieldTable::builder()
            .int("x-max-length", 6)
            .int("x-message-ttl", 9);
        let arguments = arguments.string("x-dead-letter-exchange", "of argument").build();
        let settings = QueueSettings::in_force(arguments.as_ref(), policies);
        let numbers = (settings.max_length, settings.message_ttl, settings.expires);
        assert_eq!(numbers, (Some(5), Some(8), Some(7)));
        assert_eq!(settings.overflow, Overflow::RejectPublish);
        let target = DeadLetterTarget {
            exchange: ShortString::from("of argument"),
            routing_key: Some(ShortString::from("key of policy")),
        };
        assert_eq!(settings.dead_letter, Some(target));

        let arguments = FieldTable::builder().string("x-overflow", "drop-head").build();
        let settings = QueueSettings::in_force(arguments.as_ref(), policies);
        assert_eq!(settings.overflow, Overflow::DropHead, "the argument wins");
    }

    #[test]
    fn every_argument_is_read() {
        let arguments = FieldTable::builder()
            .int("x-message-ttl", 1_000)
            .long("x-expires", 2_000)
            .int("x-max-length", 3)
            .int("x-max-length-bytes", 4)
            .string("x-overflow", "reject-publish-dlx")
            .string("x-dead-letter-exchange", "dlx")
            .string("x-dead-letter-routing-key", "dead")
            .int("x-max-priority", 9)
            .boolean("x-single-active-consumer", true)
            .int("x-delivery-limit", 5)
            .int("x-consumer-timeout", 6_000)
            .boolean("x-message-deduplication", true)
            .int("x-cache-size", 7)
            .int("x-cache-ttl", 8_000)
            .string("x-deduplication-header", "id")
            .build();
        let settings = QueueSettings {
            message_ttl: Some(1_000),
            expires: Some(2_000),
            max_length: Some(3),
            max_length_bytes: Some(4),
            overflow: Overflow::RejectPublishDlx,
            dead_letter: Some(DeadLetterTarget {
                exchange: ShortString::from("dlx"),
                routing_key: Some(ShortString::from("dead")),
            }),
            max_priority: 9,
            single_active_consumer: true,
            kind: QueueType::Classic,
            delivery_limit: Some(5),
            consumer_timeout: Some(6_000),
            deduplication: Some(Deduplicating {
                cache_size: 7,
                cache_ttl: Some(8_000),
                header: ShortString::from("id"),
            }),
            memory: None,
        };
        assert_eq!(QueueSettings::from_arguments(arguments.as_ref()), settings);
    }
}
