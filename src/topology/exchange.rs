//! Exchanges: their types, declaring and deleting them (AMQP 0-9-1 §1.6; RabbitMQ's alternate exchanges).

use crate::model::{FieldTable, FieldTableRef, Refusal, ReplyCode, ShortString};

use super::arguments::check_equivalence;
use super::cascade::Cascade;
use super::erlang_term::atom;
use super::hash_on::HashOn;
use super::memory::{ExchangeMemory, check_memory_arguments};
use super::refusal::{
    Entity, default_exchange, inequivalent_property, invalid_type, no_vhost, not_found, reserved_name,
};
use super::{Change, Topology, short};

/// The exchanges that every vhost has from its beginning, durable all. The first is the default exchange, which
/// has no bindings: a routing key is there the name of the queue.
pub const PREDECLARED_EXCHANGES: [(&str, ExchangeKind); 7] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    (TRACE_EXCHANGE, ExchangeKind::Topic),
];

/// Where copies of messages go while a vhost is traced; clients may bind to it, not publish.
const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// Whether clients may not publish to a predeclared exchange.
pub fn is_internal_from_the_start(name: &str) -> bool {
    name == TRACE_EXCHANGE
}

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// How an exchange finds the bindings that a message matches (AMQP 0-9-1 §3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The routing key equals the binding's.
    Direct,
    /// Every binding matches.
    Fanout,
    /// The routing key's words fit the binding's pattern.
    Topic,
    /// The message's headers fit the binding's arguments.
    Headers,
    /// As another type, once the message's delay has passed (`x-delayed-message`).
    Delayed,
    /// Every binding matches, and a queue that is bound gets the last messages first (`x-recent-history`).
    RecentHistory,
    /// One destination, chosen by a hash of the message so that few messages move when bindings come or go; the binding's
    /// key is its weight (RabbitMQ's plugin).
    ConsistentHash,
    /// One binding, by the hash of the routing key modulo the number of bindings (RabbitMQ's sharding plugin).
    ModulusHash,
    /// One binding, by chance (RabbitMQ's plugin).
    Random,
    /// One binding, by chance, of those to queues near the publisher when there are any (RabbitMQ 4).
    LocalRandom,
}

impl ExchangeKind {
    /// Every type.
    pub const ALL: [ExchangeKind; 10] = [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
        ExchangeKind::Delayed,
        ExchangeKind::RecentHistory,
        ExchangeKind::ConsistentHash,
        ExchangeKind::ModulusHash,
        ExchangeKind::Random,
        ExchangeKind::LocalRandom,
    ];

    /// The type of this name. 503 for any other, which closes the connection.
    pub fn parse(name: &[u8]) -> Result<Self, Refusal> {
        if name.is_empty() {
            return Err(Refusal::new(
                ReplyCode::CommandInvalid,
                "invalid exchange type ''",
            ));
        }
        let mut kinds = ExchangeKind::ALL.into_iter();
        kinds.find(|kind| kind.name().as_bytes() == name).ok_or_else(|| {
            let text = format!("unknown exchange type '{}'", String::from_utf8_lossy(name));
            Refusal::new(ReplyCode::CommandInvalid, text)
        })
    }

    /// The name that `parse` takes.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
            ExchangeKind::Delayed => "x-delayed-message",
            ExchangeKind::RecentHistory => "x-recent-history",
            ExchangeKind::ConsistentHash => "x-consistent-hash",
            ExchangeKind::ModulusHash => "x-modulus-hash",
            ExchangeKind::Random => "x-random",
            ExchangeKind::LocalRandom => "x-local-random",
        }
    }
}

/// A declared exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name; empty for the default exchange.
    pub name: ShortString,
    /// Its type.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it is deleted when the last binding with it as source goes.
    pub auto_delete: bool,
    /// Whether clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: FieldTable,
    /// Where a message goes that matched no binding, by the arguments or by a policy; the exchange of this name need not
    /// exist.
    pub alternate: Option<ShortString>,
}

impl Exchange {
    /// An exchange with these properties, and the alternate exchange that `arguments` name.
    pub fn new(name: ShortString, kind: ExchangeKind, flags: ExchangeFlags, arguments: FieldTable) -> Self {
        let ExchangeFlags {
            durable,
            auto_delete,
            internal,
        } = flags;
        let mut exchange = Self {
            name,
            kind,
            durable,
            auto_delete,
            internal,
            arguments,
            alternate: None,
        };
        exchange.alternate = exchange.declared_alternate();
        exchange
    }

    /// The alternate exchange that the arguments name.
    pub(super) fn declared_alternate(&self) -> Option<ShortString> {
        let alternate = self.arguments.as_ref().get(ALTERNATE_EXCHANGE.as_bytes());
        ShortString::new(alternate?.as_string()?)
    }

    /// One of the exchanges that every vhost has.
    pub fn predeclared(name: &'static str, kind: ExchangeKind) -> Self {
        let flags = ExchangeFlags {
            durable: true,
            auto_delete: false,
            internal: is_internal_from_the_start(name),
        };
        Self::new(ShortString::from(name), kind, flags, FieldTable::default())
    }
}

/// What an exchange is declared to be, beside its type and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeFlags {
    /// See `Exchange::durable`.
    pub durable: bool,
    /// See `Exchange::auto_delete`.
    pub auto_delete: bool,
    /// See `Exchange::internal`.
    pub internal: bool,
}

