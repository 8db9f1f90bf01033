//! The `x-` arguments of queue.declare: their types and ranges, with RabbitMQ's reasons when they are wrong.
//!
//! Unknown arguments are accepted, kept and never compared, as RabbitMQ does. `x-lane` is LaneMQ's own: the number
//! of the core that the queue shall live on; it is no part of the queue's identity, since queues may move.

use crate::model::{FieldTableRef, FieldValue, Refusal, ReplyCode, ShortString};

use super::deduplication::{CACHE_SIZE, CACHE_SIZE_MAX, CACHE_TTL, DEDUPLICATION, DEDUPLICATION_HEADER};
use super::erlang_term::string;
use super::queue::QueueDeclare;
use super::queue_settings::QueueType;
use super::refusal::{Entity, invalid_argument, invalid_type};

/// What a second declaration must equal the first in, whatever the queue's type, in the order it is compared.
const COMPARED: [&str; 13] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    DEDUPLICATION,
    CACHE_SIZE,
    CACHE_TTL,
    DEDUPLICATION_HEADER,
];
const COMPARED_IF_CLASSIC: [&str; 3] = ["x-max-priority", "x-queue-mode", "x-queue-version"];
const COMPARED_IF_QUORUM: [&str; 6] = [
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-queue-leader-locator",
];

/// The arguments in which a second declaration must equal the first of this type.
pub(super) fn compared_arguments(kind: QueueType) -> impl Iterator<Item = &'static str> {
    let of_type: &[&str] = match kind {
        QueueType::Classic => &COMPARED_IF_CLASSIC,
        QueueType::Quorum => &COMPARED_IF_QUORUM,
    };
    COMPARED.iter().chain(of_type).copied()
}

/// Whether a value will do, or the Erlang term that tells why not.
type Rule = fn(FieldValue<'_>, FieldTableRef<'_>) -> Result<(), String>;

/// The rules in the order RabbitMQ applies them.
const RULES: [(&str, Rule); 22] = [
    ("x-queue-type", queue_type),
    ("x-expires", expires),
    ("x-message-ttl", message_ttl),
    ("x-dead-letter-routing-key", dead_letter_routing_key),
    ("x-max-length", not_negative),
    ("x-max-length-bytes", not_negative),
    ("x-max-priority", max_priority),
    ("x-overflow", overflow),
    ("x-queue-mode", queue_mode),
    ("x-queue-version", queue_version),
    ("x-single-active-consumer", yes_or_no),
    ("x-dead-letter-strategy", dead_letter_strategy),
    ("x-quorum-initial-group-size", above_zero),
    ("x-max-in-memory-length", not_negative),
    ("x-max-in-memory-bytes", not_negative),
    ("x-queue-leader-locator", leader_locator),
    ("x-consumer-timeout", not_negative),
    (DEDUPLICATION, yes_or_no),
    (CACHE_SIZE, cache_size),
    (CACHE_TTL, above_zero),
    (DEDUPLICATION_HEADER, header_name),
    (LANE, not_negative),
];

/// Arguments of streams, which RabbitMQ refuses for other queues.
const STREAM_ARGUMENTS: [&str; 3] = [
    "x-max-age",
    "x-initial-cluster-size",
    "x-stream-max-segment-size-bytes",
];
/// Arguments that RabbitMQ refuses for a quorum queue.
const NOT_QUORUM_ARGUMENTS: [&str; 4] = [
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
];

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const LANE: &str = "x-lane";

/// Ten years, the most that RabbitMQ takes for a time in milliseconds.
const MILLISECONDS_MAX: i64 = 315_360_000_000;

/// The core that `x-lane` asks for, when it is an integer; the caller knows how many cores there are.
pub fn lane_argument(arguments: FieldTableRef<'_>) -> Option<i64> {
    arguments.get(LANE.as_bytes())?.as_integer()
}

/// Checks the arguments of a new queue. 406 names the first that is wrong.
pub(super) fn check_queue_arguments(queue: Entity<'_>, arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    if let Some(value) = arguments.get(DEAD_LETTER_EXCHANGE.as_bytes())
        && value.as_string().is_none()
    {
        return Err(invalid_type(DEAD_LETTER_EXCHANGE, queue, value));
    }
    let kind = queue_type_of(arguments);
    let foreign: &[&str] = match kind {
        QueueType::Classic => &COMPARED_IF_QUORUM,
        QueueType::Quorum => &NOT_QUORUM_ARGUMENTS,
    };
    let is_present = |key: &&&str| arguments.get(key.as_bytes()).is_some();
    if let Some(key) = foreign.iter().chain(&STREAM_ARGUMENTS).find(is_present) {
        let text = format!(
            "invalid arg '{key}' for {queue} of queue type {}",
            kind.rabbit_module()
        );
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    }
    for (key, rule) in RULES {
        if let Some(value) = arguments.get(key.as_bytes()) {
            rule(value, arguments).map_err(|reason| invalid_argument(key, queue, reason))?;
        }
    }
    Ok(())
}

