//! Exchanges that remember messages: each has an internal queue, declared and deleted with it, whose owner keeps what the
//! exchange remembers.
//!
//! | type | queue | holds |
//! |---|---|---|
//! | `x-delayed-message` | `amq.delayed-NAME` | messages with a header `x-delay`, until their time |
//! | `x-recent-history` | `amq.recent-history-NAME` | the last messages, for queues that are bound later |
//! | any other with `x-message-deduplication` | `amq.deduplication-NAME` | values that it has seen, and messages on their way |
//!
//! Clients see these queues and may get, consume and purge: what is taken from the first is cancelled, and what is got
//! and requeued was only looked at. They go with their exchange alone.

use super::deduplication::{self, Deduplicating};
use super::exchange::{Exchange, ExchangeKind};
use crate::model::{FieldTable, FieldTableRef, Refusal, ReplyCode, ShortString};
use crate::topology::erlang_term::term;
use crate::topology::refusal::Entity;

/// Messages that a recent history exchange remembers unless it is told how many.
const HISTORY_LENGTH: i64 = 20;
const HISTORY_LENGTH_ARGUMENT: &str = "x-recent-history-length";
const DELAYED_TYPE_ARGUMENT: &str = "x-delayed-type";

/// What a queue holds for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Messages that wait for their time.
    Delayed,
    /// The last messages.
    RecentHistory,
    /// Values of messages, which pass through it.
    Deduplication,
}

/// Which exchange a queue is the memory of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeMemory {
    /// What it holds.
    pub kind: MemoryKind,
    /// The exchange.
    pub exchange: ShortString,
}

const PREFIXES: [(&str, MemoryKind); 3] = [
    ("amq.delayed-", MemoryKind::Delayed),
    ("amq.recent-history-", MemoryKind::RecentHistory),
    ("amq.deduplication-", MemoryKind::Deduplication),
];

impl ExchangeMemory {
    /// What the queue of this name is the memory of; clients cannot declare one.
    pub fn of_queue(name: &[u8]) -> Option<Self> {
        PREFIXES.iter().find_map(|&(prefix, kind)| {
            let exchange = ShortString::new(name.strip_prefix(prefix.as_bytes())?)?;
            Some(Self { kind, exchange })
        })
    }

    /// Name and arguments of the queue that an exchange remembers in; `None` for an exchange without memory. 406 if the
    /// exchange's name is too long to be part of a queue's.
    pub fn queue_of(vhost: &[u8], exchange: &Exchange) -> Result<Option<(ShortString, FieldTable)>, Refusal> {
        let (kind, arguments) = match exchange.kind {
            ExchangeKind::Delayed => (MemoryKind::Delayed, FieldTable::default()),
            ExchangeKind::RecentHistory => (
                MemoryKind::RecentHistory,
                FieldTable::builder()
                    .long("x-max-length", history_length(exchange.arguments.as_ref()))
                    .build(),
            ),
            _ if Deduplicating::of(exchange.arguments.as_ref()).is_some() => (
                MemoryKind::Deduplication,
                deduplication_arguments(exchange.arguments.as_ref()),
            ),
            _ => return Ok(None),
        };
        let (prefix, _) = PREFIXES
            .iter()
            .find(|(_, of)| *of == kind)
            .expect("each kind has one");
        let name = [prefix.as_bytes(), exchange.name.as_bytes()].concat();
        let Some(name) = ShortString::new(&name) else {
            let entity = Entity::exchange(vhost, exchange.name.as_bytes());
            let most = 255 - prefix.len();
            let text = format!("name of {entity} is too long for its type: at most {most} bytes");
            return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
        };
        Ok(Some((name, arguments)))
    }
}

fn deduplication_arguments(arguments: FieldTableRef<'_>) -> FieldTable {
    let of_exchange = deduplication::ARGUMENTS.iter().filter_map(|key| {
        let value = arguments.get(key.as_bytes())?;
        Some((key.as_bytes(), value))
    });
    of_exchange
        .fold(FieldTable::builder(), |table, (key, value)| {
            table.value(key, value)
        })
        .build()
}

fn history_length(arguments: FieldTableRef<'_>) -> i64 {
    let length = arguments.get(HISTORY_LENGTH_ARGUMENT.as_bytes());
    length
        .and_then(|length| length.as_integer())
        .unwrap_or(HISTORY_LENGTH)
}

/// The type by which a delayed exchange routes what is due (`x-delayed-type`).
pub fn delayed_kind(arguments: FieldTableRef<'_>) -> Option<ExchangeKind> {
    let name = arguments.get(DELAYED_TYPE_ARGUMENT.as_bytes())?.as_string()?;
    ExchangeKind::parse(name)
        .ok()
        .filter(|kind| *kind != ExchangeKind::Delayed)
}