/// An exchange.declare (AMQP 0-9-1 §1.6.2.1); the name has been through `strip_cr_lf`.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeDeclare<'a> {
    /// The vhost.
    pub vhost: &'a [u8],
    /// The exchange's name.
    pub name: &'a [u8],
    /// The type's name.
    pub kind: &'a [u8],
    /// Whether to ask only if it exists.
    pub passive: bool,
    /// See `Exchange::durable`.
    pub durable: bool,
    /// See `Exchange::auto_delete`.
    pub auto_delete: bool,
    /// See `Exchange::internal`.
    pub internal: bool,
    /// The arguments, checked to be a table.
    pub arguments: FieldTableRef<'a>,
}

impl Topology {
    /// What an exchange.declare changes: `None` when the exchange exists and is equivalent.
    ///
    /// Refused with 403 (default exchange, reserved name), 404 (passive), 406 (not equivalent, arguments), 503 (type),
    /// 530 (vhost).
    pub fn decide_exchange_declare(&self, declare: &ExchangeDeclare<'_>) -> Result<Option<Change>, Refusal> {
        let entity = Entity::exchange(declare.vhost, declare.name);
        let kind = if declare.passive {
            None
        } else {
            Some(ExchangeKind::parse(declare.kind)?)
        };
        check_not_default(declare.name)?;
        let vhost = self.vhost(declare.vhost).ok_or_else(|| no_vhost(declare.vhost))?;
        match (vhost.exchanges.get(declare.name), kind) {
            (Some(_), None) => Ok(None),
            (None, None) => Err(not_found(entity)),
            (Some(current), Some(kind)) => check_same_exchange(entity, declare, kind, current).map(|()| None),
            (None, Some(kind)) => new_exchange(entity, declare, kind).map(Some),
        }
    }

    /// What an exchange.delete changes: the bindings that go, auto-delete exchanges that lose their last by it, and
    /// the exchange. Empty when there is no such exchange, which is no error.
    ///
    /// Refused with 403 (default and predeclared exchanges), 406 (`if_unused` and bound as a source).
    pub fn decide_exchange_delete(
        &self,
        vhost: &[u8],
        name: &[u8],
        if_unused: bool,
    ) -> Result<Vec<Change>, Refusal> {
        check_not_default(name)?;
        let entity = Entity::exchange(vhost, name);
        if name.starts_with(b"amq.") {
            let text = format!("deletion of system {entity} not allowed");
            return Err(Refusal::new(ReplyCode::AccessRefused, text));
        }
        let Some(vhost) = self.vhost(vhost) else {
            return Ok(Vec::new());
        };
        let Some(exchange) = vhost.exchanges.get(name) else {
            return Ok(Vec::new());
        };
        if if_unused && vhost.bindings.leaving(&exchange.name).next().is_some() {
            return Err(Refusal::new(
                ReplyCode::PreconditionFailed,
                format!("{entity} in use"),
            ));
        }
        Ok(Cascade::new(vhost).deleting_exchange(exchange))
    }
}

/// 403 when `name` is the default exchange's.
pub fn check_not_default(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() {
        Err(default_exchange())
    } else {
        Ok(())
    }
}

fn new_exchange(
    entity: Entity<'_>,
    declare: &ExchangeDeclare<'_>,
    kind: ExchangeKind,
) -> Result<Change, Refusal> {
    if declare.name.starts_with(b"amq.") {
        return Err(reserved_name(entity));
    }
    if let Some(value) = declare.arguments.get(ALTERNATE_EXCHANGE.as_bytes())
        && value.as_string().is_none()
    {
        return Err(invalid_type(ALTERNATE_EXCHANGE, entity, value));
    }
    check_memory_arguments(kind, declare.arguments)?;
    if kind == ExchangeKind::ConsistentHash {
        HashOn::check(entity, declare.arguments)?;
    }
    let ExchangeDeclare {
        durable,
        auto_delete,
        internal,
        ..
    } = *declare;
    let flags = ExchangeFlags {
        durable,
        auto_delete,
        internal,
    };
    let exchange = Exchange::new(short(declare.name)?, kind, flags, declare.arguments.to_owned());
    Ok(Change::ExchangeDeclared {
        vhost: short(declare.vhost)?,
        exchange,
    })
}

/// Checks the arguments of an exchange that another broker has had, and that it can have what it remembers in. 406 and 503.
pub fn check_imported_exchange(vhost: &ShortString, exchange: &Exchange) -> Result<(), Refusal> {
    let (vhost, arguments) = (vhost.as_bytes(), exchange.arguments.as_ref());
    if let Some(value) = arguments.get(ALTERNATE_EXCHANGE.as_bytes())
        && value.as_string().is_none()
    {
        let entity = Entity::exchange(vhost, exchange.name.as_bytes());
        return Err(invalid_type(ALTERNATE_EXCHANGE, entity, value));
    }
    check_memory_arguments(exchange.kind, arguments)?;
    ExchangeMemory::queue_of(vhost, exchange).map(|_| ())
}

fn check_same_exchange(
    entity: Entity<'_>,
    declare: &ExchangeDeclare<'_>,
    kind: ExchangeKind,
    current: &Exchange,
) -> Result<(), Refusal> {
    if kind != current.kind {
        return Err(inequivalent_property(
            "type",
            entity,
            atom(kind.name()),
            atom(current.kind.name()),
        ));
    }
    let flags = [
        ("durable", declare.durable, current.durable),
        ("auto_delete", declare.auto_delete, current.auto_delete),
        ("internal", declare.internal, current.internal),
    ];
    for (key, received, current) in flags {
        if received != current {
            return Err(inequivalent_property(key, entity, received, current));
        }
    }
    check_equivalence(
        entity,
        &[ALTERNATE_EXCHANGE],
        declare.arguments,
        current.arguments.as_ref(),
    )
}