/// The type that checked arguments ask for.
pub(super) fn queue_type_of(arguments: FieldTableRef<'_>) -> QueueType {
    match arguments.get(b"x-queue-type").and_then(|kind| kind.as_string()) {
        Some(b"quorum") => QueueType::Quorum,
        _ => QueueType::Classic,
    }
}

/// Checks what a quorum queue cannot be: exclusive, transient, auto-delete, named by the server. 406.
pub(super) fn check_queue_properties(queue: Entity<'_>, declare: &QueueDeclare<'_>) -> Result<(), Refusal> {
    let kind = queue_type_of(declare.arguments);
    if kind == QueueType::Classic {
        return Ok(());
    }
    let refused = |text: String| Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    if declare.server_named {
        let module = kind.rabbit_module();
        return refused(format!("Cannot declare a server-named queue for type {module}"));
    }
    let wrong = [
        ("auto-delete", declare.auto_delete),
        ("exclusive-owner", declare.exclusive),
        ("non-durable", !declare.durable),
    ];
    match wrong.iter().find(|(_, is_wrong)| *is_wrong) {
        Some((property, _)) => refused(format!("invalid property '{property}' for {queue}")),
        None => Ok(()),
    }
}

/// Checks the arguments of a queue that another broker has had: those of the types that only it knows are not judged. 406
/// names the first that is wrong.
pub fn check_imported_queue(
    vhost: &ShortString,
    name: &ShortString,
    arguments: FieldTableRef<'_>,
) -> Result<(), Refusal> {
    let kind = arguments.get(b"x-queue-type").and_then(|kind| kind.as_string());
    match kind {
        Some(b"stream") => Ok(()),
        _ => check_queue_arguments(Entity::queue(vhost.as_bytes(), name.as_bytes()), arguments),
    }
}

fn queue_type(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match text_of(value)? {
        b"classic" | b"quorum" => Ok(()),
        other => Err(unsupported("type", other)),
    }
}

fn expires(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match milliseconds(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => Ok(()),
    }
}

fn message_ttl(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    milliseconds(value).map(|_| ())
}

fn dead_letter_routing_key(value: FieldValue<'_>, arguments: FieldTableRef<'_>) -> Result<(), String> {
    text_of(value)?;
    match arguments.get(DEAD_LETTER_EXCHANGE.as_bytes()) {
        Some(_) => Ok(()),
        None => Err("routing_key_but_no_dlx_defined".to_owned()),
    }
}

fn not_negative(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    natural(value).map(|_| ())
}

fn max_priority(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match natural(value)? {
        0..=255 => Ok(()),
        more => Err(format!("{{max_value_exceeded,{more}}}")),
    }
}

fn overflow(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match text_of(value)? {
        b"drop-head" | b"reject-publish" | b"reject-publish-dlx" => Ok(()),
        _ => Err("invalid_overflow".to_owned()),
    }
}

fn queue_mode(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match text_of(value)? {
        b"default" | b"lazy" => Ok(()),
        other => Err(unsupported("mode", other)),
    }
}

fn queue_version(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match natural(value)? {
        1 | 2 => Ok(()),
        other => Err(unsupported("version", other.to_string().as_bytes())),
    }
}

fn dead_letter_strategy(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match text_of(value)? {
        b"at-most-once" | b"at-least-once" => Ok(()),
        _ => Err("invalid_dlx_strategy".to_owned()),
    }
}

fn leader_locator(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match text_of(value)? {
        b"client-local" | b"balanced" | b"random" | b"least-leaders" => Ok(()),
        _ => Err("invalid_queue_locator_arg".to_owned()),
    }
}

fn above_zero(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match natural(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => Ok(()),
    }
}

fn cache_size(value: FieldValue<'_>, arguments: FieldTableRef<'_>) -> Result<(), String> {
    above_zero(value, arguments)?;
    match natural(value)? {
        ..=CACHE_SIZE_MAX => Ok(()),
        more => Err(format!("{{value_too_large,{more}}}")),
    }
}

fn header_name(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match ShortString::new(text_of(value)?) {
        Some(_) => Ok(()),
        None => Err("{name_too_long,255}".to_owned()),
    }
}

fn yes_or_no(value: FieldValue<'_>, _: FieldTableRef<'_>) -> Result<(), String> {
    match value {
        FieldValue::Boolean(_) => Ok(()),
        other => Err(unacceptable_type(other)),
    }
}

fn milliseconds(value: FieldValue<'_>) -> Result<i64, String> {
    match natural(value)? {
        value @ 0..=MILLISECONDS_MAX => Ok(value),
        more => Err(format!("{{value_too_large,{more}}}")),
    }
}

