//! The catalogue: what is declared in every run, and where a publish may go.
//!
//! ```text
//!   (default) ─────────────▶ orders-0, orders-1, drip, fleeting-0, fleeting-1, and to `nowhere`
//!   news      fanout ──────▶ fan-0, fan-1, fleeting-1
//!   events    topic ───────▶ topic-0 (a.*), topic-1 (#.b)
//!   colours   headers ─────▶ orders-0 (colour = red), orders-1 (colour = blue)
//!   (default) ─────────────▶ retry-0 (time to live) ─────┐ dead letters
//!                            short-1 (max-length) ───────┴─────────────▶ late-1
//!                            judge-1 (what is rejected) ───────────────▶ late-0
//! ```
//!
//! The number in a queue's name is the core it asks for with `x-lane`.

use crate::model::FieldTable;
use crate::protocol::method::{ExchangeDeclare, Method, QueueBind, QueueDeclare};

/// Index of a queue in `QUEUES`.
pub type QueueIndex = usize;

/// A queue of every run.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueQueue {
    /// Its name.
    pub name: &'static str,
    /// The core that owns it.
    pub lane: usize,
    /// Whether it survives a restart.
    pub is_durable: bool,
    /// Whether consumers may take from it without acks, so that what a broken connection carried is lost.
    pub is_lossy: bool,
    /// The queue where its dead letters go.
    pub dead_letters: Option<QueueIndex>,
    /// How long a message may stay, in milliseconds.
    pub message_ttl: Option<i32>,
    /// How many messages may be ready.
    pub max_length: Option<i32>,
}

const fn queue(name: &'static str, lane: usize, is_durable: bool, is_lossy: bool) -> CatalogueQueue {
    CatalogueQueue {
        name,
        lane,
        is_durable,
        is_lossy,
        dead_letters: None,
        message_ttl: None,
        max_length: None,
    }
}

const fn dying(name: &'static str, lane: usize, dead_letters: QueueIndex) -> CatalogueQueue {
    CatalogueQueue {
        dead_letters: Some(dead_letters),
        ..queue(name, lane, true, false)
    }
}

/// The queues of every run; what dead letters reach comes last.
pub const QUEUES: [CatalogueQueue; 14] = [
    queue("orders-0", 0, true, false),
    queue("orders-1", 1, true, false),
    queue("fan-0", 0, true, false),
    queue("fan-1", 1, true, false),
    queue("topic-0", 0, true, false),
    queue("topic-1", 1, true, false),
    queue("drip", 1, true, true),
    queue("fleeting-0", 0, false, true),
    queue("fleeting-1", 1, false, true),
    CatalogueQueue {
        message_ttl: Some(150),
        ..dying("retry-0", 0, 13)
    },
    CatalogueQueue {
        max_length: Some(5),
        ..dying("short-1", 1, 13)
    },
    dying("judge-1", 1, 12),
    queue("late-0", 0, true, false),
    queue("late-1", 1, true, false),
];

/// Whether dead letters come to this queue, and nothing else.
pub fn takes_dead_letters(queue: QueueIndex) -> bool {
    QUEUES.iter().any(|source| source.dead_letters == Some(queue))
}

/// The queue of this name.
pub fn queue_named(name: &[u8]) -> Option<QueueIndex> {
    QUEUES.iter().position(|queue| queue.name.as_bytes() == name)
}

/// Where a publish goes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The exchange, empty for the default one.
    pub exchange: &'static str,
    /// The routing key.
    pub routing_key: &'static str,
    /// The header `colour`, if there is one.
    pub colour: Option<&'static str>,
    /// The queues it reaches.
    pub queues: &'static [QueueIndex],
}

const fn target(exchange: &'static str, routing_key: &'static str, queues: &'static [QueueIndex]) -> Target {
    Target {
        exchange,
        routing_key,
        colour: None,
        queues,
    }
}

const fn coloured(colour: &'static str, queues: &'static [QueueIndex]) -> Target {
    Target {
        colour: Some(colour),
        ..target("colours", "", queues)
    }
}