/// Checks the arguments of an exchange with a memory: 406, or 503 for a type that there is not.
pub(super) fn check_memory_arguments(
    kind: ExchangeKind,
    arguments: FieldTableRef<'_>,
) -> Result<(), Refusal> {
    deduplication::check_exchange_arguments(arguments)?;
    let has_memory = matches!(kind, ExchangeKind::Delayed | ExchangeKind::RecentHistory);
    if has_memory && Deduplicating::of(arguments).is_some() {
        let text = "Invalid argument, 'x-message-deduplication' can't be used with a type that remembers messages: \
                    bind such an exchange to one that deduplicates";
        return Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    }
    match kind {
        ExchangeKind::Delayed => check_delayed_type(arguments),
        ExchangeKind::RecentHistory => check_history_length(arguments),
        _ => Ok(()),
    }
}

fn check_delayed_type(arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    let wrong = |text: &str| Err(Refusal::new(ReplyCode::PreconditionFailed, text));
    let name = arguments.get(DELAYED_TYPE_ARGUMENT.as_bytes());
    match name.and_then(|name| name.as_string()) {
        Some(b"x-delayed-message") => {
            wrong("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'")
        }
        Some(name) => ExchangeKind::parse(name).map(|_| ()),
        None => wrong("Invalid argument, 'x-delayed-type' must be an existing exchange type"),
    }
}

fn check_history_length(arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    let Some(length) = arguments.get(HISTORY_LENGTH_ARGUMENT.as_bytes()) else {
        return Ok(());
    };
    if let Some(1..) = length.as_integer() {
        return Ok(());
    }
    let text = format!(
        "Invalid argument {}, '{HISTORY_LENGTH_ARGUMENT}' must be a positive integer",
        term(length)
    );
    Err(Refusal::new(ReplyCode::PreconditionFailed, text))
}

#[cfg(test)]
mod tests {
    use super::super::exchange::ExchangeFlags;
    use super::*;

    fn exchange(name: &str, kind: ExchangeKind, arguments: FieldTable) -> Exchange {
        let flags = ExchangeFlags {
            durable: true,
            auto_delete: false,
            internal: false,
        };
        let name = ShortString::new(name.as_bytes()).expect("it is short");
        Exchange::new(name, kind, flags, arguments)
    }

    #[test]
    fn the_memory_of_an_exchange_is_found_by_its_name_and_the_other_way_round() {
        let history = FieldTable::builder().int("x-recent-history-length", 3).build();
        for (kind, name) in [
            (ExchangeKind::Delayed, "amq.delayed-later"),
            (ExchangeKind::RecentHistory, "amq.recent-history-later"),
        ] {
            let exchange = exchange("later", kind, history.clone());
            let (queue, _) = ExchangeMemory::queue_of(b"/", &exchange)
                .unwrap()
                .expect("it remembers");
            assert_eq!(queue.as_bytes(), name.as_bytes());
            let memory = ExchangeMemory::of_queue(queue.as_bytes()).expect("it is one");
            assert_eq!(memory.exchange.as_bytes(), b"later");
        }
        assert_eq!(ExchangeMemory::of_queue(b"later"), None);
        let plain = exchange("plain", ExchangeKind::Topic, FieldTable::default());
        assert_eq!(ExchangeMemory::queue_of(b"/", &plain), Ok(None));
    }

    #[test]
    fn a_name_that_leaves_no_room_for_the_prefix_is_refused() {
        let name = "n".repeat(250);
        let exchange = exchange(&name, ExchangeKind::Delayed, FieldTable::default());
        let refusal = ExchangeMemory::queue_of(b"/", &exchange).expect_err("it is too long");
        assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    }

    #[test]
    fn a_delayed_exchange_needs_a_type_that_exists() {
        let with = |name: &str| FieldTable::builder().string("x-delayed-type", name).build();
        let check = |table: &FieldTable| check_memory_arguments(ExchangeKind::Delayed, table.as_ref());
        assert_eq!(check(&with("topic")), Ok(()));
        let code = |table: &FieldTable| check(table).expect_err("it is refused").code;
        assert_eq!(code(&FieldTable::default()), ReplyCode::PreconditionFailed);
        assert_eq!(code(&with("x-delayed-message")), ReplyCode::PreconditionFailed);
        assert_eq!(code(&with("nonsense")), ReplyCode::CommandInvalid);
    }
}