fn natural(value: FieldValue<'_>) -> Result<i64, String> {
    match value.as_integer() {
        Some(value @ 0..) => Ok(value),
        Some(negative) => Err(format!("{{value_negative,{negative}}}")),
        None => Err(string(&format!(
            "expected integer, got {}",
            value.rabbit_type_name()
        ))),
    }
}

fn text_of(value: FieldValue<'_>) -> Result<&[u8], String> {
    value.as_string().ok_or_else(|| unacceptable_type(value))
}

fn unacceptable_type(value: FieldValue<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.rabbit_type_name())
}

fn unsupported(what: &str, found: &[u8]) -> String {
    string(&format!(
        "unsupported queue {what} '{}'",
        String::from_utf8_lossy(found)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;

    fn reason(key: &str, value: FieldValue<'_>) -> Option<String> {
        let arguments = FieldTable::builder().value(key, value).build();
        let refusal = check_queue_arguments(Entity::queue(b"/", b"q"), arguments.as_ref()).err()?;
        assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
        let head = format!("invalid arg '{key}' for queue 'q' in vhost '/'");
        Some(refusal.explanation.replace(&head, ""))
    }

    #[test]
    fn numbers_are_held_to_their_ranges() {
        let int = |value| FieldValue::Int64(value);
        for key in [
            "x-message-ttl",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
            "x-lane",
        ] {
            assert_eq!(reason(key, int(0)), None);
            assert_eq!(reason(key, FieldValue::Uint8(255)), None);
            assert_eq!(reason(key, int(-1)).as_deref(), Some(": {value_negative,-1}"));
            let text = FieldValue::LongString(b"5");
            assert_eq!(
                reason(key, text).as_deref(),
                Some(": \"expected integer, got longstr\"")
            );
        }
        assert_eq!(reason("x-expires", int(0)).as_deref(), Some(": {value_zero,0}"));
        for key in ["x-message-ttl", "x-expires"] {
            assert_eq!(reason(key, int(315_360_000_000)), None);
            let too_large = reason(key, int(315_360_000_001));
            assert_eq!(too_large.as_deref(), Some(": {value_too_large,315360000001}"));
        }
        assert_eq!(
            reason("x-max-priority", int(256)).as_deref(),
            Some(": {max_value_exceeded,256}")
        );
        assert_eq!(
            reason("x-queue-version", int(3)).as_deref(),
            Some(": \"unsupported queue version '3'\"")
        );
    }

    #[test]
    fn words_are_held_to_their_sets() {
        let text = |text: &'static str| FieldValue::LongString(text.as_bytes());
        assert_eq!(reason("x-overflow", text("reject-publish-dlx")), None);
        assert_eq!(
            reason("x-overflow", text("foo")).as_deref(),
            Some(": invalid_overflow")
        );
        assert_eq!(
            reason("x-overflow", FieldValue::Void).as_deref(),
            Some(": {unacceptable_type,void}")
        );
        assert_eq!(
            reason("x-queue-mode", text("foo")).as_deref(),
            Some(": \"unsupported queue mode 'foo'\"")
        );
        assert_eq!(
            reason("x-queue-type", text("foo")).as_deref(),
            Some(": \"unsupported queue type 'foo'\"")
        );
        let flag = reason("x-single-active-consumer", FieldValue::Int32(1));
        assert_eq!(flag.as_deref(), Some(": {unacceptable_type,signedint}"));
        let lone_key = reason("x-dead-letter-routing-key", text("k"));
        assert_eq!(lone_key.as_deref(), Some(": routing_key_but_no_dlx_defined"));
    }

    #[test]
    fn a_dead_letter_exchange_is_a_string() {
        let arguments = FieldTable::builder().int("x-dead-letter-exchange", 5).build();
        let refusal =
            check_queue_arguments(Entity::queue(b"/", b"q"), arguments.as_ref()).expect_err("an integer");
        let text = "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'";
        assert_eq!(refusal.explanation, text);
    }

    #[test]
    fn arguments_of_other_queue_types_are_refused_and_unknown_ones_are_not() {
        let foreign = reason("x-delivery-limit", FieldValue::Int32(5));
        assert_eq!(foreign.as_deref(), Some(" of queue type rabbit_classic_queue"));
        assert_eq!(reason("x-foo", FieldValue::Int32(5)), None);
    }

    #[test]
    fn the_first_rule_decides() {
        let arguments = FieldTable::builder()
            .int("x-max-length", -1)
            .int("x-expires", 0)
            .build();
        let refusal =
            check_queue_arguments(Entity::queue(b"/", b"q"), arguments.as_ref()).expect_err("two faults");
        assert!(refusal.explanation.contains("x-expires"));
    }
}