/// All targets.
pub const TARGETS: [Target; 17] = [
    target("", "orders-0", &[0]),
    target("", "orders-1", &[1]),
    target("", "drip", &[6]),
    target("", "fleeting-0", &[7]),
    target("", "fleeting-1", &[8]),
    target("", "nowhere", &[]),
    target("news", "any", &[2, 3, 8]),
    target("events", "a.x", &[4]),
    target("events", "a.b", &[4, 5]),
    target("events", "c.b", &[5]),
    target("events", "c.d", &[]),
    coloured("red", &[0]),
    coloured("blue", &[1]),
    coloured("green", &[]),
    target("", "retry-0", &[9]),
    target("", "short-1", &[10]),
    target("", "judge-1", &[11]),
];

impl Target {
    /// Whether it always finds a queue: only then may a mandatory publish not come back.
    pub fn is_routable(&self) -> bool {
        self.queues.iter().any(|&queue| QUEUES[queue].is_durable)
    }

    /// Whether it never finds one: then a mandatory publish must come back.
    pub fn is_unroutable(&self) -> bool {
        self.queues.is_empty()
    }
}

const EXCHANGES: [(&str, &str); 3] = [("news", "fanout"), ("events", "topic"), ("colours", "headers")];

/// A binding of a queue: exchange, routing key, colour.
type Binding = (&'static str, &'static str, Option<&'static str>);

fn binding_of(queue: QueueIndex) -> Option<Binding> {
    match QUEUES[queue].name {
        "fan-0" | "fan-1" | "fleeting-1" => Some(("news", "", None)),
        "topic-0" => Some(("events", "a.*", None)),
        "topic-1" => Some(("events", "#.b", None)),
        "orders-0" => Some(("colours", "", Some("red"))),
        "orders-1" => Some(("colours", "", Some("blue"))),
        _ => None,
    }
}

/// Appends the declaration of a queue and its binding, in frames of `channel`; returns how many replies will come.
pub fn declare_queue(channel: u16, queue: QueueIndex, out: &mut Vec<u8>) -> usize {
    let definition = &QUEUES[queue];
    let arguments = arguments_of(definition);
    let declare = QueueDeclare {
        queue: definition.name.as_bytes(),
        passive: false,
        durable: definition.is_durable,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    Method::QueueDeclare(declare).encode(channel, out);
    let Some((exchange, routing_key, colour)) = binding_of(queue) else {
        return 1;
    };
    let arguments = colour_table(colour);
    let bind = QueueBind {
        queue: definition.name.as_bytes(),
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        nowait: false,
        arguments: arguments.as_ref(),
    };
    Method::QueueBind(bind).encode(channel, out);
    2
}

fn arguments_of(queue: &CatalogueQueue) -> FieldTable {
    let mut arguments = FieldTable::builder().int("x-lane", queue.lane as i32);
    if let Some(milliseconds) = queue.message_ttl {
        arguments = arguments.int("x-message-ttl", milliseconds);
    }
    if let Some(most) = queue.max_length {
        arguments = arguments.int("x-max-length", most);
    }
    if let Some(target) = queue.dead_letters {
        arguments = arguments
            .string("x-dead-letter-exchange", "")
            .string("x-dead-letter-routing-key", QUEUES[target].name);
    }
    arguments.build()
}

/// Appends the declarations of all exchanges; returns how many replies will come.
pub fn declare_exchanges(channel: u16, out: &mut Vec<u8>) -> usize {
    let none = FieldTable::default();
    for (exchange, kind) in EXCHANGES {
        let declare = ExchangeDeclare {
            exchange: exchange.as_bytes(),
            kind: kind.as_bytes(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: none.as_ref(),
        };
        Method::ExchangeDeclare(declare).encode(channel, out);
    }
    EXCHANGES.len()
}

/// A table with the header `colour`, if there is one.
pub fn colour_table(colour: Option<&str>) -> FieldTable {
    colour
        .into_iter()
        .fold(FieldTable::builder(), |table, colour| {
            table.string("colour", colour)
        })
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_queues_that_are_there() {
        for target in TARGETS {
            assert!(target.queues.iter().all(|&queue| queue < QUEUES.len()));
            assert!(!(target.is_routable() && target.is_unroutable()));
        }
        assert_eq!(queue_named(b"drip"), Some(6));
        for (name, target) in [
            ("retry-0", "late-1"),
            ("short-1", "late-1"),
            ("judge-1", "late-0"),
        ] {
            let queue = queue_named(name.as_bytes()).expect("it is in the catalogue");
            assert_eq!(
                QUEUES[queue].dead_letters,
                queue_named(target.as_bytes()),
                "{name}"
            );
        }
    }
}
